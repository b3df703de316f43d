package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"patrol/models"
)

// Store is a database with the records of Patrol. It is safe for concurrent use.
type Store struct {
	config   Config
	schema   schema
	database database
	dialect  dialect
	// relaxed commits do not wait for the disk: a crash of the machine, not of
	// this process, may lose the last of them, and damages nothing.
	relaxed bool

	// reader and writer are the same pool on PostgreSQL. On SQLite the writer
	// has one connection, so that writers of this process queue in Go, where a
	// wait ends with its context. lists is for what reads many rows, and facts for
	// decisions.
	reader, writer, lists, facts *gorm.DB
	pools                        []namedPool  // to close
	version                      *dataVersion // of SQLite
	files                        *fileWatch   // of SQLite

	// Of PostgreSQL. The feed is read on connections of its own, which wait for no
	// other operation.
	feed      *gorm.DB
	postgres  *pgx.ConnConfig
	listen    *pgx.ConnConfig // to hear of changes; nil: as the rest
	pooled    bool            // a pooler is between
	named     bool            // the URL says how statements are sent
	servers   postgresServers
	hosts     hosts
	writing   writability
	committed chan struct{} // holds a signal when others are to be told of changes

	listeners struct {
		sync.RWMutex
		fns []func([]Change)
	}
}

// Open connects to the database. It makes an SQLite file that is not there, but
// no tables: see [Store.Migrate].
func Open(ctx context.Context, c Config) (*Store, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	d, err := c.database()
	if err != nil {
		return nil, err
	}
	return open(ctx, c, d, mainSchema, false)
}

