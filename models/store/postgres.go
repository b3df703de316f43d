package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	gormpostgres "gorm.io/driver/postgres"

	"patrol/models"
)

// Connections are replaced now and then, so that they spread over servers again
// after a failover, and idle ones are given back.
const (
	connLifetime = 30 * time.Minute
	connIdleTime = 5 * time.Minute
)

func (s *Store) openPostgres(ctx context.Context) error {
	pool := s.newPostgresPool(s.config.MaxConns, s.config.Timeout)
	s.pools = append(s.pools, pool)
	var encoding string
	if err := pool.QueryRowContext(ctx, "SHOW server_encoding").Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return models.NewError(models.CodeInternal,
			fmt.Sprintf("the database's encoding is %s, not UTF-8: names would be lost; create it with ENCODING 'UTF8' TEMPLATE template0", encoding))
	}
	// pgx keeps prepared statements by itself.
	db, err := s.gorm(gormpostgres.New(gormpostgres.Config{Conn: pool}))
	s.reader, s.writer = db, db
	return err
}

// newPostgresPool makes a pool without connecting. A statementTimeout of 0 bounds
// nothing.
func (s *Store) newPostgresPool(conns int, statementTimeout time.Duration) *sql.DB {
	c := s.postgres.Copy()
	c.ConnectTimeout = s.config.ConnectTimeout
	params := map[string]string{
		"application_name": "patrol",
		"timezone":         "UTC",
		// A client that vanished in a transaction must not hold its locks.
		"idle_in_transaction_session_timeout": milliseconds(time.Minute),
	}
	if s.relaxed {
		params["synchronous_commit"] = "off"
	}
	if statementTimeout > 0 {
		params["statement_timeout"] = milliseconds(statementTimeout)
	}
	maps.Copy(params, c.RuntimeParams) // the URL has the last word
	c.RuntimeParams = params

	pool := stdlib.OpenDB(*c)
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	pool.SetConnMaxLifetime(connLifetime)
	pool.SetConnMaxIdleTime(connIdleTime)
	return pool
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
