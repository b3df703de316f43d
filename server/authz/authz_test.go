package authz_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies/engine"
	"patrol/server/authz"
)

func TestDecisions(t *testing.T) {
	hour := time.Hour
	for _, c := range []struct {
		name  string
		setup func(b *bed)
		token func(b *bed) string
		req   models.Request
		want  []models.ReasonCode // nil: allowed
	}{
		{name: "allowed"},
		{name: "no token", token: func(*bed) string { return "" }, want: []models.ReasonCode{models.TokenMissing}},
		{name: "garbage", token: func(*bed) string { return "let me in" }, want: []models.ReasonCode{models.TokenMalformed}},
		{name: "flipped character", token: func(b *bed) string {
			last := b.token[len(b.token)-1]
			return b.token[:len(b.token)-1] + string('0'+(last+1)%10)
		}, want: []models.ReasonCode{models.TokenMalformed}},
		{name: "session token", token: func(b *bed) string { return "patrols_" + b.token[7:] }, want: []models.ReasonCode{models.TokenMalformed}},
		{name: "unknown id", token: func(*bed) string { return freshToken() }, want: []models.ReasonCode{models.TokenUnknown}},
		{name: "wrong secret", token: func(b *bed) string {
			b.pat.MAC = append([]byte(nil), b.pat.MAC...)
			b.pat.MAC[0] ^= 1
			b.world.pats[b.pat.ID] = b.pat
			return b.token
		}, want: []models.ReasonCode{models.TokenUnknown}},
		{name: "wrong secret of a revoked token reveals nothing", token: func(b *bed) string {
			b.pat.MAC = make([]byte, 32)
			b.pat.RevokedAt = &b.pat.CreatedAt
			b.world.pats[b.pat.ID] = b.pat
			return b.token
		}, want: []models.ReasonCode{models.TokenUnknown}},
		{name: "key not in the ring", setup: func(b *bed) {
			b.pat.KeyID = "gone"
			b.world.pats[b.pat.ID] = b.pat
		}, want: []models.ReasonCode{models.Unavailable}},
		{name: "revoked", setup: func(b *bed) {
			b.pat.RevokedAt = &b.pat.CreatedAt
			b.world.pats[b.pat.ID] = b.pat
		}, want: []models.ReasonCode{models.TokenRevoked}},
		{name: "expired", setup: func(b *bed) { b.clock.advance(hour) }, want: []models.ReasonCode{models.TokenExpired}},
		{name: "a second before", setup: func(b *bed) { b.clock.advance(hour - time.Second) }},
		{name: "over the maximum lifetime", setup: func(b *bed) { b.clock.advance(40 * time.Minute) }, want: []models.ReasonCode{models.TokenExpired}},
		{name: "owner disabled", setup: func(b *bed) {
			b.world.users["u1"] = models.User{ID: "u1", Disabled: true}
		}, want: []models.ReasonCode{models.UserDisabled}},
		{name: "owner gone", setup: func(b *bed) { delete(b.world.users, "u1") }, want: []models.ReasonCode{models.UserDisabled}},
		{name: "domain gone", setup: func(b *bed) { delete(b.world.domains, "acme") }, want: []models.ReasonCode{models.DomainUnknown}},
		{name: "domain disabled", setup: func(b *bed) {
			b.world.domains["acme"] = models.Domain{ID: "acme", Status: models.DomainIsDisabled}
		}, want: []models.ReasonCode{models.DomainDisabled}},
		{name: "domain frozen", setup: func(b *bed) {
			b.world.domains["acme"] = models.Domain{ID: "acme", Status: models.DomainIsFrozen}
		}, want: []models.ReasonCode{models.DomainFrozen}},
		{name: "not a member", setup: func(b *bed) { clear(b.world.members) }, want: []models.ReasonCode{models.NotAMember}},
		{
			name: "role too low", req: models.Request{Domain: "acme", EntityType: "models", Entity: "*", Operation: "write"},
			want: []models.ReasonCode{models.OutOfScope, models.RoleForbids},
		},
		{
			name: "out of scope", req: models.Request{Domain: "acme", EntityType: "datasets", Entity: "d1", Operation: "read"},
			want: []models.ReasonCode{models.OutOfScope},
		},
		{
			name: "unknown operation", req: models.Request{Domain: "acme", EntityType: "models", Entity: "*", Operation: "dance"},
			want: []models.ReasonCode{models.UnknownOperation},
		},
		{name: "platform admin is bound by scope", setup: func(b *bed) {
			b.world.users["u1"] = models.User{ID: "u1", Admin: true}
			clear(b.world.members)
		}, req: models.Request{Domain: "acme", EntityType: "models", Entity: "*", Operation: "write"}, want: []models.ReasonCode{models.OutOfScope}},
		{name: "database down", setup: func(b *bed) { b.world.fail = errDown }, want: []models.ReasonCode{models.Unavailable}},
	} {
		for _, running := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/cache=%t", c.name, running), func(t *testing.T) {
				b := newBed(t, func(cfg *authz.Config) {
					if strings.Contains(c.name, "lifetime") {
						cfg.MaxLifetime = 30 * time.Minute
					}
				})
				if c.setup != nil {
					c.setup(b)
				}
				token := b.token
				if c.token != nil {
					token = c.token(b)
				}
				if running {
					b.start(t)
				}
				req := c.req
				if req.Domain == "" {
					req = readAll
				}
				for range 2 { // the second answer may come from the cache
					d := b.Authorize(t.Context(), authz.Call{Token: token, Request: req, Surface: "test"})
					assert.Equal(t, c.want, codes(d))
					assert.Equal(t, c.want == nil, d.Allowed)
					assert.Len(t, d.ID, models.IDLength)
					assert.Equal(t, b.policy.Current().Revision(), d.Revision)
					verified := c.want == nil || d.Status() == 403 || d.Has(models.TokenRevoked) || d.Has(models.TokenExpired) || d.Has(models.UserDisabled)
					assert.Equal(t, verified, d.TokenID != "", "a token is named only once its secret verified")
					assert.Equal(t, verified, d.UserID != "")
				}
				assert.NotContains(t, b.log.String(), b.token[24:])
			})
		}
	}
}

