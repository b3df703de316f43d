package linediff_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"patrol/internal/linediff"
)

func TestUnified(t *testing.T) {
	lines := func(from, to int) string {
		var b strings.Builder
		for i := from; i <= to; i++ {
			fmt.Fprintln(&b, i)
		}
		return b.String()
	}
	for name, c := range map[string]struct{ before, after, want string }{
		"the same":                 {"a\nb\n", "a\nb\n", ""},
		"both empty":               {"", "", ""},
		"a new file":               {"", "a\n", "--- f\n+++ f\n@@ -1,0 +1,1 @@\n+a\n"},
		"one that is gone":         {"a\n", "", "--- f\n+++ f\n@@ -1,1 +1,0 @@\n-a\n"},
		"no line break at the end": {"a\nb", "a\nb\n", "--- f\n+++ f\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n"},
		"three lines around":       {lines(1, 9), lines(1, 4) + "x\n" + lines(6, 9), "--- f\n+++ f\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n"},
		"changes near each other are one": {
			lines(1, 9), "0\n" + lines(1, 6) + lines(8, 9),
			"--- f\n+++ f\n@@ -1,9 +1,9 @@\n+0\n 1\n 2\n 3\n 4\n 5\n 6\n-7\n 8\n 9\n",
		},
		"others are not": {
			lines(1, 20), lines(2, 19),
			"--- f\n+++ f\n@@ -1,4 +1,3 @@\n-1\n 2\n 3\n 4\n@@ -17,4 +16,3 @@\n 17\n 18\n 19\n-20\n",
		},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.want, linediff.Unified("f", c.before, c.after)) })
	}
}

// Whatever the texts are, what is common and what is removed make up the first, and
// what is common and what is added the second; lines that hunks leave out are common.
func TestHunksMakeUpBothTexts(t *testing.T) {
	text := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a\n", "b\n", "c\n", "\n"}), 0, 40).Draw(t, "lines"), "") + rapid.SampledFrom([]string{"", "end"}).Draw(t, "end")
	})
	rapid.Check(t, func(t *rapid.T) {
		before, after := text.Draw(t, "before"), text.Draw(t, "after")
		hunks := linediff.Hunks(before, after)
		if before == after {
			require.Empty(t, hunks)
		}
		made(t, before, hunks, func(l linediff.Line) (bool, int) { return l.Op != linediff.After, l.Before })
		made(t, after, hunks, func(l linediff.Line) (bool, int) { return l.Op != linediff.Before, l.After })
	})
}

// made checks that the lines of hunks which are of a text are so, where they say.
func made(t require.TestingT, text string, hunks []linediff.Hunk, of func(linediff.Line) (bool, int)) {
	lines := strings.SplitAfter(text, "\n")
	for _, h := range hunks {
		for _, l := range h {
			if mine, at := of(l); mine {
				require.Equal(t, lines[at-1], l.Text)
			}
		}
	}
}

// A comparison that would take too much says that everything between is changed.
func TestLargeTexts(t *testing.T) {
	var before, after strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&before, "a%d\n", i)
		fmt.Fprintf(&after, "b%d\n", i)
	}
	hunks := linediff.Hunks("first\n"+before.String()+"last\n", "first\n"+after.String()+"last\n")
	require.Len(t, hunks, 1)
	removed, added := hunks[0].Counts()
	assert.Equal(t, 50_002, removed)
	assert.Equal(t, 50_002, added)
}
