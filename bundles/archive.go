package bundles

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
)

// readArchive reads a bundle from a gzipped tar archive. Besides files and folders
// it may hold nothing: what a link would mean depends on who unpacks it.
func readArchive(ctx context.Context, name string, r io.Reader) (*files, error) {
	f := newFiles(name)
	f.all = true
	if err := f.unpack(ctx, r); err != nil {
		return nil, fmt.Errorf("open policy %s: %w", name, err)
	}
	return f, nil
}

var errTooLarge = fmt.Errorf("the archive is larger than %d MiB", maxTotal>>20)

// readLimited reads an archive as it is. What does not fit unpacked does not fit
// packed either.
func readLimited(r io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, maxTotal+1))
	if err == nil && len(content) > maxTotal {
		return nil, errTooLarge
	}
	return content, err
}

// pack makes an archive of files. The same files make the same archive.
func pack(all map[string][]byte) ([]byte, error) {
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		header := &tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(all[name])), Mode: 0o644}
		if err := archive.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("pack %s: %w", name, err)
		}
		if _, err := archive.Write(all[name]); err != nil {
			return nil, fmt.Errorf("pack %s: %w", name, err)
		}
	}
	if err := errors.Join(archive.Close(), zipped.Close()); err != nil {
		return nil, fmt.Errorf("pack a policy: %w", err)
	}
	return out.Bytes(), nil
}

func (f *files) unpack(ctx context.Context, r io.Reader) error {
	unzipped, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("it is not a gzipped tar archive: %w", err)
	}
	// Everything that comes out of the decompressor counts, what is passed over too.
	limited := &io.LimitedReader{R: unzipped, N: maxTotal + maxFiles*1024}
	archive := tar.NewReader(limited)
	for ctx.Err() == nil {
		header, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF) && limited.N > 0:
			// The checksum comes last, after what the archive is padded with.
			if _, err := io.Copy(io.Discard, limited); err != nil {
				return fmt.Errorf("it is damaged: %w", err)
			}
			return nil
		case limited.N <= 0:
			return fmt.Errorf("its files are larger than %d MiB together", maxTotal>>20)
		case err != nil:
			return fmt.Errorf("it is not a sound tar archive: %w", err)
		}
		if err := f.admit(); err != nil {
			return err
		}
		name, err := entryName(header.Name)
		if err != nil {
			return err
		}
		switch header.Typeflag {
		case tar.TypeDir:
		case tar.TypeReg:
			if err := f.add(name, archive); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%q is neither a file nor a folder; archives may not contain links or devices", header.Name)
		}
	}
	return ctx.Err()
}

// entryName returns the path of an entry inside the bundle. A leading slash or `./`
// is what tools write and means nothing.
func entryName(name string) (string, error) {
	clean := path.Clean(strings.TrimPrefix(name, "/"))
	inside := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(name, "/"), "./"), "/")
	switch {
	case strings.ContainsAny(name, "\\\x00"),
		inside != clean && inside != "" && inside != ".",
		clean == "..", strings.HasPrefix(clean, "../"), strings.HasPrefix(clean, "/"):
		return "", fmt.Errorf("%q is not a plain path inside the bundle", name)
	}
	return clean, nil
}
