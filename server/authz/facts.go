package authz

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"patrol/models"
	"patrol/policies/engine"
)

// facts reads the store through caches. While the change feed is fresh an entry
// is as current as the feed; while it is not, the caches are passed by.
type facts struct {
	source  Facts
	fresh   func() bool
	metrics Metrics
	limit   time.Duration // maximum lifetime of a token
	timeout time.Duration // of one look-up
	absence time.Duration // from the identity provider, after which who signs in there alone counts as disabled
	clock   func() time.Time
	lookups *lookups
	drops   atomic.Uint64 // how often something was dropped; see [standing]

	caches    atomic.Pointer[caches]
	newCaches func() *caches
}

// caches hold what was read since everything was dropped the last time.
type caches struct {
	tokens      *otter.Cache[string, *tokenRecord]
	unknown     *otter.Cache[string, struct{}] // ids that the store does not have
	users       *otter.Cache[string, *owner]
	domains     *otter.Cache[string, *engine.Value]
	memberships *otter.Cache[memberKey, *engine.Value]
}

// unknownTTL is the lifetime of a cached "there is no such id".
const unknownTTL = 30 * time.Second

type memberKey struct{ user, domain string }

// errAbsent marks a token that the store does not have, so that it is not kept
// among the records.
var errAbsent = errors.New("no such token")

func newFacts(cfg Config, fresh func() bool) *facts {
	f := &facts{
		source:  cfg.Facts,
		fresh:   fresh,
		metrics: cfg.Metrics,
		limit:   cfg.MaxLifetime,
		timeout: cfg.LookupTimeout,
		absence: cfg.MaxAbsence,
		clock:   cfg.Clock,
		lookups: newLookups(cfg),
		newCaches: func() *caches {
			return &caches{
				tokens:      newCache[string, *tokenRecord](cfg.CacheSize, cfg.FactTTL),
				unknown:     newCache[string, struct{}](cfg.UnknownSize, min(cfg.FactTTL, unknownTTL)),
				users:       newCache[string, *owner](cfg.CacheSize, cfg.FactTTL),
				domains:     newCache[string, *engine.Value](cfg.CacheSize, cfg.FactTTL),
				memberships: newCache[memberKey, *engine.Value](cfg.CacheSize, cfg.FactTTL),
			}
		},
	}
	f.caches.Store(f.newCaches())
	return f
}

func newCache[K comparable, V any](size int, ttl time.Duration) *otter.Cache[K, V] {
	return otter.Must(&otter.Options[K, V]{
		MaximumSize:      size,
		ExpiryCalculator: otter.ExpiryWriting[K, V](ttl),
		Logger:           &otter.NoopLogger{}, // errors of loaders are returned to the caller
		// The upkeep after some reads is shorter than starting a goroutine for it.
		Executor: func(fn func()) { fn() },
	})
}

// reading says how a fact is read.
type reading int

const (
	throughCache reading = iota // while the feed is fresh
	fromStore                   // in any case
)

// token returns the record of a token id, or nil if there is none. Its secret
// is not verified yet, so the look-up is bounded by what ip did before.
func (f *facts) token(ctx context.Context, how reading, id string, ip netip.Addr) (*tokenRecord, error) {
	load := func(ctx context.Context, id string) (*tokenRecord, error) {
		ctx, cancel := context.WithTimeout(ctx, f.timeout) // the time in line included
		defer cancel()
		release, err := f.lookups.enter(ctx, id, ip)
		if err != nil {
			return nil, err
		}
		defer release()
		pat, err := f.source.PAT(ctx, id)
		if err != nil {
			return nil, err
		}
		if pat == nil {
			return nil, errAbsent
		}
		rec := &tokenRecord{pat: pat.WithMaxLifetime(f.limit)}
		rec.value = engine.TokenValue(rec.pat)
		if pat.LastUsedAt != nil {
			rec.lastNoted.Store(pat.LastUsedAt.Unix())
		}
		return rec, nil
	}
	if how == fromStore || !f.fresh() {
		rec, err := load(ctx, id)
		if errors.Is(err, errAbsent) {
			return nil, nil
		}
		return rec, err
	}
	in := f.caches.Load()
	if rec, ok := in.tokens.GetIfPresent(id); ok {
		f.metrics.Cache("token", true)
		return rec, nil
	}
	if _, ok := in.unknown.GetIfPresent(id); ok {
		f.metrics.Cache("unknown", true)
		return nil, nil
	}
	f.metrics.Cache("token", false)
	rec, err := shared(ctx, f.timeout, in.tokens, id, load)
	if errors.Is(err, errAbsent) {
		// Nobody can present an id before it is drawn, so there is no race with
		// its creation to guard against; a restored record is announced by the
		// feed.
		in.unknown.Set(id, struct{}{})
		return nil, nil
	}
	return rec, err
}

