package bundles

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"patrol/policies"
	"patrol/policies/engine"
)

// The limits of a bundle. They are far above any policy that people write, and
// far below what would trouble the server.
const (
	maxFiles = 5000
	maxFile  = 8 << 20  // bytes in one file
	maxTotal = 32 << 20 // bytes in all files, as they are after decompression
)

// Open reads the bundle that source names: "" is the embedded one, else the path
// of a folder or of a .tar.gz archive. Errors say what is wrong with which file.
func Open(ctx context.Context, source string) (engine.Source, error) {
	if err := CheckSource(source); err != nil {
		return engine.Source{}, err
	}
	if source == "" {
		return openFolder(ctx, "embedded", policies.FS)
	}
	info, err := os.Stat(source)
	if err != nil {
		return engine.Source{}, fmt.Errorf("open policy: %w", err)
	}
	switch {
	case info.IsDir():
		root, err := os.OpenRoot(source)
		if err != nil {
			return engine.Source{}, fmt.Errorf("open policy: %w", err)
		}
		defer root.Close() //nolint:errcheck // opened for reading
		return openFolder(ctx, source, root.FS())
	case !info.Mode().IsRegular():
		return engine.Source{}, fmt.Errorf("open policy %s: it is neither a folder nor a file", source)
	default:
		f, err := os.Open(source) //nolint:gosec // G304: the path is the operator's
		if err != nil {
			return engine.Source{}, fmt.Errorf("open policy: %w", err)
		}
		defer f.Close()
		return readArchive(ctx, source, f)
	}
}

// CheckSource reports, without looking at the file system, what keeps source from
// naming a bundle.
func CheckSource(source string) error {
	switch {
	case strings.Contains(source, "://"):
		return errors.New("a policy cannot be fetched from a URL: give the path of a folder or of a .tar.gz archive")
	case strings.ContainsRune(source, 0):
		return errors.New("the path of a policy cannot contain a NUL character")
	}
	return nil
}

// files collects a bundle's files within the limits.
type files struct {
	source engine.Source
	count  int
	total  int64
}

func newFiles(name string) *files {
	return &files{source: engine.Source{Name: name, Files: map[string][]byte{}}}
}

// admit counts one file more.
func (f *files) admit() error {
	if f.count++; f.count > maxFiles {
		return fmt.Errorf("it has more than %d files", maxFiles)
	}
	return nil
}

// wanted reports whether a file is part of a policy or of its tests.
func wanted(name string) bool { return engine.IsPolicyFile(name) || engine.IsTestFile(name) }

// add reads the file name from r if it is wanted.
func (f *files) add(name string, r io.Reader) error {
	if !wanted(name) {
		return nil
	}
	if _, exists := f.source.Files[name]; exists {
		return fmt.Errorf("%s: it is there twice", name)
	}
	content, err := io.ReadAll(io.LimitReader(r, min(maxFile, maxTotal-f.total)+1))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	f.total += int64(len(content))
	switch {
	case len(content) > maxFile:
		return fmt.Errorf("%s: it is larger than %d MiB", name, maxFile>>20)
	case f.total > maxTotal:
		return fmt.Errorf("its files are larger than %d MiB together", maxTotal>>20)
	}
	f.source.Files[name] = content
	return nil
}

// openFolder reads a bundle that is laid out in a file system.
func openFolder(ctx context.Context, name string, fsys fs.FS) (engine.Source, error) {
	f := newFiles(name)
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case d.IsDir() && p != "." && strings.HasPrefix(path.Base(p), "."):
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		if err := f.admit(); err != nil {
			return err
		}
		if !wanted(p) {
			return nil
		}
		file, err := fsys.Open(p)
		if err != nil {
			return err
		}
		defer file.Close() //nolint:errcheck // opened for reading
		if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
			return fmt.Errorf("%s: it is not a regular file", p)
		}
		return f.add(p, file)
	})
	if err != nil {
		return engine.Source{}, fmt.Errorf("open policy %s: %w", name, err)
	}
	return f.source, nil
}
