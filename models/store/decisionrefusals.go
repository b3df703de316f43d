package store

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"gorm.io/gorm"

	"patrol/models"
)

// addRefusals adds to the counts of refusals.
func (t *tx) addRefusals(refusals []models.CountedRefusals) error {
	for part := range slices.Chunk(refusals, useBatch) {
		args := make([]any, 0, 7*len(part))
		for _, r := range part {
			args = append(args, r.From.Unix()/60, int64(r.Span/time.Minute), note(r.Address), string(r.Reason), r.Calls, r.Decisions, r.Kept)
		}
		err := t.db.Exec("INSERT INTO decision_refusals (minute, span, address, reason, calls, decisions, kept) VALUES "+rowsOf(7, len(part))+addsUp, args...).Error
		if err != nil {
			return err
		}
	}
	return nil
}

const addsUp = " ON CONFLICT (minute, span, address, reason) DO UPDATE SET calls = decision_refusals.calls + excluded.calls," +
	" decisions = decision_refusals.decisions + excluded.decisions, kept = decision_refusals.kept + excluded.kept"

// foldedMinutes is the number of minutes whose refusals are added up in a transaction.
const foldedMinutes = 10

// pruneRefusals deletes counts from before a time, and adds up by the hour, for all
// addresses together, those that are older than the latest most (0: any number).
func (d *Decisions) pruneRefusals(ctx context.Context, before time.Time, most int64) error {
	err := d.store.write(ctx, "prune_refusals", models.Actor{}, func(t *tx) error {
		return t.db.Exec("DELETE FROM decision_refusals WHERE minute + span <= ?", before.Unix()/60).Error
	})
	if err != nil || most <= 0 {
		return err
	}
	var last []int64
	err = d.store.scan(ctx, "count_refusals", func(db *gorm.DB) error {
		return db.Raw("SELECT minute FROM decision_refusals WHERE span = 1 ORDER BY minute DESC LIMIT 1 OFFSET ?", most).Scan(&last).Error
	})
	for more := len(last) > 0; more && err == nil; {
		err = d.store.write(ctx, "fold_refusals", models.Actor{}, func(t *tx) error {
			more, err = t.foldRefusals(last[0])
			return err
		})
	}
	return err
}

// foldRefusals adds the first minutes up to a last one up. more is false if there are
// none left. What is deleted is what is added up, whoever else writes meanwhile.
func (t *tx) foldRefusals(last int64) (more bool, err error) {
	var first *int64
	if err := t.db.Raw("SELECT MIN(minute) FROM decision_refusals WHERE span = 1 AND minute <= ?", last).Row().Scan(&first); err != nil || first == nil {
		return false, err
	}
	var gone []refusalRow
	err = t.db.Raw("DELETE FROM decision_refusals WHERE span = 1 AND minute <= ? RETURNING minute, span, address, reason, calls, decisions, kept",
		min(last, *first+foldedMinutes-1)).Scan(&gone).Error
	if err != nil {
		return false, err
	}
	byHour := map[refusalRow]*models.CountedRefusals{}
	for _, r := range gone {
		r.Minute, r.Span, r.Address = r.Minute-r.Minute%60, 60, ""
		key := refusalRow{Minute: r.Minute, Reason: r.Reason}
		if sum := byHour[key]; sum != nil {
			sum.Add(r.model())
		} else {
			byHour[key] = new(r.model())
		}
	}
	sums := make([]models.CountedRefusals, 0, len(byHour))
	for _, sum := range byHour {
		sums = append(sums, *sum)
	}
	slices.SortFunc(sums, func(a, b models.CountedRefusals) int {
		return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.Reason, b.Reason))
	})
	return true, t.addRefusals(sums)
}

// RefusalFilter narrows a list of counted refusals. Empty fields do not narrow.
type RefusalFilter struct {
	Address string
	Reason  models.ReasonCode
	Since   time.Time // at this time or later, to the minute
	Until   time.Time // before this time
}

// refusalRow is a row of decision_refusals.
type refusalRow struct {
	Minute, Span           int64
	Address, Reason        string
	Calls, Decisions, Kept int64
}

func (r refusalRow) model() models.CountedRefusals {
	return models.CountedRefusals{
		From: time.Unix(r.Minute*60, 0).UTC(), Span: time.Duration(r.Span) * time.Minute, Address: r.Address, Reason: models.ReasonCode(r.Reason),
		Calls: r.Calls, Decisions: r.Decisions, Kept: r.Kept,
	}
}

