package linediff_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"patrol/internal/linediff"
)

func TestMerge(t *testing.T) {
	for name, c := range map[string]struct{ base, one, other, want string }{
		"nothing":            {"a b c", "a b c", "a b c", "a b c"},
		"one side":           {"a b c", "a x c", "a b c", "a x c"},
		"both sides":         {"a b c d e", "a x c d e", "a b c d y", "a x c d y"},
		"the same":           {"a b c", "a x c", "a x c", "a x c"},
		"the same line":      {"a b c", "a x c", "a y c", "!"},
		"lines side by side": {"a b c d", "a x c d", "a b y d", "!"},
		"added at the ends":  {"a b c", "x a b c", "a b c y", "x a b c y"},
		"added at one place": {"a b c", "a x b c", "a y b c", "!"},
		"added alike":        {"a b c", "a x b c", "a x b c", "a x b c"},
		"taken and changed":  {"a b c d", "a c d", "a b c y", "a c y"},
		"taken, and changed": {"a b c", "a c", "a y c", "!"},
		"of nothing":         {"", "a", "", "a"},
		"everything":         {"a b", "", "a b", ""},
	} {
		t.Run(name, func(t *testing.T) {
			lines := func(s string) string {
				if s == "" {
					return ""
				}
				return strings.ReplaceAll(s, " ", "\n") + "\n"
			}
			got, ok := linediff.Merge(lines(c.base), lines(c.one), lines(c.other))
			if c.want == "!" {
				assert.False(t, ok, got)
				return
			}
			assert.True(t, ok)
			assert.Equal(t, lines(c.want), got)
			again, _ := linediff.Merge(lines(c.base), lines(c.other), lines(c.one))
			assert.Equal(t, got, again)
		})
	}
}

// TestMergeWithNothing holds that of one changed side the merge is that side.
func TestMergeWithNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`([abc]\n){0,12}`)
		base, one := text.Draw(t, "base"), text.Draw(t, "one")
		got, ok := linediff.Merge(base, one, base)
		assert.True(t, ok)
		assert.Equal(t, one, got)
	})
}
