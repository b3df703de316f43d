package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	gormpostgres "gorm.io/driver/postgres"
	"gorm.io/gorm"

	"patrol/models"
)

// class is the purpose of an operation. Each has connections of its own and a bound on
// its statements, so that none takes those of another: pages that are slow neither
// hold up decisions nor the revocation of a token.
type class int

const (
	managing class = iota // look-ups by key and whatever writes
	deciding              // the facts of a decision
	listing               // pages of a list, and whatever else reads many rows
)

type classKey struct{}

// as has reads with the context use the connections of a class.
func as(ctx context.Context, c class) context.Context { return context.WithValue(ctx, classKey{}, c) }

func (s *Store) classOf(ctx context.Context) (*gorm.DB, time.Duration) {
	switch c, _ := ctx.Value(classKey{}).(class); c {
	case deciding:
		return s.facts, s.config.FactTimeout
	case listing:
		return s.lists, s.config.ListTimeout
	default:
		return s.reader, s.config.Timeout
	}
}

// list is read for what looks at many rows.
func (s *Store) list(ctx context.Context, op string, fn func(*gorm.DB) error) error {
	return s.read(as(ctx, listing), op, fn)
}

// Facts reads what decisions are made on, over connections that nothing else uses.
type Facts struct{ store *Store }

// Facts returns the facts of the store.
func (s *Store) Facts() Facts { return Facts{s} }

// PAT is [Store.PAT].
func (f Facts) PAT(ctx context.Context, id string) (*models.PAT, error) {
	return f.store.PAT(as(ctx, deciding), id)
}

// User is [Store.User].
func (f Facts) User(ctx context.Context, id string) (*models.User, error) {
	return f.store.User(as(ctx, deciding), id)
}

// Domain is [Store.Domain].
func (f Facts) Domain(ctx context.Context, id string) (*models.Domain, error) {
	return f.store.Domain(as(ctx, deciding), id)
}

// Membership is [Store.Membership].
func (f Facts) Membership(ctx context.Context, userID, domain string) (*models.Membership, error) {
	return f.store.Membership(as(ctx, deciding), userID, domain)
}

const (
	// feedConns are one to read the feed, and one for what is told to others of it.
	feedConns = 2
	// listenConns are one that listens, and one that looks where new ones lead.
	listenConns = 2
	// MinConns is the least number of connections to PostgreSQL that a server works
	// with: two for decisions, two for the decision log, and one each for lists and for
	// the rest.
	MinConns = feedConns + listenConns + 6
	// defaultConns is the number of connections without a setting.
	defaultConns = 20
)

// shares divides the connections of a server.
type shares struct{ log, lists, facts, rest int }

func sharesOf(total int) shares {
	total = max(total, MinConns)
	s := shares{log: max(2, total/5)}
	left := total - feedConns - listenConns - s.log
	s.lists = max(1, left/4)
	s.facts = (left - s.lists + 1) / 2
	s.rest = left - s.lists - s.facts
	return s
}

// directParam is a start-up parameter that means nothing. PostgreSQL keeps it for the
// session; a pooler refuses it or passes it over, and so gives itself away.
const directParam = "patrol.direct"

func (s *Store) openPostgres(ctx context.Context) error {
	share := sharesOf(s.config.MaxConns)
	reading, writing := share.lists, share.rest
	if s.schema == decisionsSchema {
		reading, writing = share.log/2, share.log-share.log/2
	}
	encoding, err := s.greet(ctx)
	if err != nil {
		return err
	}
	if encoding != "UTF8" {
		return models.NewError(models.CodeInternal,
			fmt.Sprintf("the database's encoding is %s, not UTF-8: names would be lost; create it with ENCODING 'UTF8' TEMPLATE template0", encoding))
	}
	if s.pooled {
		s.config.Logger.InfoContext(ctx, "a pooler is before the database: statements have no names, and connections no settings of their own; without database.listen_url others' changes are found by looking",
			"listen_url", s.listen != nil)
	}
	if s.writer, err = s.openPool("main", writing, s.config.Timeout); err != nil {
		return err
	}
	if s.lists, err = s.openPool("lists", reading, s.config.ListTimeout); err != nil {
		return err
	}
	s.reader, s.facts = s.writer, s.writer
	if s.schema == decisionsSchema {
		s.reader = s.lists
		return nil
	}
	if s.facts, err = s.openPool("facts", share.facts, s.config.FactTimeout); err != nil {
		return err
	}
	s.feed, err = s.openPool("feed", feedConns, s.config.Timeout)
	return err
}

