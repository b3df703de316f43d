package repo_test

import (
	_ "embed"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// asvsLines are the lines of levels 1 and 2 of OWASP ASVS 5.0, chapters 1–4, 6–11 and 14–16.
//
//go:embed testdata/asvs.txt
var asvsLines string

var (
	asvsRow  = regexp.MustCompile(`^\| ([0-9., ]+) \| (held|not applicable|open) \| (.+) \| (.*) \|$`)
	testName = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`")
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)
)

// TestEveryLineOfTheStandardIsAnswered holds docs/threat-model.md against the standard: each
// line is there once, and what is held is held by tests that exist.
func TestEveryLineOfTheStandardIsAnswered(t *testing.T) {
	root := filepath.Join("..", "..")
	tests := map[string]bool{}
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range testFunc.FindAllStringSubmatch(string(text), -1) {
			tests[m[1]] = true
		}
		return err
	}))
	text, err := os.ReadFile(filepath.Join(root, "docs", "threat-model.md"))
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## OWASP ASVS 5.0, level 2\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	answered := map[string]string{}
	for line := range strings.SplitSeq(section, "\n") {
		m := asvsRow.FindStringSubmatch(line)
		if m == nil {
			assert.NotRegexp(t, `^\| [0-9]`, line, "a row that cannot be read")
			continue
		}
		for id := range strings.SplitSeq(m[1], ", ") {
			assert.NotContains(t, answered, id, "it is answered twice")
			answered[id] = m[2]
		}
		named := testName.FindAllStringSubmatch(m[4], -1)
		assert.Equal(t, m[2] == "held", len(named) > 0, "%s: what is held names its tests, and nothing else does", m[1])
		for _, name := range named {
			assert.True(t, tests[name[1]], "%s: there is no test %s", m[1], name[1])
		}
	}
	lines := strings.Fields(asvsLines)
	for _, id := range lines {
		assert.Contains(t, answered, id, "it is not answered")
	}
	assert.Len(t, answered, len(lines))
}

// TestTimesToReplacePartsAreFixed holds SECURITY.md to a time for each severity.
func TestTimesToReplacePartsAreFixed(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "SECURITY.md"))
	require.NoError(t, err)
	for _, severity := range []string{"critical", "high", "medium"} {
		assert.Regexp(t, `(?m)^\| `+severity+`[^|]*\| \d+ days \|$`, string(text))
	}
}

// TestEveryPartIsNamedWithItsDigest finds each module that go.mod requires in go.sum.
func TestEveryPartIsNamedWithItsDigest(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	require.NoError(t, err)
	sum, err := os.ReadFile(filepath.Join("..", "..", "go.sum"))
	require.NoError(t, err)
	required := regexp.MustCompile(`(?m)^\t([^\s/]+\.[^\s]+) (v\S+)`).FindAllStringSubmatch(string(mod), -1)
	require.NotEmpty(t, required)
	for _, m := range required {
		assert.Contains(t, string(sum), m[1]+" "+m[2]+" h1:")
	}
}
