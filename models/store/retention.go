package store

import (
	"context"
	"strconv"
	"time"

	"gorm.io/gorm"

	"patrol/models"
)

// upkeepBatch is the number of rows that one transaction of the upkeep changes: others' writes wait for
// it on SQLite.
const upkeepBatch = 1000

// upkeep lets do change the audit log, which nothing else can.
func (t *tx) upkeep(do func() error) error {
	if err := t.db.Exec("INSERT INTO audit_upkeep (one) VALUES (1)").Error; err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return t.db.Exec("DELETE FROM audit_upkeep").Error
}

// PruneAudit removes events of the audit log that are older than age, and returns how many. The
// log has an event that says so.
func (s *Store) PruneAudit(ctx context.Context, by models.Actor, age time.Duration) (pruned int, err error) {
	for {
		var n int64
		err := s.write(ctx, "prune_audit", by, func(t *tx) error {
			before := t.now.Add(-age)
			err := t.upkeep(func() error {
				result := t.db.Exec("DELETE FROM audit_events WHERE id IN (SELECT id FROM audit_events WHERE at <= ? ORDER BY at, id LIMIT ?)", before, upkeepBatch)
				n = result.RowsAffected
				return result.Error
			})
			if err != nil || n == 0 {
				return err
			}
			return t.audit("audit.prune", "installation:audit", map[string]string{"count": strconv.FormatInt(n, 10), "before": before.UTC().Format(time.RFC3339)})
		})
		if err != nil {
			return pruned, err
		}
		if pruned += int(n); n < upkeepBatch {
			return pruned, nil
		}
	}
}

// ForgetUses forgets when, from where and with which program tokens were used last, if that is
// longer ago than age, and returns of how many. No decision depends on it.
func (s *Store) ForgetUses(ctx context.Context, age time.Duration) (forgotten int, err error) {
	for {
		var n int64
		err := s.run(ctx, "forget_uses", s.writer, func(db *gorm.DB) error {
			result := db.Exec(`UPDATE pats SET last_used_at = NULL, last_used_ip = '', last_used_agent = ''
				WHERE id IN (SELECT id FROM pats WHERE last_used_at <= ? LIMIT ?)`, s.now().Add(-age), upkeepBatch)
			n = result.RowsAffected
			return result.Error
		})
		if err != nil {
			return forgotten, err
		}
		if forgotten += int(n); n < upkeepBatch {
			return forgotten, nil
		}
	}
}