func open(ctx context.Context, c Config, d database, of schema, relaxed bool) (*Store, error) {
	c = c.withDefaults(d.driver)
	s := &Store{
		config: c, schema: of, database: d, dialect: dialects[d.driver], relaxed: relaxed, committed: make(chan struct{}, 1),
	}
	var err error
	if d.driver == postgresDriver {
		if s.postgres, err = postgresConfig(d.url); err != nil {
			return nil, err
		}
		s.named = d.url.Query().Has("default_query_exec_mode")
		if c.ListenURL != "" {
			if s.listen, err = listenConfig(c.ListenURL); err != nil {
				return nil, err
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if d.driver == sqliteDriver {
		err = s.openSQLite(ctx)
	} else {
		err = s.openPostgres(ctx)
	}
	if err != nil {
		return nil, errors.Join(failure(ctx, "open", err), s.Close())
	}
	return s, nil
}

func (s *Store) gorm(d gorm.Dialector) (*gorm.DB, error) {
	return gorm.Open(d, &gorm.Config{
		SkipDefaultTransaction:   true, // transactions are written out where they are needed
		DisableNestedTransaction: true,
		DisableAutomaticPing:     true,
		Logger:                   queryLog{to: s.config.Logger, slow: s.config.SlowQuery},
	})
}

// Close ends all connections. Operations that are under way fail.
func (s *Store) Close() error {
	var errs []error
	if s.version != nil {
		errs = append(errs, s.version.close())
	}
	for _, pool := range s.pools {
		errs = append(errs, pool.db.Close())
	}
	if s.files != nil {
		s.files.close()
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close the database: %w", err)
	}
	return nil
}

// OnChange registers fn to hear of every change that this Store writes, after
// the commit and before the writing method returns, in the writer's goroutine:
// what fn did is in effect when the caller learns of the success. Changes by
// other Stores and processes come by [Store.Changes] alone.
//
// If a commit fails so that nobody knows whether it took effect, fn hears of its
// changes too, with Seq 0.
func (s *Store) OnChange(fn func([]Change)) {
	s.listeners.Lock()
	defer s.listeners.Unlock()
	s.listeners.fns = append(s.listeners.fns, fn)
}

func (s *Store) announce(changes []Change) {
	if len(changes) == 0 {
		return
	}
	select {
	case s.committed <- struct{}{}:
	default: // others will be told anyway
	}
	s.listeners.RLock()
	fns := s.listeners.fns
	s.listeners.RUnlock()
	for _, fn := range fns {
		fn(changes)
	}
}

// read runs fn, which only reads, on the reading connections. If one of them turns
// out to be broken, such as after a restart of the server, it is done again.
func (s *Store) read(ctx context.Context, op string, fn func(*gorm.DB) error) error {
	pool, within := s.classOf(ctx)
	return s.runWithin(ctx, op, pool, within, func(db *gorm.DB) error { return s.again(db, fn) })
}

// again runs what only reads once more if its connection broke.
func (s *Store) again(db *gorm.DB, fn func(*gorm.DB) error) error {
	for attempt := 1; ; attempt++ {
		err := fn(db)
		if s.database.driver != postgresDriver || !isLost(err) {
			return err
		}
		s.servers.lost(time.Now())
		if attempt == readAttempts {
			return err
		}
	}
}

// readAttempts is the number of attempts at a read whose connection breaks.
const readAttempts = 3

// Trouble says in plain words, which are safe to show to anybody, why the files of
// an SQLite database cannot be used; "" if they can.
func (s *Store) Trouble() string {
	if s.files == nil {
		return ""
	}
	if t := s.files.now.Load(); t != nil {
		return t.what
	}
	return ""
}

// scan is read for what looks at a whole table, off the path of any request.
func (s *Store) scan(ctx context.Context, op string, fn func(*gorm.DB) error) error {
	return s.runWithin(ctx, op, s.lists, scanTimeout, func(db *gorm.DB) error {
		if s.database.driver == sqliteDriver {
			return fn(db)
		}
		return s.again(db, func(db *gorm.DB) error {
			return db.Transaction(func(db *gorm.DB) error {
				if err := db.Exec("SELECT set_config('statement_timeout', ?, TRUE)", milliseconds(scanTimeout)).Error; err != nil {
					return err
				}
				return fn(db)
			})
		})
	})
}

// scanTimeout bounds a look at a whole table.
const scanTimeout = time.Minute

// run runs fn outside of a transaction, in bounded time, and makes what it
// returns an error of this package.
func (s *Store) run(ctx context.Context, op string, pool *gorm.DB, fn func(*gorm.DB) error) error {
	return s.runWithin(ctx, op, pool, s.config.Timeout, fn)
}

func (s *Store) runWithin(ctx context.Context, op string, pool *gorm.DB, within time.Duration, fn func(*gorm.DB) error) error {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	do := func() error { return failure(ctx, op, fn(pool.WithContext(ctx))) }
	var err error
	if s.files != nil && pool == s.writer {
		err = s.onFiles(do)
	} else if err = s.files.readable(); err == nil {
		err = do()
	}
	s.observe(op, begin, err)
	return err
}

// onFiles runs a write if the files of the database are what they should be, and
// reports it as failed if they are not any more when it is done: then nobody
// knows what became of it.
func (s *Store) onFiles(write func() error) error {
	if t := s.files.look(); t != nil {
		return t.err()
	}
	if err := write(); err != nil {
		return err
	}
	if t := s.files.look(); t != nil {
		return t.err()
	}
	return nil
}

func (s *Store) observe(op string, begin time.Time, err error) {
	if s.config.OnQuery != nil {
		s.config.OnQuery(op, time.Since(begin), err)
	}
}

// now is the time that rows carry: UTC, in the microseconds that both databases
// keep.
func (s *Store) now() time.Time { return exact(s.config.Clock()) }

func exact(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// tx is a transaction that writes. What it notes with change and audit is
// written with it.
type tx struct {
	*Store
	db      *gorm.DB
	now     time.Time
	by      models.Actor
	changes []changeRow
	events  []auditRow

	until     map[string]*time.Time // when the tombstone of a subject stops to matter
	reapplies bool                  // what is taken away has its tombstone already
	ends      bool                  // it answers for a tombstone whether or not it took something away

	awaited bool // somebody waits until all servers know of the changes

	// What flush is to insert besides, on PostgreSQL, and what a duplicate means there.
	inserts     []string
	args        []any
	onDuplicate func(error) error
}

// writeAttempts is the number of attempts at a transaction that the database refuses
// for the sake of another one.
const writeAttempts = 4

// write runs fn in a transaction. On PostgreSQL the isolation is read committed;
// fn takes the locks that it needs, in the order that the package comment gives.
// fn may run more than once, so what it leaves outside must be overwritten by
// the next run.
func (s *Store) write(ctx context.Context, op string, by models.Actor, fn func(*tx) error) error {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	var err error
	for attempt := 1; ; attempt++ {
		var complete bool
		err = s.onFiles(func() (err error) {
			complete, err = s.writeOnce(ctx, by, fn)
			return err
		})
		if isLost(err) {
			s.servers.lost(time.Now())
		}
		// Until the commit is asked for, a broken connection ends the transaction for sure.
		again := isCollision(err) || !complete && s.database.driver == postgresDriver && isLost(err)
		if attempt == writeAttempts || !again || ctx.Err() != nil {
			break
		}
	}
	err = failure(ctx, op, err)
	s.writing.found(err)
	s.observe(op, begin, err)
	return err
}

// writeOnce runs fn in a transaction. It is complete once nothing but the commit is
// left to do.
func (s *Store) writeOnce(ctx context.Context, by models.Actor, fn func(*tx) error) (complete bool, err error) {
	t := &tx{Store: s, now: s.now(), by: by}
	err = s.writer.WithContext(ctx).Transaction(func(db *gorm.DB) error {
		t.db = db
		if err := s.bound(db, s.config.Timeout); err != nil {
			return err
		}
		if err := fn(t); err != nil {
			return err
		}
		if err := t.flush(); err != nil {
			return err
		}
		complete = true
		return nil
	}, s.dialect.txOptions)
	if complete {
		s.announce(toChanges(t.changes, err == nil))
	}
	if err == nil {
		t.bury(ctx)
	}
	return complete, err
}

// flush writes what was noted, in one statement where the database has such. The
// changes come last.
func (t *tx) flush() error {
	if t.database.driver == postgresDriver {
		return t.flushPostgres()
	}
	if len(t.events) > 0 {
		if err := t.db.Create(&t.events).Error; err != nil {
			return fmt.Errorf("write audit events: %w", err)
		}
	}
	for i := range t.changes {
		c := &t.changes[i]
		err := t.db.Raw(`INSERT INTO changes (kind, key, key2, at, awaited, nonce) VALUES (?, ?, ?, ?, ?, lower(hex(randomblob(16))))
			RETURNING seq, nonce`, c.Kind, c.Key, c.Key2, c.At, t.awaited).Find(c).Error
		if err != nil {
			return fmt.Errorf("write changes: %w", err)
		}
	}
	return nil
}

// insertWith has an INSERT run in the statement that [tx.flushPostgres] makes.
func (t *tx) insertWith(insert string, args ...any) {
	t.inserts = append(t.inserts, fmt.Sprintf("with%d AS (%s)", len(t.inserts), insert))
	t.args = append(t.args, args...)
}

// flushPostgres writes all in one statement. Numbers of changes are drawn after the
// lock of the feed was taken, if there still is one.
func (t *tx) flushPostgres() error {
	if len(t.events) > 0 {
		var args []any
		for _, e := range t.events {
			args = append(args, e.At, e.ActorKind, e.ActorUserID, e.ActorTokenID, e.IP, e.UserAgent, e.RequestID, e.Action, e.Subject, e.Detail)
		}
		t.insertWith("INSERT INTO audit_events (at, actor_kind, actor_user_id, actor_token_id, ip, user_agent, request_id, action, subject, detail) VALUES "+
			repeat("(?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS jsonb))", len(t.events)), args...)
	}
	if len(t.changes) == 0 {
		if len(t.inserts) == 0 {
			return nil
		}
		if err := t.db.Exec("WITH "+strings.Join(t.inserts, ", ")+" SELECT 1", t.args...).Error; err != nil {
			return fmt.Errorf("write audit events: %w", err)
		}
		return nil
	}
	t.inserts = append(t.inserts, "turn AS MATERIALIZED (SELECT "+takeFeedLock+" AS taken FROM change_feed)")
	t.args = append(t.args, int64(lockFeed), t.awaited)
	for _, c := range t.changes {
		t.args = append(t.args, c.Kind, c.Key, c.Key2, c.At)
	}
	var written []changeRow
	err := t.db.Raw("WITH "+strings.Join(t.inserts, ", ")+`
		INSERT INTO changes (kind, key, key2, at, awaited)
		SELECT v.*, CAST(? AS boolean)
		FROM turn CROSS JOIN (VALUES `+repeat("(CAST(? AS text), CAST(? AS text), CAST(? AS text), CAST(? AS timestamptz))", len(t.changes))+`) AS v (kind, key, key2, at)
		WHERE COALESCE(taken, '') = ''
		RETURNING seq, kind, key, key2, at, CAST(nonce AS text) AS nonce, CAST(xid AS text) AS xid`, t.args...).Find(&written).Error
	if err != nil {
		if t.onDuplicate != nil && isDuplicate(err) {
			return t.onDuplicate(err)
		}
		return fmt.Errorf("write changes and audit events: %w", err)
	}
	if len(written) != len(t.changes) {
		return errNoFeed
	}
	t.changes = written
	return nil
}

// advisoryLock is a lock that one transaction at a time holds, until it ends. On
// SQLite every writing transaction is alone anyway.
type advisoryLock int64

// The locks, in the order in which they are taken. The numbers share one space
// with whatever else runs in the database, hence their odd values.
const (
	lockAccounts advisoryLock = 0x706174726f6c01 // who exists and who is an admin
	lockFeed     advisoryLock = 0x706174726f6c02 // the order of changes, while there are servers that go by it
	lockShadow   advisoryLock = 0x706174726f6c03 // what a shadow policy's decisions add up to
)

func (t *tx) lock(l advisoryLock) error { return t.takeLock("pg_advisory_xact_lock", l) }

// lockShared is lock, beside others who hold the lock in the same way.
func (t *tx) lockShared(l advisoryLock) error { return t.takeLock("pg_advisory_xact_lock_shared", l) }

func (t *tx) takeLock(function string, l advisoryLock) error {
	if t.database.driver == sqliteDriver {
		return nil
	}
	if err := t.db.Exec("SELECT "+function+"(?)", int64(l)).Error; err != nil {
		return fmt.Errorf("wait for a lock: %w", err)
	}
	return nil
}
