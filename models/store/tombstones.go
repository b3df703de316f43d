package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"patrol/models"
)

// Tombstones keeps, outside of the database, what was taken away, so that an
// earlier state of the database gives nothing back. Append returns when they are
// on the disk, with those that it could not write before.
type Tombstones interface {
	Append(stones []models.Tombstone) error
}

// warnNoTombstone is told to whoever took something away of which no tombstone
// could be written.
const warnNoTombstone = "this is done, but it could not be written to the file of tombstones: if the database is restored to an earlier time, it is undone"

// buried are the actions of which tombstones are kept: those that take something
// away, and those that give it back, without which nobody could tell.
var buried = []string{
	"pat.revoke", "pat.rotate", "pat.remove_scope", "pat.narrow", "pat.add_scope", "pat.approve", "pat.withdraw_approval", "pat.withdraw", "pat.admit", "pat.allowed_ips",
	"user.disable", "user.enable", "user.demote", "user.promote", "user.policy.grant", "user.policy.withdraw", "user.password", "user.reset",
	"member.set", "member.remove", "domain.status", "domain.limits", "identity.link", "identity.unlink",
	"key.retire", "policy.activate", "policy.rollback", "policy.promote",
}

// withoutNames returns what a tombstone keeps of the detail of an event. What names people takes
// nothing away, and anonymising could not reach it in a file.
func withoutNames(detail map[string]string) map[string]string {
	kept := maps.Clone(detail)
	for _, name := range []string{"email", "name", "description", "subject"} {
		delete(kept, name)
	}
	return kept
}

// bury writes tombstones of what the transaction, which is committed, took away.
func (t *tx) bury(ctx context.Context) {
	if t.config.Tombstones == nil || t.reapplies {
		return
	}
	var stones []models.Tombstone
	for _, row := range t.events {
		if slices.Contains(buried, row.Action) {
			e := row.event()
			stones = append(stones, models.Tombstone{At: e.At, Action: e.Action, Subject: e.Subject, Detail: withoutNames(e.Detail), Until: t.until[e.Subject]})
		}
	}
	if len(stones) == 0 && !t.ends {
		return
	}
	if err := t.config.Tombstones.Append(stones); err != nil {
		args := []any{"tombstones", len(stones), "error", err}
		if len(stones) > 0 {
			args = append(args, "first", stones[0].Subject, "action", stones[0].Action)
		}
		t.config.Logger.ErrorContext(ctx, "what was taken away could not be written to the file of tombstones: a restore would give it back", args...)
		models.Warn(ctx, warnNoTombstone)
	}
}

// outlives notes until when the tombstone of a token matters.
func (t *tx) outlives(id string, expires time.Time) {
	if t.until == nil {
		t.until = map[string]*time.Time{}
	}
	expires = expires.UTC()
	t.until[onPAT(id)] = &expires
}

// Installation returns the id of the installation that the database is of, which
// no other one has.
func (s *Store) Installation(ctx context.Context) (id string, err error) {
	err = s.read(ctx, "installation", func(db *gorm.DB) error {
		return db.Raw("SELECT id FROM installation").Find(&id).Error
	})
	return id, err
}

// TombstoneFile is a file of tombstones that a server writes to.
type TombstoneFile struct {
	ID       string
	Server   string // host and path, for people
	OpenedAt time.Time
}

// RegisterTombstones notes that there is such a file, so that a restore knows that
// it needs it.
func (s *Store) RegisterTombstones(ctx context.Context, f TombstoneFile) error {
	return s.run(ctx, "register_tombstones", s.writer, func(db *gorm.DB) error {
		return db.Exec(`INSERT INTO tombstone_files (id, server, opened_at) VALUES (?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET server = excluded.server, opened_at = excluded.opened_at`, f.ID, note(f.Server), s.now()).Error
	})
}

// TombstoneFiles returns the files that servers have written to.
func (s *Store) TombstoneFiles(ctx context.Context) (files []TombstoneFile, err error) {
	err = s.read(ctx, "tombstone_files", func(db *gorm.DB) error {
		return db.Raw("SELECT id, server, opened_at FROM tombstone_files ORDER BY server, id").Find(&files).Error
	})
	return files, err
}

