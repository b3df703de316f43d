package store

import (
	"context"
	"sync"
	"time"

	"gorm.io/gorm"

	"patrol/models"
)

// writability remembers whether the database can be written. The zero value
// is ready to use.
type writability struct {
	probing sync.Mutex
	mu      sync.Mutex
	at      time.Time // when it was last found out; zero: never
	err     error
}

// trustWritable is the time for which a result is remembered.
const trustWritable = 5 * time.Second

// found notes how a write ended. A failure counts that says what is wrong with the
// database: others may be of that write alone.
func (w *writability) found(err error) {
	at := time.Now()
	if err != nil && reasonOf(err) == "" {
		at = time.Time{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at, w.err = at, err
}

func (w *writability) known() (err error, known bool) { //nolint:revive // the error is what is known
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err, !w.at.IsZero() && time.Since(w.at) < trustWritable
}

// Writable reports whether the database can be written, so that a token can be revoked:
// it may be read-only, or its disk full, while decisions go on. It goes by how the last
// write ended, if that was within seconds, and else writes something.
func (s *Store) Writable(ctx context.Context) error {
	if t := s.files.look(); t != nil {
		return t.err()
	}
	s.writing.probing.Lock() // of many who ask at once, one writes
	defer s.writing.probing.Unlock()
	if err, known := s.writing.known(); known {
		return err
	}
	return s.write(ctx, "writable", models.Actor{}, func(t *tx) error {
		return t.db.Exec("UPDATE change_feed SET pruned_through = pruned_through").Error
	})
}

// Ping reports whether the database can be read, and on SQLite whether its files
// are still where and what they were.
func (s *Store) Ping(ctx context.Context) error {
	if t := s.files.look(); t != nil && !t.readable {
		return t.err()
	}
	return s.read(ctx, "ping", func(db *gorm.DB) error {
		var one int
		return db.Raw("SELECT 1").Find(&one).Error
	})
}
