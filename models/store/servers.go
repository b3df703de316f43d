package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"patrol/models"
)

// Server is a process that serves on this database.
type Server struct {
	ID           string // drawn at each start
	Name         string // for people
	StartedAt    time.Time
	LastSeen     time.Time     // by the clock of the database
	MaxStaleness time.Duration // after which it trusts no cached fact
}

const (
	// ServerGone is the time after its last report at which a server counts no more.
	ServerGone = time.Minute
	// serverForgotten is the time after which the record of a server that ended without notice is
	// removed.
	serverForgotten = time.Hour
)

// SeeServer notes that a server is there. It is to be called several times in every
// [ServerGone].
func (s *Store) SeeServer(ctx context.Context, v Server) error {
	query := `INSERT INTO servers (id, name, started_at, last_seen, max_staleness) VALUES (?, ?, ?, ` + s.dialect.now + `, ?)
		ON CONFLICT (id) DO UPDATE SET last_seen = excluded.last_seen`
	return s.run(ctx, "see_server", s.servant(), func(db *gorm.DB) error {
		if err := db.Exec(query, v.ID, v.Name, exact(v.StartedAt), v.MaxStaleness.Microseconds()).Error; err != nil {
			return err
		}
		return db.Exec("DELETE FROM servers WHERE last_seen < "+s.dialect.ago, serverForgotten.Microseconds()).Error
	})
}

// servant is the pool for what servers tell each other, which is to wait for nothing
// else.
func (s *Store) servant() *gorm.DB {
	if s.feed != nil {
		return s.feed
	}
	return s.writer
}

// ForgetServer notes that a server is no more.
func (s *Store) ForgetServer(ctx context.Context, id string) error {
	return s.run(ctx, "forget_server", s.servant(), func(db *gorm.DB) error {
		return db.Exec("DELETE FROM servers WHERE id = ?", id).Error
	})
}

// Servers returns the servers that were seen within [ServerGone], by name.
func (s *Store) Servers(ctx context.Context) ([]Server, error) {
	var rows []serverRow
	err := s.read(ctx, "servers", func(db *gorm.DB) error {
		return db.Raw("SELECT * FROM servers WHERE last_seen >= "+s.dialect.ago+" ORDER BY name, id", ServerGone.Microseconds()).Find(&rows).Error
	})
	servers := make([]Server, len(rows))
	for i, r := range rows {
		servers[i] = r.model()
	}
	return servers, err
}

type serverRow struct {
	ID           string `gorm:"primaryKey"`
	Name         string
	StartedAt    time.Time
	LastSeen     time.Time
	MaxStaleness int64 // microseconds
	Acknowledged string
}

func (serverRow) TableName() string { return "servers" }

func (r serverRow) model() Server {
	return Server{
		ID: r.ID, Name: r.Name, StartedAt: r.StartedAt.UTC(), LastSeen: r.LastSeen.UTC(),
		MaxStaleness: time.Duration(r.MaxStaleness) * time.Microsecond,
	}
}

// Mark is a change that somebody waits for others to see.
type Mark struct {
	seq   int64
	nonce string
	xid   string
}

// ErrOtherHistory is that the database does not have a change that was committed to
// it.
var ErrOtherHistory = models.NewError(models.CodeUnavailable,
	"the database was exchanged for another one, or went back to an earlier state; see whether the change was kept")

// Acknowledge notes how far a server has applied the feed.
func (s *Store) Acknowledge(ctx context.Context, id string, p models.FeedPosition) error {
	return s.run(ctx, "acknowledge", s.servant(), func(db *gorm.DB) error {
		return db.Exec("UPDATE servers SET acknowledged = ? WHERE id = ?", s.dialect.acknowledged(p), id).Error
	})
}

// Acknowledged returns the servers that were seen within [ServerGone], each with
// whether it has acknowledged a change. If the database has the change no more,
// since it was exchanged for another one, that is [ErrOtherHistory]: nobody can say
// whether what was written with it is still so.
func (s *Store) Acknowledged(ctx context.Context, m Mark) (behind, reached []Server, err error) {
	query := "SELECT v.*, " + s.dialect.reached + ` AS reached, EXISTS (SELECT 1 FROM changes WHERE seq = ? AND ` + s.dialect.nonce + ` = ?) AS present
		FROM change_feed f LEFT JOIN servers v ON v.last_seen >= ` + s.dialect.ago + ` ORDER BY v.name, v.id`
	var rows []struct {
		ID           *string
		Name         string
		StartedAt    time.Time
		LastSeen     time.Time
		MaxStaleness int64
		Reached      bool
		Present      bool
	}
	at := any(m.seq)
	if s.database.driver == postgresDriver {
		at = m.xid
	}
	err = s.read(ctx, "acknowledged", func(db *gorm.DB) error {
		return db.Raw(query, at, m.seq, m.nonce, ServerGone.Microseconds()).Find(&rows).Error
	})
	if err != nil {
		return nil, nil, err
	}
	if len(rows) == 0 || !rows[0].Present {
		return nil, nil, ErrOtherHistory
	}
	for _, r := range rows {
		if r.ID == nil {
			continue
		}
		v := serverRow{ID: *r.ID, Name: r.Name, StartedAt: r.StartedAt, LastSeen: r.LastSeen, MaxStaleness: r.MaxStaleness}.model()
		if r.Reached {
			reached = append(reached, v)
		} else {
			behind = append(behind, v)
		}
	}
	return behind, reached, nil
}