func freshToken() string {
	token, err := models.Mint(rand.Reader)
	if err != nil {
		panic(err)
	}
	return token.Reveal()
}

func TestFactsAreCachedAndDropped(t *testing.T) {
	b := newBed(t, nil)
	b.start(t)
	for range 5 {
		require.True(t, b.ask(b.token).Allowed)
	}
	assert.Equal(t, map[string]int{"pat " + b.pat.ID: 1, "user u1": 1, "domain acme": 1, "member u1 acme": 1}, b.world.allReads())

	steps := []struct {
		name    string
		do      func()
		undo    func()
		changed models.Change
		want    models.ReasonCode
	}{
		{
			"revoke", func() { p := b.pat; p.RevokedAt = &p.CreatedAt; b.world.pats[p.ID] = p }, func() { b.world.pats[b.pat.ID] = b.pat },
			models.Change{Kind: models.ChangeToken, Key: b.pat.ID},
			models.TokenRevoked,
		},
		{
			"disable the owner", func() { b.world.users["u1"] = models.User{ID: "u1", Disabled: true} }, func() { b.world.users["u1"] = models.User{ID: "u1"} },
			models.Change{Kind: models.ChangeUser, Key: "u1"},
			models.UserDisabled,
		},
		{
			"disable the domain", func() { b.world.domains["acme"] = models.Domain{ID: "acme", Status: models.DomainIsDisabled} },
			func() { b.world.domains["acme"] = models.Domain{ID: "acme", Status: models.DomainEnabled} },
			models.Change{Kind: models.ChangeDomain, Key: "acme"},
			models.DomainDisabled,
		},
		{
			"remove the member", func() { delete(b.world.members, [2]string{"u1", "acme"}) },
			func() {
				b.world.members[[2]string{"u1", "acme"}] = models.Membership{UserID: "u1", Domain: "acme", Role: "member"}
			},
			models.Change{Kind: models.ChangeMembership, Key: "u1", Key2: "acme"},
			models.NotAMember,
		},
		{
			"a kind from the future", func() { clear(b.world.members) },
			func() {
				b.world.members[[2]string{"u1", "acme"}] = models.Membership{UserID: "u1", Domain: "acme", Role: "member"}
			},
			models.Change{Kind: "galaxy"},
			models.NotAMember,
		},
	}
	for _, s := range steps {
		t.Run(s.name+" here", func(t *testing.T) {
			b.Apply(b.world.change(s.do, s.changed))
			assert.True(t, b.ask(b.token).Has(s.want), "it binds the very next call")
			b.Apply(b.world.change(s.undo, s.changed))
			assert.True(t, b.ask(b.token).Allowed)
		})
		t.Run(s.name+" elsewhere", func(t *testing.T) {
			b.world.change(s.do, s.changed)
			require.Eventually(t, func() bool { return b.ask(b.token).Has(s.want) }, 10*time.Second, time.Millisecond)
			b.world.change(s.undo, s.changed)
			require.Eventually(t, func() bool { return b.ask(b.token).Allowed }, 10*time.Second, time.Millisecond)
		})
	}
}

