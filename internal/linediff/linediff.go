// Package linediff compares and merges texts line by line, for people who look at what changed.
// The differences are those of go-udiff.
package linediff

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff"
)

// context is the number of unchanged lines that are shown around a change.
const context = 3

// Op says which of two texts have a line. It is the sign that patches have for it.
type Op byte

// Which texts have a line.
const (
	Both   Op = ' '
	Before Op = '-'
	After  Op = '+'
)

// ops are the library's, in ours.
var ops = map[udiff.OpKind]Op{udiff.Equal: Both, udiff.Delete: Before, udiff.Insert: After}

// Line is a line of either text or of both.
type Line struct {
	Op   Op
	Text string // with the line break at its end, if it has one
	// Before and After are where it is, or would be, in each, counted from 1.
	Before, After int
}

// Hunk is a change, or several near each other, with some unchanged lines around.
type Hunk []Line

// Counts returns how many lines of each text the hunk has.
func (h Hunk) Counts() (before, after int) {
	for _, l := range h {
		if l.Op != After {
			before++
		}
		if l.Op != Before {
			after++
		}
	}
	return before, after
}

// Header says where the hunk is, as patches do.
func (h Hunk) Header() string {
	before, after := h.Counts()
	return fmt.Sprintf("@@ -%d,%d +%d,%d @@", h[0].Before, before, h[0].After, after)
}

// Hunks returns the differences of two texts; none if they are the same.
func Hunks(before, after string) (hunks []Hunk) {
	diff, err := udiff.ToUnifiedDiff("", "", before, udiff.Lines(before, after), context)
	if err != nil { // edits that are not of this text, which these are
		panic(fmt.Sprintf("compare lines: %v", err))
	}
	shift := 0 // of the lines after, against those before
	for _, h := range diff.Hunks {
		at := h.FromLine
		hunk := make(Hunk, len(h.Lines))
		for i, l := range h.Lines {
			hunk[i] = Line{Op: ops[l.Kind], Text: l.Content, Before: at, After: at + shift}
			switch hunk[i].Op {
			case Before:
				at++
				shift--
			case After:
				shift++
			default:
				at++
			}
		}
		hunks = append(hunks, hunk)
	}
	return hunks
}

// Unified returns the differences in the form that patch reads; "" if there are none. Name is of
// the file.
func Unified(name, before, after string) string {
	var out strings.Builder
	for i, h := range Hunks(before, after) {
		if i == 0 {
			fmt.Fprintf(&out, "--- %s\n+++ %s\n", name, name)
		}
		out.WriteString(h.Header() + "\n")
		for _, l := range h {
			out.WriteByte(byte(l.Op))
			out.WriteString(l.Text)
			if !strings.HasSuffix(l.Text, "\n") {
				out.WriteString("\n\\ No newline at end of file\n")
			}
		}
	}
	return out.String()
}

// Merge puts together what two sides made of one text. ok is false, and there is no text,
// where they changed the same lines, or lines next to each other, in different ways: the
// library's merge would take both.
func Merge(base, one, other string) (merged string, ok bool) {
	all := slices.Concat(edits(base, one), edits(base, other))
	udiff.SortEdits(all)
	all = slices.Compact(all) // both did the same
	for i, e := range all {
		if i > 0 && e.Start <= all[i-1].End {
			return "", false
		}
	}
	merged, err := udiff.Apply(base, all)
	return merged, err == nil
}

// edits returns the edits that make after of before, with some unchanged lines between any two.
func edits(before, after string) (all []udiff.Edit) {
	for _, e := range udiff.Lines(before, after) {
		if n := len(all); n > 0 && e.Start <= all[n-1].End {
			all[n-1].End = e.End
			all[n-1].New += e.New
			continue
		}
		all = append(all, e)
	}
	return all
}