// EndAccess ends all sessions and one-time codes, of which a restored database
// may have some that were ended since.
func (s *Store) EndAccess(ctx context.Context, by models.Actor) error {
	return s.write(ctx, "end_access", by, func(t *tx) error {
		if err := t.db.Exec("UPDATE sessions SET ended = TRUE, data = ? WHERE NOT ended", []byte{}).Error; err != nil {
			return err
		}
		if err := t.db.Exec("DELETE FROM one_time_codes").Error; err != nil {
			return err
		}
		return t.audit("database.restore", "database:", nil)
	})
}

// reapplyBatch is the number of tombstones that are compared with the database at a time.
const reapplyBatch = 200

// Reapply takes away again what tombstones say was taken away and the database
// does not know of, because it is of an earlier time. It gives nothing back: what
// was taken away and given back later stays as it is. What it did is returned, in
// words.
//
// An event that the database has needs nothing: whatever became of it later is in
// the database too.
func (s *Store) Reapply(ctx context.Context, by models.Actor, stones []models.Tombstone) (done []string, err error) {
	// Of the policy see [Store.LostPolicy].
	lost, err := s.lost(ctx, slices.DeleteFunc(slices.Clone(stones), ofPolicy))
	if err != nil || len(lost) == 0 {
		return nil, err
	}
	slices.SortStableFunc(lost, func(a, b models.Tombstone) int { return a.At.Compare(b.At) })
	// Of what was taken away and given back, in turns, the last counts.
	last := map[string]removal{}
	var order []string
	for _, stone := range lost {
		for _, r := range removalsOf(stone) {
			if _, ok := last[r.what]; !ok {
				order = append(order, r.what)
			}
			last[r.what] = r
		}
	}
	for part := range slices.Chunk(order, reapplyBatch) {
		var here []string
		err := s.write(ctx, "reapply", by, func(t *tx) error {
			t.reapplies, here = true, nil
			for _, what := range part {
				r := last[what]
				if r.apply == nil {
					continue
				}
				changed, err := r.apply(t)
				if err != nil {
					return err
				}
				if changed {
					here = append(here, r.what+" ("+r.stone.Action+" at "+r.stone.At.UTC().Format(time.RFC3339)+")")
				}
			}
			return nil
		})
		if err != nil {
			return done, err
		}
		done = append(done, here...)
	}
	// The events come last: until then a next run finds them missing.
	for part := range slices.Chunk(lost, reapplyBatch) {
		err := s.write(ctx, "reapply_events", by, func(t *tx) error {
			t.reapplies = true
			for _, stone := range part {
				detail := map[string]string{"reapplied": t.now.Format(time.RFC3339)}
				maps.Copy(detail, stone.Detail)
				row, err := newAuditRow(exact(stone.At), by, stone.Action, stone.Subject, detail)
				if err != nil {
					return err
				}
				t.events = append(t.events, row)
			}
			return nil
		})
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// lost returns the tombstones whose events the database does not have, each once.
func (s *Store) lost(ctx context.Context, stones []models.Tombstone) (lost []models.Tombstone, err error) {
	type key struct {
		action, subject string
		micros          int64
	}
	seen := map[key]bool{}
	for part := range slices.Chunk(stones, reapplyBatch) {
		subjects := make([]string, 0, len(part))
		earliest := part[0].At
		for _, stone := range part {
			if !storable(stone.Subject, stone.Action) {
				return nil, models.NewError(models.CodeConflict, "a tombstone has a text that no database can hold")
			}
			subjects = append(subjects, stone.Subject)
			if stone.At.Before(earliest) {
				earliest = stone.At
			}
		}
		var rows []auditRow
		err := s.list(ctx, "lost_events", func(db *gorm.DB) error {
			return db.Where("subject IN ? AND at >= ?", subjects, exact(earliest)).Find(&rows).Error
		})
		if err != nil {
			return nil, err
		}
		have := map[key]bool{}
		for _, r := range rows {
			have[key{r.Action, r.Subject, r.At.UnixMicro()}] = true
		}
		for _, stone := range part {
			k := key{stone.Action, stone.Subject, exact(stone.At).UnixMicro()}
			if !have[k] && !seen[k] {
				seen[k] = true
				lost = append(lost, stone)
			}
		}
	}
	return lost, nil
}

// removal is one thing that a tombstone says was taken away, or with apply nil,
// given back.
type removal struct {
	what  string // by which it is told from others
	stone models.Tombstone
	apply func(*tx) (changed bool, err error)
}

// removalsOf takes a tombstone apart.
func removalsOf(stone models.Tombstone) []removal {
	_, id, _ := strings.Cut(stone.Subject, ":")
	one := func(aspect string, apply func(*tx) (bool, error)) []removal {
		return []removal{{what: strings.TrimSpace(stone.Subject + " " + aspect), stone: stone, apply: apply}}
	}
	user := func(aspect, column string, value any, ends bool) []removal {
		return one(aspect, func(t *tx) (bool, error) { return t.reapplyUser(id, column, value, ends) })
	}
	scope := func(text string, apply func(*tx) (bool, error)) removal {
		return removal{what: stone.Subject + " scope " + text, stone: stone, apply: apply}
	}
	switch stone.Action {
	case "pat.revoke", "pat.rotate":
		return one("is dead", func(t *tx) (bool, error) { return t.reapplyEnd(id, stone) })
	case "pat.remove_scope":
		text := stone.Detail["scope"]
		return []removal{scope(text, func(t *tx) (bool, error) { return t.reapplyScope(id, text, stone) })}
	case "pat.add_scope":
		return []removal{scope(stone.Detail["scope"], nil)}
	case "pat.narrow":
		var out []removal
		kept := strings.Fields(stone.Detail["to"])
		for text := range strings.FieldsSeq(stone.Detail["from"]) {
			if !slices.Contains(kept, text) {
				out = append(out, scope(text, func(t *tx) (bool, error) { return t.reapplyScope(id, text, stone) }))
			}
		}
		return out
	case "pat.approve":
		return one("approval of "+stone.Detail["domain"], nil)
	case "pat.withdraw_approval":
		return one("approval of "+stone.Detail["domain"], func(t *tx) (bool, error) {
			return t.reapplyDelete("DELETE FROM approvals WHERE pat_id = ? AND domain = ?", id, stone.Detail["domain"], ChangeToken, id, "")
		})
	case "pat.withdraw":
		domain := stone.Detail["domain"]
		return one("is taken by "+domain, func(t *tx) (bool, error) { return t.reapplyWithdrawal(id, domain, stone) })
	case "pat.admit":
		return one("is taken by "+stone.Detail["domain"], nil)
	case "pat.allowed_ips":
		return one("addresses", func(t *tx) (bool, error) { return t.reapplyAllowedIPs(id, stone) })
	case "user.disable":
		return user("is enabled", "disabled", true, true)
	case "user.enable":
		return one("is enabled", nil)
	case "user.demote":
		return user("is a platform admin", "admin", false, false)
	case "user.promote":
		return one("is a platform admin", nil)
	case "user.policy.withdraw":
		return user("is in the policy team", "policy", false, false)
	case "user.policy.grant":
		return one("is in the policy team", nil)
	case "user.password", "user.reset":
		return user("has an earlier password", "password_hash", "", true)
	case "domain.status":
		return one("status", func(t *tx) (bool, error) { return t.reapplyStatus(id, models.DomainStatus(stone.Detail["to"])) })
	case "domain.limits":
		return one("limits", func(t *tx) (bool, error) { return t.reapplyLimits(id, stone) })
	case "key.retire":
		return one("is in use", func(t *tx) (bool, error) { return t.reapplyRetired(id, stone) })
	case "member.set", "member.remove":
		domain, userID, _ := strings.Cut(id, "/")
		return one("", func(t *tx) (bool, error) { return t.reapplyMember(domain, userID, stone) })
	case "identity.link":
		return one("identity at "+stone.Detail["issuer"], nil)
	case "identity.unlink":
		return one("identity at "+stone.Detail["issuer"], func(t *tx) (bool, error) {
			return t.reapplyDelete("DELETE FROM identities WHERE issuer = ? AND user_id = ?", stone.Detail["issuer"], id, ChangeUser, id, "")
		})
	}
	return nil
}

// reapplyEnd ends a token that was revoked or rotated.
func (t *tx) reapplyEnd(id string, stone models.Tombstone) (bool, error) {
	row, found, err := t.patByID(t.db, id)
	if err != nil || !found || row.RevokedAt != nil {
		return false, err
	}
	_, end := stone.EndedToken()
	update := map[string]any{"name_held": false}
	if next := stone.Detail["rotated_to"]; next != "" {
		update["rotated_to"] = next
	}
	if end.After(stone.At) && end.After(t.now) { // a grace that is not over
		if !end.Before(row.ExpiresAt) && row.RotatedTo != "" {
			return false, nil
		}
		update["expires_at"] = minTime(models.CeilSecond(end), row.ExpiresAt)
	} else {
		update["revoked_at"] = exact(stone.At)
		update["revoked_by"] = models.RevokerOperator
		if by := stone.Detail["by"]; by != "" {
			update["revoked_by"] = by
		}
		update["revoked_domain"], update["revoked_reason"] = stone.Detail["domain"], stone.Detail["reason"]
	}
	t.change(ChangeToken, id, "")
	return true, t.db.Model(&patRow{}).Where("id = ?", id).Updates(update).Error
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// reapplyScope takes a scope away from a token, and the token itself if it has no
// other one.
func (t *tx) reapplyScope(id, text string, stone models.Tombstone) (bool, error) {
	row, found, err := t.patByID(t.db, id)
	if err != nil || !found {
		return false, err
	}
	i := slices.IndexFunc(row.Scopes, func(sc models.Scope) bool { return sc.String() == text })
	switch {
	case i < 0:
		return false, nil
	case len(row.Scopes) == 1:
		stone.Action = "pat.revoke"
		return t.reapplyEnd(id, stone)
	}
	t.change(ChangeToken, id, "")
	return true, t.db.Exec("DELETE FROM scopes WHERE id = ? AND pat_id = ?", row.Scopes[i].ID, id).Error
}

func (t *tx) reapplyUser(id, column string, value any, ends bool) (bool, error) {
	row, err := t.lockUser(id)
	if models.CodeOf(err) == models.CodeNotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	before := map[string]any{"disabled": row.Disabled, "admin": row.Admin, "policy": row.Policy, "password_hash": row.PasswordHash}[column]
	if before == value {
		return false, nil
	}
	if err := t.db.Model(&userRow{}).Where("id = ?", id).Update(column, value).Error; err != nil {
		return false, err
	}
	t.change(ChangeUser, id, "")
	if ends {
		err = errors.Join(endSessions(t.db, id), t.db.Where("user_id = ?", id).Delete(&codeRow{}).Error)
	}
	return true, err
}

// strictness orders the statuses of a domain by whom they keep out.
var strictness = map[models.DomainStatus]int{models.DomainEnabled: 0, models.DomainIsDisabled: 1, models.DomainIsFrozen: 2}

func (t *tx) reapplyStatus(id string, to models.DomainStatus) (bool, error) {
	var row domainRow
	result := t.db.Where("id = ?", id).Limit(1).Find(&row)
	if result.Error != nil || result.RowsAffected == 0 || strictness[to] <= strictness[row.Status] {
		return false, result.Error
	}
	t.change(ChangeDomain, id, "")
	return true, t.db.Model(&domainRow{}).Where("id = ?", id).Update("status", to).Error
}

// reapplyMember takes a membership away that was taken away, or that had another
// role: which of two roles permits less is the policy's to say.
func (t *tx) reapplyMember(domain, userID string, stone models.Tombstone) (bool, error) {
	query, args := "DELETE FROM memberships WHERE domain = ? AND user_id = ?", []any{domain, userID}
	if stone.Action == "member.set" {
		query, args = query+" AND role <> ?", append(args, stone.Detail["role"])
	}
	result := t.db.Exec(query, args...)
	if result.Error != nil || result.RowsAffected == 0 {
		return false, result.Error
	}
	t.change(ChangeMembership, userID, domain)
	return true, nil
}

func (t *tx) reapplyDelete(query, a, b string, kind ChangeKind, key, key2 string) (bool, error) {
	result := t.db.Exec(query, a, b)
	if result.Error != nil {
		return false, fmt.Errorf("reapply: %w", result.Error)
	}
	if result.RowsAffected > 0 {
		t.change(kind, key, key2)
	}
	return result.RowsAffected > 0, nil
}
