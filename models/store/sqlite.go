package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	gormsqlite "gorm.io/driver/sqlite"
	"gorm.io/gorm"

	_ "modernc.org/sqlite" // the driver named sqlite, in pure Go
)

// busyTimeout is how long SQLite waits for a lock that another process holds.
const busyTimeout = 5 * time.Second

// openSQLite opens one connection that writes, a pool of connections that read
// and never wait for the writer (WAL), and one that watches for commits.
func (s *Store) openSQLite(ctx context.Context) error {
	if err := s.makeFile(s.database.path); err != nil {
		return err
	}
	writer, err := s.sqlitePool(ctx, 1, "_txlock=immediate", "_journal_mode=WAL", "_synchronous=FULL")
	if err != nil {
		return err
	}
	reader, err := s.sqlitePool(ctx, s.config.MaxConns, "_query_only=1")
	if err != nil {
		return err
	}
	watcher, err := s.sqlitePool(ctx, 1, "_query_only=1")
	if err != nil {
		return err
	}
	s.version = &dataVersion{pool: watcher}

	// Statements of the readers are prepared once per connection. Those of the
	// writer are not: what is prepared in a transaction ends with it.
	if s.writer, err = s.gorm(gormsqlite.New(gormsqlite.Config{Conn: writer}), false); err != nil {
		return err
	}
	s.reader, err = s.gorm(gormsqlite.New(gormsqlite.Config{Conn: reader}), true)
	return err
}

// makeFile makes the database file if it is not there, for its owner's eyes
// alone. SQLite gives the files beside it the same mode.
func (s *Store) makeFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the database's folder: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the path is the operator's setting
	if err != nil {
		return fmt.Errorf("open the database file: %w", err)
	}
	info, err := f.Stat()
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("open the database file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		s.config.Logger.Warn("the database file can be read by other users of this machine", "path", path, "mode", info.Mode().Perm().String())
	}
	return nil
}

// sqlitePool opens a pool and makes one connection. Switching a new file to WAL
// fails at once if another process is at it too, so that is tried again.
func (s *Store) sqlitePool(ctx context.Context, conns int, settings ...string) (*sql.DB, error) {
	pool, err := sql.Open("sqlite", sqliteDSN(s.database.path, settings...))
	if err != nil {
		return nil, err
	}
	s.pools = append(s.pools, pool)
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for {
		err := pool.PingContext(ctx)
		if !isBusy(err) {
			return pool, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-retry.C:
		}
	}
}

// sqliteDSN names a file, with every character of its path taken literally.
// Times are whole microseconds; see the migrations.
func sqliteDSN(path string, settings ...string) string {
	settings = append([]string{
		fmt.Sprintf("_busy_timeout=%d", busyTimeout.Milliseconds()), "_foreign_keys=1",
		"_time_integer_format=unix_micro", "_inttotime=1",
		"_defensive=1", "_dqs=0", "_pragma=trusted_schema(0)",
	}, settings...)
	segments := strings.Split(filepath.ToSlash(path), "/")
	for i := range segments {
		segments[i] = url.PathEscape(segments[i])
	}
	escaped := strings.Join(segments, "/")
	if !strings.HasPrefix(escaped, "/") { // C:/…
		escaped = "/" + escaped
	}
	return "file://" + escaped + "?" + strings.Join(settings, "&")
}

func (s *Store) gorm(d gorm.Dialector, prepare bool) (*gorm.DB, error) {
	return gorm.Open(d, &gorm.Config{
		PrepareStmt:              prepare,
		SkipDefaultTransaction:   true, // transactions are written out where they are needed
		DisableNestedTransaction: true,
		DisableAutomaticPing:     true,
		Logger:                   queryLog{to: s.config.Logger, slow: s.config.SlowQuery},
	})
}

// dataVersion watches for commits by other connections. SQLite's number means
// something on one connection only, so that one is kept, and another one counts
// on from the next multiple of 2³².
type dataVersion struct {
	mu         sync.Mutex
	pool       *sql.DB
	conn       *sql.Conn
	generation int64
}

func (v *dataVersion) read(ctx context.Context) (int64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.conn == nil {
		conn, err := v.pool.Conn(ctx)
		if err != nil {
			return 0, err
		}
		v.conn = conn
		v.generation++
	}
	var n int64
	if err := v.conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&n); err != nil {
		err = errors.Join(err, v.conn.Close())
		v.conn = nil
		return 0, err
	}
	return v.generation<<32 + n, nil
}

func (v *dataVersion) close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.conn == nil {
		return nil
	}
	err := v.conn.Close()
	v.conn = nil
	return err
}