// greet makes the first connection, and finds out whether a pooler is between.
func (s *Store) greet(ctx context.Context) (encoding string, err error) {
	const query = "SELECT current_setting('server_encoding'), COALESCE(current_setting('" + directParam + "', TRUE), '')"
	for {
		c := s.postgresConn(s.postgres, s.config.Timeout, s.idle())
		c.DefaultQueryExecMode = pgx.QueryExecModeExec // whatever is between
		var direct string
		conn, err := pgx.ConnectConfig(ctx, c)
		if err == nil {
			err = conn.QueryRow(ctx, query).Scan(&encoding, &direct)
			s.disconnect(ctx, conn)
		}
		refused := isParameterRefused(err)
		if s.pooled || err != nil && !refused || direct != "" {
			return encoding, err
		}
		s.pooled = true
		if !refused {
			return encoding, nil
		}
	}
}

// isParameterRefused reports whether a pooler does not take a start-up parameter.
func isParameterRefused(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == "08P01" && strings.Contains(e.Message, "startup parameter")
}

func (s *Store) idle() time.Duration {
	if s.schema == decisionsSchema {
		return idleInBatch
	}
	return idleInTransaction
}

func (s *Store) openPool(name string, conns int, timeout time.Duration) (*gorm.DB, error) {
	pool := s.newPostgresPool(conns, timeout, s.idle())
	s.pools = append(s.pools, namedPool{name, pool})
	// pgx keeps prepared statements by itself.
	return s.gorm(gormpostgres.New(gormpostgres.Config{Conn: pool}))
}

// newPostgresPool makes a pool without connecting. A statementTimeout of 0 bounds
// nothing.
func (s *Store) newPostgresPool(conns int, statementTimeout, idle time.Duration) *sql.DB {
	pool := stdlib.OpenDB(*s.postgresConn(s.postgres, statementTimeout, idle), stdlib.OptionResetSession(s.servers.check),
		// A broken connection shows with the next statement, which is done again: no
		// round trip is spent on it before.
		stdlib.OptionShouldPing(func(context.Context, stdlib.ShouldPingParams) bool { return false }))
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	pool.SetConnMaxLifetime(connLifetime)
	pool.SetConnMaxIdleTime(connIdleTime)
	return pool
}

// postgresConn completes the settings of a connection. Over a pooler it has none that
// the pooler would refuse, and which the server's session would not keep apart.
func (s *Store) postgresConn(from *pgx.ConnConfig, statementTimeout, idle time.Duration) *pgx.ConnConfig {
	c := from.Copy()
	if c.ConnectTimeout == 0 { // nothing in the URL
		c.ConnectTimeout = s.config.ConnectTimeout
		if len(c.Fallbacks) > 0 { // there are other hosts to ask
			c.ConnectTimeout = min(c.ConnectTimeout, connectOfMany)
		}
	}
	params := map[string]string{"application_name": "patrol", "timezone": "UTC"}
	if s.pooled {
		if !s.named {
			c.DefaultQueryExecMode = pgx.QueryExecModeExec
		}
	} else {
		params[directParam] = "1"
		params["idle_in_transaction_session_timeout"] = milliseconds(idle)
		if s.relaxed {
			params["synchronous_commit"] = "off"
		}
		if statementTimeout > 0 {
			params["statement_timeout"] = milliseconds(statementTimeout)
		}
	}
	maps.Copy(params, c.RuntimeParams) // the URL has the last word
	c.RuntimeParams = params
	c.DialFunc = s.hosts.dial(c.DialFunc, len(c.Fallbacks) > 0)
	c.ValidateConnect = s.validate(c.ValidateConnect)
	return c
}

// bound sets in a transaction what a pooler keeps a connection from having.
func (s *Store) bound(db *gorm.DB, timeout time.Duration) error {
	if !s.pooled {
		return nil
	}
	return db.Exec("SELECT set_config('statement_timeout', ?, TRUE), set_config('idle_in_transaction_session_timeout', ?, TRUE)",
		milliseconds(timeout), milliseconds(s.idle())).Error
}