func (f *facts) user(ctx context.Context, how reading, id string) (*engine.Value, error) {
	user, err := cached(ctx, f, how, f.caches.Load().users, "user", id, func(ctx context.Context) (*owner, error) { return f.readUser(ctx, id) })
	return user.now(f.clock()), err
}

func (f *facts) readUser(ctx context.Context, id string) (*owner, error) {
	u, err := f.source.User(ctx, id)
	if err != nil || u == nil {
		return nil, err
	}
	return newOwner(*u, f.absence), nil
}

func (f *facts) readDomain(ctx context.Context, id string) (*engine.Value, error) {
	d, err := f.source.Domain(ctx, id)
	if err != nil || d == nil {
		return nil, err
	}
	return engine.DomainValue(*d), nil
}

func (f *facts) readMembership(ctx context.Context, key memberKey) (*engine.Value, error) {
	m, err := f.source.Membership(ctx, key.user, key.domain)
	if err != nil || m == nil {
		return nil, err
	}
	return engine.MembershipValue(*m), nil
}

// cached returns what read returns, through cache unless it is to come from the
// store or the feed is not fresh.
// Absence (nil) is cached like presence. Concurrent misses for one key make one
// read.
func cached[K comparable, V any](
	ctx context.Context, f *facts, how reading, cache *otter.Cache[K, *V], name string, key K,
	read func(context.Context) (*V, error),
) (*V, error) {
	bounded := func(ctx context.Context) (*V, error) {
		ctx, cancel := context.WithTimeout(ctx, f.timeout)
		defer cancel()
		return read(ctx)
	}
	if how == fromStore || !f.fresh() {
		return bounded(ctx)
	}
	if v, ok := cache.GetIfPresent(key); ok {
		f.metrics.Cache(name, true)
		return v, nil
	}
	f.metrics.Cache(name, false)
	return shared(ctx, f.timeout, cache, key, func(ctx context.Context, _ K) (*V, error) { return bounded(ctx) })
}

// shared reads a fact once for all who miss it at the same time. None of them ends the
// reading for the others by going away, and each waits for at most the timeout.
func shared[K comparable, V any](
	ctx context.Context, timeout time.Duration, cache *otter.Cache[K, V], key K, load func(context.Context, K) (V, error),
) (V, error) {
	type result struct {
		value V
		err   error
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done := make(chan result, 1)
	go func() {
		v, err := cache.Get(context.WithoutCancel(ctx), key, otter.LoaderFunc[K, V](load))
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none V
		return none, fmt.Errorf("wait for a fact: %w", ctx.Err())
	}
}

// drop forgets what a change names. A load that is under way for it is thrown
// away and done again.
func (f *facts) drop(c models.Change) {
	f.drops.Add(1)
	in := f.caches.Load()
	switch c.Kind {
	case models.ChangeToken:
		in.tokens.Invalidate(c.Key)
		in.unknown.Invalidate(c.Key)
	case models.ChangeUser:
		in.users.Invalidate(c.Key)
	case models.ChangeDomain:
		in.domains.Invalidate(c.Key)
	case models.ChangeMembership:
		in.memberships.Invalidate(memberKey{c.Key, c.Key2})
	default: // a newer process wrote a kind unknown here
		f.dropAll()
	}
}

// dropAll begins anew with empty caches. To empty those that there are would leave
// loads that are under way, which end in what is cached.
func (f *facts) dropAll() {
	f.drops.Add(1)
	old := f.caches.Swap(f.newCaches())
	old.tokens.StopAllGoroutines()
	old.unknown.StopAllGoroutines()
	old.users.StopAllGoroutines()
	old.domains.StopAllGoroutines()
	old.memberships.StopAllGoroutines()
}
