package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/gofrs/flock"

	"patrol/cmd/patrol/config"
	"patrol/models"
	"patrol/models/store"
	"patrol/models/tombstones"
)

// keepTombstones has a store write tombstones to the configured file, and returns
// it with what it has; nil if there is to be none. A server compacts it.
func keepTombstones(ctx context.Context, cfg config.Config, s *store.Store, now time.Time, server bool) (file *tombstones.File, stones []models.Tombstone, err error) {
	path := cfg.TombstonesPath()
	if path == "" {
		return nil, nil, nil
	}
	installation, err := s.Installation(ctx)
	if err != nil {
		return nil, nil, err
	}
	var alone bool
	if server { // without the lock nothing is compacted, which is no reason to wait or fail
		lock := flock.New(path+".lock", flock.SetPermissions(0o600))
		alone, _ = lock.TryLock()
		defer func() { err = errors.Join(err, lock.Close()) }()
	}
	file, stones, err = tombstones.Open(path, installation, now, alone)
	if err != nil {
		return nil, nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	if err := s.RegisterTombstones(ctx, store.TombstoneFile{ID: file.ID(), Server: host + ":" + path}); err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	s.KeepTombstones(file)
	return file, stones, nil
}

// maxTold bounds the things taken away again that the log names.
const maxTold = 20

// takeAwayAgain applies tombstones to a database that does not know of them.
func takeAwayAgain(ctx context.Context, s *store.Store, stones []models.Tombstone, log *slog.Logger) error {
	done, err := s.Reapply(ctx, models.Actor{Kind: models.ActorSystem, UserAgent: "tombstones"}, stones)
	if err != nil {
		return fmt.Errorf("take away again what the tombstones say was taken away: %w", err)
	}
	if len(done) > 0 {
		log.WarnContext(ctx, "the database is of an earlier time than the tombstones: what was taken away since is taken away again; "+
			"all else that was written since is lost", "count", len(done), "first", done[:min(len(done), maxTold)])
	}
	revision, err := s.LostPolicy(ctx, stones)
	if err == nil && revision != "" {
		log.WarnContext(ctx, "the database is of an earlier time than the policy that came into force last: an earlier one is in force until that is delivered", "last", revision)
	}
	return err
}

// buriedFacts are the facts of a store, save that a token is dead which a
// tombstone says is: the database may be restored, or fail over to a standby that
// lacks the latest writes, while the server runs.
type buriedFacts struct {
	store.Facts
	file *tombstones.File // nil: there is none
	now  func() time.Time
}

func (f buriedFacts) PAT(ctx context.Context, id string) (*models.PAT, error) {
	p, err := f.Facts.PAT(ctx, id)
	if p == nil || f.file == nil || p.RevokedAt != nil {
		return p, err
	}
	end, ok := f.file.Ended(id)
	switch {
	case !ok:
	case !end.After(f.now()):
		p.RevokedAt = &end
	case end.Before(p.ExpiresAt):
		p.ExpiresAt = end
	}
	return p, err
}

// checkClock refuses to serve with a clock that is far behind what the database
// has seen, as after a virtual machine was set back: tokens that expired would be
// good again.
func checkClock(ctx context.Context, cfg config.Config, s *store.Store, now time.Time) error {
	if cfg.Database.MaxBehind == 0 {
		return nil
	}
	newest, err := s.NewestEvent(ctx)
	if err != nil {
		return err
	}
	if behind := newest.Sub(now); behind > cfg.Database.MaxBehind {
		return fmt.Errorf("the clock says %s, and the newest event in the database is %s later: set the clock, "+
			"or raise database.max_clock_behind if the database is wrong", now.UTC().Format(time.RFC3339), behind.Round(time.Second))
	}
	return nil
}
