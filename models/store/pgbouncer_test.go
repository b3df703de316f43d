package store_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/models/store/storetest"
)

// What operations.md says of PgBouncer as Debian ships it: no setting of it, of the URL or
// of a role is needed with either pool mode, not even to make the schema.
func TestPgBouncer(t *testing.T) {
	for name, settings := range map[string][]string{
		"session":     {"pool_mode = session"},
		"transaction": {"pool_mode = transaction", "default_pool_size = 8"},
		// As operations.md had it before.
		"passed over": {"pool_mode = transaction", "ignore_startup_parameters = extra_float_digits, statement_timeout, idle_in_transaction_session_timeout, synchronous_commit, patrol.direct"},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := testenv.NewCluster(t)
			addr := testenv.PgBouncer(t, cluster, settings...)
			for _, told := range []bool{false, true} {
				listen := ""
				if told {
					listen = cluster.URL()
				}
				worksBehind(t, func() *store.Store {
					var log syncBuffer
					s, err := store.Open(t.Context(), store.Config{URL: cluster.URLAt(addr), ListenURL: listen, MaxConns: store.MinConns, Logger: slog.New(slog.NewTextHandler(&log, nil))})
					require.NoError(t, err)
					t.Cleanup(func() { require.NoError(t, s.Close()) })
					assert.Contains(t, log.String(), "a pooler is before the database")
					return s
				}, told)
			}
			assert.Equal(t, []string{"0"}, cluster.Query("SELECT CAST(count(*) AS text) FROM pg_locks WHERE locktype = 'advisory'"), "no lock stays in somebody's session")
			decisions, err := store.OpenDecisions(t.Context(), store.Config{URL: cluster.URLAt(addr)}, false)
			require.NoError(t, err)
			defer func() { require.NoError(t, decisions.Close()) }()
			_, _, err = decisions.Migrate(t.Context())
			require.NoError(t, err)
			for range 3 {
				require.NoError(t, decisions.Add(t.Context(), []models.LoggedDecision{{Decision: models.Decision{ID: models.NewDecisionID(time.Now())}, At: time.Now()}}))
			}
			list, _, err := decisions.Decisions(t.Context(), store.DecisionFilter{}, store.Page{})
			require.NoError(t, err)
			assert.Len(t, list, 3)
			for _, setting := range []string{"statement_timeout", "idle_in_transaction_session_timeout"} {
				assert.Equal(t, []string{"0"}, cluster.Query("SELECT setting FROM pg_settings WHERE name = '"+setting+"'"))
			}
		})
	}
}

// A server that stands still in a transaction is cut off behind a pooler, too.
func TestFrozenServerBehindPgBouncer(t *testing.T) {
	cluster := testenv.NewCluster(t)
	addr := testenv.PgBouncer(t, cluster, "pool_mode = transaction")
	proxy := testenv.NewProxy(t, addr)
	open := func(addr string) *store.Store {
		s, err := store.Open(t.Context(), store.Config{URL: cluster.URLAt(addr)})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return s
	}
	frozen, healthy := open(proxy.Addr()), open(addr)
	_, _, err := healthy.Migrate(t.Context())
	require.NoError(t, err)
	ann, err := healthy.CreateUser(t.Context(), models.Actor{}, models.User{Email: "ann@example.org"})
	require.NoError(t, err)
	still := proxy.FreezeAfter("INSERT INTO changes")
	wrote := make(chan error, 1)
	go func() {
		_, err := frozen.CreatePAT(context.Background(), models.Actor{}, benchPAT(ann.ID, "new"))
		wrote <- err
	}()
	<-still
	begin := time.Now()
	_, err = healthy.CreatePAT(t.Context(), models.Actor{}, benchPAT(ann.ID, "other"))
	require.NoError(t, err)
	assert.Less(t, time.Since(begin), 2*time.Second)
	proxy.Thaw()
	require.NoError(t, <-wrote)
}

// A restart of PgBouncer costs no acknowledged write, and what only reads is done again.
func TestPgBouncerRestarts(t *testing.T) {
	cluster := testenv.NewCluster(t)
	proxy := testenv.NewProxy(t, testenv.PgBouncer(t, cluster, "pool_mode = transaction"))
	s := storetest.New(t, cluster.URLAt(proxy.Addr()))
	ann, err := s.CreateUser(t.Context(), models.Actor{}, models.User{Email: "ann@example.org"})
	require.NoError(t, err)
	for range 5 {
		proxy.Lead(testenv.PgBouncer(t, cluster, "pool_mode = transaction"))
		proxy.Cut()
		u, err := s.User(t.Context(), ann.ID)
		require.NoError(t, err)
		require.NotNil(t, u)
		proxy.Cut()
		p, err := s.CreatePAT(t.Context(), models.Actor{}, benchPAT(ann.ID, models.NewID()))
		require.NoError(t, err)
		found, err := s.PAT(t.Context(), p.ID)
		require.NoError(t, err)
		require.NotNil(t, found)
	}
}

// worksBehind has two servers work on one database. With told, the one tells the
// other of its changes; without, the other has to look.
func worksBehind(t *testing.T, open func() *store.Store, told bool) {
	t.Helper()
	a, b := open(), open()
	var starting sync.WaitGroup
	for _, s := range []*store.Store{a, b} { // both at once, as at a start
		starting.Go(func() {
			_, _, err := s.Migrate(t.Context())
			assert.NoError(t, err)
		})
	}
	starting.Wait()
	user, err := a.CreateUser(t.Context(), models.Actor{}, models.User{Email: models.NewID() + "@example.org"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	woken := make(chan struct{}, 1000)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { a.Listen(ctx, time.Minute, func() {}) })
	running.Go(func() { b.Listen(ctx, time.Minute, func() { woken <- struct{}{} }) })
	<-woken // it listens
	at, err := b.FeedEnd(ctx)
	require.NoError(t, err)

	var writing sync.WaitGroup
	for range 8 {
		writing.Go(func() {
			for range 10 {
				id := models.NewID()
				p, err := a.CreatePAT(ctx, models.Actor{}, benchPAT(user.ID, id))
				if assert.NoError(t, err) {
					_, err = a.RevokePAT(ctx, models.Actor{}, user.ID, p.ID)
					assert.NoError(t, err)
				}
			}
		})
	}
	seen := map[string]int{}
	written := make(chan struct{})
	go func() { writing.Wait(); close(written) }()
	for last := false; !last; {
		select {
		case <-written:
			last = true
		default:
		}
		page, err := b.Changes(ctx, at, 10_000)
		require.NoError(t, err)
		require.True(t, page.Complete)
		at = page.Next
		for _, c := range page.Changes {
			seen[c.Key]++
		}
	}
	assert.Len(t, seen, 80)
	for id, n := range seen {
		assert.Equal(t, 2, n, "%s was made and revoked", id)
	}
	if told {
		select {
		case <-woken:
		case <-time.After(time.Minute):
			t.Error("nobody said that something changed")
		}
	}
}
