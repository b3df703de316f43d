package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"patrol/models"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

func (p *process) policyCheckCommand() *cobra.Command {
	var out output
	var opts checkFlags
	var kinds []string
	var listSafety bool
	cmd := &cobra.Command{
		Use:   "check [folder or archive]",
		Short: "Check all that a server checks before it puts a policy in force",
		Long: `Check a policy as a server does before it puts one in force, with the same code: that it can be read, compiles strictly under the restricted
built-in functions, that catalog, roles and routes are as their schemas say, that the documents which the server asks for are there, that rules
carry their metadata, that its own tests exist, pass, notice a wrong policy and cover enough, and that it allows nothing which no policy may allow (the safety suite).

The exit status is 0 if it passes, 1 if not, 2 if something went wrong.`,
		Example: `  patrol policy check
  patrol policy check my-policy --min-coverage 100
  patrol policy check policy.tar.gz --output json
  patrol policy check my-policy --waive domain_frozen
  patrol policy check my-policy --upstream-kind ollama`,
		Args: policyPath,
		RunE: func(cmd *cobra.Command, args []string) error {
			if listSafety {
				return printSafetyCases(out)
			}
			if err := readCheckOptions(&opts); err != nil {
				return err
			}
			for _, kind := range kinds {
				if !models.UpstreamKind(kind).Known() || kind == "" {
					return usagef("--upstream-kind must be one of %s, not %q", models.KindList(), kind)
				}
			}
			opts.Kinds = kinds
			files, err := p.openPolicy(cmd, args)
			if err != nil {
				return err
			}
			opts.permit(&files.Source)
			report, err := workbench.Check(cmd.Context(), files.Source, opts.CheckOptions)
			if err != nil {
				return err
			}
			if out.json() {
				err = out.printJSON(report)
			} else {
				err = printReport(out, files, report)
			}
			if err == nil && !report.Passed {
				err = errDenied
			}
			return err
		},
	}
	addCheckOptions(cmd, &opts)
	cmd.Flags().StringSliceVar(&kinds, "upstream-kind", nil, "warn of names of models that no request has where an upstream is of this kind: "+models.KindList()+"; repeat for more")
	cmd.Flags().BoolVar(&listSafety, "list-safety", false, "list the cases of the safety suite, and check nothing")
	addOutput(cmd, &out)
	return cmd
}

// checkFlags set the strictness of a check.
type checkFlags struct {
	workbench.CheckOptions
	waive []string
}

// permit lets a policy waive what flags name, beside what the server's settings do.
func (o *checkFlags) permit(src *engine.Source) {
	src.Waive = append(slices.Clone(src.Waive), o.waive...)
}

// addCheckOptions defines the flags that say how strict a check is.
func addCheckOptions(cmd *cobra.Command, opts *checkFlags) {
	cmd.Flags().Float64Var(&opts.MinCoverage, "min-coverage", workbench.DefaultMinCoverage, "how much of the policy its tests must run, in percent of lines; 0 for no minimum")
	cmd.Flags().StringSliceVar(&opts.waive, "waive", nil, "a reason that the policy's manifest may waive, as gate.waive on servers; repeat for more")
	cmd.Flags().DurationVar(&opts.TestTimeout, "test-timeout", workbench.DefaultTestTimeout, "how long each test may take")
	_ = cmd.RegisterFlagCompletionFunc("waive", fixed(waivableNames()...)) // fails only for a flag that does not exist
}

// readCheckOptions looks at what the flags were given.
func readCheckOptions(opts *checkFlags) error {
	if opts.MinCoverage == 0 {
		opts.MinCoverage = -1 // as typed: none
	}
	if opts.MinCoverage > 100 {
		return usagef("--min-coverage is in percent: at most 100")
	}
	if err := workbench.ValidateWaivers(opts.waive); err != nil {
		return usagef("--waive: %w", err)
	}
	return nil
}

func waivableNames() (names []string) {
	for _, code := range engine.WaivableCodes() {
		names = append(names, string(code))
	}
	return names
}

