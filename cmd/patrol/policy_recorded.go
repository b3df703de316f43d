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
)

// recorded are the decisions that a command looks at: those of the decision log's
// database, or of files of it.
type recorded struct {
	*process
	since, until string
	files        []string
	period       store.DecisionFilter // what since and until say
}

func (r *recorded) addPeriod(cmd *cobra.Command, since string) {
	cmd.Flags().StringVar(&r.since, "since", since, "from then on: a duration before now, or 2027-01-31T12:00:00Z")
	cmd.Flags().StringVar(&r.until, "until", "", "before then, likewise")
}

func (r *recorded) addFiles(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&r.files, "file", nil, "read these files of JSON lines, - for standard input, instead of the database")
}

// readPeriod reads the flags of the period.
func (r *recorded) readPeriod(now time.Time) error {
	for _, bound := range [...]struct {
		flag, text string
		to         *time.Time
	}{{"--since", r.since, &r.period.Since}, {"--until", r.until, &r.period.Until}} {
		if bound.text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, bound.text)
		if err != nil {
			ago, err := models.ParseDuration(bound.text)
			if err != nil {
				return usagef("%s must be a duration such as 24h, or a time such as 2027-01-31T12:00:00Z", bound.flag)
			}
			at = now.Add(-ago)
		}
		*bound.to = at
	}
	return nil
}

// each returns what calls its argument with one decision of the period after the
// other.
func (r *recorded) each(cmd *cobra.Command) func(func(models.LoggedDecision) error) error {
	return func(fn func(models.LoggedDecision) error) error {
		if len(r.files) == 0 {
			return r.withDatabase(cmd, func(ctx context.Context, db *store.Decisions) error { return db.Each(ctx, r.period, fn) })
		}
		for _, name := range r.files {
			if err := r.eachLineOf(name, fn); err != nil {
				return err
			}
		}
		return nil
	}
}

// find returns the decision with an id.
func (r *recorded) find(cmd *cobra.Command, id string) (found *models.LoggedDecision, err error) {
	if len(r.files) == 0 {
		err = r.withDatabase(cmd, func(ctx context.Context, db *store.Decisions) error {
			if found, err = db.Decision(ctx, id); err != nil || found != nil {
				return err
			}
			missing, err := db.Missing(ctx, id)
			if err != nil {
				return err
			}
			return whyMissing(missing)
		})
	} else {
		errFound := errors.New("found") // ends the search
		err = r.each(cmd)(func(l models.LoggedDecision) error {
			if l.ID != id {
				return nil
			}
			found = &l
			return errFound
		})
		if errors.Is(err, errFound) {
			err = nil
		}
	}
	if err == nil && found == nil {
		err = fmt.Errorf("there is no decision %s in these files; it may be older than what is kept, or have been counted, not kept, as most refusals without a token that verifies are", printable(id))
	}
	return found, err
}

// whyMissing says why a decision is not in the log.
func whyMissing(m models.MissingDecision) error {
	older := ""
	if m.Kind == models.MissingPruned || m.Kind == models.MissingBefore {
		older = "; it may be older than what is kept (decision_log.retention, decision_log.max_rows)"
	}
	return fmt.Errorf("there is no decision %s in the log%s. %s", printable(m.ID), older, m.Message())
}

// withDatabase calls do with the decision log's database.
func (r *recorded) withDatabase(cmd *cobra.Command, do func(context.Context, *store.Decisions) error) (err error) {
	ctx := cmd.Context()
	cfg, err := r.settings(cmd)
	if err != nil {
		return err
	}
	if !cfg.DecisionLog.Database {
		return errors.New("decisions are not kept in a database (decision_log.database); name files of the decision log with --file")
	}
	if path, ok := strings.CutPrefix(cfg.DecisionsDatabase().Reveal(), "sqlite://"); ok {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("there is no decision log at %s: point --data-dir or --database-url at the server's, or name files with --file", path)
		}
	}
	decisions, err := openDecisions(ctx, cfg, store.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, decisions.Close()) }()
	return do(ctx, decisions)
}

// eachLineOf calls fn with the decisions of a file that are of the period.
func (r *recorded) eachLineOf(name string, fn func(models.LoggedDecision) error) error {
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
		if l.At.Before(r.period.Since) || !r.period.Until.IsZero() && !l.At.Before(r.period.Until) {
			return nil
		}
		return fn(l)
	})
}
