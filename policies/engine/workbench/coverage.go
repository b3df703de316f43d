package workbench

import (
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
)

func coverageOf(policy map[string]*ast.Module, c *cover.Cover) *CoverageReport {
	report := &CoverageReport{Files: []FileCoverage{}}
	files := c.Report(policy).Files
	for _, name := range slices.Sorted(maps.Keys(policy)) {
		f := files[name]
		one := FileCoverage{File: name, Percent: 100, Covered: f.CoveredLines, Uncovered: lineRanges(f.NotCovered)}
		if total := f.CoveredLines + f.NotCoveredLines; total > 0 {
			one.Percent = 100 * float64(f.CoveredLines) / float64(total)
		}
		report.Covered += f.CoveredLines
		report.Uncovered += f.NotCoveredLines
		report.Files = append(report.Files, one)
	}
	if total := report.Covered + report.Uncovered; total > 0 {
		report.Percent = 100 * float64(report.Covered) / float64(total)
	}
	return report
}

// lineRanges puts ranges of text together to ranges of lines.
func lineRanges(ranges []cover.Range) []LineRange {
	lines := []LineRange{}
	for _, r := range ranges { // sorted by their start
		last := len(lines) - 1
		if last >= 0 && r.Start.Row <= lines[last].To+1 {
			lines[last].To = max(lines[last].To, r.End.Row)
			continue
		}
		lines = append(lines, LineRange{r.Start.Row, r.End.Row})
	}
	return lines
}