func printSafetyCases(out output) error {
	cases := workbench.SafetyCases()
	if out.json() {
		return out.printJSON(cases)
	}
	rows := make([][]string, len(cases))
	for i, c := range cases {
		rows[i] = []string{c.Name, c.Title}
	}
	return out.printTable([]column{{title: "CASE"}, {title: "NO POLICY MAY ALLOW", shrink: true}}, rows)
}

// printReport shows a report to people: stages, then what is wrong, then the sum.
func printReport(out output, files policyFiles, r *workbench.Report) error {
	rows := make([][]string, len(r.Stages))
	for i, s := range r.Stages {
		rows[i] = []string{string(s.Stage), string(s.Outcome), stageDetail(r, s.Stage)}
	}
	if err := out.printTable([]column{{title: "STAGE"}, {title: "OUTCOME"}, {title: "DETAIL", shrink: true}}, rows); err != nil {
		return err
	}
	var b strings.Builder
	if len(r.Findings)+len(r.Warnings) > 0 {
		b.WriteString("\n")
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s [%s]\n", files.at(f), f.Code)
	}
	for _, f := range r.Warnings {
		where := files.at(f)
		where.Message = "warning: " + where.Message
		fmt.Fprintf(&b, "%s [%s]\n", where, f.Code)
	}
	if r.Coverage != nil && stageFailed(r, engine.StageCoverage) {
		b.WriteString(uncovered(files, r.Coverage))
	}
	if d := r.Departures; d != nil {
		for _, code := range d.Waives {
			fmt.Fprintf(&b, "%s is waived, by the manifest and this setting together\n", code)
		}
		for _, e := range d.Exceptions {
			fmt.Fprintf(&b, "%s:%d:1: makes an exception: %s\n", files.show(e.File), e.Line, cmp.Or(e.Title, "it has no title"))
		}
		for _, l := range d.Labels {
			fmt.Fprintf(&b, "%s:%d:1: gives labels: %s\n", files.show(l.File), l.Line, cmp.Or(l.Title, "it has no title"))
		}
	}
	fmt.Fprintf(&b, "\n%s, revision %s, OPA %s: ", r.Policy, r.Revision, r.OPA)
	switch n := len(r.Findings); {
	case r.Passed:
		b.WriteString("the policy passes\n")
	case n == 1:
		b.WriteString("the policy fails, for 1 reason\n")
	default:
		fmt.Fprintf(&b, "the policy fails, for %d reasons\n", n)
	}
	return out.printf("%s", printableLines(b.String()))
}

func stageFailed(r *workbench.Report, stage engine.Stage) bool {
	for _, s := range r.Stages {
		if s.Stage == stage {
			return s.Outcome == workbench.Failed
		}
	}
	return false
}

// stageDetail returns details of a stage beside its outcome.
func stageDetail(r *workbench.Report, stage engine.Stage) string {
	switch {
	case stage == engine.StageTests && r.Tests != nil:
		return testSum(r.Tests)
	case stage == engine.StageCoverage && r.Coverage != nil:
		return fmt.Sprintf("%.1f%% of %d lines", r.Coverage.Percent, r.Coverage.Covered+r.Coverage.Uncovered)
	case stage == engine.StageSafety && r.Safety != nil:
		tried, waived := 0, 0
		for _, s := range r.Safety {
			tried += s.Tried
			if s.Outcome == workbench.Waived {
				waived++
			}
		}
		text := fmt.Sprintf("%d cases, %d inputs", len(r.Safety), tried)
		if waived > 0 {
			text += fmt.Sprintf(", %d waived", waived)
		}
		return text
	}
	return ""
}

// uncovered lists the lines that no test runs.
func uncovered(files policyFiles, c *workbench.CoverageReport) string {
	var b strings.Builder
	for _, f := range c.Files {
		for _, lines := range f.Uncovered {
			what := "this line"
			if lines.To > lines.From {
				what = fmt.Sprintf("lines %d to %d", lines.From, lines.To)
			}
			fmt.Fprintf(&b, "%s:%d:1: no test runs %s\n", files.show(f.File), lines.From, what)
		}
	}
	return b.String()
}

// printableLines is printable for text of several lines, which may be indented.
func printableLines(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsGraphic(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// seconds shows how long something took.
func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}
