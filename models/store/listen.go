package store

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"patrol/models"
)

// channel is the channel of PostgreSQL on which servers announce changes to each other.
const channel = "patrol_changes"

// Listen calls wake whenever there may be something new in the feed, until ctx ends,
// and tells the servers that listen of this Store's own changes. It is a hint: who
// reads the feed looks at it now and then all the same, since a hint can be lost, and
// behind a pooler such as PgBouncer none arrives, unless Config.ListenURL leads around
// it.
//
// Every so often it makes a new connection. If that leads to another server than the
// connections that there are, after a failover where the old one goes on, those are
// given up.
//
// On SQLite it does nothing: [Store.DataVersion] costs so little.
func (s *Store) Listen(ctx context.Context, every time.Duration, wake func()) {
	if s.database.driver == sqliteDriver {
		return
	}
	s.servers.onMove(wake)
	defer s.servers.onMove(nil)
	own := models.NewID()
	var running sync.WaitGroup
	running.Go(func() { s.tell(ctx, own) })
	running.Go(func() { s.probe(ctx, every) })
	running.Go(func() {
		if s.pooled && s.listen == nil {
			wake()
			return
		}
		pause := time.NewTimer(0)
		defer pause.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-pause.C:
			}
			if err := s.hear(ctx, every, own, wake); err != nil && ctx.Err() == nil {
				s.config.Logger.DebugContext(ctx, "the database does not say when something changes", "error", err)
			}
			pause.Reset(every)
		}
	})
	running.Wait()
}

// tell sends the hint, in a transaction of its own after the one that it is about:
// one that notifies holds a lock of all databases while it commits. Of several
// commits at once it tells once.
func (s *Store) tell(ctx context.Context, own string) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.committed:
		}
		err := s.run(ctx, "notify", s.feed, func(db *gorm.DB) error {
			return db.Exec("SELECT pg_notify(?, ?)", channel, own).Error
		})
		if err != nil && ctx.Err() == nil {
			s.config.Logger.DebugContext(ctx, "other servers were not told of a change; they will look", "error", err)
		}
	}
}

// hear listens on a connection of its own until that breaks, leads to a server of
// before, or ctx ends.
func (s *Store) hear(ctx context.Context, every time.Duration, own string, wake func()) error {
	conn, err := s.connect(ctx, cmp.Or(s.listen, s.postgres))
	if err != nil {
		return err
	}
	defer s.disconnect(ctx, conn)
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	wake() // for what was told before
	for {
		waiting, cancel := context.WithTimeout(ctx, every)
		n, err := conn.WaitForNotification(waiting)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && n.Payload != own:
			wake()
		case err != nil && waiting.Err() == nil:
			return err
		case err != nil: // nothing was said for a while
			if s.servers.check(ctx, conn) != nil {
				return nil
			}
			waiting, cancel := context.WithTimeout(ctx, s.config.ConnectTimeout)
			err = conn.Ping(waiting)
			cancel()
			if err != nil {
				return err
			}
		}
	}
}

// probe looks where new connections lead.
func (s *Store) probe(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		conn, err := s.connect(ctx, s.postgres)
		if err != nil {
			if ctx.Err() == nil {
				s.config.Logger.DebugContext(ctx, "no new connection to the database", "error", err)
			}
			continue
		}
		s.disconnect(ctx, conn)
	}
}

func (s *Store) connect(ctx context.Context, to *pgx.ConnConfig) (*pgx.Conn, error) {
	return pgx.ConnectConfig(ctx, s.postgresConn(to, s.config.Timeout, idleInTransaction))
}

func (s *Store) disconnect(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := conn.Close(ctx); err != nil {
		s.config.Logger.DebugContext(ctx, "a connection to the database did not end well", "error", err)
	}
}
