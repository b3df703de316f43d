package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"gorm.io/gorm"

	"patrol/models"
	"patrol/models/store/migrations"
)

// migrationTimeout bounds all of a migration, and the wait for another process
// that migrates.
const migrationTimeout = 15 * time.Minute

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
	provider, closeProvider, err := s.provider()
	if err != nil {
		return 0, 0, failure(ctx, "migrate", err)
	}
	defer func() { err = failure(ctx, "migrate", errors.Join(err, closeProvider())) }()

	if from, err = s.schemaVersion(ctx); err != nil {
		return 0, 0, err
	}
	newest := newestVersion(provider)
	if from > newest {
		return from, from, newerSchema(from, newest)
	}
	if _, err := provider.Up(ctx); err != nil {
		return from, from, err
	}
	if to, err = s.schemaVersion(ctx); err != nil {
		return from, from, err
	}
	if to > newest { // a newer binary was at it while this one waited
		return from, to, newerSchema(to, newest)
	}
	return from, to, nil
}

// CheckSchema reports whether the schema is the one that this binary works with.
// It changes nothing.
func (s *Store) CheckSchema(ctx context.Context) error {
	provider, closeProvider, err := s.provider()
	if err == nil {
		err = closeProvider()
	}
	if err != nil {
		return failure(ctx, "check_schema", err)
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
		if err := db.Raw(s.dialect.schemaVersionTable).Scan(&tables).Error; err != nil || tables == 0 {
			return err
		}
		return db.Raw("SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version").Scan(&version).Error
	})
	return version, err
}

// provider returns goose on connections of its own, whose statements may take
// long, and with a lock that ends with the process that holds it.
func (s *Store) provider() (_ *goose.Provider, closeProvider func() error, err error) {
	files, err := fs.Sub(migrations.FS, string(s.database.driver))
	if err != nil {
		return nil, nil, err
	}
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger())}
	var pool *sql.DB
	var d goose.Dialect
	if s.database.driver == sqliteDriver {
		d = goose.DialectSQLite3
		lockPath := s.database.path + "-migrate"
		if err := s.makeFile(lockPath); err != nil {
			return nil, nil, err
		}
		pool, err = sql.Open("sqlite", sqliteDSN(s.database.path, "_txlock=immediate", "_synchronous=FULL"))
		options = append(options, goose.WithLocker(&fileLock{path: lockPath}))
	} else {
		d = goose.DialectPostgres
		var locker lock.SessionLocker
		locker, err = lock.NewPostgresSessionLocker(lock.WithLockID(lockMigration),
			lock.WithLockTimeout(1, uint64(migrationTimeout/time.Second)))
		if err != nil {
			return nil, nil, err
		}
		pool, err = s.newPostgresPool(2, 0)
		options = append(options, goose.WithSessionLocker(locker))
	}
	if err != nil {
		return nil, nil, err
	}
	p, err := goose.NewProvider(d, pool, files, options...)
	if err != nil {
		return nil, nil, errors.Join(err, pool.Close())
	}
	return p, pool.Close, nil
}

// fileLock is the lock that migrations of an SQLite database hold: an exclusive
// transaction on an empty database file beside it. SQLite locks files on every
// platform, and the operating system ends such a lock with its process.
type fileLock struct {
	path string
	pool *sql.DB
	tx   *sql.Tx
}

// Lock waits for the lock until ctx ends.
func (l *fileLock) Lock(ctx context.Context, _ *sql.DB) (err error) {
	if l.pool, err = sql.Open("sqlite", sqliteDSN(l.path, "_txlock=exclusive")); err != nil {
		return err
	}
	for {
		l.tx, err = l.pool.BeginTx(ctx, nil)
		if err == nil {
			return nil
		}
		if !isBusy(err) || ctx.Err() != nil {
			return errors.Join(fmt.Errorf("wait for another migration: %w", err), l.pool.Close())
		}
	}
}

// Unlock gives the lock back.
func (l *fileLock) Unlock(context.Context, *sql.DB) error {
	return errors.Join(l.tx.Rollback(), l.pool.Close())
}
