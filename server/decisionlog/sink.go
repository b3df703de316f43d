package decisionlog

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"patrol/models"
	"patrol/server/deadline"
)

// lane is the way of one kind of decisions to one place: the database, a file, the
// endpoint. Each place has two, one for decisions about tokens that verified and one
// for what is kept of all other refusals, so that those never wait for these.
type lane struct {
	name    string
	write   func(context.Context, *batch) error
	end     func() error // nil: nothing is to be closed
	wake    chan struct{}
	gather  time.Duration // from one batch to the next, unless there is enough for one
	metrics *metrics
	logger  *slog.Logger

	mu      sync.Mutex
	awaited *fair[item] // somebody waits for these
	queue   *fair[item]
	sums    []models.CountedRefusals
	closed  bool
}

// item is a decision on its way to one place. Places share the decisions and do not
// change them.
type item struct {
	decision *models.LoggedDecision
	recorded chan<- error // nil: nobody waits for it
}

// batch is one write.
type batch struct {
	decisions []models.LoggedDecision
	waiting   []chan<- error // for each decision
	sums      []models.CountedRefusals
}

func (b *batch) tell(err error) {
	for _, w := range b.waiting {
		if w != nil {
			w <- err
		}
	}
}

// maxSums bounds the counts that wait to be written to a place.
const maxSums = 20_000

// errRefused marks an error that trying again will hardly change.
var errRefused = errors.New("refused")

func newLane(name string, limit int64, m *metrics, logger *slog.Logger) *lane {
	l := &lane{name: name, wake: make(chan struct{}, 1), metrics: m, logger: logger}
	lost := func(i *item, allowed bool) {
		var d drops
		d.add(allowed)
		m.drop(name, d)
		if i.recorded != nil {
			i.recorded <- errLost
		}
	}
	l.awaited, l.queue = newFair(limit, lost), newFair(limit, lost)
	return l
}

// put queues a decision of a given size. If there is no room, it or others are
// dropped.
func (l *lane) put(i item, size int64) {
	to := l.queue
	if i.recorded != nil {
		to = l.awaited
	}
	d := i.decision
	l.mu.Lock()
	defer l.mu.Unlock()
	if !to.put(i, d.UserID, d.TokenID, d.Allowed, size) {
		to.lost(&i, d.Allowed)
	}
}

// putSums queues counts of refusals.
func (l *lane) putSums(sums []models.CountedRefusals) {
	l.mu.Lock()
	l.sums = append(l.sums, sums[:min(len(sums), maxSums-len(l.sums))]...)
	l.mu.Unlock()
	l.signal()
}

func (l *lane) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// close lets run return when nothing is queued.
func (l *lane) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.signal()
}

// decisionsPerBatch and bytesPerBatch are how many decisions are written at a time,
// at most, and about how large they are together.
const (
	decisionsPerBatch = 4096
	bytesPerBatch     = 8 << 20
)

// next takes a batch from what is queued. What somebody waits for goes first, and what
// nobody waits for gathers until gather has passed since the last batch: a transaction
// costs the same for few and for many. ok is false if there is none and none will come.
func (l *lane) next(ctx context.Context, last time.Time, room []item) (items []item, sums []models.CountedRefusals, ok bool) {
	for {
		l.mu.Lock()
		if wait := l.gather - time.Since(last); wait > 0 && l.mayGather() && ctx.Err() == nil {
			l.mu.Unlock()
			deadline.Wait(ctx, wait, l.wake)
			continue
		}
		items = l.awaited.take(decisionsPerBatch, bytesPerBatch, room[:0])
		if len(items) == 0 {
			items = l.queue.take(decisionsPerBatch, bytesPerBatch, items)
		}
		sums, l.sums = l.sums, nil
		closed := l.closed
		l.mu.Unlock()
		switch {
		case len(items)+len(sums) > 0:
			return items, sums, true
		case closed || ctx.Err() != nil:
			return nil, nil, false
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
		}
	}
}

