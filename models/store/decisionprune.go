package store

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"gorm.io/gorm"

	"patrol/models"
)

// heldRows counts the decisions about one token. Those about none that
// verified have no token and no user.
type heldRows struct {
	Token, Owner string
	Held         int64
}

// PruneDecisions deletes decisions that are too old; if there are still more than
// the bounds say, the oldest of the users, and of their tokens, that have most of
// them: as many of each as it takes, so that no token's decisions displace those of
// another that has few. Refusals without a token that verifies have a bound of their
// own. Then it deletes the facts that nothing refers to any more and counts that are
// too old, and adds up those of refusals that are too many.
func (d *Decisions) PruneDecisions(ctx context.Context, b models.LogBounds) (reach models.LogReach, err error) {
	if err := d.deleteDecisions(ctx, "id < ?", models.DecisionIDsFrom(b.Before)); err != nil {
		return reach, err
	}
	held, err := d.heldRows(ctx)
	if err != nil {
		return reach, err
	}
	cuts := fairCuts(held, b.MaxRows, b.RefusedRows)
	for i := range held {
		h := &held[i]
		keep, over := cuts[h.Token]
		if !over {
			continue
		}
		cut, err := d.cutTo(ctx, h.Token, keep)
		if err != nil {
			return reach, err
		}
		if cut == "" { // somebody else was quicker
			continue
		}
		if err := d.deleteDecisions(ctx, "token_id = ? AND id < ?", h.Token, cut); err != nil {
			return reach, err
		}
		h.Held = keep
		if err := d.noteCut(ctx, h.Token == "", cut); err != nil {
			return reach, err
		}
	}
	if err := d.noteRows(ctx, held); err != nil {
		return reach, err
	}
	if err := d.pruneFacts(ctx, b.Before); err != nil {
		return reach, err
	}
	if err := d.pruneRefusals(ctx, b.Before, b.RefusedSums); err != nil {
		return reach, err
	}
	for _, table := range [...]string{"decision_outcomes", "decision_uses", "decision_days"} {
		err := d.store.write(ctx, "prune_decision_counts", models.Actor{}, func(t *tx) error {
			return t.db.Exec("DELETE FROM "+table+" WHERE day < ?", models.DayOf(b.CountsBefore)).Error
		})
		if err != nil {
			return reach, err
		}
	}
	return d.Reach(ctx)
}

// deleteDecisions deletes decisions, the oldest first, some at a time.
func (d *Decisions) deleteDecisions(ctx context.Context, where string, args ...any) error {
	return d.deleteBatches(ctx, "prune_decisions", "DELETE FROM decisions WHERE id IN (SELECT id FROM decisions WHERE "+where+" ORDER BY id LIMIT ?)", append(args, pruneBatch)...)
}

