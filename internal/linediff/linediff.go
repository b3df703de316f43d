// Package linediff compares texts line by line, for people who look at what changed.
package linediff

import (
	"fmt"
	"slices"
	"strings"
)

// context is how many unchanged lines are shown around a change.
const context = 3

// mostCells bounds the work of one comparison: the product of the numbers of lines
// between the first and the last change. Beyond, all lines between count as changed.
const mostCells = 4 << 20

// Op says which of two texts have a line. It is the sign that patches have for it.
type Op byte

// Which texts have a line.
const (
	Both   Op = ' '
	Before Op = '-'
	After  Op = '+'
)

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

// Hunks returns what differs between two texts; nothing if they are the same.
func Hunks(before, after string) (hunks []Hunk) {
	lines := compare(split(before), split(after))
	for from := 0; from < len(lines); {
		if lines[from].Op == Both {
			from++
			continue
		}
		// A hunk goes on as long as changes are near each other.
		start, end, quiet := max(0, from-context), from, 0
		for end < len(lines) && quiet <= 2*context {
			if quiet++; lines[end].Op != Both {
				quiet = 0
			}
			end++
		}
		if quiet > context {
			end -= quiet - context
		}
		hunks = append(hunks, lines[start:end])
		from = end
	}
	return hunks
}

// Unified is what differs in the form that patch reads; "" if nothing does. Name is of
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

func split(text string) []string {
	lines := strings.SplitAfter(text, "\n")
	if n := len(lines); lines[n-1] == "" {
		return lines[:n-1]
	}
	return lines
}

// compare finds the longest common lines, by the textbook. What is alike at both ends
// is left out of the table.
func compare(a, b []string) (lines []Line) {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	midA, midB := a[head:len(a)-tail], b[head:len(b)-tail]
	common := commonLines(midA, midB)
	i, j := 0, 0
	step := func(op Op, text string) {
		lines = append(lines, Line{op, text, i + 1, j + 1})
		if op != After {
			i++
		}
		if op != Before {
			j++
		}
	}
	for i < len(a) || j < len(b) {
		x, y := i-head, j-head
		switch {
		case x < 0 || x >= len(midA) && y >= len(midB):
			step(Both, a[i])
		case common != nil && x < len(midA) && y < len(midB) && midA[x] == midB[y]:
			step(Both, a[i])
		case y >= len(midB) || x < len(midA) && (common == nil || common[x+1][y] >= common[x][y+1]):
			step(Before, a[i])
		default:
			step(After, b[j])
		}
	}
	return lines
}

// commonLines is how many lines are common to the rests of a and b from each place on;
// nil if that is too much to find out.
func commonLines(a, b []string) [][]int32 {
	if (len(a)+1)*(len(b)+1) > mostCells {
		return nil
	}
	common := make([][]int32, len(a)+1)
	for i := range common {
		common[i] = make([]int32, len(b)+1)
	}
	for i, lineA := range slices.Backward(a) {
		for j, lineB := range slices.Backward(b) {
			if lineA == lineB {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	return common
}
