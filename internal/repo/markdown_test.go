package repo_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// root is the top of the repository.
const root = "../.."

// documents returns the Markdown files of the repository, relative to its root.
func documents(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/decisions/*.md", "policies/*.md", "examples/*.md", "examples/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		for _, f := range found {
			rel, err := filepath.Rel(root, f)
			require.NoError(t, err)
			files = append(files, rel)
		}
	}
	require.NotEmpty(t, files)
	return files
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	require.NoError(t, err)
	return string(text)
}

// block is a fenced code block.
type block struct {
	line int    // of its first line of code
	info string // what follows the fence
	code string
}

var fence = regexp.MustCompile("^ {0,3}```(.*)$")

// blocks returns the code blocks of a Markdown text in order.
func blocks(text string) []block {
	var found []block
	var open *block
	for i, line := range strings.Split(text, "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case m != nil && open == nil:
			open = &block{line: i + 2, info: strings.TrimSpace(m[1])}
		case m != nil:
			found, open = append(found, *open), nil
		case open != nil:
			open.code += line + "\n"
		}
	}
	return found
}

func TestBlocks(t *testing.T) {
	assert.Equal(t, []block{
		{line: 3, info: "sh background", code: "one\ntwo\n"},
		{line: 8, info: "", code: "# not a heading\n"},
	}, blocks("text\n```sh background\none\ntwo\n```\n\n```\n# not a heading\n```\n"))
}

var (
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+?) *$`)
	code    = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	notSlug = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors returns the fragments that lead to a document's headings, as code
// hosts make them.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		found[strings.ReplaceAll(notSlug.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	return found
}

func TestLinksLeadSomewhere(t *testing.T) {
	for _, doc := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(read(t, doc), ""), -1) {
			path, fragment, _ := strings.Cut(m[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			target := doc
			if path != "" {
				target = filepath.Join(filepath.Dir(doc), path)
			}
			if !exists(t, target, "%s links to %s", doc, m[1]) {
				continue
			}
			if fragment != "" {
				assert.True(t, anchors(read(t, target))[fragment], "%s links to %s, where no heading makes #%s", doc, target, fragment)
			}
		}
	}
}

func TestDecisionsAreListed(t *testing.T) {
	index := read(t, "docs/decisions/README.md")
	seen := map[string]string{}
	for _, doc := range documents(t) {
		name := filepath.Base(doc)
		if filepath.Dir(doc) != filepath.Join("docs", "decisions") || name == "README.md" || name == "0000-template.md" {
			continue
		}
		number, _, _ := strings.Cut(name, "-")
		assert.Empty(t, seen[number], "%s and %s have the same number", name, seen[number])
		seen[number] = name
		title := heading.FindStringSubmatch(read(t, doc))
		require.NotNil(t, title, name)
		assert.Contains(t, index, "| ["+number+"]("+name+") | "+strings.TrimPrefix(title[1], number+": ")+" |")
	}
}

var opaVersion = regexp.MustCompile(`github\.com/open-policy-agent/opa (v\S+)`)

func TestTheOPAProgramIsOfTheLibrarysVersion(t *testing.T) {
	library := opaVersion.FindStringSubmatch(read(t, "go.mod"))
	program := opaVersion.FindStringSubmatch(read(t, "tools/opa/go.mod"))
	require.NotNil(t, library)
	require.NotNil(t, program)
	assert.Equal(t, library[1], program[1])
}

var target = regexp.MustCompile(`(?m)^\.PHONY: (.+)$`)

func TestMakeHelpListsEveryTarget(t *testing.T) {
	makefile := read(t, "Makefile")
	for _, m := range target.FindAllStringSubmatch(makefile, -1) {
		assert.Regexp(t, `(?m)^`+m[1]+`:[^#\n]*## .+$`, makefile)
	}
}

// exists asserts that there is a file or folder of that name.
func exists(t *testing.T, name string, message ...any) bool {
	t.Helper()
	_, err := os.Stat(filepath.Join(root, name))
	return assert.NoError(t, err, message...)
}

// maxProse bounds a line of prose, in characters.
const maxProse = 100

// unbreakable is a line, but for its indentation, that has no place to break: one word, link
// or span of code, with what introduces an item of a list.
var unbreakable = regexp.MustCompile("^\\s*([-*+] |\\d+[.)] )?(\\S+|!?\\[[^]]*\\]\\(\\S*|`[^`]*`\\S*)$")

// TestProseIsNarrow holds that lines of prose in Markdown are at most 100 characters long, so
// that changes of them can be read. Tables, headings, pictures and code may be longer.
func TestProseIsNarrow(t *testing.T) {
	for _, name := range append(documents(t), "cmd/patrol/starter/README.md") {
		code := false
		for i, line := range strings.Split(read(t, name), "\n") {
			begin := strings.TrimSpace(line)
			fenced := strings.HasPrefix(begin, "```")
			code = code != fenced
			if code || fenced || unbreakable.MatchString(line) || strings.HasPrefix(begin, "|") || strings.HasPrefix(begin, "#") || strings.HasPrefix(begin, "<") || strings.HasPrefix(begin, "![") {
				continue
			}
			assert.LessOrEqual(t, utf8.RuneCountInString(line), maxProse, "%s:%d: %s", name, i+1, line)
		}
	}
}
