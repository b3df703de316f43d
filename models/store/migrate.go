package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"time"

	"github.com/pressly/goose/v3"
	"gorm.io/gorm"

	"patrol/models"
	"patrol/models/store/migrations"
)

// migrationTimeout bounds all of a migration, and the wait for another process
// that migrates.
const migrationTimeout = 15 * time.Minute

// schema is a set of tables that is made and upgraded on its own.
type schema struct {
	folder   string // of its migrations
	versions string // the table where goose keeps its version
}

var (
	mainSchema      = schema{versions: "goose_db_version"}
	decisionsSchema = schema{folder: "decisions", versions: "goose_decisions_version"}
)

// lockMigration is the advisory lock of PostgreSQL that migrations hold. It has
// nothing to do with those of transactions.
const lockMigration = 0x706174726f6c00

// Migrate brings the schema to the version of this binary, from nothing if need
// be, and returns the versions before and after. Of several processes that
// migrate at once, one does and the others wait. A schema that is newer than the
// binary is refused.
func (s *Store) Migrate(ctx context.Context) (from, to int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, migrationTimeout)
	defer cancel()
	defer func() { err = failure(ctx, "migrate", err) }()
	provider, pool, err := s.provider()
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	newest := newestVersion(provider)
	if s.database.driver == postgresDriver {
		// Without work to do, no lock is needed.
		if from, err = s.schemaVersion(ctx); err != nil || from == newest {
			return from, from, errors.Join(err, s.checkRestoring(ctx))
		}
	}
	unlock, err := s.lockMigration(ctx, pool)
	if err != nil {
		return 0, 0, fmt.Errorf("wait for another migration: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()

	if err := s.checkRestoring(ctx); err != nil {
		return 0, 0, err
	}
	if from, err = s.schemaVersion(ctx); err != nil {
		return 0, 0, err
	}
	if from > newest {
		return from, from, newerSchema(from, newest)
	}
	if from < newest {
		if _, err := provider.Up(ctx); err != nil {
			return from, from, err
		}
	}
	return from, newest, nil
}

// CheckSchema reports whether the schema is the one that this binary works with.
// It changes nothing.
func (s *Store) CheckSchema(ctx context.Context) error {
	provider, pool, err := s.provider()
	if err == nil {
		err = pool.Close()
	}
	if err != nil {
		return failure(ctx, "check_schema", err)
	}
	if err := s.checkRestoring(ctx); err != nil {
		return err
	}
	version, err := s.schemaVersion(ctx)
	newest := newestVersion(provider)
	switch {
	case err != nil:
		return failure(ctx, "check_schema", err)
	case version > newest:
		return newerSchema(version, newest)
	case version == 0:
		return models.NewError(models.CodeConflict, "the database is empty: run 'patrol migrate' first")
	case version < newest:
		return models.NewError(models.CodeConflict, fmt.Sprintf(
			"the database schema has version %d, and this binary needs version %d: run 'patrol migrate'", version, newest))
	}
	return nil
}

func newerSchema(version, newest int64) error {
	return models.NewError(models.CodeConflict, fmt.Sprintf(
		"the database schema has version %d, and this binary knows no later than version %d: use a newer binary", version, newest))
}

func newestVersion(p *goose.Provider) int64 {
	sources := p.ListSources()
	return sources[len(sources)-1].Version
}

// schemaVersion returns the version of the schema, 0 if there is none. It only
// reads.
func (s *Store) schemaVersion(ctx context.Context) (version int64, err error) {
	err = s.run(ctx, "schema_version", s.writer, func(db *gorm.DB) error {
		var tables int
		if err := db.Raw(s.dialect.tableCount, s.schema.versions).Find(&tables).Error; err != nil || tables == 0 {
			return err
		}
		return db.Raw("SELECT COALESCE(MAX(version_id), 0) FROM " + s.schema.versions).Find(&version).Error
	})
	return version, err
}

// provider returns goose on connections of its own, whose statements may take
// long. Goose's locks are not used: they are taken after its first look at the
// schema, and it has none for SQLite.
func (s *Store) provider() (*goose.Provider, *sql.DB, error) {
	files, err := fs.Sub(migrations.FS, path.Join(s.schema.folder, string(s.database.driver)))
	if err != nil {
		return nil, nil, err
	}
	d := goose.DialectPostgres
	var pool *sql.DB
	if s.database.driver == sqliteDriver {
		d = goose.DialectSQLite3
		pool, err = sql.Open("sqlite", sqliteDSN(s.database.path, "_txlock=immediate", "_synchronous=FULL"))
		if err != nil {
			return nil, nil, err
		}
	} else {
		pool = s.newPostgresPool(2, 0, idleInMigration) // the lock and the migration
	}
	p, err := goose.NewProvider(d, pool, files, goose.WithTableName(s.schema.versions), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return nil, nil, errors.Join(err, pool.Close())
	}
	return p, pool, nil
}

// lockMigration waits for the lock that a migration holds. It ends with the
// process that holds it, however that ends.
func (s *Store) lockMigration(ctx context.Context, pool *sql.DB) (unlock func() error, err error) {
	if s.database.driver == sqliteDriver {
		return s.lockFile(ctx, s.database.path+"-migrate")
	}
	// In a transaction, which a pooler gives a session of the server for as long as it
	// takes; and the same lock that earlier versions held in a session.
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, statement := range []string{
		"SELECT set_config('statement_timeout', '0', TRUE), set_config('idle_in_transaction_session_timeout', '0', TRUE), set_config('lock_timeout', '0', TRUE)",
		"SELECT pg_advisory_xact_lock(" + strconv.Itoa(lockMigration) + ")",
	} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return nil, errors.Join(err, tx.Rollback())
		}
	}
	return func() error {
		if err := tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) { // it ended with its context
			return err
		}
		return nil
	}, nil
}

// lockFile takes the lock of SQLite migrations: an exclusive transaction on an
// empty database file beside the database. SQLite locks files on every platform,
// and the operating system ends such a lock with its process.
func (s *Store) lockFile(ctx context.Context, path string) (unlock func() error, err error) {
	if err := s.makeFile(path); err != nil {
		return nil, err
	}
	pool, err := sql.Open("sqlite", sqliteDSN(path, "_txlock=exclusive"))
	if err != nil {
		return nil, err
	}
	for {
		tx, err := pool.BeginTx(ctx, nil) // which waits for the busy timeout
		if err == nil {
			return func() error { return errors.Join(tx.Rollback(), pool.Close()) }, nil
		}
		if !isBusy(err) || ctx.Err() != nil {
			return nil, errors.Join(err, ctx.Err(), pool.Close())
		}
	}
}