func TestPrunedChangesDropEverything(t *testing.T) {
	b := newBed(t, nil)
	b.start(t)
	require.True(t, b.ask(b.token).Allowed)
	b.world.change(func() {
		clear(b.world.members)
		b.world.pruned = len(b.world.changes) + 1
	}, models.Change{Kind: models.ChangeMembership, Key: "u1", Key2: "acme"})
	require.Eventually(t, func() bool { return b.ask(b.token).Has(models.NotAMember) }, 10*time.Second, time.Millisecond)
}

func TestStaleFeedIsNotTrusted(t *testing.T) {
	b := newBed(t, func(c *authz.Config) { c.MaxStaleness = 5 * time.Second })
	b.start(t)
	require.True(t, b.ask(b.token).Allowed)

	b.world.set(func() { b.world.feedErr = errDown })
	require.Eventually(t, func() bool { return strings.Contains(b.log.String(), "cannot be read") }, 10*time.Second, time.Millisecond)
	b.world.set(func() { clear(b.world.members) }) // announced to nobody
	assert.True(t, b.ask(b.token).Allowed, "within max_staleness the cache is trusted")
	b.clock.advance(6 * time.Second)
	require.Error(t, b.Ready())
	assert.True(t, b.ask(b.token).Has(models.NotAMember), "then it is not")

	b.world.set(func() { b.world.feedErr = nil })
	require.Eventually(t, func() bool { return b.Ready() == nil }, 10*time.Second, time.Millisecond)
}

func TestNothingIsCachedBeforeTheFeedIsRead(t *testing.T) {
	b := newBed(t, nil)
	assert.Equal(t, time.Duration(math.MaxInt64), b.FeedLag())
	require.Error(t, b.Ready())
	for range 3 {
		require.True(t, b.ask(b.token).Allowed)
	}
	assert.Equal(t, 3, b.world.readsOf("pat "+b.pat.ID))
}

