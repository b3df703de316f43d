package store

import (
	"context"
	"strconv"
	"strings"
	"time"

	"gorm.io/gorm"

	"patrol/models"
)

// PATSearch narrows and orders a list of tokens for people who look for one.
// Empty fields do not narrow.
type PATSearch struct {
	UserID string
	Email  string        // part of the owner's address, in any case
	Name   string        // part of the name, in any case of ASCII letters
	Status models.Status // as it counts now, under Limits.MaxLifetime
	ID     string        // the public id
	Domain string        // a scope of the token reaches this domain
	// Within leaves the tokens that this domain's admins may know of: those that
	// name it in a scope, and those of its members and of platform admins that name
	// any domain.
	Within string
	// Approved, with Within, leaves tokens that the domain approved, or that it did
	// not.
	Approved *bool
	// ExpiresBefore leaves tokens that are alive and end before this time.
	ExpiresBefore time.Time
	// UnusedSince leaves tokens that were made before this time and not used
	// since.
	UnusedSince time.Time
	// ByExpiry puts what is alive and ends first before the rest. Otherwise the
	// newest come first.
	ByExpiry bool
}

// OwnedPAT is a token with the address of its owner.
type OwnedPAT struct {
	models.PAT
	Email string
}

// ownedRow is a row of pats with its owner's address, and whether the token is
// past its life, for the order.
type ownedRow struct {
	PAT   patRow `gorm:"embedded"`
	Email string
	Dead  int
}

// SearchPATs lists tokens of all users, or of one, with their scopes.
func (s *Store) SearchPATs(ctx context.Context, f PATSearch, p Page) ([]OwnedPAT, string, error) {
	kind := "inventory"
	if f.ByExpiry {
		kind = "inventory-by-expiry"
	}
	key, err := p.key(kind, 3)
	if err != nil {
		return nil, "", err
	}
	var dead int64
	var at time.Time
	if key != nil {
		micros, err := strconv.ParseInt(key[1], 10, 64)
		if err == nil {
			dead, err = strconv.ParseInt(key[0], 10, 8)
		}
		if err != nil {
			return nil, "", badCursor()
		}
		at = time.UnixMicro(micros).UTC()
	}
	if !storable(f.UserID, f.Email, f.Name, f.Domain, f.ID, f.Within) {
		return []OwnedPAT{}, "", nil
	}
	now := s.now()
	var rows []ownedRow
	read := s.list
	if f.ID != "" { // one token, as before it is revoked
		read = s.read
	}
	err = read(ctx, "search_pats", func(db *gorm.DB) error {
		rank := "CASE WHEN " + live + " THEN 0 ELSE 1 END"
		q := db.Table("pats AS p").Joins("JOIN users AS u ON u.id = p.user_id").
			Select(s.dialect.patSelect+", u.email AS email, "+inPATs(rank)+" AS dead", s.liveAt(now)...).
			Limit(p.limit() + 1)
		if f.ByExpiry {
			q = q.Order("dead, p.expires_at, p.id")
			if key != nil {
				q = q.Where("("+inPATs(rank)+", p.expires_at, p.id) > (?, ?, ?)", append(s.liveAt(now), dead, at, key[2])...)
			}
		} else {
			q = q.Order("p.created_at DESC, p.id DESC")
			if key != nil {
				q = q.Where("(p.created_at, p.id) < (?, ?)", at, key[2])
			}
		}
		return s.searched(q, f, now).Find(&rows).Error
	})
	if err != nil {
		return nil, "", err
	}
	pats, next := cut(rows, p.limit(), func(r ownedRow) OwnedPAT { return OwnedPAT{PAT: r.PAT.model(), Email: r.Email} }, func(r ownedRow) string {
		by := r.PAT.CreatedAt
		if f.ByExpiry {
			by = r.PAT.ExpiresAt
		}
		return newCursor(kind, strconv.Itoa(r.Dead), strconv.FormatInt(by.UnixMicro(), 10), r.PAT.ID)
	})
	return pats, next, nil
}

