package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

// replayTimeout bounds one evaluation of a replay. Nobody waits for it, so a busy
// machine must not make a difference.
const replayTimeout = 5 * time.Second

// replaying is one run of the command that replays.
type replaying struct {
	recorded
	output
	candidate, base string
	examples        int
}

func (p *process) policyReplayCommand() *cobra.Command {
	r := &replaying{recorded: recorded{process: p}}
	cmd := &cobra.Command{
		Use:   "replay --candidate <folder or .tar.gz>",
		Short: "Make logged decisions again under a candidate, and report what changes",
		Long: `Make the decisions of the log again under a policy that is not in force, on the very input that they were made on, and report what would be newly allowed and
newly denied, by reason and rule. They come from the database of the decision log, or from files of it (decision_log.file).

The exit status is 0 if nothing changes, 1 if something does, 2 if something went wrong.`,
		Example: `  patrol policy replay --candidate ./my-policy --since 24h
  patrol policy replay --candidate my-policy.tar.gz --file /var/log/patrol/decisions.jsonl --output json`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return r.run(cmd) },
	}
	cmd.Flags().StringVar(&r.candidate, "candidate", "", "the policy to replay under")
	cmd.Flags().StringVar(&r.base, "base", "", "compare with this policy instead of with what was decided")
	r.addPeriod(cmd, "24h")
	r.addFiles(cmd)
	cmd.Flags().IntVar(&r.examples, "examples", defaultExamples, "how many decisions to show of each kind of change")
	_ = cmd.MarkFlagRequired("candidate") // fails only for a flag that does not exist
	addOutput(cmd, &r.output)
	return cmd
}

const defaultExamples = 5

// checkExamples looks at what --examples was given.
func checkExamples(n int) error {
	if n < 1 || n > 1000 {
		return usagef("--examples must be from 1 to 1000")
	}
	return nil
}

func (r *replaying) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	if err := checkExamples(r.examples); err != nil {
		return err
	}
	if err := r.readPeriod(time.Now()); err != nil {
		return err
	}
	candidate, err := r.loadToReplay(cmd, r.candidate)
	if err != nil {
		return err
	}
	opts := workbench.ReplayOptions{Examples: r.examples}
	if r.base != "" {
		if opts.Base, err = r.loadToReplay(cmd, r.base); err != nil {
			return err
		}
	}
	report, err := workbench.Replay(ctx, candidate, r.each(cmd), opts)
	if err != nil {
		return err
	}
	if r.json() {
		err = r.printJSON(report)
	} else {
		err = r.printf("%s", replayText(report))
	}
	if err == nil && report.Changes() > 0 {
		err = errDenied
	}
	return err
}

// loadToReplay loads a policy that decisions are made again under.
func (p *process) loadToReplay(cmd *cobra.Command, name string) (*engine.Snapshot, error) {
	files, err := p.openPolicy(cmd, []string{name})
	if err != nil {
		return nil, err
	}
	return files.load(cmd.Context(), p.stderr, engine.WithTimeout(replayTimeout))
}

// changeNames are the kinds of changes in words.
var changeNames = map[workbench.ChangeKind]string{
	workbench.NewlyAllowed: "newly allowed",
	workbench.NewlyDenied:  "newly denied",
	workbench.OtherReasons: "denied for other reasons",
	workbench.OtherGrant:   "allowed by another scope or with other headers",
}

// replayText puts a report into words.
func replayText(r *workbench.ReplayReport) string {
	var b strings.Builder
	if r.Replayed+r.Skipped == 0 {
		return "There are no decisions in this period.\n"
	}
	fmt.Fprintf(&b, "%d decisions from %s to %s, made again under %s\n", r.Replayed, moment(r.From), moment(r.To), printable(r.Revision))
	if r.Skipped > 0 {
		fmt.Fprintf(&b, "%d more were made without the policy, or have no input\n", r.Skipped)
	}
	if r.Masked > 0 {
		fmt.Fprintf(&b, "%d have a masked input: what the policy says of these may be due to that\n", r.Masked)
	}
	writeReplayed(&b, r, func(e workbench.ReplayExample) string {
		return fmt.Sprintf("%s  %s  token %s  decision %s", moment(&e.At), printable(e.Request), printable(e.TokenID), printable(e.ID))
	})
	return b.String()
}

// writeReplayed writes how many decisions change and how, with examples.
func writeReplayed(b *strings.Builder, r *workbench.ReplayReport, example func(workbench.ReplayExample) string) {
	for _, sum := range [...]struct {
		kind workbench.ChangeKind
		n    int64
	}{
		{workbench.NewlyAllowed, r.NewlyAllowed}, {workbench.NewlyDenied, r.NewlyDenied}, {workbench.OtherReasons, r.OtherReasons}, {workbench.OtherGrant, r.OtherGrant},
	} {
		fmt.Fprintf(b, "  %6d %s\n", sum.n, changeNames[sum.kind])
	}
	for _, g := range r.Groups {
		fmt.Fprintf(b, "\n%d %s\n", g.Count, changeNames[g.Kind])
		for _, reason := range g.Reasons {
			b.WriteString(reasonLine(reason))
		}
		for _, e := range g.Examples {
			fmt.Fprintf(b, "    %s\n", example(e))
		}
	}
}

// reasonLine is a line about a reason, with the rule that gives it.
func reasonLine(r workbench.ReplayReason) string {
	text := "  " + printable(string(r.Code))
	if r.Title != "" {
		text += fmt.Sprintf(": %s (%s:%d)", printable(r.Title), printable(r.File), r.Line)
	}
	return text + "\n"
}
