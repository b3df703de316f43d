package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine"
)

// replayTimeout bounds one evaluation of a replay. Nobody waits for it, so a busy
// machine must not make a difference.
const replayTimeout = 5 * time.Second

// replaying is one run of the command that replays.
type replaying struct {
	*process
	output
	candidate, base string
	since, until    string
	files           []string
	examples        int
}

func (p *process) policyReplayCommand() *cobra.Command {
	r := &replaying{process: p}
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
	cmd.Flags().StringVar(&r.since, "since", "24h", "from then on: a duration before now, or 2027-01-31T12:00:00Z")
	cmd.Flags().StringVar(&r.until, "until", "", "before then, likewise")
	cmd.Flags().StringArrayVar(&r.files, "file", nil, "read these files of JSON lines, - for standard input, instead of the database")
	cmd.Flags().IntVar(&r.examples, "examples", 5, "how many decisions to show of each kind of change")
	_ = cmd.MarkFlagRequired("candidate") // fails only for a flag that does not exist
	addOutput(cmd, &r.output)
	return cmd
}

func (r *replaying) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	if r.examples < 1 || r.examples > 1000 {
		return usagef("--examples must be from 1 to 1000")
	}
	filter, err := r.filter(time.Now())
	if err != nil {
		return err
	}
	candidate, err := r.load(ctx, r.candidate)
	if err != nil {
		return err
	}
	opts := engine.ReplayOptions{Examples: r.examples}
	if r.base != "" {
		if opts.Base, err = r.load(ctx, r.base); err != nil {
			return err
		}
	}
	var report *engine.ReplayReport
	if len(r.files) > 0 {
		report, err = candidate.Replay(ctx, func(fn func(models.LoggedDecision) error) error { return r.eachLine(filter, fn) }, opts)
	} else {
		report, err = r.fromDatabase(cmd, filter, candidate, opts)
	}
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

func (r *replaying) load(ctx context.Context, path string) (*engine.Snapshot, error) {
	files, err := openPolicy(ctx, []string{path})
	if err != nil {
		return nil, err
	}
	s, err := engine.Load(ctx, files.Source, engine.WithTimeout(replayTimeout))
	if err != nil {
		return nil, files.refuse(ctx, err, r.stderr)
	}
	return s, nil
}

// filter reads the period.
func (r *replaying) filter(now time.Time) (f store.DecisionFilter, err error) {
	for _, bound := range [...]struct {
		flag, text string
		to         *time.Time
	}{{"--since", r.since, &f.Since}, {"--until", r.until, &f.Until}} {
		if bound.text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, bound.text)
		if err != nil {
			ago, err := models.ParseDuration(bound.text)
			if err != nil {
				return f, usagef("%s must be a duration such as 24h, or a time such as 2027-01-31T12:00:00Z", bound.flag)
			}
			at = now.Add(-ago)
		}
		*bound.to = at
	}
	return f, nil
}

func (r *replaying) fromDatabase(cmd *cobra.Command, filter store.DecisionFilter, candidate *engine.Snapshot, opts engine.ReplayOptions) (report *engine.ReplayReport, err error) {
	ctx := cmd.Context()
	cfg, err := r.settings(cmd)
	if err != nil {
		return nil, err
	}
	if !cfg.DecisionLog.Database {
		return nil, errors.New("decisions are not kept in a database (decision_log.database); name files of the decision log with --file")
	}
	if path, ok := strings.CutPrefix(cfg.DecisionsDatabase().Reveal(), "sqlite://"); ok {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("there is no decision log at %s: point --data-dir or --database-url at the server's, or name files with --file", path)
		}
	}
	decisions, err := openDecisions(ctx, cfg, store.Config{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, decisions.Close()) }()
	return candidate.Replay(ctx, func(fn func(models.LoggedDecision) error) error { return decisions.Each(ctx, filter, fn) }, opts)
}

// eachLine calls fn with the decisions of the files that are of the period.
func (r *replaying) eachLine(filter store.DecisionFilter, fn func(models.LoggedDecision) error) error {
	for _, name := range r.files {
		if err := r.eachLineOf(name, filter, fn); err != nil {
			return err
		}
	}
	return nil
}

func (r *replaying) eachLineOf(name string, filter store.DecisionFilter, fn func(models.LoggedDecision) error) error {
	in := r.stdin
	if name != "-" {
		f, err := os.Open(name) //nolint:gosec // G304: the path is of whoever types it
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	return models.EachEvent(name, in, func(l models.LoggedDecision) error {
		if l.At.Before(filter.Since) || !filter.Until.IsZero() && !l.At.Before(filter.Until) {
			return nil
		}
		return fn(l)
	})
}

// changeNames are the kinds of changes in words.
var changeNames = map[engine.ChangeKind]string{
	engine.NewlyAllowed: "newly allowed",
	engine.NewlyDenied:  "newly denied",
	engine.OtherReasons: "denied for other reasons",
	engine.OtherGrant:   "allowed by another scope or with other headers",
}

// replayText puts a report into words.
func replayText(r *engine.ReplayReport) string {
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
	for _, sum := range [...]struct {
		kind engine.ChangeKind
		n    int64
	}{
		{engine.NewlyAllowed, r.NewlyAllowed}, {engine.NewlyDenied, r.NewlyDenied}, {engine.OtherReasons, r.OtherReasons}, {engine.OtherGrant, r.OtherGrant},
	} {
		fmt.Fprintf(&b, "  %6d %s\n", sum.n, changeNames[sum.kind])
	}
	for _, g := range r.Groups {
		fmt.Fprintf(&b, "\n%d %s\n", g.Count, changeNames[g.Kind])
		for _, reason := range g.Reasons {
			fmt.Fprintf(&b, "  %s", printable(string(reason.Code)))
			if reason.Title != "" {
				fmt.Fprintf(&b, ": %s (%s:%d)", printable(reason.Title), printable(reason.File), reason.Line)
			}
			b.WriteString("\n")
		}
		for _, e := range g.Examples {
			fmt.Fprintf(&b, "    %s  %s  token %s  decision %s\n", moment(&e.At), printable(e.Request), printable(e.TokenID), printable(e.ID))
		}
	}
	return b.String()
}
