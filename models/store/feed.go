package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"patrol/models"
)

// change notes that a fact changes in this transaction.
func (t *tx) change(kind ChangeKind, key, key2 string) {
	t.changes = append(t.changes, changeRow{Kind: kind, Key: key, Key2: key2, At: t.now})
}

// LastChange returns the number of the latest change, 0 if there was none.
func (s *Store) LastChange(ctx context.Context) (seq int64, err error) {
	err = s.read(ctx, "last_change", func(db *gorm.DB) error {
		return db.Raw("SELECT COALESCE((SELECT MAX(seq) FROM changes), (SELECT pruned_through FROM change_feed))").Find(&seq).Error
	})
	return seq, err
}

// Changes returns the changes after the one numbered after, at most limit of
// them, in order. Numbers have gaps, but a change that becomes visible later has
// a higher number than all that were visible before, so that who asks for what
// follows the last one it saw misses none.
//
// It is not complete if changes after that one were pruned, or if the database
// knows no change so late, as after restoring a backup. Then the reader must
// drop everything that it holds and go on from [Store.LastChange], which it must
// have read before it reads anything anew.
func (s *Store) Changes(ctx context.Context, after int64, limit int) (changes []Change, complete bool, err error) {
	// One statement, so that pruning cannot come between.
	const query = `SELECT f.pruned_through, COALESCE((SELECT MAX(seq) FROM changes), f.pruned_through) AS last,
			COALESCE(c.seq, 0) AS seq, COALESCE(c.kind, '') AS kind, COALESCE(c.key, '') AS key, COALESCE(c.key2, '') AS key2, c.at
		FROM change_feed f LEFT JOIN (SELECT * FROM changes WHERE seq > ? ORDER BY seq LIMIT ?) c ON 1 = 1
		ORDER BY c.seq`
	var rows []struct {
		PrunedThrough, Last, Seq int64
		Kind                     ChangeKind
		Key                      string
		Key2                     string `gorm:"column:key2"`
		At                       *time.Time
	}
	err = s.read(ctx, "changes", func(db *gorm.DB) error {
		return db.Raw(query, after, limit).Find(&rows).Error
	})
	if err != nil {
		return nil, false, err
	}
	for _, r := range rows {
		complete = after >= r.PrunedThrough && after <= r.Last
		if r.At != nil {
			changes = append(changes, Change{Seq: r.Seq, Kind: r.Kind, Key: r.Key, Key2: r.Key2, At: r.At.UTC()})
		}
	}
	return changes, complete, nil
}

// DataVersion returns a number that is another one after every commit to an
// SQLite database by whatever process, at the price of reading a few bytes of
// shared memory. It is not ok on PostgreSQL: ask for [Store.Changes] there.
func (s *Store) DataVersion(ctx context.Context) (version int64, ok bool, err error) {
	if s.version == nil {
		return 0, false, nil
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	s.files.look()
	if err = s.files.readable(); err == nil {
		version, err = s.version.read(ctx)
		err = failure(ctx, "data_version", err)
	}
	s.observe("data_version", begin, err)
	return version, err == nil, err
}

// pruneBatch is how many changes one transaction deletes: writers wait for it.
const pruneBatch = 5000

// PruneChanges deletes the changes that are older than that. Readers that lag
// behind learn of it; see [Store.Changes].
func (s *Store) PruneChanges(ctx context.Context, olderThan time.Duration) error {
	// All before the first change that is young enough: of clocks that differ,
	// the slow one must not take young changes along.
	const through = `SELECT COALESCE((SELECT MIN(seq) FROM changes WHERE at >= ?) - 1, (SELECT MAX(seq) FROM changes), 0)`
	cutoff := s.now().Add(-olderThan)
	for {
		var deleted int64
		err := s.write(ctx, "prune_changes", models.Actor{}, func(t *tx) error {
			if err := t.lock(lockFeed); err != nil {
				return err
			}
			var last, first int64
			if err := t.db.Raw(through, cutoff).Find(&last).Error; err != nil {
				return err
			}
			if err := t.db.Raw("SELECT COALESCE(MIN(seq), 0) FROM changes").Find(&first).Error; err != nil {
				return err
			}
			last = min(last, first+pruneBatch-1)
			gone := t.db.Exec("DELETE FROM changes WHERE seq <= ?", last)
			deleted = gone.RowsAffected
			if gone.Error != nil || deleted == 0 {
				return gone.Error
			}
			return t.db.Exec("UPDATE change_feed SET pruned_through = ? WHERE pruned_through < ?", last, last).Error
		})
		if err != nil || deleted == 0 {
			return err
		}
	}
}
