package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"patrol/models"
)

const (
	// keptShadows is the number of shadow policies that are kept: servers with different
	// sources, or in the middle of a change, each count for their own.
	keptShadows = 3
	// keptShadowCounts bounds the kinds of divergence that are counted for each.
	keptShadowCounts = 300
)

// shadowRow is a [policyBundleRow] in the table of shadows.
type shadowRow policyBundleRow

func (shadowRow) TableName() string { return "policy_shadows" }

type shadowCountRow struct {
	Digest   string `gorm:"primaryKey"`
	Base     string `gorm:"primaryKey"`
	Kind     string `gorm:"primaryKey"`
	Reasons  string `gorm:"primaryKey"`
	Rules    string
	Count    int64
	FirstAt  time.Time
	LastAt   time.Time
	Examples string
}

func (shadowCountRow) TableName() string { return "policy_shadow_counts" }

func (r shadowCountRow) model() (models.ShadowCount, error) {
	c := models.ShadowCount{
		Base: r.Base, Kind: r.Kind, Reasons: r.Reasons, Rules: json.RawMessage(r.Rules), Count: r.Count, FirstAt: r.FirstAt.UTC(), LastAt: r.LastAt.UTC(),
	}
	if err := json.Unmarshal([]byte(r.Examples), &c.Examples); err != nil {
		return c, fmt.Errorf("read examples of what a shadow policy decides: %w", err)
	}
	return c, nil
}

// PlaceShadow makes a candidate that passed the gate the shadow: the policy that is
// judged beside the one in force, and that can be promoted. It does nothing if it is
// that already.
func (s *Store) PlaceShadow(ctx context.Context, by models.Actor, p PolicyRevision, archive []byte) error {
	return s.write(ctx, "place_shadow", by, func(t *tx) error {
		if _, err := t.lockPolicy(); err != nil {
			return err
		}
		current, err := t.shadow()
		if err != nil || current.Digest == p.Digest && current.ArchiveDigest == p.ArchiveDigest {
			return err
		}
		row, err := newPolicyBundleRow(p, t.now, archive)
		if err != nil {
			return err
		}
		if !row.ActivatedAt.After(current.ActivatedAt) { // of two servers whose clocks differ the later one counts
			row.ActivatedAt = current.ActivatedAt.Add(time.Microsecond)
		}
		if err := t.db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "digest"}}, UpdateAll: true}).Create(new(shadowRow(row))).Error; err != nil {
			return err
		}
		if err := t.db.Exec("DELETE FROM policy_shadows WHERE digest NOT IN (SELECT digest FROM policy_shadows ORDER BY activated_at DESC LIMIT ?)",
			keptShadows).Error; err != nil {
			return err
		}
		return t.policyEvent(PolicyShadowed, row, nil)
	})
}

// RefuseShadow notes that the gate refused a candidate for the shadow, unless that is
// the last thing that happened.
func (s *Store) RefuseShadow(ctx context.Context, by models.Actor, p PolicyRevision) error {
	return s.refusePolicy(ctx, PolicyShadowRefused, by, p)
}

// PolicyShadow returns the shadow of a digest, or if that is "" the last one placed,
// which is the one that can be promoted. Its ActivatedAt is when it became the shadow;
// its Digest is "" if there is none.
func (s *Store) PolicyShadow(ctx context.Context, digest string) (PolicyRevision, error) {
	var row shadowRow
	err := s.read(ctx, "policy_shadow", func(db *gorm.DB) (err error) {
		if digest != "" {
			db = db.Where("digest = ?", clean(digest))
		}
		row, err = shadowOf(db)
		return err
	})
	return policyBundleRow(row).model(), err
}

// shadowOf reads the shadow, without its archive.
func shadowOf(db *gorm.DB) (row shadowRow, err error) {
	err = db.Omit("archive").Order("activated_at DESC").Limit(1).Find(&row).Error
	return row, err
}

func (t *tx) shadow() (shadowRow, error) { return shadowOf(t.db) }

// ShadowArchive returns the archive of a shadow that is kept, by its digest;
// CodeNotFound if it is not.
func (s *Store) ShadowArchive(ctx context.Context, digest string) ([]byte, error) {
	var row shadowRow
	if storable(digest) {
		err := s.read(ctx, "shadow_archive", func(db *gorm.DB) error {
			return db.Select("archive").Where("digest = ?", digest).Limit(1).Find(&row).Error
		})
		if err != nil {
			return nil, err
		}
	}
	if row.Archive == nil {
		return nil, notFound("shadow policy")
	}
	return row.Archive, nil
}

// AddShadowCounts adds to what a shadow's decisions add up to. It is CodeNotFound if
// the shadow is not kept any more.
func (s *Store) AddShadowCounts(ctx context.Context, digest string, counts []models.ShadowCount) error {
	return s.write(ctx, "add_shadow_counts", models.Actor{Kind: models.ActorSystem}, func(t *tx) error {
		if err := t.lock(lockShadow); err != nil {
			return err
		}
		var kept int64
		if err := t.db.Model(&shadowRow{}).Where("digest = ?", digest).Count(&kept).Error; err != nil {
			return err
		}
		if kept == 0 {
			return notFound("shadow policy")
		}
		for _, c := range counts {
			if err := t.addShadowCount(digest, c); err != nil {
				return err
			}
		}
		return t.db.Exec(`DELETE FROM policy_shadow_counts WHERE digest = ? AND (base, kind, reasons) NOT IN (
			SELECT base, kind, reasons FROM policy_shadow_counts WHERE digest = ? ORDER BY last_at DESC, count DESC LIMIT ?)`,
			digest, digest, keptShadowCounts).Error
	})
}

