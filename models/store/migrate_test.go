package store_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver named pgx
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/models/store/storetest"
)

// open opens a store without migrating.
func open(t *testing.T, url string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{URL: url})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// raw opens the database past the store.
func raw(t *testing.T, databaseURL string) *sql.DB {
	t.Helper()
	driver, dsn := "pgx", databaseURL
	if path, ok := strings.CutPrefix(databaseURL, "sqlite://"); ok {
		driver, dsn = "sqlite", (&url.URL{Scheme: "file", Path: path}).String()
	}
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func TestMigrate(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		s := open(t, url)
		require.ErrorContains(t, s.CheckSchema(t.Context()), "the database is empty: run 'patrol migrate' first")
		from, newest, err := s.Migrate(t.Context())
		require.NoError(t, err)
		assert.Zero(t, from)
		assert.Positive(t, newest)
		require.NoError(t, s.CheckSchema(t.Context()))
		from, to, err := s.Migrate(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []int64{newest, newest}, []int64{from, to}, "nothing to do")

		t.Run("an older schema", func(t *testing.T) {
			db := raw(t, url)
			_, err := db.ExecContext(t.Context(), "UPDATE goose_db_version SET version_id = 0")
			require.NoError(t, err)
			require.ErrorContains(t, s.CheckSchema(t.Context()), "run 'patrol migrate'")
		})
		t.Run("a newer schema is refused, naming both versions", func(t *testing.T) {
			db := raw(t, url)
			_, err := db.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9001, TRUE)")
			require.NoError(t, err)
			want := fmt.Sprintf("has version 9001, and this binary knows no later than version %d", newest)
			err = s.CheckSchema(t.Context())
			require.ErrorContains(t, err, want)
			assert.Equal(t, models.CodeConflict, models.CodeOf(err))
			_, _, err = s.Migrate(t.Context())
			require.ErrorContains(t, err, want)
		})
	})
}

func TestManyMigrateAtOnce(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		const n = 4
		errs := make(chan error, n)
		for range n {
			s := open(t, url)
			go func() {
				_, _, err := s.Migrate(context.Background())
				errs <- err
			}()
		}
		for range n {
			require.NoError(t, <-errs)
		}
		var applied int
		require.NoError(t, raw(t, url).QueryRow("SELECT COUNT(*) FROM goose_db_version WHERE version_id = 1").Scan(&applied))
		assert.Equal(t, 1, applied)
	})
}

// lockHolder is the variable that turns this test binary into a process that
// holds the lock of SQLite migrations at the path it names until it is killed.
const lockHolder = "PATROL_TEST_LOCK_HOLDER"

func holdMigrationLock() {
	db, err := sql.Open("sqlite", "file://"+os.Getenv(lockHolder)+"?_txlock=exclusive")
	if err == nil {
		_, err = db.BeginTx(context.Background(), nil)
	}
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stdout, "locked")
	_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed
	os.Exit(0)
}

func TestSQLiteMigrationWaitsForAProcessAndOutlivesItsDeath(t *testing.T) {
	databaseURL := testenv.SQLite(t)
	s := open(t, databaseURL)
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), lockHolder+"="+strings.TrimPrefix(databaseURL, "sqlite://")+"-migrate")
	_, err := holder.StdinPipe()
	require.NoError(t, err)
	out, err := holder.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, holder.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "locked\n", line)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err = s.Migrate(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "wait for another migration")
	require.ErrorContains(t, s.CheckSchema(t.Context()), "empty")

	require.NoError(t, holder.Process.Kill())
	require.Error(t, holder.Wait())
	_, _, err = s.Migrate(t.Context())
	require.NoError(t, err)
}

