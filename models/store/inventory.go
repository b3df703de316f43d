package store

import (
	"cmp"
	"context"
	"slices"
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
	// AdminRoles, with Approved, are the roles that administer a domain: approvals of those who
	// have none of them, and are no platform admins, do not count. nil: all count.
	AdminRoles []string
	// ExpiresBefore leaves tokens that are alive and end before this time.
	ExpiresBefore time.Time
	// UnusedSince leaves tokens that were made before this time and not used
	// since.
	UnusedSince time.Time
	// ByExpiry puts what is alive and ends first before the rest. Otherwise the
	// newest come first.
	ByExpiry bool

	approvedFor string // the domain that Approved is about, if Within is seen to
}

// OwnedPAT is a token with the address of its owner.
type OwnedPAT struct {
	models.PAT
	Email string
	// Platform says that the owner is a platform admin.
	Platform bool
}

// ownedRow is a row of pats with its owner's address, and whether the token is
// past its life, for the order.
type ownedRow struct {
	PAT      patRow `gorm:"embedded"`
	Email    string
	Platform bool
	Dead     int
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
	read := s.list
	if f.ID != "" { // one token, as before it is revoked
		read = s.read
	}
	var rows []ownedRow
	err = read(ctx, "search_pats", func(db *gorm.DB) error {
		rows = nil
		few, err := fewMembers(db, f.Within)
		if err != nil {
			return err
		}
		for _, b := range s.branches(f, now, few) {
			rank := "0"
			if b.dead {
				rank = "1"
			}
			q := db.Table(b.from).Select(s.dialect.patSelect + ", u.email AS email, u.admin AS platform, " + rank + " AS dead").Where("u.id = p.user_id")
			if b.where != "" {
				q = q.Where(b.where, b.args...)
			}
			switch {
			case key == nil:
			case f.ByExpiry && b.dead && dead == 0: // all of these come later
			case f.ByExpiry && !b.dead && dead != 0: // and these came before
				continue
			case f.ByExpiry:
				q = q.Where("(p.expires_at, p.id) > (?, ?)", at, key[2])
			default:
				q = q.Where("("+b.at+", "+b.id+") < (?, ?)", at, key[2])
			}
			var found []ownedRow
			if err := s.searched(q.Order(b.order()).Limit(p.limit()+1), b.rest, now).Find(&found).Error; err != nil {
				return err
			}
			rows = append(rows, found...)
			if f.ByExpiry && !b.dead && len(found) > p.limit() {
				break
			}
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	rows = merged(rows, f.ByExpiry, p.limit()+1)
	pats, next := cut(rows, p.limit(), func(r ownedRow) OwnedPAT { return OwnedPAT{PAT: r.PAT.model(), Email: r.Email, Platform: r.Platform} }, func(r ownedRow) string {
		by := r.PAT.CreatedAt
		if f.ByExpiry {
			by = r.PAT.ExpiresAt
		}
		return newCursor(kind, strconv.Itoa(r.Dead), strconv.FormatInt(by.UnixMicro(), 10), r.PAT.ID)
	})
	return pats, next, nil
}

// merged puts what several branches found in order, each token once.
func merged(rows []ownedRow, byExpiry bool, limit int) []ownedRow {
	slices.SortFunc(rows, func(a, b ownedRow) int {
		if byExpiry {
			return cmp.Or(cmp.Compare(a.Dead, b.Dead), a.PAT.ExpiresAt.Compare(b.PAT.ExpiresAt), cmp.Compare(a.PAT.ID, b.PAT.ID))
		}
		return cmp.Or(b.PAT.CreatedAt.Compare(a.PAT.CreatedAt), cmp.Compare(b.PAT.ID, a.PAT.ID))
	})
	rows = slices.CompactFunc(rows, func(a, b ownedRow) bool { return a.PAT.ID == b.PAT.ID })
	return rows[:min(len(rows), limit)]
}

// branch is a part of a search that an index has in its order, so that no more is read
// than is shown.
type branch struct {
	from   string // with pats as p and users as u
	where  string
	args   []any
	at, id string    // what the newest go by
	rest   PATSearch // what else is to hold
	dead   bool      // of those by their expiry
	sorted bool      // there are few: an index of another order finds them
}

func (b branch) order() string {
	switch {
	case b.at != "" && b.sorted: // an expression, which no index has
		return "COALESCE(" + b.at + ", " + b.at + ") DESC, " + b.id + " DESC"
	case b.at != "":
		return b.at + " DESC, " + b.id + " DESC"
	case b.sorted:
		return "COALESCE(p.expires_at, p.expires_at), p.id"
	}
	return "p.expires_at, p.id"
}

// CROSS JOIN has SQLite read the tables in this order.
const (
	fromPATs   = "pats AS p CROSS JOIN users AS u"
	fromDomain = "domain_pats AS r CROSS JOIN pats AS p CROSS JOIN users AS u"
	// fromMembers are the tokens of a domain's members and of platform admins, of which
	// those count that name any domain.
	fromMembers  = "users AS u CROSS JOIN pats AS p"
	wildOfMember = "u.id IN (SELECT user_id FROM memberships WHERE domain = ? UNION SELECT id FROM users WHERE admin) AND " +
		"EXISTS (SELECT 1 FROM domain_pats AS r WHERE r.domain = ? AND r.created_at = p.created_at AND r.pat_id = p.id)"
	// wildWithin is which tokens that name any domain a domain's admins may know of.
	wildWithin = "(u.admin OR EXISTS (SELECT 1 FROM memberships AS inside WHERE inside.user_id = u.id AND inside.domain = ?))"
)

// within is the condition on a token p of a user u that a domain's admins may know
// of it. It takes the domain, [models.Any] and the domain.
const within = `(EXISTS (SELECT 1 FROM scopes AS named WHERE named.pat_id = p.id AND named.domain = ?)
	OR EXISTS (SELECT 1 FROM scopes AS wild WHERE wild.pat_id = p.id AND wild.domain = ?) AND ` + wildWithin + `)`

// maxMembers bounds the members of a domain whose tokens are sought one by
// one.
const maxMembers = 50

// fewMembers reports whether a domain has few members.
func fewMembers(db *gorm.DB, domain string) (bool, error) {
	if domain == "" {
		return false, nil
	}
	var ids []string
	err := db.Raw("SELECT user_id FROM memberships WHERE domain = ? LIMIT ?", domain, maxMembers+1).Find(&ids).Error
	return len(ids) <= maxMembers, err
}

// branches are the parts of a search. If there are few members, theirs are sought.
func (s *Store) branches(f PATSearch, now time.Time, few bool) []branch {
	if f.ByExpiry {
		return s.byExpiry(f, now)
	}
	domain, rest, wild := f.Within, f, []any(nil)
	if domain != "" {
		rest.Within, wild = "", []any{f.Within}
	} else if f.Domain != "" {
		domain, rest.Domain = f.Domain, ""
	}
	if domain == "" || f.ID != "" || f.UserID != "" {
		return []branch{{from: fromPATs, at: "p.created_at", id: "p.id", rest: f}}
	}
	if f.Approved != nil {
		rest.approvedFor = f.Within
	}
	named := branch{from: fromDomain, where: "p.id = r.pat_id AND r.domain = ?", args: []any{domain}, at: "r.created_at", id: "r.pat_id", rest: rest}
	anywhere := named
	anywhere.args = []any{models.Any}
	switch {
	case few: // their tokens are sought, not theirs among all that name any domain
		anywhere.from, anywhere.where, anywhere.args = fromMembers, wildOfMember, append(wild, models.Any)
		anywhere.at, anywhere.id, anywhere.sorted = "p.created_at", "p.id", true
	case wild != nil:
		anywhere.where, anywhere.args = named.where+" AND "+wildWithin, append(anywhere.args, wild...)
	}
	if domain == models.Any {
		return []branch{named}
	}
	return []branch{named, anywhere}
}

// byExpiry are the parts of a search in the order in which tokens end. Those that the
// status leaves nothing of are not read.
func (s *Store) byExpiry(f PATSearch, now time.Time) []branch {
	rest := f
	rest.Status = ""
	at := s.liveAt(now)
	var all []branch
	add := func(status models.Status, b branch) {
		if f.Status != models.StatusActive && f.Status != models.StatusExpired && f.Status != models.StatusRevoked || f.Status == status {
			b.from, b.rest = fromPATs, rest
			all = append(all, b)
		}
	}
	add(models.StatusActive, branch{where: "p.revoked_at IS NULL AND p.expires_at > ? AND p.created_at > ?", args: at})
	if !f.ExpiresBefore.IsZero() { // which leaves none but those
		return all
	}
	add(models.StatusRevoked, branch{where: "p.revoked_at IS NOT NULL", dead: true})
	add(models.StatusExpired, branch{where: "p.revoked_at IS NULL AND p.expires_at <= ?", args: at[:1], dead: true})
	add(models.StatusExpired, branch{where: "p.revoked_at IS NULL AND p.expires_at > ? AND p.created_at <= ?", args: at, dead: true, sorted: true})
	return all
}

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
	}
	if domain := cmp.Or(f.approvedFor, f.Within); f.Approved != nil && domain != "" {
		not := map[bool]string{true: "", false: "NOT "}[*f.Approved]
		given, args := "given.pat_id = p.id AND given.domain = ?", []any{domain}
		if f.AdminRoles != nil {
			given += ` AND (given.approved_by = '' OR EXISTS (SELECT 1 FROM users y WHERE y.id = given.approved_by AND y.admin AND NOT y.disabled)
				OR EXISTS (SELECT 1 FROM memberships m WHERE m.user_id = given.approved_by AND m.domain = given.domain AND m.role IN ?))`
			args = append(args, append([]string{""}, f.AdminRoles...))
		}
		q = q.Where(not+"EXISTS (SELECT 1 FROM approvals AS given WHERE "+given+")", args...)
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
