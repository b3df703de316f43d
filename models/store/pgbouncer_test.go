package store_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
)

// ignored are the start-up parameters that operations.md has PgBouncer pass over.
const ignored = "ignore_startup_parameters = extra_float_digits, statement_timeout, idle_in_transaction_session_timeout, synchronous_commit"

// What operations.md says of PgBouncer, with either pool mode.
func TestPgBouncer(t *testing.T) {
	cluster := testenv.NewCluster(t)
	open := func(t *testing.T, addr, parameters string) (*store.Store, string, error) {
		t.Helper()
		var log syncBuffer
		s, err := store.Open(t.Context(), store.Config{URL: cluster.URLAt(addr) + parameters, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err == nil {
			t.Cleanup(func() { require.NoError(t, s.Close()) })
		}
		return s, log.String(), err
	}
	const exec = "&default_query_exec_mode=exec"
	bare := testenv.PgBouncer(t, cluster, "pool_mode = session")
	_, _, err := open(t, bare, exec)
	require.ErrorContains(t, err, "set ignore_startup_parameters there")

	sessions := testenv.PgBouncer(t, cluster, "pool_mode = session", "default_pool_size = 100", ignored)
	transactions := testenv.PgBouncer(t, cluster, "pool_mode = transaction", "default_pool_size = 100", ignored)
	s, log, err := open(t, transactions, exec)
	require.NoError(t, err)
	assert.Contains(t, log, "does not end transactions that stand still")
	_, _, err = s.Migrate(t.Context())
	require.ErrorContains(t, err, "run 'patrol migrate' on PostgreSQL itself")
	assert.Equal(t, models.CodeConflict, models.CodeOf(err))
	assert.Equal(t, []string{"0"}, cluster.Query("SELECT CAST(count(*) AS text) FROM pg_locks WHERE locktype = 'advisory'"), "no lock stays in somebody's session")
	// Without the parameter of the URL the second to connect meets the first one's statements.
	_, _, err = open(t, transactions, "")
	if err == nil {
		_, _, err = open(t, transactions, "")
	}
	require.ErrorContains(t, err, "add default_query_exec_mode=exec to the database URL")

	cluster.Query("ALTER ROLE patrol SET idle_in_transaction_session_timeout = '750ms'")
	s, _, err = open(t, sessions, exec)
	require.NoError(t, err)
	_, _, err = s.Migrate(t.Context())
	require.NoError(t, err)
	for mode, addr := range map[string]string{"session": sessions, "transaction": testenv.PgBouncer(t, cluster, "pool_mode = transaction", "default_pool_size = 100", ignored)} {
		t.Run(mode, func(t *testing.T) {
			worksBehind(t, func() *store.Store {
				s, log, err := open(t, addr, exec)
				require.NoError(t, err)
				assert.NotContains(t, log, "stand still")
				return s
			}, mode == "session")
		})
	}
}

// worksBehind has two servers work on one database. With told, the one tells the
// other of its changes; without, the other has to look.
func worksBehind(t *testing.T, open func() *store.Store, told bool) {
	t.Helper()
	a, b := open(), open()
	for _, s := range []*store.Store{a, b} { // both at once, as at a start
		from, to, err := s.Migrate(t.Context())
		require.NoError(t, err)
		require.Equal(t, from, to)
	}
	name := strings.ReplaceAll(strings.ToLower(t.Name()), "/", "-")
	user, err := a.CreateUser(t.Context(), models.Actor{}, models.User{Email: name + "@example.org"})
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
