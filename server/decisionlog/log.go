package decisionlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"patrol/models"
	"patrol/server/authz"
)

// Log takes decisions down. It is safe for concurrent use.
type Log struct {
	cfg      Config
	deps     Deps
	buffer   *buffer
	masker   *Masker
	ids      models.CountedIDs
	refusals *refusals
	counts   *counts // nil without a database
	// The first place is the one that allowances wait for.
	verified, refused []*lane
	metrics           *metrics

	// Of the writer alone.
	taken       []slot[entry]
	takenOthers []entry
	minutes     map[refusalKey]*models.CountedRefusals // of those that are not over, for files and the endpoint
	counted     time.Time                              // when refusals were last looked at

	warned time.Time // that the log is cut short; of the one that prunes
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
	l := &Log{cfg: cfg, deps: deps, buffer: newBuffer(cfg.Buffer), refusals: newRefusals(cfg.Refused), minutes: map[refusalKey]*models.CountedRefusals{}}
	l.metrics = newMetrics(deps.Registerer, l.buffer.size)
	var err error
	if l.masker, err = NewMasker(ctx, deps.Policy, deps.Database, deps.Labels); err != nil {
		return nil, err
	}
	l.ids = models.NewCountedIDs(l.masker.key)
	if deps.Database != nil {
		l.counts = newCounts()
		l.addPlace("database", l.toDatabase, nil, l.toDatabase, nil)
		l.verified[0].gather = gatherFlushes * cfg.FlushInterval
	}
	if cfg.File.Path != "" {
		f, err := openFile(cfg.File, deps.Labels, deps.Clock)
		if err != nil {
			return nil, err
		}
		others := &file{cfg: cfg.File.refused(), labels: deps.Labels, clock: deps.Clock} // made when there is something to write
		l.addPlace("file", f.write, f.close, others.write, others.close)
	}
	if cfg.Endpoint.URL != "" {
		u := uploader{cfg: cfg.Endpoint, client: deps.Client, labels: deps.Labels}
		others := u
		l.addPlace("endpoint", u.write, nil, others.write, nil)
	}
	return l, nil
}

// addPlace adds the two lanes to a place.
func (l *Log) addPlace(name string, write func(context.Context, *batch) error, end func() error, writeRefused func(context.Context, *batch) error, endRefused func() error) {
	verified := newLane(name, l.cfg.Buffer, l.metrics, l.deps.Logger)
	verified.write, verified.end = write, end
	refused := newLane(name, l.cfg.Buffer/refusedPart, l.metrics, l.deps.Logger)
	refused.write, refused.end = writeRefused, endRefused
	l.verified, l.refused = append(l.verified, verified), append(l.refused, refused)
}

// Record takes a decision down; it is what makes a Log an [authz.Recorder]. It
// returns at once, except for an allowance where records are required.
func (l *Log) Record(ctx context.Context, r authz.Record) error {
	e := entry{Record: r, size: r.Size()}
	if r.Decision.TokenID == "" { // nothing is allowed without a token
		l.keep(r)
		return nil
	}
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

// Refused counts the refusal of somebody who showed no token that verifies, and
// keeps it if there are few. Its id says which. It is what makes a Log an
// [authz.StrangersRecorder].
func (l *Log) Refused(_ context.Context, r authz.Record) (id string) {
	reason := r.Decision.FirstReason()
	if l.refusals.count(r.IP, r.At, reason, r.Further) {
		r.Decision.ID = models.NewDecisionID(r.At)
		if l.keep(r) {
			l.metrics.kept[reasonIndex(reason)].Inc()
			return r.Decision.ID
		}
		l.refusals.lost(r.IP, r.At, reason)
	}
	l.metrics.counted[reasonIndex(reason)].Inc()
	return l.ids.New(r.At)
}

// keep takes the refusal of somebody who showed no token that verifies down, if
// there is room.
func (l *Log) keep(r authz.Record) bool {
	const enough = 1 << 10 // of a text that a stranger chose
	r.Path = r.Path[:min(len(r.Path), enough)]
	r.Request.Context = nil // it is not logged where no policy was asked
	return l.buffer.putRefused(entry{Record: r, size: r.Size()})
}

// gatherFlushes is the number of flush intervals for which a busy server's decisions gather
// before the database gets them.
const gatherFlushes = 5

const (
	// drainFor is the time that places may take to write what is left when the log ends.
	drainFor = 10 * time.Second
	// countEvery is the interval at which counts are written, and lookEvery that at which it is
	// seen whether there are many.
	countEvery = 5 * time.Second
	lookEvery  = 500 * time.Millisecond
)

// Run writes what is taken down until ctx ends, and then what is left. It returns
// nil.
func (l *Log) Run(ctx context.Context) error {
	beside, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var lanes, others sync.WaitGroup
	for _, lane := range l.lanes() {
		lanes.Go(func() { lane.run(beside) })
	}
	counting, endCounting := context.WithCancel(beside)
	defer endCounting()
	if l.deps.Database != nil {
		others.Go(func() { l.prune(counting) })
		others.Go(func() { l.writeCountsLoop(counting) })
	}
	tick := time.NewTicker(l.cfg.FlushInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-l.buffer.full:
		}
		l.flush(beside, false)
	}
	l.buffer.close()
	l.flush(beside, true)
	for _, lane := range l.lanes() {
		lane.close()
	}
	cut := time.AfterFunc(drainFor, stop)
	defer cut.Stop()
	lanes.Wait()
	endCounting()
	others.Wait()
	l.writeCounts(beside)
	return nil
}

