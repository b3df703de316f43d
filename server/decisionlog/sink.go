package decisionlog

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"patrol/models"
)

// batch is some decisions on their way to one sink. Sinks share the decisions and do
// not change them.
type batch struct {
	decisions []models.LoggedDecision
	bytes     int64
	waiting   []chan<- error // to be told when the first sink has them
}

// tell answers whoever waits for the batch.
func (b *batch) tell(err error) {
	for _, w := range b.waiting {
		w <- err
	}
	b.waiting = nil
}

// errRefused marks an error that trying again will hardly change.
var errRefused = errors.New("refused")

// sink writes batches, one after the other, to one place.
type sink struct {
	name    string
	write   func(context.Context, []models.LoggedDecision) error
	end     func() error // nil: nothing is to be closed
	limit   int64        // bytes in the queue
	wake    chan struct{}
	metrics *metrics
	logger  *slog.Logger

	mu     sync.Mutex
	queue  []*batch
	bytes  int64
	closed bool
}

// put queues a batch. If there is no room, allowances are dropped before denials,
// and the newest first.
func (s *sink) put(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes+b.bytes > s.limit {
		b = s.withoutAllowances(b)
	}
	for i := len(s.queue) - 1; i >= 0 && s.bytes+b.bytes > s.limit; i-- {
		before := s.queue[i].bytes
		s.queue[i] = s.withoutAllowances(s.queue[i])
		s.bytes -= before - s.queue[i].bytes
	}
	if s.bytes+b.bytes > s.limit {
		s.drop(b.decisions)
		b.tell(errLost)
		return
	}
	s.bytes += b.bytes
	s.queue = append(s.queue, b)
	s.signal()
}

// withoutAllowances drops the allowances of a batch.
func (s *sink) withoutAllowances(b *batch) *batch {
	rest := &batch{}
	var gone []models.LoggedDecision
	for _, d := range b.decisions {
		if d.Allowed {
			gone = append(gone, d)
		} else {
			rest.decisions = append(rest.decisions, d)
		}
	}
	s.drop(gone)
	b.tell(errLost) // denials do not wait
	if len(b.decisions) > 0 {
		rest.bytes = b.bytes * int64(len(rest.decisions)) / int64(len(b.decisions))
	}
	return rest
}

func (s *sink) drop(decisions []models.LoggedDecision) {
	var d drops
	for i := range decisions {
		if decisions[i].Allowed {
			d.allowed++
		} else {
			d.refused++
		}
	}
	s.metrics.drop(s.name, d)
}

func (s *sink) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// close lets run return when the queue is empty.
func (s *sink) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.signal()
}

// next takes a batch from the queue. ok is false if there is none and none will
// come.
func (s *sink) next(ctx context.Context) (b *batch, ok bool) {
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			b = s.queue[0]
			s.queue[0] = nil
			s.queue = s.queue[1:]
			s.bytes -= b.bytes
		}
		closed := s.closed
		s.mu.Unlock()
		switch {
		case b != nil:
			return b, true
		case closed || ctx.Err() != nil:
			return nil, false
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
		}
	}
}

const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 10 * time.Second
	// refusals is how often a batch is tried that is refused, rather than that
	// nobody was there to take it.
	refusals = 3
)

// run writes what is queued until the queue is closed and empty, or ctx ends. A
// failure is tried again, ever more slowly, while the queue fills.
func (s *sink) run(ctx context.Context) {
	for {
		b, ok := s.next(ctx)
		if !ok {
			break
		}
		if len(b.decisions) == 0 {
			continue
		}
		s.writeUntil(ctx, b)
	}
	if s.end == nil {
		return
	}
	if err := s.end(); err != nil {
		s.logger.ErrorContext(ctx, "the decision log could not be closed", "sink", s.name, "error", err)
	}
}

func (s *sink) writeUntil(ctx context.Context, b *batch) {
	for attempt, wait := 1, firstRetry; ; attempt, wait = attempt+1, min(2*wait, lastRetry) {
		err := s.write(ctx, b.decisions)
		if err == nil {
			s.metrics.recorded.WithLabelValues(s.name).Add(float64(len(b.decisions)))
			b.tell(nil)
			if attempt > 1 {
				s.logger.InfoContext(ctx, "the decision log is written again", "sink", s.name)
			}
			return
		}
		s.metrics.failures.WithLabelValues(s.name).Inc()
		if ctx.Err() != nil || errors.Is(err, errRefused) && attempt >= refusals {
			s.logger.ErrorContext(ctx, "decisions are lost to the log", "sink", s.name, "decisions", len(b.decisions), "error", err)
			s.drop(b.decisions)
			b.tell(errLost)
			return
		}
		if attempt == 1 {
			s.logger.WarnContext(ctx, "the decision log cannot be written; it is tried again", "sink", s.name, "error", err)
		}
		retry := time.NewTimer(wait)
		select {
		case <-retry.C:
		case <-ctx.Done():
		}
		retry.Stop()
	}
}
