package bundles

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Source delivers a policy, and its changes.
type Source interface {
	// Name is its name for people: a path, a URL without anything secret, or
	// `embedded`.
	Name() string
	// Next returns what the source holds as soon as that is something else than it
	// last returned; the first call returns at once. An error says that the source
	// cannot be reached or holds nothing that can be read (a *[BadBundleError], once for
	// what it holds); the caller calls again, and Next sees to the pause. Neither a bundle nor an
	// error says that the source, which could not be reached, can be again, and
	// holds what was there before. It blocks until ctx ends if there is nothing more to come,
	// and what it had not returned by then it returns the next time.
	Next(ctx context.Context) (*Bundle, error)
}

// Options say how a source is read.
type Options struct {
	// Source is "" for the embedded bundle, the path of a folder or of a .tar.gz
	// archive, or the URL of one on a bundle server.
	Source string
	// Verifier holds what is read against its signature; nil: it need not be signed.
	Verifier *Verifier
	// Interval is the time between looks at files, and, with jitter, between requests to a URL
	// whose server knows no long polling.
	Interval time.Duration
	// URL is for a URL.
	URL URLOptions
}

// NewSource returns the source that o names. Nothing is read yet.
func NewSource(o Options) (Source, error) {
	switch {
	case o.Source == "":
		return &embedded{}, nil
	case strings.Contains(o.Source, "://"):
		return newURLSource(o)
	}
	if err := CheckSource(o.Source); err != nil {
		return nil, err
	}
	if o.Interval <= 0 {
		return nil, fmt.Errorf("the interval at which %s is looked at must be positive", o.Source)
	}
	return &filesSource{Options: o}, nil
}

// embedded is the bundle in the binary, which does not change.
type embedded struct{ read bool }

func (*embedded) Name() string { return embeddedName }

func (e *embedded) Next(ctx context.Context) (*Bundle, error) {
	if e.read {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	b, err := Read(ctx, "", nil)
	e.read = err == nil
	return b, err
}

// filesSource looks at a folder or an archive again and again. That sees what
// notifications of the file system miss or tell in another way: editors that write a new file
// in place of the old one, the links that Kubernetes swaps, network file
// systems. Looking is a stat of each file.
//
// What it sees must stay the same for one more look before it is read, and while
// it is read, so that a checkout is not read half done.
type filesSource struct {
	Options

	seen    string // fingerprint of what was last returned
	content string // its digest
	failed  string // the error that was last returned, if nothing was since
	begun   bool
	looks   int
}

func (s *filesSource) Name() string { return s.Source }

// readAnyway is after how many looks the content is read though nothing seems to
// have changed: some file systems keep whole seconds.
const readAnyway = 60

func (s *filesSource) Next(ctx context.Context) (*Bundle, error) {
	last, pause := "", time.Duration(0)
	if s.begun {
		pause = s.Interval
	}
	first := !s.begun
	s.begun = true
	for {
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
		pause = s.Interval
		now, err := fingerprint(ctx, s.Source)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if news, b, err := s.report(nil, err); news {
				return b, err
			}
			last = ""
			continue
		}
		s.looks++
		again := now == last // settled, or seen before
		last = now
		if now == s.seen && s.looks%readAnyway != 0 || !again && !first {
			continue
		}
		first = false
		b, readErr := Read(ctx, s.Source, s.Verifier)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if after, err := fingerprint(ctx, s.Source); err != nil || after != now {
			last = after
			continue // it is being changed
		}
		s.seen = now
		if news, b, err := s.report(b, readErr); news {
			return b, err
		}
	}
}

// report tells what is news: another content, another error, or that what could
// not be reached can be again.
func (s *filesSource) report(b *Bundle, err error) (news bool, _ *Bundle, _ error) {
	if err != nil {
		if err.Error() == s.failed {
			return false, nil, nil
		}
		s.failed = err.Error()
		if _, bad := errors.AsType[*BadBundleError](err); bad {
			s.content = "" // what comes next is something else
		} else {
			s.seen = "" // what is there must be read again
		}
		return true, nil, err
	}
	back := s.failed != ""
	s.failed = ""
	digest := ArchiveDigest(b.Archive)
	if digest == s.content {
		return back, nil, nil
	}
	s.content = digest
	return true, b, nil
}

// fingerprint tells apart what a folder or file holds, by names, sizes and times.
// It follows links, as reading does.
func fingerprint(ctx context.Context, source string) (string, error) {
	h := sha256.New()
	note := func(name string, info fs.FileInfo) {
		h.Write([]byte(name))
		h.Write([]byte{0})
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(info.Size()))) //nolint:gosec // G115: a size is not negative
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(info.ModTime().UnixNano())))
	}
	info, err := os.Stat(source)
	if err != nil {
		return "", fmt.Errorf("look at policy: %w", err)
	}
	if !info.IsDir() {
		note("", info)
		return string(h.Sum(nil)), nil
	}
	files := 0
	// A link at the top, such as of a release, is walked through only so.
	root, err := filepath.EvalSymlinks(source)
	if err != nil {
		return "", fmt.Errorf("look at policy: %w", err)
	}
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case d.IsDir() && p != root && strings.HasPrefix(path.Base(filepath.ToSlash(p)), "."):
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		if files++; files > maxFiles {
			return fs.SkipAll // reading says what is wrong
		}
		info, err := os.Stat(p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a link to nowhere, or gone meanwhile
		}
		if err != nil {
			return err
		}
		note(p, info)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("look at policy: %w", err)
	}
	return string(h.Sum(nil)), nil
}

// sleep waits for d, or for the end of ctx, whose error it returns.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// ArchiveDigest identifies an archive, byte by byte.
func ArchiveDigest(archive []byte) string {
	sum := sha256.Sum256(archive)
	return "sha256:" + hex.EncodeToString(sum[:])
}