func (t *tx) addShadowCount(digest string, c models.ShadowCount) error {
	row := shadowCountRow{Digest: digest, Base: note(c.Base), Kind: note(c.Kind), Reasons: clean(c.Reasons)}
	found := t.db.Where("digest = ? AND base = ? AND kind = ? AND reasons = ?", digest, row.Base, row.Kind, row.Reasons).Limit(1).Find(&row)
	if found.Error != nil {
		return found.Error
	}
	var before models.ShadowCount
	if found.RowsAffected > 0 {
		var err error
		if before, err = row.model(); err != nil {
			return err
		}
	}
	examples, err := json.Marshal(models.LatestDivergences(models.KeptDivergences, c.Examples, before.Examples))
	if err != nil {
		return fmt.Errorf("write examples of what a shadow policy decides: %w", err)
	}
	row.Count, row.Rules, row.Examples = before.Count+c.Count, clean(string(c.Rules)), clean(string(examples))
	row.FirstAt, row.LastAt = exact(c.FirstAt), exact(c.LastAt)
	if found.RowsAffected == 0 {
		return t.db.Create(&row).Error
	}
	if before.FirstAt.Before(row.FirstAt) {
		row.FirstAt = before.FirstAt
	}
	if before.LastAt.After(row.LastAt) {
		row.LastAt = before.LastAt
	}
	return t.db.Exec(`UPDATE policy_shadow_counts SET rules = ?, count = ?, first_at = ?, last_at = ?, examples = ?
		WHERE digest = ? AND base = ? AND kind = ? AND reasons = ?`,
		row.Rules, row.Count, row.FirstAt, row.LastAt, row.Examples, digest, row.Base, row.Kind, row.Reasons).Error
}

// ShadowCounts returns what a shadow's decisions add up to, beside those of one
// revision of the policy in force, the most frequent first.
func (s *Store) ShadowCounts(ctx context.Context, digest, base string) ([]models.ShadowCount, error) {
	var rows []shadowCountRow
	err := s.list(ctx, "shadow_counts", func(db *gorm.DB) error {
		return shadowCounts(db, digest, base, &rows)
	})
	out := make([]models.ShadowCount, len(rows))
	for i, r := range rows {
		if err == nil {
			out[i], err = r.model()
		}
	}
	return out, err
}

func shadowCounts(db *gorm.DB, digest, base string, to *[]shadowCountRow) error {
	if !storable(digest, base) {
		return nil
	}
	return db.Where("digest = ? AND base = ?", digest, base).Order("count DESC, kind, reasons").Find(to).Error
}

// PromotePolicy puts the shadow in force, on all servers, and pins it until the
// source has the same or [Store.ResumePolicy]. name is the shadow's digest or
// revision: what somebody has looked at. It is CodeConflict if the shadow is another
// by now, or in force, or would decide more than most decisions otherwise than the
// policy in force did (less than 0: any number); CodeNotFound if there is none.
func (s *Store) PromotePolicy(ctx context.Context, by models.Actor, name string, most int64) (PolicyState, error) {
	var after policyStateRow
	err := s.write(ctx, "promote_policy", by, func(t *tx) error {
		state, err := t.lockPolicy()
		if err != nil {
			return err
		}
		found, err := t.shadow()
		switch {
		case err != nil:
			return err
		case found.Digest == "":
			return notFound("shadow policy")
		case name != found.Digest && name != found.Revision:
			return models.NewError(models.CodeConflict, fmt.Sprintf("the shadow is %s (%s) now: look at that first", found.Revision, found.Digest))
		case found.Digest == state.Digest:
			return models.NewError(models.CodeConflict, fmt.Sprintf("revision %s is in force already", found.Revision))
		}
		detail, changes, err := t.shadowSummary(found.Digest, state.Revision)
		if err != nil {
			return err
		}
		if most >= 0 && changes > most {
			return models.NewError(models.CodeConflict, fmt.Sprintf("it decides %d decisions otherwise than revision %s did, and at most %d may be", changes, state.Revision, most))
		}
		var row shadowRow
		if err := t.db.Where("digest = ?", found.Digest).Limit(1).Find(&row).Error; err != nil {
			return err
		}
		kept := policyBundleRow(row)
		kept.ActivatedAt = t.now
		if err := t.db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "digest"}}, UpdateAll: true}).Create(&kept).Error; err != nil {
			return err
		}
		if err := t.putInForce(PolicyPromoted, kept, state, detail); err != nil {
			return err
		}
		after, err = t.lockPolicy()
		return err
	})
	return after.model(), err
}

// shadowSummary says in few words what a shadow's decisions add up to, and how many of
// them are changes.
func (t *tx) shadowSummary(digest, base string) (detail map[string]string, changes int64, err error) {
	var rows []shadowCountRow
	if err := shadowCounts(t.db, digest, base, &rows); err != nil {
		return nil, 0, err
	}
	sums := map[string]int64{models.ShadowSame: 0}
	for _, r := range rows {
		sums[r.Kind] += r.Count
		switch r.Kind {
		case models.ShadowSame, models.ShadowError, models.ShadowDropped:
		default:
			changes += r.Count
		}
	}
	detail = map[string]string{}
	for kind, n := range sums {
		detail["shadow_"+kind] = strconv.FormatInt(n, 10)
	}
	return detail, changes, nil
}
