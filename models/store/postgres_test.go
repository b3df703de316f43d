package store_test

import (
	"context"
	"net"
	"net/url"
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

func TestPostgresPasswordsAreInNoError(t *testing.T) {
	good, err := url.Parse(testenv.Postgres(t))
	require.NoError(t, err)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	edit := func(f func(u *url.URL)) string {
		u := *good
		u.User = url.UserPassword(good.User.Username(), "hunter2 /@%")
		f(&u)
		return u.String()
	}
	for name, bad := range map[string]string{
		"wrong": edit(func(*url.URL) {}),
		"wrong parameter": edit(func(u *url.URL) {
			u.User, u.RawQuery = url.User(u.User.Username()), "password=hunter2+/@%25&sslmode=disable"
		}),
		"no such host":      edit(func(u *url.URL) { u.Host = "nowhere.invalid:5432" }),
		"nobody listens":    edit(func(u *url.URL) { u.Host = closed.Addr().String() }),
		"no such database":  edit(func(u *url.URL) { u.Path = "/none" }),
		"no TLS there":      edit(func(u *url.URL) { u.RawQuery = "sslmode=require" }),
		"no such key":       edit(func(u *url.URL) { u.RawQuery = "sslmode=verify-full&sslcert=/none&sslkey=/none&sslpassword=hunter2" }),
		"refused parameter": edit(func(u *url.URL) { u.RawQuery = "sslmode=disable&nonsense=1" }),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := store.Open(t.Context(), store.Config{URL: bad, Timeout: 5 * time.Second})
			require.Error(t, err)
			for cause := err; cause != nil; {
				assert.NotContains(t, cause.Error(), "hunter2")
				next, ok := cause.(interface{ Unwrap() error })
				if !ok {
					break
				}
				cause = next.Unwrap()
			}
			t.Log(err)
		})
	}
}

func TestPostgresInAnotherEncoding(t *testing.T) {
	u, err := url.Parse(testenv.Postgres(t))
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), u.String())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	const name = "patrol_latin1"
	_, err = conn.Exec(t.Context(), "CREATE DATABASE "+name+" ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	require.NoError(t, err)
	defer func() {
		_, err := conn.Exec(context.Background(), "DROP DATABASE "+name)
		require.NoError(t, err)
	}()
	u.Path = "/" + name
	_, err = store.Open(t.Context(), store.Config{URL: u.String()})
	require.ErrorContains(t, err, "the database's encoding is LATIN1, not UTF-8")
}

func TestPostgresPasswordFromTheParameters(t *testing.T) {
	u, err := url.Parse(testenv.Postgres(t))
	require.NoError(t, err)
	password, ok := u.User.Password()
	if !ok {
		testenv.Missing(t, "postgres-password", "the server of PATROL_TEST_POSTGRES takes no password")
	}
	q := u.Query()
	q.Set("password", password)
	u.User, u.RawQuery = url.User(u.User.Username()), q.Encode()
	s := storetest.New(t, u.String())
	require.NoError(t, s.Ping(t.Context()))
}

func TestPostgresThatDoesNotAnswer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	require.NoError(t, err)
	defer func() { require.NoError(t, silent.Close()) }()
	for name, u := range map[string]string{
		"silent": "postgres://patrol@" + silent.Addr().String() + "/patrol?sslmode=disable",
		"absent": "postgres://patrol@127.0.0.1:1/patrol?sslmode=disable",
	} {
		begin := time.Now()
		_, err := store.Open(t.Context(), store.Config{URL: u, ConnectTimeout: 50 * time.Millisecond})
		assert.Equal(t, models.CodeUnavailable, models.CodeOf(err), "%s: %v", name, err)
		assert.Less(t, time.Since(begin), 5*time.Second, name)
	}
}

func TestPostgresLockedRow(t *testing.T) {
	u := testenv.Postgres(t)
	s := storetest.New(t, u)
	slow := storetest.New(t, u, func(c *store.Config) { c.Timeout = 200 * time.Millisecond })
	ann, err := s.CreateUser(t.Context(), models.Actor{}, models.User{Email: "ann@example.org"})
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), u)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT * FROM users FOR UPDATE")
	require.NoError(t, err)

	name := "Ann"
	_, err = slow.UpdateUser(t.Context(), models.Actor{}, ann.ID, store.UserPatch{Name: &name})
	assert.Equal(t, models.CodeUnavailable, models.CodeOf(err), "%v", err)
	require.NoError(t, tx.Rollback(t.Context()))
	_, err = slow.UpdateUser(t.Context(), models.Actor{}, ann.ID, store.UserPatch{Name: &name})
	require.NoError(t, err)
}

// A deadlock with a statement from outside costs another attempt, not the write.
func TestPostgresDeadlockIsTriedAgain(t *testing.T) {
	u := testenv.Postgres(t)
	s := storetest.New(t, u)
	ctx := t.Context()
	ann, err := s.CreateUser(ctx, models.Actor{}, models.User{Email: "ann@example.org"})
	require.NoError(t, err)
	p, err := s.CreatePAT(ctx, models.Actor{}, benchPAT(ann.ID, "ci"))
	require.NoError(t, err)
	conn, err := pgx.Connect(ctx, u)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	// The other side waits long before it looks for a deadlock, so that it is
	// the store that finds it and gives up. Where the role may not set this, the
	// store is still the first to look, since it waits longer.
	_, _ = conn.Exec(ctx, "SET deadlock_timeout = '30s'")
	tx, err := conn.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, "SELECT 1 FROM pats WHERE id = $1 FOR UPDATE", p.ID)
	require.NoError(t, err)

	revoked := make(chan error, 1)
	go func() { // locks the user, then waits for the token
		_, err := s.RevokePAT(context.Background(), models.Actor{}, ann.ID, p.ID)
		revoked <- err
	}()
	watch, err := pgx.Connect(ctx, u)
	require.NoError(t, err)
	defer func() { require.NoError(t, watch.Close(context.Background())) }()
	require.Eventually(t, func() bool {
		var waiting int
		err := watch.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()").Scan(&waiting)
		return err == nil && waiting > 0
	}, 10*time.Second, 5*time.Millisecond)
	_, err = tx.Exec(ctx, "SELECT 1 FROM users WHERE id = $1 FOR UPDATE", ann.ID) // closes the circle
	require.NoError(t, err)
	require.NoError(t, tx.Commit(ctx))
	require.NoError(t, <-revoked)
}

func TestPostgresURLHasTheLastWord(t *testing.T) {
	u, err := url.Parse(testenv.Postgres(t))
	require.NoError(t, err)
	q := u.Query()
	q.Set("application_name", "mine")
	u.RawQuery = q.Encode()
	s := storetest.New(t, u.String())
	require.NoError(t, s.Ping(t.Context()))
	conn, err := pgx.Connect(t.Context(), u.String())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	var n int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mine' AND pid <> pg_backend_pid() AND datname = current_database()").Scan(&n))
	assert.Positive(t, n)
}
