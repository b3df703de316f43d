// Package deadline makes sure that a question is answered: in time, by a bounded
// number of goroutines, and whatever the code that answers does.
//
// A proxy that asks before it forwards has a setting for what to do when nobody
// answers, and some installations let the request pass then. So "no answer" must
// not be something that a slow database, a stalled disk, a flood or a defect can
// bring about. [Do] gives every call of it an end:
//
//   - [ErrOverload] at once if too many calls are under way;
//   - [ErrTimeout] if the work takes longer than [Limits.Timeout], or longer than
//     the caller's own deadline less [Limits.Margin];
//   - [ErrPanic] if it panics.
//
// The caller turns each of them into a denial. Work that was given up goes on
// until it notices the end of its context; it keeps its place until then, so that
// work that never ends fills the places instead of the memory.
package deadline

import (
	"context"
	"errors"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// The errors of [Do].
var (
	ErrOverload = errors.New("too many requests are being judged")
	ErrTimeout  = errors.New("the request was not judged in time")
	ErrPanic    = errors.New("judging the request panicked")
)

// Limits are the bounds of a [Gate].
type Limits struct {
	// Timeout is the longest that a call of Do takes.
	Timeout time.Duration
	// Margin is the time before the caller's own deadline at which an answer must be on its
	// way, if that comes earlier.
	Margin time.Duration
	// MaxInFlight bounds the calls that may be under way at a time, those included
	// that were given up and have not noticed yet.
	MaxInFlight int
}

// Validate reports what is wrong with the limits.
func (l Limits) Validate() error {
	switch {
	case l.Timeout < 5*time.Millisecond:
		return errors.New("the timeout must be at least 5ms")
	case l.Margin < 0:
		return errors.New("the margin before the caller's deadline must not be negative")
	case l.MaxInFlight < 1:
		return errors.New("the number of requests in flight must be at least 1")
	}
	return nil
}

// Gate admits work within limits. It is safe for concurrent use.
type Gate struct {
	limits   Limits
	panicked func(value any, stack []byte)
	inFlight atomic.Int64

	idle chan func() // takes work if a goroutine is waiting for some
}

// NewGate returns a gate. Every panic of the work is told to panicked, even if
// the work had been given up before.
func NewGate(limits Limits, panicked func(value any, stack []byte)) *Gate {
	return &Gate{limits: limits, panicked: panicked, idle: make(chan func())}
}

// idleTime is the time that a goroutine waits for more work before it ends.
const idleTime = 100 * time.Millisecond

// start has do done by another goroutine, one that has done such work before if
// there is one: evaluating a policy needs a deep stack, and to grow a new one
// takes longer than the evaluation.
func (g *Gate) start(do func()) {
	select {
	case g.idle <- do:
	default:
		go func() {
			do()
			timer := time.NewTimer(idleTime)
			defer timer.Stop()
			for {
				select {
				case do := <-g.idle:
					do()
					timer.Reset(idleTime)
				case <-timer.C:
					return
				}
			}
		}()
	}
}

// InFlight returns how many calls are under way.
func (g *Gate) InFlight() int { return int(g.inFlight.Load()) }

// maxGrace bounds the wait for work after the end of its context. Work that
// ends by itself knows why, and has said so in the log.
const maxGrace = 10 * time.Millisecond

// Do is [DoFor] for a caller for whom all places are.
func Do[T any](ctx context.Context, g *Gate, work func(context.Context) T) (T, error) {
	return DoFor(ctx, g, func() bool { return true }, work)
}

// reserved returns the number of n places that are for known callers, so that whoever
// makes up callers cannot have all.
func reserved(n int) int { return n / 4 }

// DoFor returns what work does, or one of the errors above and the zero value. The
// context that work gets ends a little before it has to answer. A quarter of the
// places is for callers of whom known says that they are known; it is asked when
// nothing but those is left, and must be quick.
func DoFor[T any](ctx context.Context, g *Gate, known func() bool, work func(context.Context) T) (T, error) {
	var none T
	limit := g.limits.Timeout
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline)-g.limits.Margin)
	}
	if limit <= 0 {
		return none, ErrTimeout
	}
	bound := g.limits.MaxInFlight
	if n := int(g.inFlight.Add(1)); n > bound || n > bound-reserved(bound) && !known() {
		g.inFlight.Add(-1)
		return none, ErrOverload
	}
	grace := min(maxGrace, limit/5)
	ctx, cancel := context.WithTimeout(ctx, limit-2*grace)
	defer cancel()

	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1) // nobody may be waiting any more
	g.start(func() {
		defer g.inFlight.Add(-1)
		finished := false
		defer func() {
			if finished {
				return
			}
			// Goexit comes here too, with nothing to recover.
			g.panicked(recover(), debug.Stack())
			done <- outcome{err: ErrPanic}
		}()
		value := work(ctx)
		finished = true
		done <- outcome{value: value}
	})

	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case o := <-done:
		return o.value, o.err
	case <-timer.C:
		return none, ErrTimeout
	}
}

// Wait returns after d, and before when ctx ends or there is a signal.
func Wait(ctx context.Context, d time.Duration, signal <-chan struct{}) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-signal:
	case <-timer.C:
	}
}
