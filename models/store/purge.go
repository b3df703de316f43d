package store

import (
	"context"
	"fmt"
	"time"

	"patrol/models"
)

// Purge says which dead tokens are to be removed.
type Purge struct {
	UserID string        // "": everybody's
	Age    time.Duration // since they died
	Limit  int           // at most so many; 0: [DefaultPurge]
}

const (
	// DefaultPurge is the number of tokens that a purge without a limit removes.
	DefaultPurge = 10_000
	// purgeBatch is the number of tokens that a transaction removes: others' writes wait for it on
	// SQLite.
	purgeBatch = 200
)

// PurgePATs removes the records of tokens that are dead for some time, those that
// died first before the others, each with an audit event, and reports whether
// there are more. Tokens that were rotated to one of them then name its own
// successor.
func (s *Store) PurgePATs(ctx context.Context, by models.Actor, p Purge) (purged int, more bool, err error) {
	if !storable(p.UserID) {
		return 0, false, notFound("user")
	}
	limit := p.Limit
	if limit <= 0 {
		limit = DefaultPurge
	}
	for purged < limit {
		var n int
		batch := min(purgeBatch, limit-purged)
		err := s.write(ctx, "purge_pats", by, func(t *tx) (err error) {
			n, err = t.purge(p, batch)
			return err
		})
		if err != nil {
			return purged, true, err
		}
		purged += n
		if n < batch {
			return purged, false, nil
		}
	}
	return purged, true, nil
}

// purge removes a batch. A token that is dead stays dead, so that none can come
// back to life between being found and being removed; its row is locked against
// rotation's reading it all the same.
func (t *tx) purge(p Purge, batch int) (int, error) {
	cutoff := t.now.Add(-p.Age)
	args := t.liveAt(t.now)
	where := "NOT " + live + " AND (revoked_at <= ? OR expires_at <= ? OR created_at <= ?)"
	args = append(args, cutoff, cutoff, cutoff.Truncate(time.Second).Add(-t.config.Limits.MaxLifetime))
	if p.UserID != "" {
		if _, err := t.lockUser(p.UserID); err != nil {
			return 0, err
		}
		where, args = where+" AND user_id = ?", append(args, p.UserID)
	}
	query := "SELECT id, user_id, name, rotated_to FROM pats WHERE " + where + " ORDER BY expires_at, id LIMIT ?"
	if t.database.driver == postgresDriver {
		query += " FOR UPDATE SKIP LOCKED"
	}
	var rows []struct{ ID, UserID, Name, RotatedTo string }
	if err := t.db.Raw(query, append(args, batch)...).Find(&rows).Error; err != nil {
		return 0, fmt.Errorf("find dead tokens: %w", err)
	}
	if len(rows) == 0 {
		return 0, nil
	}
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
		if r.RotatedTo != "" {
			if err := t.db.Exec("UPDATE pats SET rotated_to = (SELECT rotated_to FROM pats WHERE id = ?) WHERE rotated_to = ?", r.ID, r.ID).Error; err != nil {
				return 0, err
			}
		}
		t.change(ChangeToken, r.ID, "")
		if err := t.audit("pat.purge", onPAT(r.ID), map[string]string{"user_id": r.UserID, "name": r.Name}); err != nil {
			return 0, err
		}
	}
	return len(rows), t.db.Exec("DELETE FROM pats WHERE id IN ?", ids).Error
}
