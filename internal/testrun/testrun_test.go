package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// screen takes standard output and standard error of several tools at once.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// module writes a module of one package to a new directory, makes that the
// working directory, and returns a runner with the given environment on top.
func module(t *testing.T, test string, env ...string) (runner, *screen) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.test\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x_test.go"), []byte("package x\n\n"+test), 0o600))
	t.Chdir(dir)
	vars := map[string]string{}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		vars[name] = value
	}
	out := &screen{}
	return runner{
		getenv:  func(name string) string { return vars[name] },
		environ: append(os.Environ(), env...),
		out:     out, errors: out,
	}, out
}

const passing = `import "testing"
func TestGood(t *testing.T) {}`

func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		name, test string
		env        []string
		status     int
		says       []string
	}{
		{
			name: "all passed", test: passing, env: []string{"CC=cc-that-is-not-there"},
			says: []string{
				"ok  \texample.test",
				"race detector: it needs a C compiler and \"cc-that-is-not-there\" is not installed",
				"PASSED: all tests, without the race detector",
			},
		},
		{
			name: "the race detector is required but cannot be had", test: passing,
			env: []string{"CC=cc-that-is-not-there", "PATROL_REQUIRE=postgres, race"}, status: 1,
			says: []string{"FAILED: PATROL_REQUIRE names race, but it needs a C compiler"},
		},
		{
			name: "one failed", test: `import "testing"
				func TestGood(t *testing.T) {}
				func TestBad(t *testing.T) { t.Fatal("seen") }`,
			env: []string{"CC=cc-that-is-not-there"}, status: 1,
			says: []string{"seen", "--- FAIL: TestBad", "FAIL\texample.test", "FAILED: some tests failed"},
		},
		{
			name: "one skipped", test: `import ("os"; "testing")
				func TestNone(t *testing.T) {
					if err := os.WriteFile(os.Getenv("PATROL_SKIPPED"), []byte("postgres: TestNone (not installed)\n"), 0o600); err != nil {
						t.Fatal(err)
					}
				}`,
			env:  []string{"CC=cc-that-is-not-there"},
			says: []string{"Left out:", "postgres: 1 skipped for want of it: not installed", "PASSED"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, out := module(t, c.test, c.env...)
			assert.Equal(t, c.status, r.run(t.Context(), []string{"test"}), out.String())
			for _, s := range c.says {
				assert.Contains(t, out.String(), s)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	var out bytes.Buffer
	assert.Equal(t, 2, runner{out: &out, errors: &out}.run(t.Context(), []string{"tests"}))
	assert.Contains(t, out.String(), "usage")
}

func TestCountSkips(t *testing.T) {
	left, err := countSkips(strings.NewReader(
		"postgres: TestA/postgres (no initdb (and no URL))\nenvoy: TestB (not in PATH)\npostgres: TestC (no initdb (and no URL))\n"))
	require.NoError(t, err)
	assert.Equal(t, []string{
		"envoy: 1 skipped for want of it: not in PATH",
		"postgres: 2 skipped for want of it: no initdb (and no URL)",
	}, left)
}

func TestFailuresComeInPieces(t *testing.T) {
	var f failures
	for _, piece := range []string{"ok  \ta\n--- FA", "IL: TestX (0.1s)\n    x", ": FAIL\nFAIL\nFAIL\tb\t0.2s\n"} {
		n, err := f.Write([]byte(piece))
		require.NoError(t, err)
		assert.Equal(t, len(piece), n)
	}
	assert.Equal(t, []string{"--- FAIL: TestX (0.1s)", "FAIL\tb\t0.2s"}, f.lines)
}

func TestTestArgs(t *testing.T) {
	assert.Equal(t, []string{"test", "-p", "2", "-vet", "off", "-timeout", "45m", "-race", "./..."}, testArgs(true, false, nil))
	assert.Equal(t, []string{"test", "-p", "2", "-vet", "off", "-timeout", "3h", "-run", "X", "./models"}, testArgs(false, true, []string{"-run", "X", "./models"}))
}

// TestLongestAreThere holds that the packages that are started first exist.
func TestLongestAreThere(t *testing.T) {
	for _, dir := range longest {
		assert.DirExists(t, filepath.Join("../..", dir))
	}
}

func TestFindTargets(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	targets, err := findTargets(fstest.MapFS{
		"a/a_test.go":          file("package a\nfunc FuzzOne(f *testing.F) {\n}\nfunc FuzzTwo(f *testing.F) {}\n"),
		"a/a.go":               file("func FuzzNotATest(f *testing.F) {}"),
		"b/testdata/b_test.go": file("func FuzzData(f *testing.F) {}"),
		".git/c_test.go":       file("func FuzzHidden(f *testing.F) {}"),
		"b_test.go":            file("func TestX(t *testing.T) {}\n// func FuzzComment(f *testing.F)\nfunc FuzzRoot(f *testing.F) {}"),
	})
	require.NoError(t, err)
	assert.Equal(t, []target{{"a", "FuzzOne"}, {"a", "FuzzTwo"}, {".", "FuzzRoot"}}, targets)
}

func TestFindRaceless(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	packages, err := findRaceless(fstest.MapFS{
		"b/b_test.go": file("//go:build !race\n\npackage b\nfunc TestOne(t *testing.T) {}\nfunc help(t *testing.T) {}\nfunc TestTwo(t *testing.T) {}"),
		"a/a_test.go": file("//go:build !race\n\npackage a\nfunc TestA(t *testing.T) {}"),
		"c/c_test.go": file("package c\n// such as //go:build !race\nfunc TestC(t *testing.T) {}"),
	})
	require.NoError(t, err)
	assert.Equal(t, []target{{"a", "^(TestA)$"}, {"b", "^(TestOne|TestTwo)$"}}, packages)
}

// TestTargetsOfThisRepository holds that what make fuzz runs are targets, not texts
// that look like one.
func TestTargetsOfThisRepository(t *testing.T) {
	targets, err := findTargets(os.DirFS("../.."))
	require.NoError(t, err)
	assert.NotEmpty(t, targets)
	for _, found := range targets {
		assert.NotEqual(t, "internal/testrun", found.dir, found.name)
	}
}

func TestFuzzCommand(t *testing.T) {
	// No line begins like a target, or this file would have some.
	r, out := module(t, "import \"testing\"\n"+
		"func FuzzGood(f *testing.F) { f.Fuzz(func(t *testing.T, s string) {}) }\n"+
		"func FuzzBad(f *testing.F) { f.Fatal(\"found\") }")
	assert.Equal(t, 1, r.run(t.Context(), []string{"fuzz", "-time", "10ms"}))
	assert.Contains(t, out.String(), "FAILED: 1 of 2 fuzz targets: . FuzzBad")
}

func TestPackagesOf(t *testing.T) {
	t.Chdir("../..")
	require.Equal(t, []string{"./api", "./cmd/patrol", "./internal/testrun", "./policies"}, packagesOf([]string{
		"internal/testrun/check.go", "api/openapi.yaml", "cmd/patrol/testdata/script/help.txtar", "policies/authz/authz.rego", "README.md", "tools/go.mod",
	}))
}
