package linediff

import (
	"slices"
	"strings"
)

// edit replaces some lines of a text, from the first that is counted to before the last.
type edit struct {
	from, to int
	by       []string
}

// Merge puts together what two sides made of one text. ok is false, and there is no text,
// where they changed the same lines, or lines next to each other, in different ways.
func Merge(base, one, other string) (merged string, ok bool) {
	lines := split(base)
	all := slices.Concat(edits(lines, split(one)), edits(lines, split(other)))
	slices.SortStableFunc(all, func(a, b edit) int {
		if a.from != b.from {
			return a.from - b.from
		}
		return a.to - b.to
	})
	var out strings.Builder
	at := 0
	for i, e := range all {
		if i > 0 {
			last := all[i-1]
			if last.from == e.from && last.to == e.to && slices.Equal(last.by, e.by) {
				continue // both did the same
			}
			if e.from <= last.to {
				return "", false
			}
		}
		for _, line := range lines[at:e.from] {
			out.WriteString(line)
		}
		for _, line := range e.by {
			out.WriteString(line)
		}
		at = e.to
	}
	for _, line := range lines[at:] {
		out.WriteString(line)
	}
	return out.String(), true
}

// edits turn one text into another, applied in order.
func edits(before, after []string) (all []edit) {
	at, open := 0, false
	for _, l := range compare(before, after) {
		if l.Op == Both {
			at++
			open = false
			continue
		}
		if !open {
			all, open = append(all, edit{from: at, to: at}), true
		}
		last := &all[len(all)-1]
		if l.Op == Before {
			at++
			last.to = at
		} else {
			last.by = append(last.by, l.Text)
		}
	}
	return all
}
