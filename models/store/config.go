package store

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"patrol/models"
)

// Config says where the database is and how to use it. Its zero value but for
// the URL is ready to use.
type Config struct {
	// URL names the database in one of two forms:
	//
	//	sqlite:///var/lib/patrol/patrol.db, sqlite://data/patrol.db
	//	postgres://user:password@host:5432/database?sslmode=verify-full
	//
	// What follows sqlite:// is the path of a file, taken as it stands: no
	// character in it has a meaning. The PostgreSQL form, which may also start
	// with postgresql://, takes the parameters of libpq; special characters in
	// the password are percent-encoded.
	URL string

	// Limits are enforced in the transactions that they concern. A field that
	// is 0 has its value of [models.DefaultLimits].
	Limits models.Limits

	// MaxConns bounds the connections of a server to PostgreSQL, those of its decision
	// log included, at least [MinConns]; and the reading connections to SQLite.
	// Default: 20 for PostgreSQL, and for SQLite the number of CPUs, at least 4.
	MaxConns int

	// ListenURL is the database to listen on for others' changes if URL leads to a pooler that
	// lends connections for a transaction each. Empty: over URL, unless a pooler is
	// there.
	ListenURL string

	// Timeout bounds each operation that comes with no earlier deadline, the
	// wait for a connection included. Default: 10 s.
	Timeout time.Duration

	// FactTimeout is Timeout for the facts of decisions, and ListTimeout for lists.
	// Default: 2 s and 10 s, at most Timeout.
	FactTimeout, ListTimeout time.Duration

	// ConnectTimeout bounds the making of one connection, if the URL has no
	// connect_timeout. Default: 5 s; 1 s if there are several hosts.
	ConnectTimeout time.Duration

	// SlowQuery is the time that a statement may take before a warning is logged.
	// Default: 500 ms.
	SlowQuery time.Duration

	// Tombstones, if not nil, is told of whatever is taken away, after the commit
	// and before the method returns. If it fails, what was done stays done, and
	// [models.Warn] tells the caller.
	Tombstones Tombstones

	// Restoring lets the Store work on a database that a restore keeps others from.
	Restoring bool

	Clock  func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: nothing is logged

	// OnQuery, if not nil, hears of every operation after it ended: its name,
	// such as pat or rotate_pat, how long it took, and its error, for metrics.
	OnQuery func(op string, d time.Duration, err error)
}

// Validate reports what is wrong with the configuration. The error shows no part
// of the URL, since a URL may hold a password.
func (c Config) Validate() error {
	if _, err := c.database(); err != nil {
		return err
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"max conns", int64(c.MaxConns)},
		{"timeout", int64(c.Timeout)},
		{"timeout of facts", int64(c.FactTimeout)},
		{"timeout of lists", int64(c.ListTimeout)},
		{"connect timeout", int64(c.ConnectTimeout)},
		{"slow query", int64(c.SlowQuery)},
		{"limit of lifetime", int64(c.Limits.MaxLifetime)},
		{"limit of scopes", int64(c.Limits.MaxScopes)},
		{"limit of live tokens", int64(c.Limits.MaxLive)},
		{"limit of grace", int64(c.Limits.MaxGrace)},
		{"limit of allowed addresses", int64(c.Limits.MaxAllowedIPs)},
	} {
		if f.value < 0 {
			return fmt.Errorf("store: %s must not be negative", f.name)
		}
	}
	return nil
}

func (c Config) withDefaults(d driver) Config {
	limits := models.DefaultLimits()
	c.Limits.MaxLifetime = cmp.Or(c.Limits.MaxLifetime, limits.MaxLifetime)
	c.Limits.MaxScopes = cmp.Or(c.Limits.MaxScopes, limits.MaxScopes)
	c.Limits.MaxLive = cmp.Or(c.Limits.MaxLive, limits.MaxLive)
	c.Limits.MaxGrace = cmp.Or(c.Limits.MaxGrace, limits.MaxGrace)
	c.Limits.MaxAllowedIPs = cmp.Or(c.Limits.MaxAllowedIPs, limits.MaxAllowedIPs)
	if d == sqliteDriver {
		c.MaxConns = cmp.Or(c.MaxConns, max(4, runtime.NumCPU()))
	}
	c.MaxConns = cmp.Or(c.MaxConns, defaultConns)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.FactTimeout = min(cmp.Or(c.FactTimeout, 2*time.Second), c.Timeout)
	c.ListTimeout = min(cmp.Or(c.ListTimeout, 10*time.Second), c.Timeout)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, 5*time.Second)
	c.SlowQuery = cmp.Or(c.SlowQuery, 500*time.Millisecond)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// driver tells the databases apart.
type driver string

const (
	sqliteDriver   driver = "sqlite"
	postgresDriver driver = "postgres"
)

// database is a URL taken apart.
type database struct {
	driver driver
	path   string   // of SQLite, absolute
	url    *url.URL // of PostgreSQL
}

func (c Config) database() (database, error) {
	const forms = "use sqlite://<path of a file> or postgres://<user>:<password>@<host>/<database>"
	if c.URL == "" {
		return database{}, fmt.Errorf("store: the database URL is empty: %s", forms)
	}
	scheme, rest, ok := strings.Cut(c.URL, "://")
	if !ok {
		return database{}, fmt.Errorf("store: the database URL has no scheme: %s", forms)
	}
	switch scheme {
	case "sqlite":
		path, err := sqlitePath(rest)
		return database{driver: sqliteDriver, path: path}, err
	case "postgres", "postgresql":
		u, err := url.Parse(c.URL)
		if err != nil { // which quotes parts of the URL: it goes no further
			return database{}, fmt.Errorf("store: the database URL cannot be read: special characters in the password must be percent-encoded")
		}
		return database{driver: postgresDriver, url: u}, nil
	}
	return database{}, fmt.Errorf("store: the scheme of the database URL is not known: %s", forms)
}

// sqlitePath makes the path absolute, so that it names the same file whatever
// becomes of the working directory.
func sqlitePath(path string) (string, error) {
	switch {
	case path == "" || strings.HasSuffix(path, "/"):
		return "", fmt.Errorf("store: sqlite:// must be followed by the path of a file")
	case slices.Contains([]string{":memory:", "file::memory:"}, path):
		return "", fmt.Errorf("store: a database in memory would be another one for every connection: name a file")
	case strings.ContainsRune(path, 0):
		return "", fmt.Errorf("store: the path of the database file has a NUL character")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("store: find the database file: %w", err)
	}
	return abs, nil
}