// within is the condition on a token p of a user u that a domain's admins may know
// of it. It takes the domain, [models.Any] and the domain.
const within = `(EXISTS (SELECT 1 FROM scopes AS named WHERE named.pat_id = p.id AND named.domain = ?)
	OR EXISTS (SELECT 1 FROM scopes AS wild WHERE wild.pat_id = p.id AND wild.domain = ?)
		AND (u.admin OR EXISTS (SELECT 1 FROM memberships AS inside WHERE inside.user_id = u.id AND inside.domain = ?)))`

// searched adds the conditions of a search.
func (s *Store) searched(q *gorm.DB, f PATSearch, now time.Time) *gorm.DB {
	if f.UserID != "" {
		q = q.Where("p.user_id = ?", f.UserID)
	}
	if f.Email != "" {
		q = q.Where(`u.email LIKE ? ESCAPE '\'`, contains(models.NormalizeEmail(f.Email)))
	}
	if f.Name != "" {
		q = q.Where(`LOWER(p.name) LIKE LOWER(?) ESCAPE '\'`, contains(nfc(f.Name)))
	}
	if f.Domain != "" {
		q = q.Where("EXISTS (SELECT 1 FROM scopes AS reach WHERE reach.pat_id = p.id AND reach.domain IN (?, ?))", f.Domain, models.Any)
	}
	if f.ID != "" {
		q = q.Where("p.id = ?", f.ID)
	}
	if f.Within != "" {
		q = q.Where(within, f.Within, models.Any, f.Within)
		if f.Approved != nil {
			not := map[bool]string{true: "", false: "NOT "}[*f.Approved]
			q = q.Where(not+"EXISTS (SELECT 1 FROM approvals AS given WHERE given.pat_id = p.id AND given.domain = ?)", f.Within)
		}
	}
	if !f.ExpiresBefore.IsZero() {
		q = q.Where(inPATs(live), s.liveAt(now)...).Where("p.expires_at < ?", exact(f.ExpiresBefore))
	}
	if !f.UnusedSince.IsZero() {
		since := exact(f.UnusedSince)
		q = q.Where("p.created_at < ? AND (p.last_used_at IS NULL OR p.last_used_at < ?)", since, since)
	}
	if where, args := s.statusIs(f.Status, now); where != "" {
		q = q.Where(inPATs(where), args...)
	}
	return q
}

// inPATs names the table in a condition on pats, for queries that join others
// with a column of the same name.
func inPATs(where string) string {
	return strings.NewReplacer(
		"revoked_at", "p.revoked_at", "expires_at", "p.expires_at", "created_at", "p.created_at",
	).Replace(where)
}

// contains is the LIKE pattern for text that has part in it, with \ as the escape
// character.
func contains(part string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(part) + "%"
}

// maxFamily bounds how far a chain of rotations is followed, in each direction.
const maxFamily = 50

// PATFamily returns the tokens of a chain of rotations: those that led to the
// token with this id, the latest first, and those that it led to, in order. The
// token itself and those deleted since are not among them.
func (s *Store) PATFamily(ctx context.Context, userID, id string) (family []models.PAT, err error) {
	if id == "" || !storable(userID, id) { // "" is what those without a successor were rotated to
		return nil, nil
	}
	err = s.list(ctx, "pat_family", func(db *gorm.DB) error {
		own := func(where string, args ...any) (row patRow, found bool, err error) {
			result := db.Table("pats AS p").Select(s.dialect.patSelect).Where("p.user_id = ?", userID).Where(where, args...).
				Order("p.created_at DESC, p.id DESC").Limit(1).Find(&row)
			return row, result.RowsAffected > 0, result.Error
		}
		for at, n := id, 0; n < maxFamily; n++ {
			row, found, err := own("p.rotated_to = ?", at)
			if err != nil {
				return err
			}
			if !found {
				break
			}
			family, at = append(family, row.model()), row.ID
		}
		row, found, err := own("p.id = ?", id)
		for n := 0; err == nil && found && row.RotatedTo != "" && n < maxFamily; n++ {
			if row, found, err = own("p.id = ?", row.RotatedTo); found {
				family = append(family, row.model())
			}
		}
		return err
	})
	return family, err
}
