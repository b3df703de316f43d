package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// entry is a file of an archive.
type entry struct {
	name, from string
	mode       os.FileMode
}

// entries are the files of the archive of a platform.
func (b *build) entries(program string) ([]entry, error) {
	all := []entry{{filepath.Base(program), program, 0o755}, {"LICENSE", "LICENSE", 0o644}, {"CHANGELOG.md", "CHANGELOG.md", 0o644}}
	for _, folder := range []string{"completions", "man"} {
		found, err := filepath.Glob(filepath.Join(b.stage, folder, "*"))
		if err != nil {
			return nil, err
		}
		slices.Sort(found)
		for _, path := range found {
			all = append(all, entry{folder + "/" + filepath.Base(path), path, 0o644})
		}
	}
	return all, nil
}

// archive packs a platform's program with what belongs to it, with the time of the commit
// and nobody's name.
func (b *build) archive(goos, goarch, program string) (err error) {
	all, err := b.entries(program)
	if err != nil {
		return err
	}
	base := filepath.Join(b.out, "patrol_"+b.version+"_"+goos+"_"+goarch)
	if goos == "windows" {
		return b.zip(base+".zip", all)
	}
	return b.tar(base+".tar.gz", all)
}

func (b *build) tar(path string, all []entry) (err error) {
	f, err := os.Create(path) //nolint:gosec // the Makefile names the folder
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	compressed, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	w := tar.NewWriter(compressed)
	for _, e := range all {
		content, err := os.ReadFile(e.from)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: e.name, Mode: int64(e.mode), Size: int64(len(content)), ModTime: b.date.UTC(), Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), compressed.Close())
}

func (b *build) zip(path string, all []entry) (err error) {
	f, err := os.Create(path) //nolint:gosec // the Makefile names the folder
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := zip.NewWriter(f)
	for _, e := range all {
		header := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: b.date.UTC()}
		header.SetMode(e.mode)
		to, err := w.CreateHeader(header)
		if err != nil {
			return err
		}
		from, err := os.Open(e.from)
		if err != nil {
			return err
		}
		_, err = io.Copy(to, from)
		if err := errors.Join(err, from.Close()); err != nil {
			return err
		}
	}
	return w.Close()
}
