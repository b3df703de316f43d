package tombstones

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"patrol/models"
)

// Header is the first line of a file.
type Header struct {
	Format       string `json:"format"` // always [format]
	ID           string `json:"file"`   // drawn when the file was made, and kept in compaction
	Installation string `json:"installation"`
}

const format = "patrol tombstones 1"

// record is a line: a header, a mark or a tombstone.
type record struct {
	*Header
	Torn int `json:"torn,omitempty"` // so many lines before may be cut, and nobody was told of success
	*models.Tombstone
}

// keepExpired is the time for which the tombstone of a token outlives the token: clocks
// differ, and some are set back.
const keepExpired = 7 * 24 * time.Hour

// File is an open file of tombstones. It is safe for concurrent use.
type File struct {
	path   string
	header Header

	mu    sync.Mutex
	next  *batch // that nobody writes yet
	ended map[string]time.Time

	writing   sync.Mutex
	file      sink
	info      os.FileInfo
	cut       int    // so many of the last writes may have left a part of a line
	unwritten []byte // lines that could not be written; they come before the next ones
}

// sink is the part of an open file that is used.
type sink interface {
	io.Writer
	Sync() error
	Close() error
}

// batch is one write.
type batch struct {
	lines []byte
	err   error
	done  chan struct{}
}

// Open opens the file at path, and makes it if it is not there. One of another
// installation is refused. The tombstones that it has are returned. With compact,
// those that matter to nobody at the time now are removed if they are most of it;
// only one process may do that at a time.
func Open(path, installation string, now time.Time, compact bool) (*File, []models.Tombstone, error) {
	f := &File{path: path, ended: map[string]time.Time{}, header: Header{Format: format, ID: models.NewID(), Installation: installation}}
	content, err := Read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, nil, err
	case content.Header.Installation != installation:
		return nil, nil, fmt.Errorf("the tombstones in %s are of another installation of Patrol than the database: one of the two is in the wrong place; "+
			"move the file away if the database is right", path)
	case content.Damaged > 0:
		return nil, nil, fmt.Errorf("the tombstones in %s are damaged in %d lines: what they say was taken away may be there again; "+
			"restore the file, or move it away to start without it", path, content.Damaged)
	default:
		f.header = content.Header
		if content.Torn {
			f.cut = 1
		}
	}
	live := live(content.Tombstones, now)
	if compact && len(content.Tombstones) > 100 && len(live) < len(content.Tombstones)/2 {
		if err := f.compact(live, content.size); err != nil {
			return nil, nil, err
		}
	}
	f.writing.Lock()
	defer f.writing.Unlock()
	if err := f.open(); err != nil {
		return nil, nil, err
	}
	f.note(live)
	return f, content.Tombstones, nil
}

// ID returns the name of the file, which it keeps for good.
func (f *File) ID() string { return f.header.ID }

// Close closes the file, after another attempt at what could not be written.
func (f *File) Close() error {
	f.writing.Lock()
	defer f.writing.Unlock()
	err := f.writeAll(nil)
	if f.file != nil {
		err = errors.Join(err, f.file.Close())
		f.file = nil
	}
	return err
}

// Ended returns when the token with the id came to its end, if a tombstone says
// so.
func (f *File) Ended(id string) (at time.Time, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, ok = f.ended[id]
	return at, ok
}

func (f *File) note(stones []models.Tombstone) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range stones {
		id, at := t.EndedToken()
		if before, ok := f.ended[id]; id != "" && (!ok || at.Before(before)) {
			f.ended[id] = at
		}
	}
}

// Append writes tombstones. When it returns nil they are on the disk, with all that
// could not be written before; without any that is all it does. Whatever it returns,
// [File.Ended] knows them.
func (f *File) Append(stones []models.Tombstone) error {
	f.note(stones)
	var lines []byte
	for _, t := range stones {
		line, err := encode(record{Tombstone: &t})
		if err != nil {
			return err
		}
		lines = append(lines, line...)
	}
	f.mu.Lock()
	b, first := f.next, false
	if b == nil {
		b, first = &batch{done: make(chan struct{})}, true
		f.next = b
	}
	b.lines = append(b.lines, lines...)
	f.mu.Unlock()
	if first {
		f.writing.Lock()
		f.mu.Lock()
		f.next = nil // who comes now is written with the next one
		f.mu.Unlock()
		b.err = f.writeAll(b.lines)
		f.writing.Unlock()
		close(b.done)
	}
	<-b.done
	return b.err
}

// Unwritten reports whether there are tombstones that could not be written.
func (f *File) Unwritten() bool {
	f.writing.Lock()
	defer f.writing.Unlock()
	return len(f.unwritten) > 0
}

// writeAll writes what could not be written before, and lines. What cannot be written
// now is kept.
func (f *File) writeAll(lines []byte) error {
	lines = slices.Concat(f.unwritten, lines)
	if len(lines) == 0 {
		return nil
	}
	err := f.write(lines)
	f.unwritten = nil
	if err != nil {
		f.unwritten = lines
	}
	return err
}

// attempts is the number of attempts to write lines to a file that is replaced meanwhile.
const attempts = 5

// write appends lines to the file that is at the path when it is done.
func (f *File) write(lines []byte) error {
	for range attempts {
		if f.file == nil {
			if err := f.open(); err != nil {
				return err
			}
		}
		if err := f.append(lines); err != nil {
			return fmt.Errorf("write to %s: %w", f.path, err)
		}
		if now, err := os.Stat(f.path); err == nil && os.SameFile(now, f.info) {
			return nil
		}
		_ = f.file.Close() // it was written to the disk, and is not at its path
		f.file = nil
	}
	return fmt.Errorf("write to %s: the file is replaced again and again", f.path)
}

