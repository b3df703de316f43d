package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	gormsqlite "gorm.io/driver/sqlite"

	_ "modernc.org/sqlite" // the driver named sqlite, in pure Go
)

// busyTimeout is the time that SQLite waits for a lock that another process holds.
const busyTimeout = 5 * time.Second

// openSQLite opens one connection that writes, a pool of connections that read
// and never wait for the writer (WAL), and one that watches for commits.
func (s *Store) openSQLite(ctx context.Context) error {
	if err := s.makeFile(s.database.path); err != nil {
		return err
	}
	first, err := os.Stat(s.database.path)
	if err != nil {
		return fmt.Errorf("look at the database file: %w", err)
	}
	os.SameFile(first, first) // see fileWatch.find
	settings := []string{"_txlock=immediate", "_journal_mode=WAL", "_synchronous=FULL"}
	if s.relaxed {
		settings[2] = "_synchronous=NORMAL"
	}
	if s.schema == decisionsSchema {
		// Its transactions are large: they fit into 16 MiB, and the log into as much
		// before it is moved.
		settings = append(settings, "_pragma=cache_size(-16384)", "_pragma=wal_autocheckpoint(4096)")
	}
	writer, err := s.sqlitePool(ctx, "writer", 1, settings...)
	if err != nil {
		return err
	}
	reader, err := s.sqlitePool(ctx, "main", s.config.MaxConns, "_query_only=1")
	if err != nil {
		return err
	}
	lists, err := s.sqlitePool(ctx, "lists", sqliteLists, "_query_only=1")
	if err != nil {
		return err
	}
	watcher, err := s.sqlitePool(ctx, "feed", 1, "_query_only=1")
	if err != nil {
		return err
	}
	s.version = &dataVersion{pool: watcher}
	if s.files, err = watchFiles(s.database.path, first, s.config.Logger); err != nil {
		return err
	}

	// Statements of the readers are prepared once per connection. Those of the
	// writer are not: what is prepared in a transaction ends with it.
	if s.writer, err = s.gorm(gormsqlite.New(gormsqlite.Config{Conn: writer})); err != nil {
		return err
	}
	if s.reader, err = s.gorm(gormsqlite.New(gormsqlite.Config{Conn: &preparedPool{DB: reader}})); err != nil {
		return err
	}
	s.facts = s.reader
	s.lists, err = s.gorm(gormsqlite.New(gormsqlite.Config{Conn: &preparedPool{DB: lists}}))
	return err
}

// sqliteLists bounds the lists that are read at a time: each takes a CPU for as long as it
// takes.
const sqliteLists = 2

// making keeps one file from being made twice at a time.
var making sync.Mutex

// makeFile makes the database file if it is not there, for its owner's eyes
// alone. SQLite gives the files beside it the same mode. A file that is there is
// not even opened: on closing it, POSIX would drop the locks that SQLite holds
// on it elsewhere in this process.
func (s *Store) makeFile(path string) error {
	making.Lock()
	defer making.Unlock()
	if info, err := os.Stat(path); err == nil {
		if info.IsDir() {
			return fmt.Errorf("the database file %s is a folder", path)
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			s.config.Logger.Warn("the database file is open to other users of this machine", "path", path, "mode", mode.String())
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the database's folder: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the path is the operator's setting
	if errors.Is(err, fs.ErrExist) {                                    // another process was quicker
		return nil
	}
	if err != nil {
		return fmt.Errorf("make the database file: %w", err)
	}
	return f.Close()
}

// sqlitePool opens a pool and makes one connection. Switching a new file to WAL
// fails at once if another process is at it too, so that is tried again.
func (s *Store) sqlitePool(ctx context.Context, name string, conns int, settings ...string) (*sql.DB, error) {
	pool, err := sql.Open("sqlite", sqliteDSN(s.database.path, settings...))
	if err != nil {
		return nil, err
	}
	s.pools = append(s.pools, namedPool{name, pool})
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

// preparedPool is a pool that prepares each query once and keeps it. GORM's own
// way, PrepareStmt, closes statements that are in use when they are a day old,
// and keeps a goroutine for good.
type preparedPool struct {
	*sql.DB
	mu         sync.RWMutex
	statements map[string]*sql.Stmt
}

// maxPrepared is far more statements than this package has; the rest would be
// run without being kept.
const maxPrepared = 500

// QueryContext implements gorm.ConnPool.
func (p *preparedPool) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	p.mu.RLock()
	statement, full := p.statements[query], len(p.statements) >= maxPrepared
	p.mu.RUnlock()
	if statement == nil {
		if full {
			return p.DB.QueryContext(ctx, query, args...)
		}
		var err error
		if statement, err = p.prepare(ctx, query); err != nil {
			return nil, err
		}
	}
	return statement.QueryContext(ctx, args...)
}

func (p *preparedPool) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	statement, err := p.DB.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if first := p.statements[query]; first != nil { // somebody was quicker
		return first, statement.Close() //nolint:sqlclosecheck // the one that is not kept; the kept one stays open
	}
	if p.statements == nil {
		p.statements = map[string]*sql.Stmt{}
	}
	p.statements[query] = statement
	return statement, nil
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
