package main

import (
	"fmt"
	"slices"
	"strings"
)

// diffContext is how many unchanged lines are shown around a change.
const diffContext = 3

// lineDiff compares two texts line by line, in the unified form that patch reads. It
// is "" if they are the same.
func lineDiff(name, before, after string) string {
	a, b := strings.SplitAfter(before, "\n"), strings.SplitAfter(after, "\n")
	steps := diffSteps(a, b)
	var out strings.Builder
	for from := 0; from < len(steps); {
		if steps[from].op == ' ' {
			from++
			continue
		}
		// A hunk goes on as long as changes are near each other.
		start, end, quiet := max(0, from-diffContext), from, 0
		for end < len(steps) && quiet <= 2*diffContext {
			if quiet++; steps[end].op != ' ' {
				quiet = 0
			}
			end++
		}
		if quiet > diffContext {
			end -= quiet - diffContext
		}
		if out.Len() == 0 {
			fmt.Fprintf(&out, "--- %s\n+++ %s\n", name, name)
		}
		writeHunk(&out, steps[start:end])
		from = end
	}
	return out.String()
}

// diffStep is a line that both texts have (' '), or only one of them ('-', '+'), and
// where it is in each, counted from 1.
type diffStep struct {
	op   byte
	line string
	a, b int
}

func writeHunk(out *strings.Builder, steps []diffStep) {
	inA, inB := 0, 0
	for _, s := range steps {
		if s.op != '+' {
			inA++
		}
		if s.op != '-' {
			inB++
		}
	}
	fmt.Fprintf(out, "@@ -%d,%d +%d,%d @@\n", steps[0].a, inA, steps[0].b, inB)
	for _, s := range steps {
		out.WriteByte(s.op)
		out.WriteString(s.line)
		if !strings.HasSuffix(s.line, "\n") {
			out.WriteString("\n\\ No newline at end of file\n")
		}
	}
}

// diffSteps finds the longest common lines, by the textbook. Files of policies have a
// few hundred lines; what is alike at both ends is left out of the table.
func diffSteps(a, b []string) (steps []diffStep) {
	trim := func(lines []string) []string {
		if n := len(lines); n > 0 && lines[n-1] == "" {
			return lines[:n-1]
		}
		return lines
	}
	a, b = trim(a), trim(b)
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	midA, midB := a[head:len(a)-tail], b[head:len(b)-tail]
	common := make([][]int, len(midA)+1)
	for i := range common {
		common[i] = make([]int, len(midB)+1)
	}
	for i, lineA := range slices.Backward(midA) {
		for j, lineB := range slices.Backward(midB) {
			if lineA == lineB {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	step := func(op byte, line string) {
		steps = append(steps, diffStep{op, line, i + 1, j + 1})
		if op != '+' {
			i++
		}
		if op != '-' {
			j++
		}
	}
	for i < len(a) || j < len(b) {
		x, y := i-head, j-head
		switch {
		case x < 0 || x >= len(midA) && y >= len(midB):
			step(' ', a[i])
		case x < len(midA) && y < len(midB) && midA[x] == midB[y]:
			step(' ', a[i])
		case y >= len(midB) || x < len(midA) && common[x+1][y] >= common[x][y+1]:
			step('-', a[i])
		default:
			step('+', b[j])
		}
	}
	return steps
}