// TestMigrateFromDump starts from the database that the first migration made and
// an early binary filled; see testdata/README.md.
func TestMigrateFromDump(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		name := "postgres"
		if strings.HasPrefix(url, "sqlite") {
			name = "sqlite"
		}
		dump, err := os.ReadFile("testdata/0001_" + name + ".sql")
		require.NoError(t, err)
		load(t, url, string(dump))

		s := storetest.New(t, url)
		require.NoError(t, s.CheckSchema(t.Context()))
		at := time.Date(2026, 3, 1, 12, 0, 0, 250_000_000, time.UTC)
		revoked, used := at.Add(time.Minute), at.Add(2*time.Second)
		p, err := s.PAT(t.Context(), "aaaaaaaaaaaaaaaa")
		require.NoError(t, err)
		assert.Equal(t, &models.PAT{
			ID: "aaaaaaaaaaaaaaaa", UserID: "ann", Name: "ci", Description: "it's\nold", KeyID: "k1", MAC: []byte{0, 1, 0xfe, 0xff},
			Scopes: []models.Scope{
				{ID: "s1", Domain: "acme", EntityType: "models", Entity: "llama3:8b", Operation: "read"},
				{ID: "s0", Domain: "*", EntityType: "datasets", Entity: "*", Operation: "write"},
			},
			CreatedAt: at, ExpiresAt: at.Add(time.Hour).Truncate(time.Second), RevokedAt: &revoked, RotatedTo: "bbbbbbbbbbbbbbbb",
			LastUsedAt: &used, LastUsedIP: "192.0.2.7", LastUsedAgent: "curl/8",
		}, p)
		u, err := s.UserByEmail(t.Context(), "ann@example.org")
		require.NoError(t, err)
		assert.Equal(t, &models.User{ID: "ann", Email: "ann@example.org", Name: "Ann", PasswordHash: "$argon2id$x", Admin: true, CreatedAt: at}, u)
		m, err := s.Memberships(t.Context(), "ann")
		require.NoError(t, err)
		assert.Equal(t, []models.Membership{{UserID: "ann", Domain: "acme", Role: "admin"}}, m)
		events, _, err := s.AuditEvents(t.Context(), store.AuditFilter{}, store.Page{})
		require.NoError(t, err)
		require.Len(t, events, 7)
		assert.Equal(t, store.AuditEvent{
			ID: 7, At: revoked, Action: "domain.rename", Subject: "domain:acme", Detail: map[string]string{"from": "Acme", "to": "Acme Inc."},
			Actor: models.Actor{Kind: models.ActorUser, UserID: "ann", IP: "192.0.2.7", UserAgent: "curl/8", RequestID: "r1"},
		}, events[0])
		end, err := s.FeedEnd(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 7, end.Seq)
		assert.NotEmpty(t, end.Nonce, "what was there before has one, too")
		_, err = s.CreateDomain(t.Context(), models.Actor{}, models.Domain{ID: "new"})
		require.NoError(t, err)
		page, err := s.Changes(t.Context(), end, 10)
		require.NoError(t, err)
		assert.True(t, page.Complete)
		assert.Len(t, page.Changes, 1)
		locked, err := s.FeedLocked(t.Context())
		require.NoError(t, err)
		assert.Equal(t, name == "postgres", locked, "servers of before may run")
		finished, err := s.FinishFeed(t.Context())
		require.NoError(t, err)
		assert.Equal(t, locked, finished)
		finished, err = s.FinishFeed(t.Context())
		require.NoError(t, err)
		assert.False(t, finished, "once is enough")
	})
}