// mayGather reports whether there is something, and not enough for a batch yet. The caller
// holds mu.
func (l *lane) mayGather() bool {
	return !l.closed && l.queue.live > 0 && l.queue.live < decisionsPerBatch && l.awaited.live == 0 && len(l.sums) == 0
}

const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 10 * time.Second
	// refusedTries is the number of attempts at a batch that is refused, rather than that
	// nobody was there to take it, and refusedParts in how many parts after that, so
	// that one decision that cannot be written takes few others along.
	refusedTries = 3
	refusedParts = 64
)

// run writes what is queued until the queue is closed and empty, or ctx ends. A
// failure is tried again, ever more slowly, while the queue fills.
func (l *lane) run(ctx context.Context) {
	var room []item
	var decisions []models.LoggedDecision
	var last time.Time
	for {
		items, sums, ok := l.next(ctx, last, room)
		if !ok {
			break
		}
		b := &batch{decisions: decisions[:0], waiting: make([]chan<- error, len(items)), sums: sums}
		for i := range items {
			b.decisions = append(b.decisions, *items[i].decision)
			b.waiting[i] = items[i].recorded
		}
		last = time.Now()
		l.writeUntil(ctx, b)
		clear(items)
		clear(b.decisions)
		room, decisions = items, b.decisions
	}
	if l.end == nil {
		return
	}
	if err := l.end(); err != nil {
		l.logger.ErrorContext(ctx, "the decision log could not be closed", "sink", l.name, "error", err)
	}
}

func (l *lane) writeUntil(ctx context.Context, b *batch) {
	for attempt, wait := 1, firstRetry; ; attempt, wait = attempt+1, min(2*wait, lastRetry) {
		err := l.write(ctx, b)
		if err == nil {
			l.wrote(b)
			if attempt > 1 {
				l.logger.InfoContext(ctx, "the decision log is written again", "sink", l.name)
			}
			return
		}
		l.metrics.failures.WithLabelValues(l.name).Inc()
		if ctx.Err() != nil {
			l.lose(ctx, b, err)
			return
		}
		if errors.Is(err, errRefused) && attempt >= refusedTries {
			parts := refusedParts
			l.writeParts(ctx, b, err, &parts)
			return
		}
		if attempt == 1 {
			l.logger.WarnContext(ctx, "the decision log cannot be written; it is tried again", "sink", l.name, "error", err)
		}
		deadline.Wait(ctx, wait, nil)
	}
}

// writeParts writes a batch that was refused as a whole in two parts, and these
// likewise, as long as there are any left of so many.
func (l *lane) writeParts(ctx context.Context, b *batch, cause error, parts *int) {
	half := len(b.decisions) / 2
	if half == 0 || *parts <= 0 {
		l.lose(ctx, b, cause)
		return
	}
	for _, part := range [...]*batch{
		{decisions: b.decisions[:half], waiting: b.waiting[:half], sums: b.sums},
		{decisions: b.decisions[half:], waiting: b.waiting[half:]},
	} {
		*parts--
		if err := l.write(ctx, part); err != nil {
			l.metrics.failures.WithLabelValues(l.name).Inc()
			l.writeParts(ctx, part, err, parts)
			continue
		}
		l.wrote(part)
	}
}

func (l *lane) wrote(b *batch) {
	l.metrics.recorded.WithLabelValues(l.name).Add(float64(len(b.decisions)))
	b.tell(nil)
}

func (l *lane) lose(ctx context.Context, b *batch, err error) {
	l.logger.ErrorContext(ctx, "decisions are lost to the log", "sink", l.name, "decisions", len(b.decisions), "error", err)
	var d drops
	for i := range b.decisions {
		d.add(b.decisions[i].Allowed)
	}
	l.metrics.drop(l.name, d)
	b.tell(errLost)
}
