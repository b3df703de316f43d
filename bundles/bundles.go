package bundles

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
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

// Bundle is a policy bundle as it was read.
type Bundle struct {
	engine.Source
	// Archive is the whole bundle as a .tar.gz archive: as it was read, or packed
	// from a folder. The signature in it, if any, is good for it.
	Archive []byte
	// SignedBy is the id of the key with which it is signed; "" if no signature was
	// asked for.
	SignedBy string
}

// Revision is the revision that the manifest gives, else the digest, as the policy
// will have it in force; "" if the manifest cannot be read.
func (b *Bundle) Revision() string {
	var manifest struct {
		Revision string `json:"revision"`
	}
	if err := json.Unmarshal(b.Files[".manifest"], &manifest); err != nil || len(manifest.Revision) > 200 {
		return ""
	}
	return cmp.Or(manifest.Revision, b.Digest())
}

// embeddedName is the source of the bundle inside the binary.
const embeddedName = "embedded"

// Open reads the bundle that source names: "" is the embedded one, else the path
// of a folder or of a .tar.gz archive. Errors say what is wrong with which file.
func Open(ctx context.Context, source string) (engine.Source, error) {
	b, err := Read(ctx, source, nil)
	if err != nil {
		return engine.Source{}, err
	}
	return b.Source, nil
}

// Read is [Open] with the archive, and with the signature verified unless v is
// nil. The embedded bundle is vouched for by the binary that it is in. An error that
// is about what the bundle holds, rather than about reaching it, is a *[BadBundleError].
func Read(ctx context.Context, source string, v *Verifier) (*Bundle, error) {
	if err := CheckSource(source); err != nil {
		return nil, err
	}
	if source == "" {
		f, err := openFolder(ctx, embeddedName, policies.FS, false)
		if err != nil {
			return nil, err
		}
		return f.bundle(nil, nil)
	}
	info, err := os.Stat(source)
	if err != nil {
		return nil, fmt.Errorf("open policy: %w", err)
	}
	switch {
	case info.IsDir():
		f, err := readFolder(ctx, source, false)
		if err != nil {
			return nil, err
		}
		return f.bundle(nil, v)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("open policy %s: it is neither a folder nor a file", source)
	default:
		f, err := os.Open(source) //nolint:gosec // G304: the path is the operator's
		if err != nil {
			return nil, fmt.Errorf("open policy: %w", err)
		}
		defer f.Close()
		content, err := readLimited(f)
		if err != nil {
			return nil, bad(ctx, source, content, fmt.Errorf("open policy %s: %w", source, err))
		}
		return Unpack(ctx, source, content, v)
	}
}

// readFolder reads a bundle from a folder; see [openFolder].
func readFolder(ctx context.Context, folder string, all bool) (*files, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("open policy: %w", err)
	}
	defer root.Close() //nolint:errcheck // opened for reading
	f, err := openFolder(ctx, folder, root.FS(), all)
	if err != nil {
		return nil, bad(ctx, folder, nil, err)
	}
	return f, nil
}

// Unpack reads a bundle from an archive in memory; name says where it is from. The
// signature is verified unless v is nil.
func Unpack(ctx context.Context, name string, archive []byte, v *Verifier) (*Bundle, error) {
	f, err := readArchive(ctx, name, bytes.NewReader(archive))
	if err != nil {
		return nil, bad(ctx, name, archive, err)
	}
	return f.bundle(archive, v)
}

// bundle verifies what was collected and makes a bundle of it. archive is what it
// was read from, nil if that was a folder.
func (f *files) bundle(archive []byte, v *Verifier) (*Bundle, error) {
	b := &Bundle{Source: f.source, Archive: archive}
	everything := f.everything()
	var err error
	if archive == nil {
		if b.Archive, err = pack(everything); err != nil {
			return nil, err
		}
	}
	if v == nil {
		return b, nil
	}
	if b.SignedBy, err = v.Verify(everything); err != nil {
		return nil, &BadBundleError{Name: b.Name, Archive: b.Archive, Signature: true, Err: err}
	}
	return b, nil
}

// BadBundleError is a bundle that was reached and cannot be read, or whose signature is
// not good.
type BadBundleError struct {
	Name      string
	Archive   []byte // nil if it was a folder that could not be read
	Signature bool   // it is about the signature
	Err       error
}

func (e *BadBundleError) Error() string {
	if e.Signature {
		return fmt.Sprintf("policy %s: %s", e.Name, e.Err)
	}
	return e.Err.Error()
}

// Unwrap returns what is wrong.
func (e *BadBundleError) Unwrap() error { return e.Err }

// bad makes a *BadBundleError of err, unless it is only that ctx ended.
func bad(ctx context.Context, name string, archive []byte, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return &BadBundleError{Name: name, Archive: archive, Err: err}
}

// CheckSource reports, without looking at the file system, what keeps source from
// naming a folder or an archive.
func CheckSource(source string) error {
	switch {
	case strings.Contains(source, "://"):
		return errors.New("a URL is no folder and no archive: download the bundle first; only the server polls URLs")
	case strings.ContainsRune(source, 0):
		return errors.New("the path of a policy cannot contain a NUL character")
	}
	return nil
}

// files collects a bundle's files within the limits.
type files struct {
	source engine.Source
	rest   map[string][]byte // what is no part of a policy; only if all is wanted
	all    bool
	count  int
	total  int64
}

func newFiles(name string) *files {
	return &files{source: engine.Source{Name: name, Files: map[string][]byte{}}, rest: map[string][]byte{}}
}

// everything is all that was read, by name.
func (f *files) everything() map[string][]byte {
	all := maps.Clone(f.source.Files)
	maps.Copy(all, f.rest)
	return all
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
	to := f.source.Files
	if !wanted(name) {
		if !f.all {
			return nil
		}
		to = f.rest
	}
	if _, exists := to[name]; exists {
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
	to[name] = content
	return nil
}

// openFolder reads a bundle that is laid out in a file system. Files that are no
// part of a policy are read where a signature is about them too, or if all is wanted.
func openFolder(ctx context.Context, name string, fsys fs.FS, all bool) (*files, error) {
	f := newFiles(name)
	_, err := fs.Stat(fsys, SignaturesFile)
	f.all = all || err == nil
	err = fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
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
		if !wanted(p) && !f.all {
			return nil
		}
		file, err := fsys.Open(p)
		if err != nil {
			return err
		}
		defer file.Close() //nolint:errcheck // opened for reading
		switch info, err := file.Stat(); {
		case err == nil && info.Mode().IsRegular():
		case !wanted(p): // such as the link to a folder with which Kubernetes mounts configuration
			return nil
		default:
			return fmt.Errorf("%s: it is not a regular file", p)
		}
		return f.add(p, file)
	})
	if err != nil {
		return nil, fmt.Errorf("open policy %s: %w", name, err)
	}
	return f, nil
}
