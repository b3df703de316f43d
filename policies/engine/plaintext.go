package engine

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// plain makes a text of a policy harmless where it is shown and logged: what is not
// printable, or changes the direction of what is around it, becomes a blank, and it ends
// after most bytes.
func plain(text string, most int) string {
	if len(text) <= most && !strings.ContainsFunc(text, Unprintable) && utf8.ValidString(text) {
		return text
	}
	text = strings.Map(func(r rune) rune {
		if Unprintable(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)
	if len(text) > most {
		const sign = "…"
		end := most - len(sign)
		for end > 0 && !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end] + sign
	}
	return text
}

// Unprintable reports whether a character does something else than being there to be read.
func Unprintable(r rune) bool { return !unicode.IsPrint(r) }