func (f *File) append(lines []byte) error {
	if f.cut > 0 {
		mark, err := encode(record{Torn: f.cut})
		if err != nil {
			return err
		}
		lines = append(append([]byte("\n"), mark...), lines...)
	}
	f.cut++
	if _, err := f.file.Write(lines); err != nil {
		return err
	}
	if err := f.file.Sync(); err != nil {
		// The state after a failed sync is not known: the file is opened anew.
		_ = f.file.Close()
		f.file = nil
		return err
	}
	f.cut = 0
	return nil
}

// open opens the file to append to it. A new one gets a header.
func (f *File) open() error {
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open the tombstones: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("look at the tombstones: %w", err), file.Close())
	}
	os.SameFile(info, info) // has Windows find the identity out now
	f.file, f.info = file, info
	if info.Size() > 0 {
		return nil
	}
	f.cut = 0
	header, err := encode(record{Header: &f.header})
	if err == nil {
		err = f.append(header)
	}
	if err == nil {
		err = syncFolder(f.path)
	}
	if err != nil {
		if f.file != nil {
			err = errors.Join(err, f.file.Close())
			f.file = nil
		}
		return fmt.Errorf("begin the tombstones in %s: %w", f.path, err)
	}
	return nil
}

// live leaves the tombstones that still matter.
func live(stones []models.Tombstone, now time.Time) []models.Tombstone {
	var out []models.Tombstone
	for _, t := range stones {
		if t.Until == nil || now.Before(t.Until.Add(keepExpired)) {
			out = append(out, t)
		}
	}
	return out
}

// compact puts a file with these tombstones in place of the one at the path, of which
// they are what matters of the first size bytes.
func (f *File) compact(stones []models.Tombstone, size int64) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("compact the tombstones in %s: %w", f.path, err)
		}
	}()
	old, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	text, err := encode(record{Header: &f.header})
	if err != nil {
		return err
	}
	for _, t := range stones {
		line, err := encode(record{Tombstone: &t})
		if err != nil {
			return err
		}
		text = append(text, line...)
	}
	if err := replace(f.path, text); err != nil {
		return err
	}
	// Lines that others appended to the old file since it was read.
	if _, err := old.Seek(size, io.SeekStart); err != nil {
		return err
	}
	rest, err := io.ReadAll(old)
	if err != nil || len(rest) == 0 {
		return err
	}
	f.writing.Lock()
	defer f.writing.Unlock()
	f.cut = 0
	return f.write(rest)
}

// replace puts a file with this content at path, whole or not at all.
func replace(path string, content []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(content)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncFolder(path)
}

// syncFolder has the disk know the name of a file. Systems that cannot sync a
// folder keep names by themselves.
func syncFolder(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	_ = dir.Sync()
	return dir.Close()
}

// encode writes a line.
func encode(r record) ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.ChecksumIEEE(text), text), nil
}

// Content is the content of a file.
type Content struct {
	Header     Header
	Tombstones []models.Tombstone
	Torn       bool // the last line was cut
	Damaged    int  // lines that nobody can read, and that may have been promised to somebody

	size int64 // of its whole lines, in bytes
}

// maxLine bounds a line; a tombstone has some hundred bytes.
const maxLine = 1 << 20

// Read reads the file at path.
func Read(path string) (Content, error) {
	file, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return Content{}, fmt.Errorf("read the tombstones: %w", err)
	}
	content, err := parse(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return Content{}, fmt.Errorf("read the tombstones in %s: %w", path, err)
	}
	return content, nil
}

var errNoHeader = errors.New("this is no file of tombstones: its first line is not theirs")

func parse(r io.Reader) (c Content, err error) {
	lines := bufio.NewReaderSize(r, 64<<10)
	unread := 0 // lines before that could not be read
	for n := 0; ; n++ {
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) && len(line) == 0 {
			if n == 0 { // emptied: what it held is not known
				return Content{}, errNoHeader
			}
			break
		}
		whole := err == nil
		if err != nil && !errors.Is(err, io.EOF) {
			return Content{}, err
		}
		rec, ok := decode(line)
		switch {
		case n == 0 && (!ok || !whole || rec.Header == nil || rec.Format != format):
			return Content{}, errNoHeader
		case n == 0:
			c.Header, c.size = *rec.Header, int64(len(line))+1
			continue
		case !whole: // nobody was told that it is there
			c.Torn = true
			c.Damaged += unread
			return c, nil
		}
		c.size += int64(len(line)) + 1
		if len(line) == 0 { // before a mark
			continue
		}
		if !ok {
			unread++
			continue
		}
		c.Damaged += max(0, unread-rec.Torn)
		unread = 0
		if rec.Tombstone != nil {
			c.Tombstones = append(c.Tombstones, *rec.Tombstone)
		}
	}
	c.Damaged += unread
	return c, nil
}

// readLine reads a line without its end. At the end of the file it returns what is
// left with io.EOF.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return line, err
		case len(line) > maxLine:
			return nil, errors.New("a line is too long")
		}
	}
}

func decode(line []byte) (r record, ok bool) {
	sum, text, found := bytes.Cut(line, []byte(" "))
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if !found || err != nil || len(sum) != 8 || uint32(want) != crc32.ChecksumIEEE(text) {
		return r, false
	}
	return r, json.Unmarshal(text, &r) == nil
}