func (l *Log) lanes() []*lane { return append(slices.Clone(l.verified), l.refused...) }

// flush hands what has gathered on. At the end, last is set.
func (l *Log) flush(ctx context.Context, last bool) {
	var dropped drops
	l.taken, l.takenOthers, dropped = l.buffer.take(l.taken, l.takenOthers)
	l.metrics.drop("buffer", dropped)
	if l.counts != nil && dropped.total() > 0 {
		l.counts.drop(l.deps.Clock(), dropped.total())
	}
	for _, awaited := range [...]bool{true, false} { // those that somebody waits for go first
		if awaited && !l.cfg.Required {
			continue
		}
		for i := range l.taken {
			e := &l.taken[i].value
			if l.taken[i].of == nil || awaited != (e.recorded != nil) {
				continue
			}
			d := l.logged(ctx, e)
			if l.counts != nil {
				l.counts.add(d)
			}
			for at, lane := range l.verified {
				to := item{decision: d}
				if at == 0 { // only the first place has anybody to tell
					to.recorded = e.recorded
				}
				lane.put(to, e.size)
			}
		}
		l.signal(l.verified)
	}
	for i := range l.takenOthers {
		e := &l.takenOthers[i]
		d := l.logged(ctx, e)
		for _, lane := range l.refused {
			lane.put(item{decision: d}, e.size)
		}
	}
	l.signal(l.refused)
	l.taken, l.takenOthers = emptied(l.taken), l.takenOthers[:0]
	l.countRefusals(ctx, last)
}

func (*Log) signal(lanes []*lane) {
	for _, lane := range lanes {
		lane.signal()
	}
}

// logged puts a decision into the form of the log.
func (l *Log) logged(ctx context.Context, e *entry) *models.LoggedDecision {
	d := new(models.LoggedDecision)
	if err := l.masker.Logged(ctx, &e.Record, d); err != nil {
		l.metrics.maskErrors.Inc()
		l.deps.Logger.WarnContext(ctx, "a decision is logged without its input, since its mask failed", "decision_id", e.Decision.ID, "error", err)
	}
	return d
}

// countRefusals hands on what was counted of refusals: every second to the database's
// counts, and when a minute is over to the other places.
func (l *Log) countRefusals(ctx context.Context, last bool) {
	now := l.deps.Clock()
	if !last && now.Sub(l.counted) < time.Second && !now.Before(l.counted) {
		return
	}
	l.counted = now
	for _, sum := range l.refusals.take() {
		r := models.CountedRefusals{
			From: time.Unix(sum.minute*60, 0).UTC(), Span: time.Minute, Address: l.maskedAddress(ctx, sum), Reason: sum.reason,
			Calls: sum.calls, Decisions: sum.decisions, Kept: sum.kept,
		}
		if l.counts != nil {
			l.counts.refused(r)
		}
		key := refusalKey{r.From.Unix(), r.Address, r.Reason}
		if before := l.minutes[key]; before != nil {
			before.Add(r)
		} else {
			l.minutes[key] = &r
		}
	}
	var over []models.CountedRefusals
	for key, r := range l.minutes {
		if last || now.Sub(r.From) >= r.Span+time.Second {
			over = append(over, *r)
			delete(l.minutes, key)
		}
	}
	if len(over) == 0 {
		return
	}
	slices.SortFunc(over, func(a, b models.CountedRefusals) int {
		return cmp.Or(a.From.Compare(b.From), cmp.Compare(b.Decisions, a.Decisions), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Reason, b.Reason))
	})
	for _, lane := range l.refused {
		if lane.name != "database" {
			lane.putSums(over)
		}
	}
}

// maskedAddress returns the address, after the policy's mask, that refusals are
// counted by.
func (l *Log) maskedAddress(ctx context.Context, sum refusedSum) string {
	text := address(sum.from)
	if text == "" {
		return ""
	}
	var d models.LoggedDecision
	r := authz.Record{Decision: models.Deny(sum.reason), IP: sum.from.Addr(), At: time.Unix(sum.minute*60, 0)}
	plain := logged(&r).RequestedBy
	if err := l.masker.Logged(ctx, &r, &d); err != nil {
		l.metrics.maskErrors.Inc()
	}
	if d.RequestedBy != plain {
		return d.RequestedBy
	}
	return text
}

// toDatabase writes to the database.
func (l *Log) toDatabase(ctx context.Context, b *batch) error {
	err := l.deps.Database.Add(ctx, b.decisions)
	if models.CodeOf(err) == models.CodeInternal {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return err
}

func (l *Log) writeCountsLoop(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if l.counts.due(l.deps.Clock()) {
				l.writeCounts(ctx)
			}
		}
	}
}

// writeCounts writes what was counted. What cannot be written is kept for the
// next time.
func (l *Log) writeCounts(ctx context.Context) {
	if l.counts == nil {
		return
	}
	taken := l.counts.take(l.deps.Clock())
	if len(taken.Days)+len(taken.Outcomes) == 0 {
		return
	}
	if err := l.deps.Database.AddCounts(ctx, taken); err != nil {
		l.counts.restore(taken)
		if ctx.Err() == nil {
			l.deps.Logger.WarnContext(ctx, "counts of decisions could not be written yet", "error", err)
		}
	}
}
