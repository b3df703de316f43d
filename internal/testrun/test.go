package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// test runs `go test` over all packages, or over those that extra names, and
// sums up. Extra arguments are handed to go test.
func (r runner) test(ctx context.Context, extra []string) error {
	begin := time.Now()
	var left []string // what was left out, one line each

	race := true
	if why := r.noRace(ctx); why != "" {
		if r.required("race") {
			return fmt.Errorf("PATROL_REQUIRE names race, but %s", why)
		}
		race = false
		left = append(left, "race detector: "+why)
		fmt.Fprintf(r.out, "Running without the race detector: %s.\n", why)
	}

	dir, err := os.MkdirTemp("", "patrol-test-")
	if err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// A new name each time keeps go test from answering with cached results
	// for those tests that may skip.
	skips := filepath.Join(dir, "skipped")

	env := []string{"PATROL_SKIPPED=" + skips, cgo(race)}
	if race {
		// Child processes of tests run without the race detector, which
		// would make each policy check ten times as long.
		program := filepath.Join(dir, "patrol")
		build := r.command(ctx, []string{cgo(false)}, "build", "-trimpath", "-o", program, "./cmd/patrol")
		if err := build.Run(); err != nil {
			return fmt.Errorf("build the program for the tests: %w", err)
		}
		env = append(env, "PATROL_TEST_PROGRAM="+program)
	}
	var failed failures
	cmd := r.command(ctx, env, testArgs(race, r.long(), extra)...)
	cmd.Stdout = io.MultiWriter(r.out, &failed)
	err = cmd.Run()
	if race && len(extra) == 0 && ctx.Err() == nil {
		if withoutErr := r.withoutRace(ctx, skips, &failed); err == nil {
			err = withoutErr
		}
	}

	missing, readErr := readSkips(skips)
	if readErr != nil {
		return readErr
	}
	left = append(left, missing...)
	took := time.Since(begin).Round(time.Second)
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted after %s", took)
	case errors.As(err, &exit):
		r.report(left)
		for _, line := range failed.lines {
			fmt.Fprintln(r.out, line)
		}
		return fmt.Errorf("some tests failed (%s)", took)
	case err != nil:
		return fmt.Errorf("start go test: %w", err)
	}
	r.report(left)
	how := "with the race detector"
	if !race {
		how = "without the race detector"
	}
	fmt.Fprintf(r.out, "PASSED: all tests, %s (%s)\n", how, took)
	return nil
}

// withoutRace runs the tests that are not built with the race detector: those that
// count allocations, of which it makes its own, and those that only compute, for
// minutes if it watched.
func (r runner) withoutRace(ctx context.Context, skips string, failed io.Writer) error {
	packages, err := findRaceless(os.DirFS("."))
	if err != nil {
		return err
	}
	if len(packages) == 0 {
		return nil
	}
	// All in one, so that packages run side by side. A name that another of them has too is run
	// there a second time.
	var names, dirs []string
	for _, p := range packages {
		names, dirs = append(names, p.name), append(dirs, "./"+p.dir)
	}
	fmt.Fprintf(r.out, "== without the race detector: %s\n", strings.Join(dirs, " "))
	cmd := r.command(ctx, []string{"PATROL_SKIPPED=" + skips, cgo(false)}, testArgs(false, r.long(), append([]string{"-run", strings.Join(names, "|")}, dirs...))...)
	cmd.Stdout = io.MultiWriter(r.out, failed)
	return cmd.Run()
}

var (
	raceless = regexp.MustCompile(`(?m)^//go:build !race$`)
	testFunc = regexp.MustCompile(`(?m)^func (Test\w*)\(\w+ \*testing\.T\)`)
)

