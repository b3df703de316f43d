package config

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// proseWidth bounds a line of prose on a Markdown page, in characters.
const proseWidth = 100

// unbreakable matches a word, and a span of code with its spaces.
var unbreakable = regexp.MustCompile("(`[^`]*`|[^\\s`])+|`")

// wrapProse breaks the lines of prose of a Markdown page. Tables, headings, comments and code
// stay as they are.
func wrapProse(page string) string {
	var out []string
	var words []string
	first, rest := "", ""
	flush := func() {
		line := first
		for i, word := range words {
			switch {
			case i == 0:
				line += word
			case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= proseWidth:
				line += " " + word
			default:
				out = append(out, line)
				line = rest + word
			}
		}
		if len(words) > 0 {
			out = append(out, line)
		}
		words, first, rest = nil, "", ""
	}
	code := false
	for line := range strings.SplitSeq(page, "\n") {
		fence := strings.HasPrefix(line, "```")
		switch {
		case code || fence || line == "" || strings.HasPrefix(line, "|") || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "<!"):
			flush()
			out = append(out, line)
			code = code != fence
		case strings.HasPrefix(line, "- "):
			flush()
			first, rest = "- ", "  "
			words = unbreakable.FindAllString(line[2:], -1)
		default:
			words = append(words, unbreakable.FindAllString(line, -1)...)
		}
	}
	flush()
	return strings.Join(out, "\n")
}
