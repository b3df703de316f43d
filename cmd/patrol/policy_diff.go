package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"patrol/internal/linediff"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

// diffing is one run of the command that compares.
type diffing struct {
	recorded
	output
	examples int
	verbose  bool
}

func (p *process) policyDiffCommand() *cobra.Command {
	d := &diffing{recorded: recorded{process: p}}
	cmd := &cobra.Command{
		Use:   "diff <before> <after>",
		Short: "Say what two policies have, and decide, otherwise",
		Long: `Compare two policies: what they say, which is rules, reason codes, roles, catalog, routes and other data; what both decide of cases that are known
beforehand, which is each operation of their catalogs as asked for by each role, and the decisions that this program keeps of the default policy; and what
both take requests for. With --since or --file both make the decisions of the log again as well.

A policy is a folder, an archive, or one of the words in 'patrol policy --help': so 'patrol policy diff active my-policy' tells what would
change if my-policy came into force.

The exit status is 0 if there is no difference, 1 if there is one, 2 if something went wrong.`,
		Example: `  patrol policy diff embedded my-policy
  patrol policy diff active my-policy --since 24h
  patrol policy diff revision:v41 my-policy --file decisions.jsonl --output json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return d.run(cmd, args) },
	}
	d.addPeriod(cmd, "")
	d.addFiles(cmd)
	cmd.Flags().IntVar(&d.examples, "examples", defaultExamples, "how many decisions to show of each kind of change")
	cmd.Flags().BoolVarP(&d.verbose, "verbose", "v", false, "show decisions that are only denied for other reasons as well")
	addOutput(cmd, &d.output)
	return cmd
}

func (d *diffing) run(cmd *cobra.Command, args []string) error {
	ctx := cmd.Context()
	if err := checkExamples(d.examples); err != nil {
		return err
	}
	if err := d.readPeriod(time.Now()); err != nil {
		return err
	}
	var files [2]policyFiles
	var loaded [2]workbench.Loaded
	for i, name := range args {
		var err error
		if files[i], err = d.openPolicy(cmd, []string{name}); err != nil {
			return err
		}
		loaded[i].Source = files[i].Source
		if loaded[i].Snapshot, err = files[i].load(ctx, d.stderr, engine.WithTimeout(replayTimeout)); err != nil {
			return err
		}
	}
	report, err := workbench.Diff(ctx, loaded[0], loaded[1], d.examples)
	if err != nil {
		return err
	}
	if d.since != "" || d.until != "" || len(d.files) > 0 {
		opts := workbench.ReplayOptions{Base: loaded[0].Snapshot, Examples: d.examples}
		if report.Recorded, err = workbench.Replay(ctx, loaded[1].Snapshot, d.each(cmd), opts); err != nil {
			return err
		}
	}
	if d.json() {
		err = d.printJSON(report)
	} else {
		err = d.printf("%s", printableLines(d.text(report, files)))
	}
	if err == nil && !report.Same() {
		err = errDenied
	}
	return err
}

// diffMarks are the kinds of differences, as patches have them.
var diffMarks = map[workbench.DiffKind]string{workbench.Added: "+", workbench.Removed: "-", workbench.Changed: "~"}

var partTitles = []struct {
	part  workbench.DiffPart
	title string
}{
	{workbench.PartRule, "Rules"},
	{workbench.PartReason, "Reason codes"},
	{workbench.PartRole, "What roles permit"},
	{workbench.PartOperation, "Catalog"},
	{workbench.PartRoute, "Routes"},
	{workbench.PartWaiver, "What the manifest waives"},
	{workbench.PartData, "Other data"},
}

// text is a report for people.
func (d *diffing) text(r *workbench.DiffReport, files [2]policyFiles) string {
	var b strings.Builder
	fmt.Fprintf(&b, "before  %s, revision %s\nafter   %s, revision %s\n", r.Before.Name, r.Before.Revision, r.After.Name, r.After.Revision)
	for _, p := range partTitles {
		titled := false
		for _, one := range r.Differences {
			if one.Part != p.part {
				continue
			}
			if !titled {
				fmt.Fprintf(&b, "\n%s (+ added, - removed, ~ changed)\n", p.title)
				titled = true
			}
			writeDifference(&b, one, files)
		}
	}
	if len(r.Requests) > 0 {
		b.WriteString("\nRequests that stand for something else\n")
		for _, q := range r.Requests {
			fmt.Fprintf(&b, "  %s: %s, before %s\n", q.Request, asked(q.After), asked(q.Before))
		}
	}
	fmt.Fprintf(&b, "\n%d known decisions made under both\n", r.Decisions.Replayed)
	writeReplayed(&b, d.shown(r.Decisions), func(e workbench.ReplayExample) string { return e.Request + "  " + e.ID })
	if r.Recorded != nil {
		b.WriteString("\nOf the log: " + replayText(d.shown(r.Recorded)))
	}
	if r.Same() {
		b.WriteString("\nThere is no difference.\n")
	}
	return b.String()
}

// shown is a report without what only -v shows: that what is denied is denied for
// other reasons is seldom news, and comes in many kinds.
func (d *diffing) shown(r *workbench.ReplayReport) *workbench.ReplayReport {
	if d.verbose {
		return r
	}
	short := *r
	short.Groups = slices.DeleteFunc(slices.Clone(r.Groups), func(g workbench.ReplayGroup) bool { return g.Kind == workbench.OtherReasons })
	return &short
}

func writeDifference(b *strings.Builder, d workbench.Difference, files [2]policyFiles) {
	fmt.Fprintf(b, "%s %s", diffMarks[d.Kind], strings.TrimPrefix(d.Name, "data.patrol."))
	if d.Title != "" {
		b.WriteString(": " + d.Title)
	}
	if d.File != "" {
		in := files[1]
		if d.Kind == workbench.Removed {
			in = files[0]
		}
		fmt.Fprintf(b, " (%s:%d)", in.show(d.File), d.Line)
	}
	b.WriteString("\n")
	if d.Kind == workbench.Added && d.Part == workbench.PartRule {
		for line := range strings.SplitSeq(strings.TrimRight(d.After, "\n"), "\n") {
			b.WriteString("    +" + line + "\n")
		}
	}
	if d.Kind != workbench.Changed || d.Before == d.After {
		return
	}
	if d.Part == workbench.PartRule {
		for _, hunk := range linediff.Hunks(d.Before+"\n", d.After+"\n") {
			for _, line := range hunk {
				fmt.Fprintf(b, "    %c%s", line.Op, line.Text)
			}
		}
		return
	}
	fmt.Fprintf(b, "    - %s\n    + %s\n", d.Before, d.After)
}

// asked returns the question of a request in words.
func asked(scope string) string {
	if scope == "" {
		return "no route"
	}
	return scope
}