// findRaceless finds the packages with test files that the race detector leaves
// out; the name of each is a pattern of its tests in these.
func findRaceless(root fs.FS) ([]target, error) {
	names := map[string][]string{}
	err := eachTestFile(root, func(dir string, text []byte) {
		if !raceless.Match(text) {
			return
		}
		for _, m := range testFunc.FindAllSubmatch(text, -1) {
			names[dir] = append(names[dir], string(m[1]))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("look for tests without the race detector: %w", err)
	}
	var found []target
	for _, dir := range slices.Sorted(maps.Keys(names)) {
		found = append(found, target{dir: dir, name: "^(" + strings.Join(names[dir], "|") + ")$"})
	}
	return found, nil
}

// report prints what was left out.
func (r runner) report(left []string) {
	fmt.Fprintln(r.out)
	if len(left) == 0 {
		fmt.Fprintln(r.out, "Nothing was left out.")
		return
	}
	fmt.Fprintln(r.out, "Left out:")
	for _, line := range left {
		fmt.Fprintln(r.out, "  "+line)
	}
}

// longest are the packages that take longest. They are started first, so that no core waits
// for the last of them at the end.
var longest = []string{"./server", "./cmd/patrol", "./models/store", "./bundles", "./e2e", "./policies/engine/workbench", "./policies/engine"}

// testArgs returns the arguments of go. Two packages at a time keep the timing of tests honest on
// small machines. `make lint` vets.
func testArgs(race, long bool, extra []string) []string {
	timeout := "45m"
	if long {
		timeout = "3h"
	}
	args := []string{"test", "-p", "2", "-vet", "off", "-timeout", timeout}
	if race {
		args = append(args, "-race")
	}
	args = append(args, extra...)
	if !slices.ContainsFunc(extra, func(s string) bool { return strings.HasPrefix(s, "./") }) {
		for _, dir := range longest {
			if _, err := os.Stat(dir); err == nil {
				args = append(args, dir)
			}
		}
		args = append(args, "./...")
	}
	return args
}

func cgo(on bool) string {
	if on {
		return "CGO_ENABLED=1"
	}
	return "CGO_ENABLED=0"
}

// noRace says in plain words why the race detector cannot be used, or nothing.
func (r runner) noRace(ctx context.Context) string {
	out, err := r.output(ctx, "env", "CC")
	if err != nil {
		return err.Error()
	}
	cc, _, _ := strings.Cut(strings.TrimSpace(out), " ") // CC may carry flags
	if _, err := exec.LookPath(cc); err != nil {
		return fmt.Sprintf("it needs a C compiler and %q is not installed", cc)
	}
	return ""
}

// readSkips reads the lines that internal/testenv left, and returns one per
// component with the number of tests that went without it.
func readSkips(file string) ([]string, error) {
	f, err := os.Open(file) //nolint:gosec // a path made by this program
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was skipped: %w", err)
	}
	defer f.Close()
	return countSkips(f)
}

// countSkips counts lines of the form `component: test (what was looked for)`.
func countSkips(lines io.Reader) ([]string, error) {
	type entry struct {
		component, detail string
		tests             int
	}
	var entries []*entry
	scan := bufio.NewScanner(lines)
	for scan.Scan() {
		component, rest, _ := strings.Cut(scan.Text(), ": ")
		_, detail, _ := strings.Cut(rest, " (")
		i := slices.IndexFunc(entries, func(e *entry) bool { return e.component == component })
		if i < 0 {
			entries, i = append(entries, &entry{component: component, detail: strings.TrimSuffix(detail, ")")}), len(entries)
		}
		entries[i].tests++
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("read what was skipped: %w", err)
	}
	slices.SortFunc(entries, func(a, b *entry) int { return cmp.Compare(a.component, b.component) })
	var out []string
	for _, e := range entries {
		out = append(out, fmt.Sprintf("%s: %d skipped for want of it: %s", e.component, e.tests, e.detail))
	}
	return out, nil
}

// failures keeps those lines of go test's output that name what failed, so that
// they can be shown again at the end.
type failures struct {
	partial string
	lines   []string
}

// Write takes output in pieces of any size.
func (f *failures) Write(p []byte) (int, error) {
	text := f.partial + string(p)
	for {
		line, rest, ok := strings.Cut(text, "\n")
		if !ok {
			break
		}
		text = rest
		if strings.HasPrefix(line, "--- FAIL") || strings.HasPrefix(line, "FAIL\t") {
			f.lines = append(f.lines, line)
		}
	}
	f.partial = text
	return len(p), nil
}
