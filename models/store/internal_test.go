package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
)

func TestFailure(t *testing.T) {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context //nolint:containedctx // a case of the table
		err  error
		want models.Code
	}{
		{"nil", t.Context(), nil, ""},
		{"ours", t.Context(), fmt.Errorf("x: %w", models.NewError(models.CodeLastScope, "m")), models.CodeLastScope},
		{"unique violation", t.Context(), &pgconn.PgError{Code: "23505"}, models.CodeTaken},
		{"foreign key violation", t.Context(), &pgconn.PgError{Code: "23503"}, models.CodeInternal},
		{"connection", t.Context(), &pgconn.PgError{Code: "08006"}, models.CodeUnavailable},
		{"too many connections", t.Context(), &pgconn.PgError{Code: "53300"}, models.CodeUnavailable},
		{"statement timeout", t.Context(), &pgconn.PgError{Code: "57014"}, models.CodeUnavailable},
		{"shutdown", t.Context(), &pgconn.PgError{Code: "57P01"}, models.CodeUnavailable},
		{"deadlock", t.Context(), &pgconn.PgError{Code: "40P01"}, models.CodeUnavailable},
		{"standby", t.Context(), &pgconn.PgError{Code: "25006"}, models.CodeUnavailable},
		{"wrong password", t.Context(), &pgconn.PgError{Code: "28P01"}, models.CodeInternal},
		{"no table", t.Context(), &pgconn.PgError{Code: "42P01"}, models.CodeInternal},
		{"connection cut", t.Context(), fmt.Errorf("read: %w", io.ErrUnexpectedEOF), models.CodeUnavailable},
		{"connection closed", t.Context(), sql.ErrConnDone, models.CodeUnavailable},
		{"deadline", t.Context(), context.DeadlineExceeded, models.CodeUnavailable},
		{"interrupted for the context", gone, errors.New("interrupted"), models.CodeUnavailable},
		{"anything", t.Context(), errors.New("x"), models.CodeInternal},
	} {
		err := failure(c.ctx, "op", c.err)
		assert.Equal(t, c.want, models.CodeOf(err), c.name)
		if c.err != nil && c.want != models.CodeLastScope {
			require.ErrorIs(t, err, c.err, c.name)
		}
		if c.ctx == gone {
			require.ErrorIs(t, err, context.Canceled)
		}
	}
}

// What helps whoever runs the database comes first.
func TestCausesComeFirst(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&pgconn.PgError{Code: "25006"}, "the database is read-only"},
		{&pgconn.PgError{Code: "28000", Message: `no pg_hba.conf entry for host "10.0.0.1", user "p", database "p", no encryption`}, "the database demands TLS"},
		{&pgconn.PgError{Code: "08P01", Message: "unsupported startup parameter: statement_timeout"}, "set ignore_startup_parameters there"},
		{&pgconn.PgError{Code: "42P05"}, "default_query_exec_mode=exec"},
		{&pgconn.PgError{Code: "26000"}, "default_query_exec_mode=exec"},
		{&pgconn.PgError{Code: "28P01"}, "the database refuses the password"},
		{&pgconn.PgError{Code: "3D000"}, "the database does not exist"},
		{&pgconn.PgError{Code: "22021"}, "the database's encoding is not UTF-8"},
		{&pgconn.PgError{Code: "53100"}, "the disk of the database is full"},
		{&pgconn.PgError{Code: "58030"}, "the disk of the database fails"},
		{&pgconn.PgError{Code: "XX001", Message: "invalid page in block 3 of relation base/5/16384"}, "a page of it cannot be read"},
		{&pgconn.PgError{Code: "XX002"}, "an index of the database is damaged"},
		{&pgconn.PgError{Code: "57014"}, "the database does not answer"},
		{io.EOF, "the database does not answer"},
		{errors.New("x"), "the database could not do this"},
	} {
		e, ok := errors.AsType[*models.Error](failure(t.Context(), "op", fmt.Errorf("wrapped: %w", c.err)))
		require.True(t, ok)
		assert.Contains(t, e.Message, c.want)
	}
	file := filepath.Join(t.TempDir(), "patrol.db")
	require.NoError(t, os.WriteFile(file, bytes.Repeat([]byte("no database "), 100), 0o600))
	_, err := Open(t.Context(), Config{URL: "sqlite://" + file})
	assert.ErrorContains(t, err, "the database file is not a SQLite database")
}

func TestSQLiteSettings(t *testing.T) {
	s, err := Open(t.Context(), Config{URL: "sqlite://" + t.TempDir() + "/patrol.db"})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	for pragma, want := range map[string]struct{ writer, reader any }{
		"journal_mode":   {"wal", "wal"},
		"foreign_keys":   {int64(1), int64(1)},
		"synchronous":    {int64(2), int64(2)}, // FULL
		"busy_timeout":   {busyTimeout.Milliseconds(), busyTimeout.Milliseconds()},
		"query_only":     {int64(0), int64(1)},
		"trusted_schema": {int64(0), int64(0)},
	} {
		var writer, reader any
		require.NoError(t, s.writer.Raw("PRAGMA "+pragma).Row().Scan(&writer))
		require.NoError(t, s.reader.Raw("PRAGMA "+pragma).Row().Scan(&reader))
		assert.Equal(t, []any{want.writer, want.reader}, []any{writer, reader}, pragma)
	}
}

// The commit is what cannot be made to fail from outside: a listener must hear
// of changes of which nobody knows, and must not take their numbers.
func TestUnknownOutcomeIsToldWithoutNumbers(t *testing.T) {
	rows := []changeRow{{Seq: 7, Kind: ChangeUser, Key: "u"}}
	assert.Equal(t, []Change{{Kind: ChangeUser, Key: "u"}}, toChanges(rows, false))
	assert.Equal(t, []Change{{Seq: 7, Kind: ChangeUser, Key: "u"}}, toChanges(rows, true))
}

func FuzzCursor(f *testing.F) {
	for _, seed := range []string{"", "x", newCursor("pat", "1", "id"), newCursor("user", "id"), newCursor("audit", "-1")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		key, err := Page{After: cursor}.key("pat", 2)
		if err != nil {
			require.Equal(t, models.CodeInvalid, models.CodeOf(err))
			return
		}
		if cursor != "" {
			require.Len(t, key, 2)
			again, err := Page{After: newCursor("pat", key...)}.key("pat", 2)
			require.NoError(t, err)
			require.Equal(t, key, again)
		}
	})
}
