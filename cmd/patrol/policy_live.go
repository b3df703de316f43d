package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"patrol/api"
	"patrol/models/store"
)

// policyLiveCommands are about the policy in force, straight on the database.
// Running servers obey within a second.
func (p *process) policyLiveCommands() []*cobra.Command {
	return []*cobra.Command{p.policyStatusCommand(), p.policyHistoryCommand(), p.policyRollbackCommand(), p.policyResumeCommand(), p.policyShadowCommand(), p.policyPromoteCommand()}
}

// livePolicy is the policy in force, as the database has it.
type livePolicy struct {
	Revision string    `json:"revision"`
	Digest   string    `json:"digest"`
	Source   string    `json:"source"`
	Since    time.Time `json:"since"`
	Pinned   bool      `json:"pinned"`
	Promoted bool      `json:"promoted"` // the pin ends when the source holds the same
}

func (o *operator) printPolicy(s store.PolicyState) error {
	if o.json() {
		return o.printJSON(livePolicy{Revision: s.Revision, Digest: s.Digest, Source: s.Source, Since: s.Since, Pinned: s.Pinned, Promoted: s.Promoted})
	}
	if s.Digest == "" {
		_, err := fmt.Fprintln(o.stdout, "No policy was in force yet.")
		return err
	}
	pinned := "follows its source"
	switch {
	case s.Promoted:
		pinned = "promoted, until its source has the same"
	case s.Pinned:
		pinned = "pinned by a roll back"
	}
	return o.printTable(
		[]column{{title: "REVISION"}, {title: "SINCE"}, {title: "SOURCE", shrink: true}, {title: "STATUS"}, {title: "DIGEST", shrink: true}},
		[][]string{{s.Revision, moment(&s.Since), s.Source, pinned, s.Digest}},
	)
}

func (p *process) policyStatusCommand() *cobra.Command {
	o := &operator{process: p}
	cmd := &cobra.Command{Use: "status", Short: "Say which policy is in force", Args: cobra.NoArgs}
	return o.command(cmd, func(ctx context.Context, _ []string) error {
		state, err := o.store.PolicyState(ctx)
		if err != nil {
			return err
		}
		return o.printPolicy(state)
	})
}

func (p *process) policyHistoryCommand() *cobra.Command {
	o := &operator{process: p}
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List what happened to the policy, and what can be rolled back to",
		Long: `List what happened to the policy, the latest first: what came into force, what was refused and why, roll backs. A revision marked kept can be
rolled back to.`,
		Args: cobra.NoArgs,
	}
	return o.command(cmd, func(ctx context.Context, _ []string) error {
		events, err := o.store.PolicyEvents(ctx, "", listPage)
		if err != nil {
			return err
		}
		kept, err := o.store.PolicyRevisions(ctx)
		if err != nil {
			return err
		}
		isKept := map[string]bool{}
		for _, r := range kept {
			isKept[r.Digest] = true
		}
		if o.json() {
			out := make([]policyEvent, len(events))
			for i, e := range events {
				out[i] = policyEvent{
					At: e.At, Kind: string(e.Kind), Revision: e.Subject.Revision, Digest: e.Subject.Digest,
					Source: e.Subject.Source, Kept: isKept[e.Subject.Digest], Result: e.Subject.Result,
				}
			}
			return o.printJSON(out)
		}
		rows := make([][]string, len(events))
		for i, e := range events {
			status := ""
			if isKept[e.Subject.Digest] {
				status = "kept"
			}
			rows[i] = []string{moment(&e.At), string(e.Kind), e.Subject.Revision, status, whatHappened(e.Subject)}
		}
		return o.printTable([]column{{title: "WHEN"}, {title: "WHAT"}, {title: "REVISION", shrink: true}, {title: "STATUS"}, {title: "RESULT", shrink: true}}, rows)
	})
}

// policyEvent is a line of the history in JSON.
type policyEvent struct {
	At       time.Time       `json:"at"`
	Kind     string          `json:"kind"`
	Revision string          `json:"revision"`
	Digest   string          `json:"digest"`
	Source   string          `json:"source"`
	Kept     bool            `json:"kept"`
	Result   json.RawMessage `json:"result"`
}

// whatHappened is the result of the gate in a line: the first reason of a refusal,
// else how many tests passed.
func whatHappened(r store.PolicyRevision) string {
	var result api.PolicyResult
	if err := json.Unmarshal(r.Result, &result); err != nil {
		return ""
	}
	switch {
	case len(result.Findings) > 0:
		f := result.Findings[0]
		text := f.Stage + ": "
		if f.File != "" {
			text += fmt.Sprintf("%s:%d: ", f.File, f.Line)
		}
		text += f.Message
		if more := len(result.Findings) - 1; more > 0 {
			text += fmt.Sprintf(" (and %d more)", more)
		}
		return text
	case result.Tests != nil && result.Coverage != nil:
		return fmt.Sprintf("%d tests passed, %.0f%% covered", result.Tests.Passed, *result.Coverage)
	}
	return ""
}

func (p *process) policyRollbackCommand() *cobra.Command {
	o := &operator{process: p}
	cmd := &cobra.Command{
		Use:   "rollback <revision or digest>",
		Short: "Put an earlier revision in force again, on all servers, and pin it",
		Long: `Put one of the last revisions in force again, on all servers of this database within a second. It is pinned: whatever the policy's source
holds, nothing else comes into force until 'patrol policy resume'. 'patrol policy history' lists the revisions that are kept.`,
		Args: cobra.ExactArgs(1),
	}
	return o.command(cmd, func(ctx context.Context, args []string) error {
		state, err := o.store.RollBackPolicy(ctx, o.by, args[0])
		if err != nil {
			return err
		}
		return o.printPolicy(state)
	})
}

func (p *process) policyResumeCommand() *cobra.Command {
	o := &operator{process: p}
	cmd := &cobra.Command{
		Use:   "resume",
		Short: "Lift the pin of a roll back or a promotion, and have servers look at the policy's source again",
		Args:  cobra.NoArgs,
	}
	return o.command(cmd, func(ctx context.Context, _ []string) error {
		state, err := o.store.ResumePolicy(ctx, o.by)
		if err != nil {
			return err
		}
		return o.printPolicy(state)
	})
}
