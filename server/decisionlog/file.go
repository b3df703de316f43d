package decisionlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// file is a file of JSON lines that is renamed and begun anew when it is full or
// old. It belongs to one goroutine.
type file struct {
	cfg    FileConfig
	labels []byte
	clock  func() time.Time

	f     *os.File // nil after a failure, until it can be opened again
	size  int64
	begun time.Time
	buf   []byte
	// written counts the bytes of the last batch in the file, so that what is
	// tried again is not there twice.
	last    *batch
	written int
}

// refused is the file for what is kept of refusals without a token that verifies:
// one beside the other, so that these never have the other's be deleted.
func (c FileConfig) refused() FileConfig {
	suffix := filepath.Ext(c.Path)
	c.Path = strings.TrimSuffix(c.Path, suffix) + "-refused" + suffix
	c.MaxSize = max(c.MaxSize/refusedPart, 1<<20)
	return c
}

// openFile opens the file, appending to one that is there.
func openFile(cfg FileConfig, labels []byte, clock func() time.Time) (*file, error) {
	f := &file{cfg: cfg, labels: labels, clock: clock}
	if err := f.open(); err != nil {
		return nil, fmt.Errorf("open the decision log's file: %w", err)
	}
	return f, nil
}

func (f *file) open() error {
	if err := os.MkdirAll(filepath.Dir(f.cfg.Path), 0o700); err != nil {
		return err
	}
	opened, err := os.OpenFile(f.cfg.Path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := opened.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		return errors.Join(err, opened.Close())
	}
	f.f, f.size, f.begun = opened, info.Size(), f.clock()
	if f.size > 0 {
		f.begun = info.ModTime() // its birth is not known; younger than this it is not
	}
	return nil
}

// write appends decisions, one event to a line, and then counts.
func (f *file) write(_ context.Context, b *batch) error {
	if f.last != b {
		f.last, f.written = b, 0
	}
	if f.f == nil {
		if err := f.open(); err != nil {
			return err
		}
	}
	if f.size > 0 && f.written == 0 && (f.size >= f.cfg.MaxSize || f.clock().Sub(f.begun) >= f.cfg.MaxAge) {
		if err := f.rotate(); err != nil {
			return err
		}
	}
	f.buf = f.buf[:0]
	for i := range b.decisions {
		f.buf = append(b.decisions[i].AppendEvent(f.buf, f.labels), '\n')
	}
	for i := range b.sums {
		f.buf = append(b.sums[i].AppendEvent(f.buf, f.labels), '\n')
	}
	n, err := f.f.Write(f.buf[f.written:])
	f.written += n
	f.size += int64(n)
	if err == nil && f.cfg.Sync {
		err = f.f.Sync()
	}
	if err != nil {
		return errors.Join(err, f.close())
	}
	f.last = nil
	const usual = 4 << 20
	if cap(f.buf) > usual {
		f.buf = nil
	}
	return nil
}

func (f *file) close() error {
	if f.f == nil {
		return nil
	}
	err := f.f.Close()
	f.f = nil
	return err
}

// rotatedLayout is the time in the names of files that are full, in UTC. It sorts.
const rotatedLayout = "20060102T150405.000"

// rotate renames the file and begins a new one, and deletes the oldest ones.
func (f *file) rotate() error {
	suffix := filepath.Ext(f.cfg.Path)
	stem := strings.TrimSuffix(f.cfg.Path, suffix)
	if err := f.close(); err != nil {
		return err
	}
	for at := f.clock().UTC(); ; at = at.Add(time.Millisecond) {
		name := stem + "-" + at.Format(rotatedLayout) + suffix
		if _, err := os.Lstat(name); err == nil {
			continue
		}
		if err := os.Rename(f.cfg.Path, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		break
	}
	old, err := filepath.Glob(globEscape(stem) + "-[0-9]*T[0-9]*.[0-9][0-9][0-9]" + globEscape(suffix))
	if err != nil {
		return err
	}
	slices.Sort(old)
	for len(old) > f.cfg.MaxFiles {
		if err := os.Remove(old[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		old = old[1:]
	}
	return f.open()
}

func globEscape(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(text)
}
