package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"patrol/models"
)

// AddCounts adds to the counts of days.
func (d *Decisions) AddCounts(ctx context.Context, c models.DecisionCounts) error {
	return d.store.write(ctx, "add_decision_counts", models.Actor{}, func(t *tx) error {
		for part := range slices.Chunk(c.Outcomes, useBatch) {
			args := make([]any, 0, 5*len(part))
			for _, o := range part {
				args = append(args, exact(o.Day), o.TokenID, string(o.Outcome), string(o.Reason), o.Count)
			}
			if err := t.db.Exec("INSERT INTO decision_outcomes (day, token_id, outcome, reason, count) VALUES "+rowsOf(5, len(part))+
				" ON CONFLICT (token_id, day, outcome, reason) DO UPDATE SET count = decision_outcomes.count + excluded.count", args...).Error; err != nil {
				return err
			}
		}
		for part := range slices.Chunk(c.Used, useBatch) {
			args := make([]any, 0, 9*len(part))
			for _, u := range part {
				args = append(args, exact(u.Day), u.TokenID, u.ScopeID, note(u.Domain), note(u.EntityType), note(u.Entity), note(u.Operation), u.Count, exact(u.LastAt))
			}
			if err := t.db.Exec("INSERT INTO decision_uses (day, token_id, scope_id, domain, entity_type, entity, operation, count, last_at) VALUES "+rowsOf(9, len(part))+
				" ON CONFLICT (token_id, day, scope_id, domain, entity_type, entity, operation) DO UPDATE"+
				" SET count = decision_uses.count + excluded.count,"+
				" last_at = CASE WHEN excluded.last_at > decision_uses.last_at THEN excluded.last_at ELSE decision_uses.last_at END", args...).Error; err != nil {
				return err
			}
		}
		if err := t.addRefusals(c.Refusals); err != nil {
			return err
		}
		for _, day := range c.Days {
			if err := t.db.Exec("INSERT INTO decision_days (day, recorded, dropped) VALUES (?, ?, ?) ON CONFLICT (day) DO UPDATE"+
				" SET recorded = decision_days.recorded + excluded.recorded, dropped = decision_days.dropped + excluded.dropped",
				exact(day.Day), day.Recorded, day.Dropped).Error; err != nil {
				return err
			}
		}
		return nil
	})
}

func rowsOf(columns, rows int) string {
	row := "(" + strings.TrimSuffix(strings.Repeat("?, ", columns), ", ") + ")"
	return strings.TrimSuffix(strings.Repeat(row+", ", rows), ", ")
}

// CountedOutcomes returns the counts of a token's decisions since the day of that
// time, by day, outcome and reason.
func (d *Decisions) CountedOutcomes(ctx context.Context, tokenID string, since time.Time) (counts []models.CountedOutcome, err error) {
	if !storable(tokenID) {
		return nil, nil
	}
	err = d.store.read(ctx, "decision_outcomes", func(db *gorm.DB) error {
		return db.Raw("SELECT day, token_id, outcome, reason, count FROM decision_outcomes WHERE token_id = ? AND day >= ? ORDER BY day, outcome, reason",
			tokenID, models.DayOf(since)).Scan(&counts).Error
	})
	for i := range counts {
		counts[i].Day = counts[i].Day.UTC()
	}
	return counts, err
}

// maxUses bounds how many different uses of a token are looked at.
const maxUses = 10_000

// Uses returns the uses of a token's scopes.
type Uses struct {
	Scopes []models.UsedScope // each kind of request once, with its counts added up
	// More says that there is more than anybody would look through. What is left out
	// is counted with another use of its scope: each scope that was used is there.
	More bool
}

func (uses *Uses) add(u models.UsedScope) {
	last := len(uses.Scopes) - 1
	if len(uses.Scopes) < maxUses || uses.Scopes[last].ScopeID != u.ScopeID {
		uses.Scopes = append(uses.Scopes, u)
		return
	}
	uses.More = true
	before := &uses.Scopes[last]
	before.Count += u.Count
	if u.LastAt.After(before.LastAt) {
		before.LastAt = u.LastAt
	}
}

// UsedScopes returns what the scopes of tokens were used for since the day of that
// time, by the tokens' ids. Tokens that were not used are not among them.
func (d *Decisions) UsedScopes(ctx context.Context, tokenIDs []string, since time.Time) (map[string]Uses, error) {
	out := map[string]Uses{}
	for part := range slices.Chunk(tokenIDs, useBatch) {
		if !storable(part...) {
			part = slices.DeleteFunc(slices.Clone(part), func(id string) bool { return !storable(id) })
		}
		if err := d.addUses(ctx, out, part, since); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (d *Decisions) addUses(ctx context.Context, out map[string]Uses, tokenIDs []string, since time.Time) error {
	return d.store.read(ctx, "decision_uses", func(db *gorm.DB) error {
		rows, err := db.Table("decision_uses").
			Select("token_id, scope_id, domain, entity_type, entity, operation, SUM(count), MAX(last_at)").
			Where("token_id IN ? AND day >= ?", tokenIDs, models.DayOf(since)).
			Group("token_id, scope_id, domain, entity_type, entity, operation").
			Order("token_id, scope_id, domain, entity_type, entity, operation").Rows()
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var u models.UsedScope
			var last aggregated
			if err := rows.Scan(&u.TokenID, &u.ScopeID, &u.Domain, &u.EntityType, &u.Entity, &u.Operation, &u.Count, &last); err != nil {
				return err
			}
			u.LastAt = last.Time
			uses := out[u.TokenID]
			uses.add(u)
			out[u.TokenID] = uses
		}
		return rows.Err()
	})
}

// aggregated is a time that a function computed: SQLite knows it only as a number.
type aggregated struct{ time.Time }

// Scan implements [database/sql.Scanner].
func (a *aggregated) Scan(from any) error {
	switch v := from.(type) {
	case time.Time:
		a.Time = v.UTC()
	case int64:
		a.Time = time.UnixMicro(v).UTC()
	default:
		return fmt.Errorf("a time of type %T", from)
	}
	return nil
}

// LoggedDays returns how many decisions of each day since that time's were taken
// down and how many were not. Days without decisions are not among them.
func (d *Decisions) LoggedDays(ctx context.Context, since time.Time) (days []models.LoggedDay, err error) {
	err = d.store.read(ctx, "decision_days", func(db *gorm.DB) error {
		return db.Raw("SELECT day, recorded, dropped FROM decision_days WHERE day >= ? ORDER BY day", models.DayOf(since)).Scan(&days).Error
	})
	for i := range days {
		days[i].Day = days[i].Day.UTC()
	}
	return days, err
}

// FirstLoggedDay returns the first day of which decisions are known, nil if there is
// none.
func (d *Decisions) FirstLoggedDay(ctx context.Context) (*time.Time, error) {
	var days []time.Time
	err := d.store.read(ctx, "first_decision_day", func(db *gorm.DB) error {
		return db.Raw("SELECT day FROM decision_days ORDER BY day LIMIT 1").Scan(&days).Error
	})
	if err != nil || len(days) == 0 {
		return nil, err
	}
	return new(days[0].UTC()), nil
}
