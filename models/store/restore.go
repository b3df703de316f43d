package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"gorm.io/gorm"

	"patrol/models"
)

// KeepTombstones sets [Config.Tombstones] of a Store that nobody else uses yet: a
// file of tombstones belongs to an installation, which only the database knows.
func (s *Store) KeepTombstones(t Tombstones) { s.config.Tombstones = t }

// NewestEvent returns when the latest event in the audit log was, the zero time if
// there is none.
func (s *Store) NewestEvent(ctx context.Context) (at time.Time, err error) {
	var rows []auditRow
	err = s.read(ctx, "newest_event", func(db *gorm.DB) error {
		return db.Select("at").Order("at DESC").Limit(1).Find(&rows).Error
	})
	if err != nil || len(rows) == 0 {
		return time.Time{}, err
	}
	return rows[0].At.UTC(), nil
}

// BackupSQLite writes a copy of the SQLite database at path, as of one moment, to a
// file that is not there or empty, while others read and write. The copy is
// checked and on the disk when it returns.
func BackupSQLite(ctx context.Context, path, to string) error {
	to, err := filepath.Abs(to) // which is no URI
	if err != nil {
		return fmt.Errorf("find %s: %w", to, err)
	}
	return onSQLite(path, func(db *sql.DB) error {
		if _, err := db.ExecContext(ctx, "VACUUM INTO ?", to); err != nil {
			return fmt.Errorf("copy the database: %w", err)
		}
		if err := CheckSQLite(ctx, to); err != nil {
			return err
		}
		f, err := os.OpenFile(to, os.O_RDWR, 0) //nolint:gosec // the operator's path
		if err != nil {
			return fmt.Errorf("sync the copy: %w", err)
		}
		return errors.Join(f.Sync(), f.Close())
	})
}

// CheckSQLite reports whether the file is a whole SQLite database.
func CheckSQLite(ctx context.Context, path string) error {
	return onSQLite(path, func(db *sql.DB) error {
		var result string
		if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result); err != nil {
			return models.WrapError(models.CodeConflict, "the file is not a whole SQLite database", err)
		}
		if result != "ok" {
			return models.NewError(models.CodeConflict, "the file is damaged: "+result)
		}
		return nil
	})
}

func onSQLite(path string, do func(*sql.DB) error, settings ...string) error {
	path, err := filepath.Abs(path) // a DSN takes no other
	if err != nil {
		return fmt.Errorf("find %s: %w", path, err)
	}
	if _, err := os.Stat(path); err != nil { // SQLite would make it
		return fmt.Errorf("open the database file: %w", err)
	}
	db, err := sql.Open("sqlite", sqliteDSN(path, settings...))
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	return errors.Join(do(db), db.Close())
}

// ReplaceSQLite puts the database file that next is in place of the one at path,
// which it keeps at keep, if there is one. It is CodeConflict while any process has
// that one open. Next must have been closed, and be on the same file system.
func ReplaceSQLite(ctx context.Context, path, next, keep string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		// A log that is left of another database would be taken for this one's.
		for _, suffix := range fileSuffixes[1:] {
			if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove what is left of the database before: %w", err)
			}
		}
		return os.Rename(next, path)
	}
	return onSQLite(path, func(db *sql.DB) error {
		// A database leaves the mode in which it has a log only while nobody else has
		// it open; its log is moved into it then.
		var mode string
		if err := db.QueryRowContext(ctx, "PRAGMA journal_mode=DELETE").Scan(&mode); err != nil || mode != "delete" {
			return models.WrapError(models.CodeConflict, "the database is open: stop the server, and whatever else uses it, first", err)
		}
		// From here on nobody else gets to read it before it is out of the way.
		if _, err := db.ExecContext(ctx, "BEGIN EXCLUSIVE"); err != nil {
			return models.WrapError(models.CodeConflict, "the database is open: stop the server, and whatever else uses it, first", err)
		}
		if err := os.Link(path, keep); err != nil {
			return fmt.Errorf("keep the database of before: %w", err)
		}
		if err := os.Rename(next, path); err != nil {
			return fmt.Errorf("put the restored database in place: %w", err)
		}
		_, err := db.ExecContext(ctx, "ROLLBACK")
		return err
	}, "_pragma=busy_timeout(0)")
}

// restoring is the table that a restore to PostgreSQL makes first and drops last.
// No dump has it.
const restoring = "patrol_restoring"

// restorePatience is the time that PostgreSQL may take to notice that a server is gone.
const restorePatience = 2 * time.Second

// BeginRestore keeps servers from using a PostgreSQL database that is about to be
// restored, until [Store.FinishRestore]: a database that is restored in part, or to
// which tombstones were not applied yet, must not be served. It is CodeConflict
// while a server is connected.
func (s *Store) BeginRestore(ctx context.Context) error {
	return s.run(ctx, "begin_restore", s.writer, func(db *gorm.DB) error {
		if err := db.Exec("CREATE TABLE IF NOT EXISTS " + restoring + " (since timestamptz NOT NULL DEFAULT now())").Error; err != nil {
			return err
		}
		var others int64
		for deadline := time.Now().Add(restorePatience); ; {
			err := db.Raw("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'patrol'").Find(&others).Error
			if err != nil || others == 0 {
				return err
			}
			if time.Now().After(deadline) {
				break
			}
			if err := db.Exec("SELECT pg_sleep(0.05)").Error; err != nil {
				return err
			}
		}
		if err := db.Exec("DROP TABLE " + restoring).Error; err != nil {
			return err
		}
		return models.NewError(models.CodeConflict, fmt.Sprintf("servers or commands of Patrol have %d connections to the database: stop them first", others))
	})
}

// FinishRestore ends what BeginRestore began.
func (s *Store) FinishRestore(ctx context.Context) error {
	return s.run(ctx, "finish_restore", s.writer, func(db *gorm.DB) error {
		return db.Exec("DROP TABLE IF EXISTS " + restoring).Error
	})
}

// checkRestoring refuses a database whose restore did not get to its end.
func (s *Store) checkRestoring(ctx context.Context) error {
	if s.database.driver == sqliteDriver || s.config.Restoring {
		return nil
	}
	var tables int
	err := s.run(ctx, "check_restoring", s.writer, func(db *gorm.DB) error {
		return db.Raw(s.dialect.tableCount, restoring).Find(&tables).Error
	})
	if err == nil && tables > 0 {
		return models.NewError(models.CodeConflict, "the database is being restored, or a restore of it was cut off: run 'patrol restore' again")
	}
	return err
}

// HasSchema reports whether the database has the tables of schema version 11 or
// later.
func (s *Store) HasSchema(ctx context.Context) (bool, error) {
	version, err := s.schemaVersion(ctx)
	if err != nil {
		return false, failure(ctx, "has_schema", err)
	}
	return version >= 11, nil
}
