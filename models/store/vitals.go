package store

import (
	"cmp"
	"context"
	"database/sql"
	"os"
	"time"

	"gorm.io/gorm"
)

// Vitals describes a database to whoever looks after it. What is about connections is 0
// with SQLite.
type Vitals struct {
	Server string    // and its version
	Pooled bool      // a pooler is between: the connections are not Patrol's
	Now    time.Time // by the database's clock; with SQLite this machine's
	// MaxConns is the number of connections that Patrol's role may have to the database, those
	// that are kept for superusers left out, and OtherConns that of those of other programs.
	MaxConns, OtherConns int
}

// postgresVitals counts what is connected by its application's name, which everybody may
// see. A limit of -1 is none.
const postgresVitals = `SELECT 'PostgreSQL ' || current_setting('server_version') AS server, clock_timestamp() AS now,
	(SELECT MIN(n) FROM (VALUES
		(current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
			- COALESCE(NULLIF(current_setting('reserved_connections', TRUE), '')::int, 0)),
		((SELECT NULLIF(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user)),
		((SELECT NULLIF(datconnlimit, -1) FROM pg_database WHERE datname = current_database()))) AS limits (n)) AS max_conns,
	(SELECT COUNT(*) FROM pg_stat_activity WHERE datid IS NOT NULL AND application_name <> 'patrol') AS other_conns`

// Vitals asks the database about itself.
func (s *Store) Vitals(ctx context.Context) (Vitals, error) {
	v := Vitals{Pooled: s.pooled}
	err := s.run(ctx, "vitals", s.reader, func(db *gorm.DB) error {
		if s.database.driver == sqliteDriver {
			v.Now = time.Now()
			return db.Raw("SELECT 'SQLite ' || sqlite_version()").Find(&v.Server).Error
		}
		var row struct {
			Server               string
			Now                  time.Time
			MaxConns, OtherConns int
		}
		err := db.Raw(postgresVitals).Find(&row).Error
		v.Server, v.Now, v.MaxConns, v.OtherConns = row.Server, row.Now.UTC(), row.MaxConns, row.OtherConns
		return err
	})
	return v, err
}

// SchemaVersion returns the version of the schema, 0 if there is none.
func (s *Store) SchemaVersion(ctx context.Context) (int64, error) { return s.schemaVersion(ctx) }

// ServerConns returns the most connections that a server with this setting has to
// PostgreSQL.
func ServerConns(setting int) int { return max(cmp.Or(setting, defaultConns), MinConns) }

// namedPool is a pool of connections, with its name for people.
type namedPool struct {
	name string
	db   *sql.DB
}

// PoolStats describe a pool of connections.
type PoolStats struct {
	Name string
	sql.DBStats
}

// Pools describes the pools of connections, by what they are for.
func (s *Store) Pools() []PoolStats {
	stats := make([]PoolStats, len(s.pools))
	for i, p := range s.pools {
		stats[i] = PoolStats{p.name, p.db.Stats()}
	}
	return stats
}

// FileSizes returns the sizes in bytes of the SQLite file and of its write-ahead log. They
// are not ok if there is no such file, as with PostgreSQL.
func (s *Store) FileSizes() (file, wal int64, ok bool) {
	if s.database.driver != sqliteDriver {
		return 0, 0, false
	}
	info, err := os.Stat(s.database.path)
	if err != nil {
		return 0, 0, false
	}
	if log, err := os.Stat(s.database.path + "-wal"); err == nil {
		wal = log.Size()
	}
	return info.Size(), wal, true
}

// Pools is [Store.Pools] for the decision log.
func (d *Decisions) Pools() []PoolStats { return d.store.Pools() }

// FileSizes is [Store.FileSizes] for the decision log.
func (d *Decisions) FileSizes() (file, wal int64, ok bool) { return d.store.FileSizes() }
