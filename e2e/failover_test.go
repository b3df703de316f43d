package e2e_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bundles"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/models/store/storetest"
	"patrol/policies/engine"
	"patrol/server/authz"
)

// fleet is some servers on one database, as far as deciding goes, with one user who is
// a member of the domain acme.
type fleet struct {
	t         *testing.T
	keys      models.Keyring
	policy    *engine.Engine
	staleness time.Duration
	user      string
}

func newFleet(t *testing.T, database string, staleness time.Duration) *fleet {
	t.Helper()
	ctx := context.Background()
	source, err := bundles.Open(ctx, "")
	require.NoError(t, err)
	snapshot, err := engine.Load(ctx, source, engine.WithTimeout(time.Minute)) // of a machine that runs everything at once
	require.NoError(t, err)
	f := &fleet{t: t, policy: engine.New(snapshot), staleness: staleness}
	f.keys, err = models.NewKeyring(models.Key{ID: "k1", Secret: bytes.Repeat([]byte("k"), 32)})
	require.NoError(t, err)
	s := storetest.New(t, database)
	user, err := s.CreateUser(ctx, models.Actor{}, models.User{Email: "ann@example.org"})
	require.NoError(t, err)
	f.user = user.ID
	f.domain(s, "acme")
	return f
}

// domain makes a domain that the user is a member of.
func (f *fleet) domain(s *store.Store, id string) {
	f.t.Helper()
	_, err := s.CreateDomain(context.Background(), models.Actor{}, models.Domain{ID: id})
	require.NoError(f.t, err)
	_, err = s.SetMember(context.Background(), models.Actor{}, models.Membership{UserID: f.user, Domain: id, Role: "member"})
	require.NoError(f.t, err)
}

// mint makes a token that may read models everywhere.
func (f *fleet) mint(s *store.Store, name string) (id, text string) {
	f.t.Helper()
	token, err := models.Mint(rand.Reader)
	require.NoError(f.t, err)
	mac, keyID := f.keys.Sum(token)
	_, err = s.CreatePAT(context.Background(), models.Actor{}, models.PAT{
		ID: token.ID, UserID: f.user, Name: name, KeyID: keyID, MAC: mac, ExpiresAt: time.Now().Add(24 * time.Hour).Truncate(time.Second),
		Scopes: []models.Scope{{Domain: models.Any, EntityType: "models", Entity: "*", Operation: "read"}},
	})
	require.NoError(f.t, err)
	return token.ID, token.Reveal()
}

// replica is one server of the fleet.
type replica struct {
	*authz.Authorizer
	store *store.Store
}

func (f *fleet) replica(database string) *replica {
	f.t.Helper()
	s := storetest.New(f.t, database, func(c *store.Config) { c.Limits.MaxLive = 10_000 })
	self := store.Server{ID: models.NewID(), Name: "replica", StartedAt: time.Now(), MaxStaleness: f.staleness}
	require.NoError(f.t, s.SeeServer(context.Background(), self))
	a, err := authz.New(authz.Config{
		Keys: f.keys, Policy: f.policy, Facts: s, Feed: s, Journal: s, MaxStaleness: f.staleness,
		Logger:      slog.New(slog.DiscardHandler),
		Acknowledge: func(ctx context.Context, at models.FeedPosition) error { return s.Acknowledge(ctx, self.ID, at) },
	})
	require.NoError(f.t, err)
	s.OnChange(a.Apply)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = a.Run(ctx) }) // it returns nil
	running.Go(func() { s.Listen(ctx, f.staleness/2, a.Poll) })
	f.t.Cleanup(func() { stop(); running.Wait() })
	require.Eventually(f.t, func() bool { return a.Ready() == nil }, patience, time.Millisecond)
	return &replica{a, s}
}

// allows asks whether the token may read models in the domain.
func (r *replica) allows(ctx context.Context, text, domain string) bool {
	return r.Authorize(ctx, authz.Call{
		Token: text, Surface: "test", Request: models.Request{Domain: domain, EntityType: "models", Entity: "*", Operation: "read"},
	}).Allowed
}