// Refusals lists what was counted of refusals without a token that verifies, the
// latest minute first, in a minute by address.
func (d *Decisions) Refusals(ctx context.Context, f RefusalFilter, p Page) ([]models.CountedRefusals, string, error) {
	const kind = "refusals"
	key, err := p.key(kind, 4)
	if err != nil {
		return nil, "", err
	}
	var after [2]int64
	if key != nil {
		for i := range after {
			if after[i], err = strconv.ParseInt(key[i], 10, 64); err != nil {
				return nil, "", badCursor()
			}
		}
	}
	if !storable(f.Address, string(f.Reason)) {
		return []models.CountedRefusals{}, "", nil
	}
	var rows []refusalRow
	err = d.store.read(ctx, "refusals", func(db *gorm.DB) error {
		q := db.Table("decision_refusals").Order("minute DESC, span DESC, address, reason").Limit(p.limit() + 1)
		if f.Address != "" {
			q = q.Where("address = ?", f.Address)
		}
		if f.Reason != "" {
			q = q.Where("reason = ?", string(f.Reason))
		}
		if !f.Since.IsZero() {
			q = q.Where("minute + span > ?", f.Since.Unix()/60)
		}
		if !f.Until.IsZero() {
			q = q.Where("minute * 60 < ?", f.Until.Unix())
		}
		if key != nil {
			q = q.Where("minute < ? OR minute = ? AND (span < ? OR span = ? AND (address > ? OR address = ? AND reason > ?))",
				after[0], after[0], after[1], after[1], key[2], key[2], key[3])
		}
		return q.Find(&rows).Error
	})
	if err != nil {
		return nil, "", err
	}
	list, next := cut(rows, p.limit(), refusalRow.model, func(r refusalRow) string {
		return newCursor(kind, strconv.FormatInt(r.Minute, 10), strconv.FormatInt(r.Span, 10), r.Address, r.Reason)
	})
	return list, next, nil
}

// refusalsAt returns what was counted in the minute of a time, or, of an old one, in
// its hour.
func (d *Decisions) refusalsAt(ctx context.Context, at time.Time) ([]models.CountedRefusals, error) {
	minute := at.Unix() / 60
	var rows []refusalRow
	err := d.store.read(ctx, "refusals_at", func(db *gorm.DB) error {
		return db.Table("decision_refusals").Where("minute IN ? AND minute + span > ?", []int64{minute, minute - minute%60}, minute).
			Order("span, decisions DESC, address, reason").Find(&rows).Error
	})
	out := make([]models.CountedRefusals, len(rows))
	for i, r := range rows {
		out[i] = r.model()
	}
	return out, err
}

// soon is the time that a decision may take to get into the log, with room for clocks
// that differ.
const soon = 10 * time.Second

// Missing says what can be said of a decision that is not in the log.
func (d *Decisions) Missing(ctx context.Context, id string) (m models.MissingDecision, err error) {
	m = models.MissingDecision{ID: id}
	at, ok := models.DecisionIDTime(id)
	if !ok {
		m.Kind = models.MissingNoID
		return m, nil
	}
	m.At = at
	ids, err := d.countedIDs(ctx)
	if err != nil {
		return m, err
	}
	if ids.Made(id) {
		m.Kind = models.MissingCounted
		m.Refusals, err = d.refusalsAt(ctx, at)
		return m, err
	}
	reach, err := d.Reach(ctx)
	if err != nil {
		return m, err
	}
	first, err := d.FirstLoggedDay(ctx)
	if err != nil {
		return m, err
	}
	m.Since = reach.Verified.Since()
	switch {
	case at.After(d.store.now().Add(-soon)):
		m.Kind = models.MissingFuture
	case m.Since == nil && first == nil, first != nil && at.Before(*first):
		m.Kind = models.MissingBefore
	case m.Since == nil || at.Before(*m.Since):
		m.Kind = models.MissingPruned
	default:
		m.Kind = models.MissingUnknown
		m.Lost, err = d.lostOn(ctx, at)
	}
	return m, err
}

// lostOn returns how many decisions of a day were not taken down.
func (d *Decisions) lostOn(ctx context.Context, at time.Time) (lost int64, err error) {
	err = d.store.read(ctx, "lost_decisions", func(db *gorm.DB) error {
		return db.Raw("SELECT COALESCE(SUM(dropped), 0) FROM decision_days WHERE day = ?", models.DayOf(at)).Scan(&lost).Error
	})
	return lost, err
}

// countedIDs returns what knows the ids of decisions that were counted only.
func (d *Decisions) countedIDs(ctx context.Context) (models.CountedIDs, error) {
	key, err := d.HashKey(ctx)
	if err != nil {
		return models.CountedIDs{}, err
	}
	return models.NewCountedIDs(key), nil
}
