//go:build unix

package repo_test

import (
	"flag"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "draw the pictures of the documents anew")

const picture = "docs/images/make-run.svg"

// TestThePictureShowsWhatIsPrinted runs the demo and compares what it prints with
// the picture in the README. Draw it anew with
//
//	go test ./internal/repo -run Picture -update
func TestThePictureShowsWhatIsPrinted(t *testing.T) {
	s := newSession(t)
	t.Cleanup(func() { s.onEnd(t, func() {}) })
	s.run(t, block{info: "sh background", code: "make run"}, "Ctrl-C ends it.")

	var lines []string
	for line := range strings.Lines(s.said()) {
		if strings.HasPrefix(line, "{") { // the log
			continue
		}
		lines = append(lines, strings.TrimRight(line, "\n"))
	}
	lines = tame(strings.Trim(strings.Join(lines, "\n"), "\n"), s.addr)
	drawn := draw("make run", lines)
	if *update {
		require.NoError(t, os.WriteFile(filepath.Join(root, picture), []byte(drawn), 0o600))
	}
	assert.Equal(t, read(t, picture), drawn, "draw it anew: go test ./internal/repo -run Picture -update")
}

// Values that differ from run to run, and their placeholders.
var (
	anyToken    = regexp.MustCompile(`patrol_[0-9A-Za-z]{16}_[0-9A-Za-z]{38}`)
	anyPassword = regexp.MustCompile(`\b[a-z0-9]{4}(-[a-z0-9]{4}){3}\b`)
	anyPort     = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	anyFolder   = regexp.MustCompile(`(patrol-demo-)\d+`)
	tempFolder  = regexp.MustCompile(`\S*/(patrol-demo-)`)
)

// tame replaces what differs from run to run, secrets first of all, by what is
// plainly made up.
func tame(text, addr string) []string {
	text = anyToken.ReplaceAllString(text, "patrol_EXAMPLEEXAMPLE00_EXAMPLEthisIsNotASecretEXAMPLE00EXAMPL")
	text = anyPassword.ReplaceAllString(text, "made-upxx-pass-word")
	text = strings.ReplaceAll(text, addr, "127.0.0.1:\x00")
	text = anyPort.ReplaceAllString(text, "127.0.0.1:34567")
	text = strings.ReplaceAll(text, "127.0.0.1:\x00", exampleAddr)
	text = tempFolder.ReplaceAllString(text, "/tmp/$1")
	text = anyFolder.ReplaceAllString(text, "${1}1")
	return strings.Split(text, "\n")
}

// The measures of a drawn terminal, in pixels but for columns.
const (
	columns    = 118
	charWidth  = 8
	lineHeight = 18
	margin     = 16
	barHeight  = 34
)

var title = regexp.MustCompile(`^[A-Z].*[^.]$`)

// draw returns an SVG file of a terminal. Lines that look like titles are bold,
// those that start with # are dim.
func draw(command string, lines []string) string {
	var rows []string
	row := func(class, text string) {
		rows = append(rows, fmt.Sprintf(`<tspan class="%s">%s</tspan>`, class, html.EscapeString(text)))
	}
	rows = append(rows, `<tspan class="prompt">$</tspan> <tspan class="title">`+html.EscapeString(command)+`</tspan>`)
	for _, line := range lines {
		class := "plain"
		switch trimmed := strings.TrimLeft(line, " "); {
		case strings.HasPrefix(trimmed, "#"):
			class = "remark"
		case title.MatchString(line):
			class = "title"
		}
		for utf8.RuneCountInString(line) > columns {
			runes := []rune(line)
			row(class, string(runes[:columns]))
			line = string(runes[columns:])
		}
		row(class, line)
	}
	width, height := columns*charWidth+2*margin, barHeight+len(rows)*lineHeight+margin
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img" aria-label="A terminal after %[3]s">
<style>
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; white-space: pre; fill: #d8dee9 }
.title { fill: #ffffff; font-weight: bold }
.remark { fill: #8b95a7 }
.prompt { fill: #8fbf7f }
</style>
<rect width="%[1]d" height="%[2]d" rx="8" fill="#1b1f27"/>
<circle cx="20" cy="17" r="5" fill="#e06c60"/><circle cx="38" cy="17" r="5" fill="#e0b35a"/><circle cx="56" cy="17" r="5" fill="#7fb35f"/>
`, width, height, html.EscapeString(command))
	for i, r := range rows {
		fmt.Fprintf(&b, "<text xml:space=\"preserve\" x=\"%d\" y=\"%d\">%s</text>\n", margin, barHeight+(i+1)*lineHeight-4, r)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func TestTame(t *testing.T) {
	secret := "patrol_0123456789abcdef_0123456789abcdefghijABCDEFGHIJKLMN0123"
	got := tame("x "+secret+" y\nada  ab2d-efgh-3jkl-mnop\nhttp://127.0.0.1:4711/ via 127.0.0.1:4712\n/var/folders/a/patrol-demo-99, deleted", "127.0.0.1:4711")
	assert.Equal(t, []string{
		"x patrol_EXAMPLEEXAMPLE00_EXAMPLEthisIsNotASecretEXAMPLE00EXAMPL y",
		"ada  made-upxx-pass-word",
		"http://127.0.0.1:8080/ via 127.0.0.1:34567",
		"/tmp/patrol-demo-1, deleted",
	}, got)
	assert.NotContains(t, strings.Join(got, "\n"), secret)
}
