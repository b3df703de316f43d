package main

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// fuzz gives every fuzz target the same time, one after the other, and names
// those that failed.
func (r runner) fuzz(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	flags.SetOutput(r.errors)
	each := flags.Duration("time", time.Minute, "time per target")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if r.long() {
		*each *= 10
	}
	targets, err := findTargets(os.DirFS("."))
	if err != nil {
		return err
	}
	var failed []string
	for _, t := range targets {
		fmt.Fprintf(r.out, "== %s %s, %s\n", t.dir, t.name, *each)
		cmd := r.command(ctx, nil, "test", "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", each.String(), "./"+t.dir)
		if err := cmd.Run(); err != nil {
			failed = append(failed, t.dir+" "+t.name)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted during %s %s", t.dir, t.name)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d fuzz targets: %s", len(failed), len(targets), strings.Join(failed, ", "))
	}
	fmt.Fprintf(r.out, "PASSED: %d fuzz targets, %s each\n", len(targets), *each)
	return nil
}

// target is one fuzz function, in a package's directory.
type target struct{ dir, name string }

var fuzzFunc = regexp.MustCompile(`(?m)^func (Fuzz\w*)\(\w+ \*testing\.F\)`)

// findTargets finds the fuzz functions of all packages under root, in the order
// of their files. Reading the sources saves compiling every package to ask it.
func findTargets(root fs.FS) ([]target, error) {
	var found []target
	err := eachTestFile(root, func(dir string, text []byte) {
		for _, m := range fuzzFunc.FindAllSubmatch(text, -1) {
			found = append(found, target{dir: dir, name: string(m[1])})
		}
	})
	if err != nil {
		return nil, fmt.Errorf("look for fuzz targets: %w", err)
	}
	return found, nil
}

// eachTestFile hands over the test files of all packages under root, with the
// directories that they are in.
func eachTestFile(root fs.FS, fn func(dir string, text []byte)) error {
	return fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		fn(filepath.ToSlash(filepath.Dir(path)), text)
		return nil
	})
}
