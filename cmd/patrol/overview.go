package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"patrol/models"
	"patrol/models/store"
)

// statusOutput is the JSON form of `patrol status`.
type statusOutput struct {
	Policy      livePolicy         `json:"policy"`
	DecisionLog *decisionLogStatus `json:"decision_log"` // null: decisions are kept in no database
}

type decisionLogStatus struct {
	MaxRows      int            `json:"max_rows"`
	Verified     logClassStatus `json:"verified"`
	Refused      logClassStatus `json:"refused"`
	BusiestToken string         `json:"busiest_token,omitempty"`
	BusiestRows  int64          `json:"busiest_rows,omitempty"`
}

type logClassStatus struct {
	Rows          int64      `json:"rows"`
	CompleteSince *time.Time `json:"complete_since"`
	CutShort      bool       `json:"cut_short"`
}

func (p *process) statusCommand() *cobra.Command {
	o := &operator{process: p}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say which policy is in force and how far back the decision log reaches",
		Long: `Say, by the database, which policy is in force and how far back the decision log is complete: for decisions about tokens whose secret verified,
and for what is kept of refusals without such a token. It warns if decision_log.max_rows cuts decision_log.retention short.`,
		Args: cobra.NoArgs,
	}
	return o.command(cmd, func(ctx context.Context, _ []string) error {
		state, err := o.store.PolicyState(ctx)
		if err != nil {
			return err
		}
		log, err := o.decisionLogStatus(ctx)
		if err != nil {
			return err
		}
		if o.json() {
			return o.printJSON(statusOutput{
				Policy:      livePolicy{Revision: state.Revision, Digest: state.Digest, Source: state.Source, Since: state.Since, Pinned: state.Pinned, Promoted: state.Promoted},
				DecisionLog: log,
			})
		}
		if err := o.printPolicy(state); err != nil {
			return err
		}
		return o.printLogStatus(log)
	})
}

// decisionLogStatus is the period that the decision log covers; nil if it is in no database.
func (o *operator) decisionLogStatus(ctx context.Context) (out *decisionLogStatus, err error) {
	decisions, err := openDecisions(ctx, o.cfg, store.Config{})
	if err != nil || decisions == nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, decisions.Close()) }()
	reach, err := decisions.Reach(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	class := func(c models.LogClass) logClassStatus {
		return logClassStatus{Rows: c.Rows, CompleteSince: c.Since(), CutShort: c.CutShort(now, o.cfg.DecisionLog.Retention)}
	}
	return &decisionLogStatus{
		MaxRows: o.cfg.DecisionLog.MaxRows, Verified: class(reach.Verified), Refused: class(reach.Refused),
		BusiestToken: reach.Busiest, BusiestRows: reach.BusiestRows,
	}, nil
}

func (o *operator) printLogStatus(log *decisionLogStatus) error {
	if log == nil {
		_, err := fmt.Fprintln(o.stdout, "\nDecisions are kept in no database (decision_log.database).")
		return err
	}
	row := func(name string, c logClassStatus) []string {
		return []string{name, moment(c.CompleteSince), fmt.Sprint(c.Rows)}
	}
	if _, err := fmt.Fprintln(o.stdout); err != nil {
		return err
	}
	err := o.printTable([]column{{title: "DECISIONS"}, {title: "COMPLETE SINCE"}, {title: "ROWS"}},
		[][]string{row("verified tokens", log.Verified), row("kept of other refusals", log.Refused)})
	if err != nil || !log.Verified.CutShort {
		return err
	}
	_, err = fmt.Fprintf(o.stdout, "\nWarning: there are more decisions than decision_log.max_rows, %d, so that some are not kept for decision_log.retention. Token %s has %d.\n",
		log.MaxRows, log.BusiestToken, log.BusiestRows)
	return err
}