// The database goes back to an earlier state under running servers, and goes on from
// there: whatever they had cached, nothing is allowed for longer than the maximum
// staleness that is not so any more.
func TestDatabaseGoesBack(t *testing.T) {
	const staleness = 3 * time.Second
	rounds := 3
	if testenv.Long() {
		rounds = 50
	}
	ctx := context.Background()
	primary := testenv.NewCluster(t)
	proxy := testenv.NewProxy(t, primary.Addr())
	f := newFleet(t, primary.URL(), staleness)
	far, near := f.replica(primary.URLAt(proxy.Addr())), f.replica(primary.URLAt(proxy.Addr()))
	acknowledged := map[string]string{} // names of domains that must stay
	for round := range rounds {
		operator := storetest.New(t, primary.URLAt(proxy.Addr()))
		lost := fmt.Sprint("lost-", round)
		f.domain(operator, lost)
		disabled, enabled := models.DomainIsDisabled, models.DomainEnabled
		_, err := operator.UpdateDomain(ctx, models.Actor{}, lost, store.DomainPatch{Status: &disabled})
		require.NoError(t, err)
		id, text := f.mint(operator, fmt.Sprint("kept ", round))
		acknowledged[lost] = "before"

		var goBack func()
		how := []string{"failover", "failover where the old server goes on", "restore"}[round%3]
		switch how {
		case "restore":
			goBack = primary.Save()
		default:
			standby := primary.Standby()
			primary.AwaitStandby(standby)
			standby.Unfollow()
			goBack = func() {
				if how == "failover" {
					primary.Kill()
				}
				standby.Promote()
				proxy.Lead(standby.Addr())
				if how == "failover" {
					proxy.Cut()
				}
				primary = standby
			}
		}
		// The lost writes include the user's membership.
		operator = storetest.New(t, primary.URLAt(proxy.Addr()))
		for i := range 20 {
			_, err := operator.CreateDomain(ctx, models.Actor{}, models.Domain{ID: fmt.Sprintf("gone-%d-%d", round, i)})
			require.NoError(t, err)
		}
		_, err = operator.UpdateDomain(ctx, models.Actor{}, lost, store.DomainPatch{Status: &enabled})
		require.NoError(t, err)
		for _, r := range []*replica{far, near} {
			require.Eventually(t, func() bool { return r.allows(t.Context(), text, "acme") && r.allows(t.Context(), text, lost) }, patience, 10*time.Millisecond)
		}

		begin := time.Now()
		goBack()
		moved := time.Now()
		operator = storetest.New(t, primary.URLAt(proxy.Addr()))
		_, err = operator.RevokePAT(ctx, models.Actor{}, "", id)
		require.NoError(t, err)
		revoked := time.Now()
		var wrong [2]time.Duration // how long it was allowed since it should not have been
		for _, r := range []*replica{far, near} {
			require.Eventually(t, func() bool {
				at := time.Now()
				kept, gone := r.allows(t.Context(), text, "acme"), r.allows(t.Context(), text, lost)
				if kept {
					wrong[0] = max(wrong[0], at.Sub(revoked))
				}
				if gone {
					wrong[1] = max(wrong[1], at.Sub(moved))
				}
				return time.Since(revoked) > staleness && !kept && !gone
			}, patience, 5*time.Millisecond)
		}
		t.Logf("round %d, %s, which took %s: a revoked token was allowed for %s, a disabled domain for %s", round, how, moved.Sub(begin), wrong[0], wrong[1])
		assert.LessOrEqual(t, wrong[0], staleness)
		assert.LessOrEqual(t, wrong[1], staleness)
		for _, r := range []*replica{far, near} {
			require.Eventually(t, func() bool { return r.Ready() == nil }, patience, 10*time.Millisecond, "it follows the feed again")
		}
		for id := range acknowledged {
			d, err := operator.Domain(ctx, id)
			require.NoError(t, err)
			require.NotNil(t, d, "%s was acknowledged before", id)
		}
		acknowledged[fmt.Sprint("after-", round)] = "after"
		f.domain(operator, fmt.Sprint("after-", round))
	}
}

// Revocations under load bind everywhere in time, with the database restarted in
// between.
func TestRevocationsUnderLoad(t *testing.T) {
	const staleness = 5 * time.Second
	tokens := 60
	if testenv.Long() {
		tokens = 1000
	}
	ctx := context.Background()
	cluster := testenv.NewCluster(t)
	f := newFleet(t, cluster.URL(), staleness)
	replicas := []*replica{f.replica(cluster.URL()), f.replica(cluster.URL()), f.replica(cluster.URL())}
	type pat struct{ id, text string }
	pats := make([]pat, tokens)
	for i := range pats {
		pats[i].id, pats[i].text = f.mint(replicas[0].store, fmt.Sprint("token ", i))
	}
	for _, r := range replicas {
		for _, p := range pats {
			require.Eventually(t, func() bool { return r.allows(t.Context(), p.text, "acme") }, patience, time.Millisecond)
		}
	}

	// Load: questions, and writes by others.
	loading, stop := context.WithCancel(ctx)
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	var questions atomic.Int64
	_, lasting := f.mint(replicas[0].store, "lasting")
	for _, r := range replicas {
		load.Go(func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for loading.Err() == nil {
				<-tick.C
				r.allows(loading, lasting, "acme")
				questions.Add(1)
			}
		})
	}
	load.Go(func() {
		for i := 0; loading.Err() == nil; i++ {
			_, _ = replicas[1].store.CreateDomain(loading, models.Actor{}, models.Domain{ID: fmt.Sprint("load-", i)}) // may fail in the restart
		}
	})

	var within []time.Duration
	restart := tokens / 2
	for i, p := range pats {
		if i == restart {
			cluster.Stop()
			cluster.Start()
		}
		require.Eventually(t, func() bool {
			_, err := replicas[i%3].store.RevokePAT(ctx, models.Actor{}, "", p.id)
			return err == nil
		}, patience, 10*time.Millisecond)
		revoked := time.Now()
		var last time.Duration
		for _, r := range replicas {
			for {
				at := time.Since(revoked)
				if !r.allows(t.Context(), p.text, "acme") {
					break
				}
				last = max(last, at)
				require.LessOrEqual(t, at, staleness, "revocation %d", i)
			}
		}
		if i < restart-1 || i > restart+1 {
			within = append(within, last)
		}
	}
	slices.Sort(within)
	p99 := within[len(within)*99/100]
	t.Logf("%d revocations, %d questions beside: the last allowance after p50 %s, p99 %s, at most %s", tokens, questions.Load(), within[len(within)/2], p99, within[len(within)-1])
	if testenv.Long() {
		assert.Less(t, p99, 100*time.Millisecond)
	}
}
