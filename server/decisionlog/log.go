package decisionlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"patrol/models"
	"patrol/server/authz"
)

// Log takes decisions down. It is safe for concurrent use.
type Log struct {
	cfg     Config
	deps    Deps
	buffer  *buffer
	masker  *Masker
	counts  *counts // nil without a database
	sinks   []*sink // the first is the one that allowances wait for
	metrics *metrics

	// Of the writer alone.
	allowed, refused []entry
}

// New returns a log that writes nothing until [Log.Run]. It opens the file, and
// reads the key of masks from the database.
func New(ctx context.Context, cfg Config, deps Deps) (*Log, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Policy == nil {
		return nil, errors.New("the decision log needs the policy, which has its mask")
	}
	if deps.Database == nil && cfg.File.Path == "" && cfg.Endpoint.URL == "" {
		return nil, errors.New("the decision log has nowhere to write to")
	}
	if deps.Clock == nil {
		deps.Clock = time.Now
	}
	if deps.Logger == nil {
		deps.Logger = slog.Default()
	}
	if deps.Labels == nil {
		deps.Labels = []byte(`{"app":"patrol"}`)
	}
	if deps.Client == nil {
		deps.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	l := &Log{cfg: cfg, deps: deps, buffer: &buffer{limit: cfg.Buffer, full: make(chan struct{}, 1)}}
	l.metrics = newMetrics(deps.Registerer, l.buffer.size)
	var err error
	if l.masker, err = NewMasker(ctx, deps.Policy, deps.Database, deps.Labels); err != nil {
		return nil, err
	}
	if deps.Database != nil {
		l.counts = newCounts()
		l.addSink("database", l.toDatabase, nil)
	}
	if cfg.File.Path != "" {
		f, err := openFile(cfg.File, deps.Labels, deps.Clock)
		if err != nil {
			return nil, err
		}
		l.addSink("file", f.write, f.close)
	}
	if cfg.Endpoint.URL != "" {
		u := &uploader{cfg: cfg.Endpoint, client: deps.Client, labels: deps.Labels}
		l.addSink("endpoint", u.write, nil)
	}
	return l, nil
}

func (l *Log) addSink(name string, write func(context.Context, []models.LoggedDecision) error, end func() error) {
	l.sinks = append(l.sinks, &sink{
		name: name, write: write, end: end, limit: l.cfg.Buffer, wake: make(chan struct{}, 1),
		metrics: l.metrics, logger: l.deps.Logger,
	})
}

// Record takes a decision down; it is what makes a Log an [authz.Recorder]. It
// returns at once, except for an allowance where records are required.
func (l *Log) Record(ctx context.Context, r authz.Record) error {
	e := entry{Record: r, size: r.Size()}
	if !l.cfg.Required || !r.Decision.Allowed {
		_ = l.buffer.put(e, false) // what is dropped is counted
		return nil
	}
	recorded := make(chan error, 1)
	e.recorded = recorded
	err := l.buffer.put(e, true)
	if err == nil {
		wait := time.NewTimer(l.cfg.Wait)
		defer wait.Stop()
		select {
		case err = <-recorded:
		case <-wait.C:
			err = fmt.Errorf("it was not on record within %s", l.cfg.Wait)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		l.metrics.unrecorded.Inc()
	}
	return err
}

const (
	// drainFor is how long sinks may take to write what is left when the log ends.
	drainFor = 10 * time.Second
	// pruneEvery is how often what is too old, or too much, is deleted.
	pruneEvery = time.Minute
	// countEvery is how often counts are written.
	countEvery = 5 * time.Second
)

// Run writes what is taken down until ctx ends, and then what is left. It returns
// nil.
func (l *Log) Run(ctx context.Context) error {
	beside, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var sinks, others sync.WaitGroup
	for _, s := range l.sinks {
		sinks.Go(func() { s.run(beside) })
	}
	if l.deps.Database != nil {
		others.Go(func() { l.prune(beside) })
	}
	tick := time.NewTicker(l.cfg.FlushInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-l.buffer.full:
		}
		l.flush(beside)
	}
	l.buffer.close()
	l.flush(beside)
	for _, s := range l.sinks {
		s.close()
	}
	cut := time.AfterFunc(drainFor, stop)
	defer cut.Stop()
	sinks.Wait()
	l.writeCounts(beside)
	stop()
	others.Wait()
	return nil
}

// decisionsPerBatch is how many decisions a sink gets at a time, at most.
const decisionsPerBatch = 2048

// flush hands what has gathered to the sinks.
func (l *Log) flush(ctx context.Context) {
	var dropped drops
	l.allowed, l.refused, dropped = l.buffer.take(l.allowed, l.refused)
	l.metrics.drop("buffer", dropped)
	if l.counts != nil && dropped.total() > 0 {
		l.counts.drop(l.deps.Clock(), dropped.total())
	}
	entries := merged(l.allowed, l.refused)
	for len(entries) > 0 {
		n := min(len(entries), decisionsPerBatch)
		b := &batch{decisions: make([]models.LoggedDecision, n)}
		for i, e := range entries[:n] {
			if err := l.masker.Logged(ctx, &e.Record, &b.decisions[i]); err != nil {
				l.metrics.maskErrors.Inc()
				l.deps.Logger.WarnContext(ctx, "a decision is logged without its input, since its mask failed", "decision_id", e.Decision.ID, "error", err)
			}
			b.bytes += e.size
			if e.recorded != nil {
				b.waiting = append(b.waiting, e.recorded)
			}
			if l.counts != nil {
				l.counts.add(&b.decisions[i])
			}
		}
		for i, s := range l.sinks {
			own := b
			if i > 0 { // only the first sink has anybody to tell
				own = &batch{decisions: b.decisions, bytes: b.bytes}
			}
			s.put(own)
		}
		entries = entries[n:]
	}
	l.allowed, l.refused = emptied(l.allowed), emptied(l.refused)
}

// emptied lets go of what entries refer to, and of a slice that has grown beyond
// what is usual.
func emptied(entries []entry) []entry {
	const usual = 16384
	if cap(entries) > usual {
		return nil
	}
	clear(entries)
	return entries[:0]
}

// toDatabase is the database's sink. Counts go with it every so often.
func (l *Log) toDatabase(ctx context.Context, decisions []models.LoggedDecision) error {
	if l.counts.due(l.deps.Clock()) {
		l.writeCounts(ctx)
	}
	err := l.deps.Database.Add(ctx, decisions)
	if models.CodeOf(err) == models.CodeInternal {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return err
}

// writeCounts writes what was counted. What cannot be written is kept for the
// next time.
func (l *Log) writeCounts(ctx context.Context) {
	if l.counts == nil {
		return
	}
	taken := l.counts.take(l.deps.Clock())
	if len(taken.Days) == 0 {
		return
	}
	if err := l.deps.Database.AddCounts(ctx, taken); err != nil {
		l.counts.restore(taken)
		if ctx.Err() == nil {
			l.deps.Logger.WarnContext(ctx, "counts of decisions could not be written yet", "error", err)
		}
	}
}

// prune deletes what is too old, or too much, until ctx ends.
func (l *Log) prune(ctx context.Context) {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		now := l.deps.Clock()
		err := l.deps.Database.PruneDecisions(ctx, now.Add(-l.cfg.Retention), l.cfg.MaxRows, now.Add(-l.cfg.CountRetention))
		if err != nil && ctx.Err() == nil {
			l.deps.Logger.WarnContext(ctx, "old decisions could not be removed", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
