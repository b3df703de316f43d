package authz

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// feedState is what the reader of the change feed knows. Only the reader writes
// it.
type feedState struct {
	// lastRead is the last time it was up to date. A time.Time rather than a
	// number, so that a step of the wall clock does not make old facts look new.
	lastRead atomic.Pointer[time.Time]
}

// changesPerRead bounds one read of the feed; a reader that is far behind reads
// several times.
const changesPerRead = 1000

// Run follows the change feed and writes down the uses of tokens until ctx ends;
// it then writes what is left and returns nil.
func (a *Authorizer) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { a.follow(ctx); return nil })
	g.Go(func() error { a.uses.run(ctx); return nil })
	return g.Wait()
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
	return a.cfg.Clock().Sub(*last)
}

// follow polls the feed. After the first success, and after every gap in what
// it could read, the cache holds nothing older than what was read.
func (a *Authorizer) follow(ctx context.Context) {
	var r reader
	tick := time.NewTicker(a.cfg.PollInterval)
	defer tick.Stop()
	failing := false
	for {
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
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// reader is where in the feed the process is.
type reader struct {
	started bool
	seq     int64 // of the last change applied
	version int64 // data version at the last read
}

// poll brings the cache up to date with the feed once.
func (a *Authorizer) poll(ctx context.Context, r *reader) error {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.MaxStaleness)
	defer cancel()
	now := a.cfg.Clock()
	// The version is taken before the changes are read, so that a write in
	// between is seen next time rather than never.
	version, ok, err := a.cfg.Feed.DataVersion(ctx)
	if err != nil {
		return err
	}
	if !r.started {
		seq, err := a.cfg.Feed.LastChange(ctx)
		if err != nil {
			return err
		}
		a.facts.dropAll()
		*r = reader{started: true, seq: seq, version: version}
		a.feed.lastRead.Store(&now)
		return nil
	}
	if !ok || version != r.version {
		for {
			changes, complete, err := a.cfg.Feed.Changes(ctx, r.seq, changesPerRead)
			if err != nil {
				return err
			}
			if !complete {
				r.started = false // start over: some changes are gone unseen
				a.holds.wakeAll()
				return a.poll(ctx, r)
			}
			a.Apply(changes)
			if len(changes) > 0 {
				r.seq = changes[len(changes)-1].Seq
			}
			if len(changes) < changesPerRead {
				break
			}
		}
		r.version = version
	}
	a.feed.lastRead.Store(&now)
	return nil
}
