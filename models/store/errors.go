package store

import (
	"cmp"
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"

	"patrol/models"
)

// failure makes err, which may come from a driver, a *models.Error. One that
// already is passes as it is. Context errors stay in the chain.
func failure(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*models.Error](err); ok {
		return e
	}
	cause := fmt.Errorf("%s: %w", op, err)
	if done := ctx.Err(); done != nil && !errors.Is(err, done) {
		cause = fmt.Errorf("%s: %w: %w", op, done, err) // drivers may report only that they were interrupted
	}
	switch reason := reasonOf(err); {
	case isDuplicate(err):
		return models.WrapError(models.CodeTaken, "it is in use already", cause)
	case ctx.Err() != nil, isUnavailable(err):
		return models.WrapError(models.CodeUnavailable, cmp.Or(reason, "the database does not answer; try again shortly"), cause)
	default:
		return models.WrapError(models.CodeInternal, cmp.Or(reason, "the database could not do this"), cause)
	}
}

// reasonOf says in plain words why a database failed, "" if nothing is known that
// would help whoever runs it. It names no host, user or file.
func reasonOf(err error) string {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return sqliteReasons[e.Code()&0xff] // the primary result code
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok:
		return ""
	case e.Code == "08P01" && strings.Contains(e.Message, "startup parameter"):
		return "the pooler before the database refuses a parameter: set ignore_startup_parameters there"
	case e.Code == "28000" && strings.Contains(e.Message, "no encryption"):
		return "the database demands TLS: set sslmode in the database URL"
	}
	return postgresReasons[e.Code]
}

var sqliteReasons = map[int]string{
	sqlitelib.SQLITE_READONLY: "the database is read-only",
	sqlitelib.SQLITE_FULL:     "the disk of the database is full",
	sqlitelib.SQLITE_IOERR:    "the disk of the database fails",
	sqlitelib.SQLITE_CANTOPEN: "the database file cannot be opened",
	sqlitelib.SQLITE_PERM:     "the database file may not be used by this user",
	sqlitelib.SQLITE_CORRUPT:  "the database file is damaged: a page of it cannot be read; restore it",
	sqlitelib.SQLITE_NOTADB:   "the database file is not a SQLite database",
}

const withoutPrepared = "a pooler is before the database: add default_query_exec_mode=exec to the database URL"

// postgresReasons are by SQLSTATE (PostgreSQL's manual, Appendix A).
var postgresReasons = map[string]string{
	"26000": withoutPrepared, // a pooler lent another session
	"42P05": withoutPrepared,
	"22021": "the database's encoding is not UTF-8",
	"22P05": "the database's encoding is not UTF-8",
	"25006": "the database is read-only: a standby, or a primary that was made one",
	"28000": "the database does not let this user in",
	"28P01": "the database refuses the password",
	"3D000": "the database does not exist on its server",
	"42501": "the database's user lacks a privilege",
	"42P01": "the database has no schema, or another one: run patrol migrate",
	"53100": "the disk of the database is full",
	"53200": "the database is out of memory",
	"53300": "the database has no connection left",
	"57P03": "the database is starting or stopping",
	"58030": "the disk of the database fails",
	"58P01": "a file of the database is missing: restore it",
	"XX001": "the database is damaged: a page of it cannot be read; its log says which",
	"XX002": "an index of the database is damaged: its log says which; REINDEX makes it anew",
}

// isDuplicate reports whether a unique index refused a row.
func isDuplicate(err error) bool {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() {
		case sqlitelib.SQLITE_CONSTRAINT_UNIQUE, sqlitelib.SQLITE_CONSTRAINT_PRIMARYKEY, sqlitelib.SQLITE_CONSTRAINT_ROWID:
			return true
		}
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == "23505"
}

// isCollision reports whether PostgreSQL gave up a transaction for the sake of
// another one, so that it may succeed when it is tried again.
func isCollision(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	switch e.Code {
	case "40P01", "40001", // deadlock_detected, serialization_failure
		"25P03": // idle_in_transaction_session_timeout: this process stood still
		return true
	}
	return false
}

// isLost reports whether the connection to PostgreSQL broke, or the server ended it.
func isLost(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code == "57P01" || e.Code == "57P02" // admin_shutdown, crash_shutdown
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	return !connecting && isUnavailable(err)
}

// isBusy reports whether another process held SQLite's lock for too long.
func isBusy(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && (e.Code()&0xff == sqlitelib.SQLITE_BUSY || e.Code()&0xff == sqlitelib.SQLITE_LOCKED)
}

// isUnavailable reports whether the database, rather than the statement, is at
// fault, and may not be later.
func isUnavailable(err error) bool {
	if err == nil {
		return false
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff { // the primary result code
		case sqlitelib.SQLITE_BUSY, sqlitelib.SQLITE_LOCKED, sqlitelib.SQLITE_INTERRUPT, sqlitelib.SQLITE_IOERR,
			sqlitelib.SQLITE_FULL, sqlitelib.SQLITE_CANTOPEN, sqlitelib.SQLITE_READONLY, sqlitelib.SQLITE_PROTOCOL:
			return true
		}
		return false
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch e.Code[:min(2, len(e.Code))] {
		case "08", // connection exception
			"40", // transaction rollback: deadlock, serialization failure
			"53", // insufficient resources
			"57", // operator intervention: shutdown, statement timeout
			"58": // system error
			return true
		}
		switch e.Code {
		case "55P03", // lock not available
			"25006", // read-only: a standby after a failover
			"25P03": // this process stood still in a transaction
			return true
		}
		return false
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	// The connection was closed before anything was sent over it, and the pool, as at
	// the end of a server, with it: neither has a type of its own.
	if pgconn.SafeToRetry(err) || strings.Contains(err.Error(), "sql: database is closed") {
		return true
	}
	if _, ok := errors.AsType[*net.OpError](err); ok { // net.Error would take in those of files
		return true
	}
	for _, target := range []error{
		context.Canceled, context.DeadlineExceeded,
		sql.ErrConnDone, sqldriver.ErrBadConn, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// notFound is the error for a thing that is not there, or not for the caller.
func notFound(what string) error {
	return models.NewError(models.CodeNotFound, fmt.Sprintf("there is no such %s", what))
}
