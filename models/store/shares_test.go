package store_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/models/store/storetest"
)

// Pages that the database is slow with keep to their share of the connections: facts
// are read, and a token is revoked, as if there were none.
func TestSlowPagesHoldNothingUp(t *testing.T) {
	cluster := testenv.NewCluster(t)
	s := storetest.New(t, cluster.URL(), func(c *store.Config) { c.ListTimeout = 3 * time.Second })
	decisions, err := store.OpenDecisions(t.Context(), store.Config{URL: cluster.URL()}, false)
	require.NoError(t, err)
	defer func() { require.NoError(t, decisions.Close()) }()
	_, _, err = decisions.Migrate(t.Context())
	require.NoError(t, err)
	ctx := context.Background()
	ann, err := s.CreateUser(ctx, models.Actor{}, models.User{Email: "ann@example.org"})
	require.NoError(t, err)
	_, err = s.CreateDomain(ctx, models.Actor{}, models.Domain{ID: "acme"})
	require.NoError(t, err)
	var ids []string
	for n := range 20 {
		p, err := s.CreatePAT(ctx, models.Actor{}, benchPAT(ann.ID, fmt.Sprint(n)))
		require.NoError(t, err)
		ids = append(ids, p.ID)
	}
	// The reads of lists, and nothing else, are stopped.
	conn, err := pgx.Connect(ctx, cluster.URL())
	require.NoError(t, err)
	defer func() { assert.NoError(t, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, `ALTER TABLE audit_events RENAME TO audit_kept;
		CREATE FUNCTION slowly() RETURNS boolean LANGUAGE sql VOLATILE AS 'SELECT pg_sleep(60) IS NOT NULL';
		CREATE VIEW audit_events AS SELECT * FROM audit_kept WHERE slowly();
		ALTER TABLE decisions RENAME TO decisions_kept;
		CREATE VIEW decisions AS SELECT * FROM decisions_kept UNION ALL SELECT * FROM decisions_kept WHERE slowly()`)
	require.NoError(t, err)
	var pages sync.WaitGroup
	loading, end := context.WithCancel(ctx)
	for range 20 {
		pages.Go(func() {
			for loading.Err() == nil {
				_, _, err := s.AuditEvents(loading, store.AuditFilter{}, store.Page{})
				assert.Equal(t, models.CodeUnavailable, models.CodeOf(err), "%v", err)
				_, _, err = decisions.Decisions(loading, store.DecisionFilter{}, store.Page{})
				assert.Error(t, err)
			}
		})
	}
	defer pages.Wait()
	defer end()
	require.Eventually(t, func() bool {
		var n int
		err := conn.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'").Scan(&n)
		return err == nil && n >= 3
	}, time.Minute, 5*time.Millisecond)

	facts := s.Facts()
	var took []time.Duration
	for _, id := range ids {
		begin := time.Now()
		p, err := facts.PAT(ctx, id)
		require.NoError(t, err)
		require.NotNil(t, p)
		_, err = facts.User(ctx, ann.ID)
		require.NoError(t, err)
		_, err = facts.Domain(ctx, "acme")
		require.NoError(t, err)
		_, err = s.RevokePAT(ctx, models.Actor{}, ann.ID, id)
		require.NoError(t, err)
		_, err = s.FeedEnd(ctx)
		require.NoError(t, err)
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	t.Logf("facts, a revocation and the feed beside 20 slow pages: %s in the median, %s at most", took[len(took)/2], took[len(took)-1])
	assert.Less(t, took[len(took)-1], time.Second)
	var conns int
	require.NoError(t, conn.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'patrol'").Scan(&conns))
	assert.LessOrEqual(t, conns, 20, "all of a server's connections")
}

// The connections of a server are never more than it was given, whatever it does at
// once.
func TestConnectionsAreBounded(t *testing.T) {
	for _, limit := range []int{store.MinConns, 20} {
		cluster := testenv.NewCluster(t)
		bounded := func(c *store.Config) { c.MaxConns = limit }
		s := storetest.New(t, cluster.URL(), bounded)
		log, err := store.OpenDecisions(t.Context(), store.Config{URL: cluster.URL(), MaxConns: limit}, false)
		require.NoError(t, err)
		_, _, err = log.Migrate(t.Context())
		require.NoError(t, err)
		ctx, end := context.WithCancel(t.Context())
		var busy sync.WaitGroup
		busy.Go(func() { s.Listen(ctx, 5*time.Millisecond, func() {}) })
		for n := range 40 {
			busy.Go(func() {
				for ctx.Err() == nil {
					_, _ = s.Facts().User(ctx, "nobody")
					_, _ = s.Domain(ctx, "nowhere")
					_, _ = s.CreateDomain(ctx, models.Actor{}, models.Domain{ID: fmt.Sprint("d", n)})
					_, _, _ = s.Users(ctx, store.UserFilter{}, store.Page{})
					_, _ = s.FeedEnd(ctx)
					_, _, _ = log.Decisions(ctx, store.DecisionFilter{}, store.Page{})
					_ = log.Add(ctx, []models.LoggedDecision{{Decision: models.Decision{ID: models.NewDecisionID(time.Now())}, At: time.Now()}})
				}
			})
		}
		watch, err := pgx.Connect(t.Context(), cluster.URL())
		require.NoError(t, err)
		top := 0
		for range 200 {
			var n int
			require.NoError(t, watch.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'patrol'").Scan(&n))
			top = max(top, n)
		}
		end()
		busy.Wait()
		require.NoError(t, watch.Close(t.Context()))
		require.NoError(t, log.Close())
		assert.LessOrEqual(t, top, limit)
		assert.Greater(t, top, limit/2, "they were busy")
	}
}
