package authz

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"patrol/models"
	"patrol/server/deadline"
)

// feedState is the state of the change feed's reader. Only the reader writes
// it.
type feedState struct {
	// lastRead is the last time it was up to date. A time.Time rather than a
	// number, so that a step of the wall clock does not make old facts look new.
	lastRead atomic.Pointer[time.Time]
}

// changesPerRead bounds one read of the feed. To drop the cache is cheaper than to
// go through more.
const changesPerRead = 10_000

// minPollPause keeps others who write a lot from having the feed read without end.
const minPollPause = 5 * time.Millisecond

// Run follows the change feed and writes down the uses of tokens until ctx ends;
// it then writes what is left and returns nil.
func (a *Authorizer) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { a.follow(ctx); return nil })
	g.Go(func() error { a.uses.run(ctx); return nil })
	return g.Wait()
}

// Poll has the feed read now rather than at the next interval. It does not wait for
// it.
func (a *Authorizer) Poll() {
	select {
	case a.pollNow <- struct{}{}:
	default: // it is going to be read anyway
	}
}

// fresh reports whether the cache can be trusted.
func (a *Authorizer) fresh() bool { return a.FeedLag() <= a.cfg.MaxStaleness }

// FeedLag returns how long ago this process last knew all changes. Before the
// first read it is the longest duration there is.
func (a *Authorizer) FeedLag() time.Duration {
	last := a.feed.lastRead.Load()
	if last == nil {
		return math.MaxInt64
	}
	return a.since(*last)
}

// since returns how much time went by. The monotonic clock stands still while the
// machine sleeps, and the wall clock may be set: the one that says more counts.
func (a *Authorizer) since(t time.Time) time.Duration {
	now := a.cfg.Clock()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

// look reads the facts of a decision, and the time as of which they are known to be
// true.
type look struct {
	how  reading
	asOf time.Time
}

// look returns how a decision reads that begins now.
func (a *Authorizer) look() look {
	if last := a.feed.lastRead.Load(); last != nil && a.since(*last) <= a.cfg.MaxStaleness {
		return look{throughCache, *last}
	}
	return a.lookAnew()
}

// lookAnew reads the store whatever is cached.
func (a *Authorizer) lookAnew() look { return look{fromStore, a.cfg.Clock()} }

// outdated reports whether an answer comes too late for what it was made on: the
// process stood still, or something took its time.
func (a *Authorizer) outdated(l look) bool { return a.since(l.asOf) > a.cfg.MaxStaleness }

// follow polls the feed. After the first success, and after every gap in what
// it could read, the cache holds nothing older than what was read.
func (a *Authorizer) follow(ctx context.Context) {
	var r reader
	failing := false
	for {
		begin := time.Now()
		err := a.poll(ctx, &r)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			a.cfg.Logger.Warn("the change feed cannot be read; cached facts are trusted for a little while only",
				"max_staleness", a.cfg.MaxStaleness, "error", err)
		case err == nil && failing:
			a.cfg.Logger.Info("the change feed can be read again")
		}
		failing = err != nil
		breath := min(minPollPause, a.cfg.PollInterval)
		deadline.Wait(ctx, breath, nil)
		deadline.Wait(ctx, a.cfg.PollInterval-max(time.Since(begin), breath), a.pollNow)
		if ctx.Err() != nil {
			return
		}
	}
}

// reader is the process's position in the feed.
type reader struct {
	started bool
	at      models.FeedPosition
	version int64 // data version at the last read
	awaited bool  // somebody waits for this process to say where it is
}

// poll brings the cache up to date with the feed once.
func (a *Authorizer) poll(ctx context.Context, r *reader) error {
	ctx, cancel := context.WithTimeout(ctx, a.pollTimeout())
	defer cancel()
	now := a.cfg.Clock()
	// The version is taken before the changes are read, so that a write in
	// between is seen next time rather than never.
	version, ok, err := a.cfg.Feed.DataVersion(ctx)
	if err != nil {
		return err
	}
	if r.started && (!ok || version != r.version) {
		page, err := a.cfg.Feed.Changes(ctx, r.at, changesPerRead)
		if err != nil {
			return err
		}
		if page.Complete {
			a.Apply(page.Changes)
			r.at, r.version, r.awaited = page.Next, version, r.awaited || page.Awaited
		} else {
			a.cfg.Logger.Warn("the change feed does not go on where it was left, after a restart, a failover or a restore of the database, or a long pause; cached facts are dropped")
			r.started = false
		}
	}
	if !r.started {
		at, err := a.cfg.Feed.FeedEnd(ctx)
		if err != nil {
			return err
		}
		a.facts.dropAll()
		a.holds.wakeAll() // after the facts that they are judged on are gone
		*r = reader{started: true, at: at, version: version, awaited: true}
	}
	a.feed.lastRead.Store(&now)
	if r.awaited && a.cfg.Acknowledge != nil {
		if err := a.cfg.Acknowledge(ctx, r.at); err != nil {
			// Whoever waits takes it that this process knows nothing yet.
			a.cfg.Logger.Warn("it could not be said how far the change feed was applied", "error", err)
			return nil
		}
	}
	r.awaited = false
	return nil
}

// pollTimeout leaves time for another attempt before the cache cannot be trusted: a
// connection whose other end is gone says nothing.
func (a *Authorizer) pollTimeout() time.Duration {
	return max(a.cfg.MaxStaleness/3, min(a.cfg.MaxStaleness, time.Second))
}