func TestConcurrentMissesMakeOneQuery(t *testing.T) {
	b := newBed(t, nil)
	b.start(t)
	open := make(chan struct{})
	var waiting atomic.Int32
	b.world.setGate(func(context.Context, string) { waiting.Add(1); <-open })
	var wg sync.WaitGroup
	var allowed atomic.Int32
	for range 50 {
		wg.Go(func() {
			if b.ask(b.token).Allowed {
				allowed.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool { return waiting.Load() > 0 }, 10*time.Second, time.Millisecond)
	close(open)
	wg.Wait()
	assert.EqualValues(t, 50, allowed.Load(), b.log)
	for key, n := range b.world.allReads() {
		assert.Equal(t, 1, n, key)
	}
}

// A read that started before a write and comes back after it must not bring the
// old fact into the cache, nor into the answer of a call that began after it.
func TestWriteDuringARead(t *testing.T) {
	b := newBed(t, nil)
	b.start(t)
	for _, key := range []string{"pat " + b.pat.ID, "user u1", "domain acme", "member u1 acme"} {
		t.Run(key, func(t *testing.T) {
			b.world.set(func() {
				b.world.pats[b.pat.ID] = b.pat
				b.world.users["u1"] = models.User{ID: "u1"}
				b.world.domains["acme"] = models.Domain{ID: "acme", Status: models.DomainEnabled}
				b.world.members[[2]string{"u1", "acme"}] = models.Membership{UserID: "u1", Domain: "acme", Role: "member"}
			})
			b.Apply([]models.Change{{Kind: "everything"}})
			entered, open := make(chan struct{}), make(chan struct{})
			var once sync.Once
			b.world.setGate(func(_ context.Context, k string) {
				if k == key {
					once.Do(func() { close(entered); <-open })
				}
			})
			first := make(chan models.Decision)
			go func() { first <- b.ask(b.token) }()
			<-entered
			kind, k1, k2 := models.ChangeToken, b.pat.ID, ""
			b.Apply(b.world.change(func() {
				switch {
				case strings.HasPrefix(key, "pat"):
					p := b.pat
					p.RevokedAt = &p.CreatedAt
					b.world.pats[p.ID] = p
				case strings.HasPrefix(key, "user"):
					kind, k1 = models.ChangeUser, "u1"
					b.world.users["u1"] = models.User{ID: "u1", Disabled: true}
				case strings.HasPrefix(key, "domain"):
					kind, k1 = models.ChangeDomain, "acme"
					delete(b.world.domains, "acme")
				default:
					kind, k1, k2 = models.ChangeMembership, "u1", "acme"
					clear(b.world.members)
				}
			}))
			b.Apply([]models.Change{{Kind: kind, Key: k1, Key2: k2}})
			second := make(chan models.Decision)
			go func() { second <- b.ask(b.token) }()
			close(open)
			<-first // it began before the write; either answer is right
			assert.False(t, (<-second).Allowed)
			assert.False(t, b.ask(b.token).Allowed)
		})
	}
}

func TestUnknownIDsAreRemembered(t *testing.T) {
	b := newBed(t, nil)
	b.start(t)
	garbage := freshToken()
	for range 5 {
		assert.True(t, b.ask(garbage).Has(models.TokenUnknown))
	}
	assert.Equal(t, 1, b.world.readsOf("pat "+garbage[7:23]))
	id := garbage[7:23]
	b.Apply(b.world.change(func() {}, models.Change{Kind: models.ChangeToken, Key: id}))
	b.ask(garbage)
	assert.Equal(t, 2, b.world.readsOf("pat "+id), "an announcement ends it")
}

// While look-ups of garbage pile up, tokens that verify get through: those that
// are cached, those that verified here before, and new ones from addresses that
// did not misbehave.
func TestGarbageBlocksNoValidToken(t *testing.T) {
	b := newBed(t, func(c *authz.Config) {
		c.MaxLookups, c.SlowLookups, c.FailuresPerMin = 4, 1, 10
		c.LookupTimeout = time.Minute
	})
	b.start(t)
	noisy, quiet := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	from := func(token string, ip netip.Addr) models.Decision {
		return b.Authorize(context.Background(), authz.Call{Token: token, Request: readAll, Surface: "test", IP: ip})
	}
	for range 20 {
		require.True(t, from(freshToken(), noisy).Has(models.TokenUnknown), "over the limit the answer is the same")
	}
	_, unseen := b.mint(t)
	assert.True(t, from(unseen, noisy).Allowed, "a new token from the noisy address verifies")

	valid := map[string]bool{b.pat.ID: true}
	other, otherToken := b.mint(t)
	valid[other.ID] = true
	open := make(chan struct{})
	var stuck atomic.Int32
	b.world.setGate(func(ctx context.Context, key string) {
		if id, ok := strings.CutPrefix(key, "pat "); ok && !valid[id] {
			stuck.Add(1)
			<-open
		}
	})
	require.True(t, from(b.token, quiet).Allowed)
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() { from(freshToken(), noisy) })
	}
	require.Eventually(t, func() bool { return stuck.Load() == 1 }, 10*time.Second, time.Millisecond, "the noisy address has one place")
	assert.True(t, from(b.token, noisy).Allowed, "cached")
	b.Apply([]models.Change{{Kind: models.ChangeToken, Key: b.pat.ID}})
	assert.True(t, from(b.token, noisy).Allowed, "verified here before")
	assert.True(t, from(otherToken, quiet).Allowed, "new, from elsewhere")
	assert.EqualValues(t, 1, stuck.Load())
	close(open)
	wg.Wait()
}

func TestWaitingForALookupEndsWithTheCaller(t *testing.T) {
	b := newBed(t, func(c *authz.Config) { c.MaxLookups, c.SlowLookups = 1, 1 })
	b.start(t)
	open, entered := make(chan struct{}), make(chan struct{})
	b.world.setGate(func(context.Context, string) { close(entered); <-open; b.world.setGate(nil) })
	done := make(chan models.Decision)
	go func() { done <- b.ask(freshToken()) }()
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := b.Authorize(ctx, authz.Call{Token: b.token, Request: readAll, Surface: "test"})
	assert.Equal(t, []models.ReasonCode{models.Unavailable}, codes(d))
	close(open)
	<-done
}

func TestBatch(t *testing.T) {
	b := newBed(t, nil)
	other := readAll
	other.Operation = "write"
	ds := b.AuthorizeBatch(t.Context(), authz.Call{Token: b.token, Surface: "batch"}, []models.Request{readAll, other, readAll})
	require.Len(t, ds, 3)
	assert.Equal(t, []bool{true, false, true}, []bool{ds[0].Allowed, ds[1].Allowed, ds[2].Allowed})
	assert.NotEqual(t, ds[0].ID, ds[2].ID)
	assert.Equal(t, 1, b.world.readsOf("pat "+b.pat.ID), "the token is verified once")
	for _, d := range b.AuthorizeBatch(t.Context(), authz.Call{Surface: "batch"}, []models.Request{readAll, other}) {
		assert.Equal(t, []models.ReasonCode{models.TokenMissing}, codes(d))
	}
}

func TestUsesAreWrittenOncePerMinute(t *testing.T) {
	b := newBed(t, nil)
	b.start(t)
	written := func() int {
		b.world.mu.Lock()
		defer b.world.mu.Unlock()
		return len(b.world.uses)
	}
	call := authz.Call{
		Token: b.token, Request: readAll, Surface: "test",
		IP: netip.MustParseAddr("::ffff:192.0.2.7"), UserAgent: strings.Repeat("é", 200),
	}
	for range 10 {
		b.Authorize(t.Context(), call)
		b.Apply([]models.Change{{Kind: models.ChangeToken, Key: b.pat.ID}}) // a reload does not forget
	}
	require.Eventually(t, func() bool { return written() == 1 }, 10*time.Second, 10*time.Millisecond)
	b.clock.advance(time.Minute)
	b.Authorize(t.Context(), call)
	require.Eventually(t, func() bool { return written() == 2 }, 10*time.Second, 10*time.Millisecond)
	use := b.world.uses[0]
	assert.Equal(t, b.pat.ID, use.TokenID)
	assert.Equal(t, "192.0.2.7", use.IP)
	assert.Equal(t, strings.Repeat("é", 128), use.UserAgent)
}

func TestUseOfARetiredTokenIsASecurityEvent(t *testing.T) {
	b := newBed(t, nil)
	b.start(t)
	require.True(t, b.ask(b.token).Allowed)
	b.Apply(b.world.change(func() {
		p := b.pat
		p.RevokedAt, p.RotatedTo = &p.CreatedAt, "successor"
		b.world.pats[p.ID] = p
	}, models.Change{Kind: models.ChangeToken, Key: b.pat.ID}))
	for range 5 {
		require.True(t, b.ask(b.token).Has(models.TokenRevoked))
	}
	audits := func() []string {
		b.world.mu.Lock()
		defer b.world.mu.Unlock()
		return b.world.audits
	}
	require.Eventually(t, func() bool { return len(audits()) > 0 }, 10*time.Second, 10*time.Millisecond)
	assert.Equal(t, []string{"token pat.retired_use pat:" + b.pat.ID}, audits(), "once a minute, even right after a good use")
}

type countingMetrics struct {
	mu      sync.Mutex
	decided map[string]int
	cache   map[string]int
}

func (m *countingMetrics) Decided(outcome, reason, surface string, _ time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.decided[strings.Join([]string{outcome, reason, surface}, " ")]++
}

func (m *countingMetrics) Breached(code string) { m.count("breached " + code) }

func (m *countingMetrics) Waived(code string, exception bool) {
	m.count(fmt.Sprintf("waived %s %t", code, exception))
}

func (m *countingMetrics) count(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.decided[what]++
}

func (m *countingMetrics) Cache(name string, hit bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cache[fmt.Sprint(name, " ", hit)]++
}

func TestMetrics(t *testing.T) {
	m := &countingMetrics{decided: map[string]int{}, cache: map[string]int{}}
	b := newBed(t, func(c *authz.Config) { c.Metrics = m })
	b.start(t)
	b.ask(b.token)
	b.ask(b.token)
	b.ask(freshToken())
	b.ask("")
	b.world.set(func() { b.world.fail = errDown })
	b.ask(freshToken())
	assert.Equal(t, map[string]int{
		"allow  test": 2, "deny token_unknown test": 1, "deny token_missing test": 1, "error unavailable test": 1,
	}, m.decided)
	assert.Equal(t, 1, m.cache["token true"])
	assert.Equal(t, 3, m.cache["token false"])
	assert.Equal(t, 1, m.cache["membership true"])
}

func TestConfigValidate(t *testing.T) {
	b := newBed(t, nil)
	for name, change := range map[string]func(*authz.Config){
		"no policy":         func(c *authz.Config) { c.Policy = nil },
		"fact ttl":          func(c *authz.Config) { c.FactTTL = 25 * time.Hour },
		"poll interval":     func(c *authz.Config) { c.PollInterval = time.Second },
		"max staleness":     func(c *authz.Config) { c.MaxStaleness = time.Millisecond },
		"look-up timeout":   func(c *authz.Config) { c.LookupTimeout = -1 },
		"max lifetime":      func(c *authz.Config) { c.MaxLifetime = -1 },
		"cache size":        func(c *authz.Config) { c.CacheSize = -1 },
		"slow lane":         func(c *authz.Config) { c.SlowLookups = 99 },
		"failures a minute": func(c *authz.Config) { c.FailuresPerMin = -1 },
	} {
		cfg := authz.Config{Keys: b.world.keys, Policy: b.policy, Facts: b.world, Feed: b.world, Journal: b.world}
		require.NoError(t, cfg.Validate())
		change(&cfg)
		_, err := authz.New(cfg)
		assert.Error(t, err, name)
	}
}

func BenchmarkAuthorizeCached(b *testing.B) {
	bed := newBed(b, func(c *authz.Config) { c.Clock, c.PollInterval = time.Now, 0 })
	bed.pat.ExpiresAt = time.Now().Add(time.Hour)
	bed.world.pats[bed.pat.ID] = bed.pat
	bed.start(b)
	call := authz.Call{Token: bed.token, Request: readAll, Surface: "bench"}
	b.Run("authorize", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if d := bed.Authorize(context.Background(), call); !d.Allowed {
				b.Fatal(d.Reasons, bed.log)
			}
		}
	})
	b.Run("bare-evaluation", func(b *testing.B) {
		facts := engine.Facts{
			Token:      engine.TokenValue(bed.pat),
			User:       engine.UserValue(bed.world.users["u1"]),
			Domain:     engine.DomainValue(bed.world.domains["acme"]),
			Membership: engine.MembershipValue(bed.world.members[[2]string{"u1", "acme"}]),
		}
		policy := bed.policy.Current()
		b.ReportAllocs()
		for b.Loop() {
			if d, err := policy.Decide(context.Background(), readAll, facts, time.Now()); err != nil || !d.Allowed {
				b.Fatal(d.Reasons, err)
			}
		}
	})
}

