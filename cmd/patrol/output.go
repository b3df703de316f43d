package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/mattn/go-runewidth"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// output writes the results of a command.
type output struct {
	format string // "table" or "json"
	w      io.Writer
}

// addOutput defines --output on a command.
func addOutput(cmd *cobra.Command, o *output) {
	cmd.Flags().StringVarP(&o.format, "output", "o", "table", "how to print: table or json")
	_ = cmd.RegisterFlagCompletionFunc("output", fixed("table", "json")) // fails only for a flag that does not exist
	check := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		o.w = cmd.OutOrStdout()
		if o.format != "table" && o.format != "json" {
			return usagef("--output must be table or json")
		}
		if check != nil {
			return check(cmd, args)
		}
		return nil
	}
}

// fixed completes with a fixed list of words.
func fixed(words ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
}

func (o output) json() bool { return o.format == "json" }

// printJSON writes v, indented.
func (o output) printJSON(v any) error {
	enc := json.NewEncoder(o.w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// printf writes text for people.
func (o output) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(o.w, format, args...)
	return err
}

// column is a column of a table.
type column struct {
	title string
	// shrink marks a column that may be cut to make the table fit a terminal.
	shrink bool
}

const (
	columnGap = 2
	minCut    = 12 // no column is cut to less
)

// printTable writes rows under titles. On a terminal it cuts the columns that may
// shrink until the lines fit; elsewhere nothing is cut, for programs to read.
func (o output) printTable(columns []column, rows [][]string) error {
	widths := make([]int, len(columns))
	for i, c := range columns {
		widths[i] = runewidth.StringWidth(c.title)
	}
	for _, row := range rows {
		for i, cell := range row {
			row[i] = printable(cell)
			widths[i] = max(widths[i], runewidth.StringWidth(row[i]))
		}
	}
	if f := terminal(o.w); f != nil {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			fit(columns, widths, width)
		}
	}
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = c.title
	}
	var b strings.Builder
	for _, row := range append([][]string{titles}, rows...) {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(runewidth.FillRight(runewidth.Truncate(cell, widths[i], "…"), widths[i]+columnGap))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(o.w, b.String())
	return err
}

// fit takes from the widest of the columns that may shrink until the whole is at
// most limit wide, or nothing more can be taken.
func fit(columns []column, widths []int, limit int) {
	total := columnGap * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	for ; total > limit; total-- {
		widest := -1
		for i, c := range columns {
			if c.shrink && widths[i] > minCut && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

// printable replaces what could move a terminal's cursor or hide text. The server
// lets no such thing into names; this program need not believe that.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// moment shows a time as people compare it.
func moment(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}