// TestMigrateKeepsThePolicysHistory goes from the schema of before shadows, with a
// policy pinned, to the newest one.
func TestMigrateKeepsThePolicysHistory(t *testing.T) {
	const history = `
		INSERT INTO policy_events (at, kind, digest, archive_digest, revision, source, signed_by, result, actor_kind, actor_user_id) VALUES
			('2026-03-01 12:00:00+00:00', 'activate', 'd1', 'a1', 'v1', 'pol', 'release', '{"passed":true}', 'system', ''),
			('2026-03-02 12:00:00+00:00', 'refuse', '', 'a2', '', 'pol', '', '{"passed":false}', 'system', ''),
			('2026-03-03 12:00:00+00:00', 'rollback', 'd1', 'a1', 'v1', 'pol', 'release', '{"passed":true}', 'user', 'ann');
		UPDATE policy_state SET digest = 'd1', archive_digest = 'a1', revision = 'v1', source = 'pol', since = '2026-03-03 12:00:00+00:00', pinned = `
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		dialect, folder, pinned := goose.DialectPostgres, "migrations/postgres", "TRUE"
		if strings.HasPrefix(url, "sqlite") {
			dialect, folder, pinned = goose.DialectSQLite3, "migrations/sqlite", "1"
		}
		before, err := goose.NewProvider(dialect, raw(t, url), os.DirFS(folder), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
		require.NoError(t, err)
		_, err = before.UpTo(t.Context(), 7)
		require.NoError(t, err)
		load(t, url, history+pinned)

		s := storetest.New(t, url)
		require.NoError(t, s.CheckSchema(t.Context()))
		events, err := s.PolicyEvents(t.Context(), "", 10)
		require.NoError(t, err)
		told := make([]string, len(events))
		for i, e := range events {
			told[i] = fmt.Sprintf("%d %s %s %s by %s%s, %s", e.ID, e.At.UTC().Format(time.DateOnly), e.Kind, e.Subject.Revision, e.ByKind, e.ByUser, e.Subject.Result)
		}
		assert.Equal(t, []string{
			`3 2026-03-03 rollback v1 by userann, {"passed":true}`,
			`2 2026-03-02 refuse  by system, {"passed":false}`,
			`1 2026-03-01 activate v1 by system, {"passed":true}`,
		}, told)
		state, err := s.PolicyState(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []any{"v1", true, false}, []any{state.Revision, state.Pinned, state.Promoted})
		_, err = s.ResumePolicy(t.Context(), models.Actor{Kind: models.ActorUser, UserID: "ann"})
		require.NoError(t, err)
		events, err = s.PolicyEvents(t.Context(), store.PolicyResumed, 1)
		require.NoError(t, err)
		require.Len(t, events, 1)
		assert.EqualValues(t, 4, events[0].ID)
	})
}

// TestMigrateCountsAbsenceFromTheUpgrade: of sign-ins before it nobody knows when they were.
func TestMigrateCountsAbsenceFromTheUpgrade(t *testing.T) {
	const people = `
		INSERT INTO users (id, email, name, password_hash, admin, disabled, created_at) VALUES
			('ann', 'ann@example.com', 'Ann', '', FALSE, FALSE, '2020-03-01 12:00:00+00:00'),
			('bob', 'bob@example.com', 'Bob', 'x', FALSE, FALSE, '2020-03-01 12:00:00+00:00');
		INSERT INTO identities (issuer, subject, user_id, created_at) VALUES ('https://id.example.com', 's', 'ann', '2020-03-01 12:00:00+00:00')`
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		dialect, folder := goose.DialectPostgres, "migrations/postgres"
		if strings.HasPrefix(url, "sqlite") {
			dialect, folder = goose.DialectSQLite3, "migrations/sqlite"
		}
		before, err := goose.NewProvider(dialect, raw(t, url), os.DirFS(folder), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
		require.NoError(t, err)
		_, err = before.UpTo(t.Context(), 13)
		require.NoError(t, err)
		load(t, url, people)

		begin := time.Now().Truncate(time.Second)
		s := storetest.New(t, url)
		ann, err := s.User(t.Context(), "ann")
		require.NoError(t, err)
		require.NotNil(t, ann.ProviderAt)
		assert.WithinRange(t, *ann.ProviderAt, begin, time.Now())
		bob, err := s.User(t.Context(), "bob")
		require.NoError(t, err)
		assert.Nil(t, bob.ProviderAt, "he never came from a provider")
	})
}

func load(t *testing.T, url, dump string) {
	t.Helper()
	db := raw(t, url)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	_, err = conn.ExecContext(t.Context(), dump) // without arguments both drivers take many statements
	require.NoError(t, err)
}

func TestAuditLogIsAppendOnly(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		s := storetest.New(t, url)
		require.NoError(t, s.Audit(t.Context(), models.Actor{}, "a", "s", nil))
		statements := []string{"UPDATE audit_events SET action = 'b'", "DELETE FROM audit_events"}
		if !strings.HasPrefix(url, "sqlite") {
			statements = append(statements, "TRUNCATE audit_events")
		}
		for _, statement := range statements {
			_, err := raw(t, url).ExecContext(t.Context(), statement)
			require.ErrorContains(t, err, "append-only", statement)
		}
		events, _, err := s.AuditEvents(t.Context(), store.AuditFilter{Action: "a"}, store.Page{})
		require.NoError(t, err)
		assert.Len(t, events, 1)
	})
}