// Evaluations take turns: however many calls come at once, none waits for its
// turn on the policy's own time.
func TestEvaluationsTakeTurns(t *testing.T) {
	b := newBed(t, func(c *authz.Config) { c.MaxEvaluations = 1 })
	b.start(t)
	require.True(t, b.ask(b.token).Allowed)
	var wg sync.WaitGroup
	var allowed atomic.Int32
	for range 200 {
		wg.Go(func() {
			if b.ask(b.token).Allowed {
				allowed.Add(1)
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, 200, allowed.Load(), b.log)
}

// recorder keeps what it is told, and fails if it is to.
type recorder struct {
	mu      sync.Mutex
	records []authz.Record
	fail    error
}

func (r *recorder) Record(_ context.Context, rec authz.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, rec)
	return r.fail
}

func (r *recorder) last(t *testing.T) authz.Record {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	require.NotEmpty(t, r.records)
	return r.records[len(r.records)-1]
}

func TestEveryDecisionIsRecordedWithWhatItWasMadeOn(t *testing.T) {
	var rec recorder
	b := newBed(t, func(c *authz.Config) { c.Recorder = &rec })
	d := b.ask(b.token)
	require.True(t, d.Allowed)
	got := rec.last(t)
	assert.Equal(t, d, got.Decision)
	assert.Equal(t, readAll, got.Request)
	assert.Equal(t, "test", got.Surface)
	assert.Equal(t, b.clock.Now(), got.JudgedAt)
	again, err := b.policy.Current().Decide(t.Context(), got.Request, got.Facts, got.JudgedAt)
	require.NoError(t, err)
	assert.True(t, again.Allowed, "the record is enough to decide again")

	d = b.ask(freshToken())
	got = rec.last(t)
	assert.Equal(t, d, got.Decision)
	assert.True(t, got.JudgedAt.IsZero(), "the policy was not asked")
	assert.Nil(t, got.Facts.Token)
	assert.Equal(t, readAll, got.Request, "what was wanted is known all the same")

	p, _, ok := b.Begin(t.Context(), authz.Call{Token: b.token, Surface: "test"})
	require.True(t, ok)
	d = p.Decide(t.Context(), models.HTTPRequest{Method: "GET", Path: "/proxy/acme/v1/models", Segments: []string{"proxy", "acme", "v1", "models"}}, models.Request{})
	require.True(t, d.Allowed, "%v", d.Reasons)
	got = rec.last(t)
	assert.Equal(t, "/proxy/acme/v1/models", got.Path)
	assert.Equal(t, "GET", got.Method)
	assert.Equal(t, "models", got.Request.EntityType)

	rec.mu.Lock()
	before := len(rec.records)
	rec.mu.Unlock()
	b.AuthorizeBatch(t.Context(), authz.Call{Token: b.token, Surface: "test"}, []models.Request{readAll, readAll, readAll})
	assert.Len(t, rec.records, before+3)
}

func TestWithoutARecordThatIsRequiredNothingIsAllowed(t *testing.T) {
	rec := recorder{fail: errors.New("the disk is full")}
	b := newBed(t, func(c *authz.Config) { c.Recorder = &rec })
	d := b.ask(b.token)
	assert.False(t, d.Allowed)
	assert.Equal(t, []models.ReasonCode{models.Unavailable}, codes(d))
	assert.Empty(t, d.ScopeID)
	assert.Equal(t, b.pat.ID, d.TokenID)
	assert.Contains(t, b.log.String(), "the disk is full")
	assert.Equal(t, rec.last(t).Decision.ID, d.ID)
	assert.Equal(t, []models.ReasonCode{models.TokenMissing}, codes(b.ask("")), "a denial stays what it is")
}

// A token of a key that this server lacks may be good everywhere else: to call it
// unknown would have its holder throw it away.
func TestTokenOfAKeyThatIsNotInTheRing(t *testing.T) {
	other, err := models.NewKeyring(models.Key{ID: "k2", Secret: bytes.Repeat([]byte("2"), 32)})
	require.NoError(t, err)
	for _, tc := range []struct {
		name    string
		retired []string
		key     string // of the record
		want    models.ReasonCode
	}{
		{"in no ring here", nil, "k1", models.Unavailable},
		{"retired", []string{"k1"}, "k1", models.TokenUnknown},
		{"in the ring, with another secret", nil, "k2", models.TokenUnknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ring, err := other.Arrange("", tc.retired)
			require.NoError(t, err)
			b := newBed(t, func(c *authz.Config) { c.Keys = ring })
			b.pat.KeyID = tc.key
			b.world.set(func() { b.world.pats[b.pat.ID] = b.pat })
			d := b.ask(b.token)
			require.False(t, d.Allowed)
			assert.Equal(t, []models.ReasonCode{tc.want}, codes(d))
			if tc.want == models.Unavailable {
				assert.Contains(t, b.log.String(), `the key \"k1\", which the ring of this server does not have`)
				ring.Replace(b.world.keys)
				assert.True(t, b.ask(b.token).Allowed, "the key is there now")
			} else {
				assert.NotContains(t, b.log.String(), "ring of this server")
			}
		})
	}
}

func TestStrangersDoNotFloodTheServersLog(t *testing.T) {
	b := newBed(t, func(c *authz.Config) { c.LookupTimeout = time.Millisecond })
	b.world.fail = errDown
	for range 500 {
		assert.Equal(t, []models.ReasonCode{models.Unavailable}, codes(b.ask(freshToken())))
	}
	assert.LessOrEqual(t, strings.Count(b.log.String(), "could not be judged"), 100)
	assert.Contains(t, b.log.String(), errDown.Error())
}
