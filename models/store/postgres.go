package store

import (
	"context"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Connections are replaced now and then, so that they spread over servers again
// after a failover, and idle ones are given back.
const (
	connLifetime = 30 * time.Minute
	connIdleTime = 5 * time.Minute
)

// A client that stands still in a transaction, or vanished, holds its locks for so
// long. Nothing but the sending of the next statement comes between two of them.
const (
	idleInTransaction = 750 * time.Millisecond
	idleInBatch       = 5 * time.Second // of decisions, which take more to put together
	idleInMigration   = time.Minute
)

// validate returns what is asked of a new connection: what the URL demands, that
// the server is no standby, and which server it is. Facts of a standby are old by as
// much as it lags, and nobody can say how much that is.
func (s *Store) validate(demanded pgconn.ValidateConnectFunc) pgconn.ValidateConnectFunc {
	anyServer := s.schema == decisionsSchema && s.database.url.Query().Get("target_session_attrs") == "any"
	return func(ctx context.Context, conn *pgconn.PgConn) (err error) {
		defer func() { s.hosts.found(conn.Conn().RemoteAddr().String(), err == nil) }()
		if demanded != nil {
			if err := demanded(ctx, conn); err != nil {
				return err
			}
		}
		results, err := conn.Exec(ctx, "SELECT "+postgresServer+", pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'").ReadAll()
		if err != nil {
			return err
		}
		if len(results) != 1 || len(results[0].Rows) != 1 {
			return errors.New("the server does not say what it is")
		}
		row := results[0].Rows[0]
		if string(row[1]) != "f" && !anyServer {
			return errStandby
		}
		conn.CustomData()[generationKey] = s.servers.met(string(row[0]))
		return nil
	}
}

const generationKey = "patrol.generation"

// postgresServers tells the servers apart that connections lead to. Once one leads
// to another server, those from before are not used any more: after a failover the
// old server may go on for a while, and knows nothing of what is written now. The
// zero value is ready to use.
type postgresServers struct {
	mu         sync.Mutex
	current    string
	generation int
	wake       func() // told of another server; nil: nobody
	broke      time.Time
}

// lost notes that a connection broke. The server most likely broke the others with
// it: those that there are are not used any more.
func (p *postgresServers) lost(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.broke) >= time.Second {
		p.broke = now
		p.generation++
	}
}

// met notes which server answered and returns its generation.
func (p *postgresServers) met(server string) int {
	p.mu.Lock()
	moved := server != p.current
	if moved {
		p.current = server
		p.generation++
	}
	generation, wake := p.generation, p.wake
	p.mu.Unlock()
	if moved && generation > 1 && wake != nil {
		wake()
	}
	return generation
}

func (p *postgresServers) currently() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.generation
}

func (p *postgresServers) onMove(wake func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wake = wake
}

// check refuses to use a connection again that leads to a server of before.
func (p *postgresServers) check(_ context.Context, conn *pgx.Conn) error {
	if conn.PgConn().CustomData()[generationKey] != p.currently() {
		return sqldriver.ErrBadConn
	}
	return nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// postgresConfig reads the URL. Passwords are taken out before the parser sees
// it and put in afterwards, so that no error of the parser can quote them.
func postgresConfig(from *url.URL) (*pgx.ConnConfig, error) {
	u := *from
	password, given := u.User.Password()
	if given {
		u.User = url.User(u.User.Username())
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("store: the parameters of the database URL cannot be read")
	}
	if query.Has("password") {
		password, given = query.Get("password"), true
		query.Del("password")
	}
	keyPassword := query.Get("sslpassword")
	query.Del("sslpassword")
	u.RawQuery = query.Encode()

	c, err := pgx.ParseConfigWithOptions(u.String(), pgx.ParseConfigOptions{
		ParseConfigOptions: pgconn.ParseConfigOptions{
			GetSSLPassword: func(context.Context) string { return keyPassword },
		},
	})
	if err != nil {
		return nil, fmt.Errorf("store: read the database URL: %w", err)
	}
	if given {
		c.Password = password
	}
	return c, nil
}

// listenConfig reads the URL of where changes are heard of.
func listenConfig(text string) (*pgx.ConnConfig, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, errors.New("store: the URL to listen at cannot be read: use postgres://<user>:<password>@<host>/<database>")
	}
	return postgresConfig(u)
}
