package store

import (
	"cmp"
	"context"
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
