package decisionlog

import (
	"context"
	"time"

	"patrol/models"
)

const (
	// pruneEvery is the interval at which decisions beyond the limits are deleted.
	pruneEvery = time.Minute
	// warnEvery is the interval of the warning that the log does not reach back as far as it
	// is to.
	warnEvery = time.Hour
)

// prune deletes what is too old, or too much, until ctx ends, and tells how far back
// what is left reaches.
func (l *Log) prune(ctx context.Context) {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		now := l.deps.Clock()
		found, err := l.deps.Database.PruneDecisions(ctx, models.LogBounds{
			Before: now.Add(-l.cfg.Retention), MaxRows: l.cfg.MaxRows, RefusedRows: l.cfg.Refused.MaxRows, RefusedSums: l.cfg.Refused.MaxCounts,
			CountsBefore: now.Add(-l.cfg.CountRetention),
		})
		switch {
		case err == nil:
			l.tellReach(ctx, found, now)
		case ctx.Err() == nil:
			l.deps.Logger.WarnContext(ctx, "old decisions could not be removed", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tellReach sets the metrics, and warns if the log is cut short.
func (l *Log) tellReach(ctx context.Context, found models.LogReach, now time.Time) {
	for name, class := range map[string]models.LogClass{"verified": found.Verified, "refused": found.Refused} {
		l.metrics.rows.WithLabelValues(name).Set(float64(class.Rows))
		var back time.Duration
		if since := class.Since(); since != nil {
			back = now.Sub(*since)
		}
		l.metrics.reach.WithLabelValues(name).Set(back.Seconds())
	}
	if !found.Verified.CutShort(now, l.cfg.Retention) {
		l.warned = time.Time{}
		return
	}
	if !l.warned.IsZero() && now.Sub(l.warned) < warnEvery {
		return
	}
	l.warned = now
	l.deps.Logger.WarnContext(ctx, "the decision log does not reach back for decision_log.retention, since there are more decisions than decision_log.max_rows",
		"complete_since", found.Verified.CutTo.UTC(), "retention", l.cfg.Retention, "max_rows", l.cfg.MaxRows,
		"busiest_token", found.Busiest, "its_rows", found.BusiestRows)
}