// deleteBatches repeats a statement that deletes a batch until it deletes nothing.
func (d *Decisions) deleteBatches(ctx context.Context, op, statement string, args ...any) error {
	for deleted := int64(1); deleted > 0; {
		err := d.store.write(ctx, op, models.Actor{}, func(t *tx) error {
			gone := t.db.Exec(statement, args...)
			deleted = gone.RowsAffected
			return gone.Error
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// heldRows counts the decisions by token. It reads an index, no more, and a row of
// each token.
func (d *Decisions) heldRows(ctx context.Context) (held []heldRows, err error) {
	err = d.store.scan(ctx, "count_decisions", func(db *gorm.DB) error {
		return db.Raw("SELECT token, held, COALESCE((SELECT user_id FROM decisions WHERE token_id = token LIMIT 1), '') AS owner" +
			" FROM (SELECT token_id AS token, COUNT(*) AS held FROM decisions GROUP BY token_id) AS counted").Scan(&held).Error
	})
	return held, err
}

// cutTo returns the id of the oldest of a token's latest so many decisions, "" if
// there are fewer.
func (d *Decisions) cutTo(ctx context.Context, token string, keep int64) (string, error) {
	if keep <= 0 {
		return models.DecisionIDsFrom(d.store.now()), nil
	}
	var ids []string
	err := d.store.scan(ctx, "cut_decisions", func(db *gorm.DB) error {
		return db.Raw("SELECT id FROM decisions WHERE token_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?", token, keep-1).Scan(&ids).Error
	})
	if err != nil || len(ids) == 0 {
		return "", err
	}
	return ids[0], nil
}

// refusedPart is the part of all rows that refusals without a token that verifies
// may have: one so many'th.
const refusedPart = 8

// fairCuts says of which tokens decisions go, and how many of each stay.
func fairCuts(held []heldRows, limit, maxRefused int64) map[string]int64 {
	cuts := map[string]int64{}
	if part := max(limit/refusedPart, 1); limit > 0 && (maxRefused == 0 || maxRefused > part) {
		maxRefused = part
	}
	byUser := map[string][]heldRows{}
	users := map[string]int64{}
	var total int64
	room := limit
	for _, h := range held {
		if h.Token == "" {
			if maxRefused > 0 && h.Held > maxRefused {
				cuts[""] = maxRefused
				h.Held = maxRefused
			}
			room -= h.Held
			continue
		}
		byUser[h.Owner] = append(byUser[h.Owner], h)
		users[h.Owner] += h.Held
		total += h.Held
	}
	if limit <= 0 || total <= room {
		return cuts
	}
	for user, keep := range fairParts(users, room) {
		tokens := map[string]int64{}
		for _, h := range byUser[user] {
			tokens[h.Token] = h.Held
		}
		maps.Copy(cuts, fairParts(tokens, keep))
	}
	return cuts
}

// fairParts divides so many among those who have some: whoever has less than an
// equal part keeps it all, and the others share the rest equally. It returns what
// those are left with who lose some.
func fairParts(have map[string]int64, limit int64) map[string]int64 {
	names := slices.SortedFunc(maps.Keys(have), func(a, b string) int { return cmp.Or(cmp.Compare(have[a], have[b]), cmp.Compare(a, b)) })
	parts := map[string]int64{}
	for i, name := range names {
		part := limit / int64(len(names)-i)
		if have[name] > part {
			parts[name] = part
			limit -= part
			continue
		}
		limit -= have[name]
	}
	return parts
}

// noteCut notes that the log is complete since a decision at most.
func (d *Decisions) noteCut(ctx context.Context, refused bool, id string) error {
	at, ok := models.DecisionIDTime(id)
	if !ok {
		at, _ = models.DecisionIDTime(id + "000000000") // the beginning of ids of a time
	}
	column := "verified_cut"
	if refused {
		column = "refused_cut"
	}
	return d.store.write(ctx, "note_decisions_cut", models.Actor{}, func(t *tx) error {
		return t.db.Exec("UPDATE decision_log SET "+column+" = ? WHERE "+column+" IS NULL OR "+column+" < ?", exact(at), exact(at)).Error
	})
}

// noteRows notes how many decisions there are.
func (d *Decisions) noteRows(ctx context.Context, held []heldRows) error {
	var verified, refused int64
	var busiest heldRows
	for _, h := range held {
		if h.Token == "" {
			refused = h.Held
			continue
		}
		verified += h.Held
		if h.Held > busiest.Held {
			busiest = h
		}
	}
	return d.store.write(ctx, "note_decisions", models.Actor{}, func(t *tx) error {
		return t.db.Exec("UPDATE decision_log SET verified_rows = ?, refused_rows = ?, busiest = ?, busiest_rows = ?, counted_at = ?",
			verified, refused, busiest.Token, busiest.Held, t.now).Error
	})
}

// Reach returns how far back the log is complete. Rows are as they were last counted.
func (d *Decisions) Reach(ctx context.Context) (models.LogReach, error) {
	var row struct {
		VerifiedCut, RefusedCut   *time.Time
		VerifiedRows, RefusedRows int64
		Busiest                   string
		BusiestRows               int64
		CountedAt                 *time.Time
	}
	var oldest, oldestRefused []time.Time
	err := d.store.read(ctx, "decisions_reach", func(db *gorm.DB) error {
		err := db.Raw("SELECT verified_cut, refused_cut, verified_rows, refused_rows, busiest, busiest_rows, counted_at FROM decision_log").Scan(&row).Error
		if err != nil {
			return err
		}
		if err := db.Raw("SELECT at FROM decisions WHERE token_id <> '' ORDER BY id LIMIT 1").Scan(&oldest).Error; err != nil {
			return err
		}
		return db.Raw("SELECT at FROM decisions WHERE token_id = '' ORDER BY id LIMIT 1").Scan(&oldestRefused).Error
	})
	if err != nil {
		return models.LogReach{}, err
	}
	class := func(rows int64, first []time.Time, cut *time.Time) models.LogClass {
		c := models.LogClass{Rows: rows}
		if len(first) > 0 {
			c.First = new(first[0].UTC())
		}
		if cut != nil {
			c.CutTo = new(cut.UTC())
		}
		return c
	}
	reach := models.LogReach{
		Verified: class(row.VerifiedRows, oldest, row.VerifiedCut), Refused: class(row.RefusedRows, oldestRefused, row.RefusedCut),
		Busiest: row.Busiest, BusiestRows: row.BusiestRows,
	}
	if row.CountedAt != nil {
		reach.At = row.CountedAt.UTC()
	}
	return reach, nil
}

// pruneFacts deletes the facts that were last marked before anything that is left
// was made, with room for how seldom they are marked and for clocks that differ.
func (d *Decisions) pruneFacts(ctx context.Context, before time.Time) error {
	var first []time.Time
	err := d.store.read(ctx, "first_decision", func(db *gorm.DB) error {
		return db.Raw("SELECT at FROM decisions ORDER BY id LIMIT 1").Scan(&first).Error
	})
	if err != nil {
		return err
	}
	if len(first) > 0 && first[0].After(before) {
		before = first[0]
	}
	cut := exact(before.Add(-2 * factTouch))
	return d.deleteBatches(ctx, "prune_decision_facts", "DELETE FROM decision_facts WHERE key IN (SELECT key FROM decision_facts WHERE used_at < ? LIMIT ?)", cut, pruneBatch)
}
