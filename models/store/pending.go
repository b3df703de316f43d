package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"patrol/models"
)

// What somebody made and others use later, such as a reset link or an approval, counts as
// long as its maker could make it. It ends in the transaction that ends that, and does
// not come back with it; codes are judged once more when they are used.

// PendingCode is a one-time code that nobody has used.
type PendingCode struct {
	UserID, Email string
	Purpose       string // reset_password, begin_session or change_email
	NewEmail      string // of change_email
	MadeBy        string // a user, "" for an operator
	MadeAt        *time.Time
	ExpiresAt     time.Time
}

// PendingCodes lists the codes of a user that could be used now.
func (s *Store) PendingCodes(ctx context.Context, userID string) ([]PendingCode, error) {
	if !storable(userID) {
		return nil, nil
	}
	var codes []PendingCode
	err := s.list(ctx, "pending_codes", func(db *gorm.DB) error {
		return db.Raw(pendingCodes+" AND c.user_id = ? ORDER BY c.purpose", s.now(), userID).Find(&codes).Error
	})
	for i := range codes {
		codes[i] = codes[i].utc()
	}
	return codes, err
}

// AllPendingCodes lists the codes of all users that could be used now, by user.
func (s *Store) AllPendingCodes(ctx context.Context, p Page) ([]PendingCode, string, error) {
	key, err := p.key("code", 2)
	if err != nil {
		return nil, "", err
	}
	query, args := pendingCodes, []any{s.now()}
	if key != nil {
		query += " AND (c.user_id > ? OR c.user_id = ? AND c.purpose > ?)"
		args = append(args, key[0], key[0], key[1])
	}
	var rows []PendingCode
	err = s.list(ctx, "all_pending_codes", func(db *gorm.DB) error {
		return db.Raw(query+" ORDER BY c.user_id, c.purpose LIMIT ?", append(args, p.limit()+1)...).Find(&rows).Error
	})
	if err != nil {
		return nil, "", err
	}
	codes, next := cut(rows, p.limit(), PendingCode.utc, func(c PendingCode) string { return newCursor("code", c.UserID, c.Purpose) })
	return codes, next, nil
}

const pendingCodes = `SELECT c.user_id, u.email, c.purpose, COALESCE(c.new_email, '') AS new_email, c.made_by, c.made_at, c.expires_at
	FROM one_time_codes c JOIN users u ON u.id = c.user_id WHERE c.expires_at > ?`

func (c PendingCode) utc() PendingCode {
	c.ExpiresAt, c.MadeAt = c.ExpiresAt.UTC(), utc(c.MadeAt)
	return c
}

// WithdrawCodes ends the codes of a user that nobody has used, and returns how many there
// were.
func (s *Store) WithdrawCodes(ctx context.Context, by models.Actor, userID string) (n int, err error) {
	err = s.write(ctx, "withdraw_codes", by, func(t *tx) error {
		user, err := t.lockUser(userID)
		if err != nil {
			return err
		}
		n, err = t.endCodes("user_id = ? AND expires_at > ?", user.ID, t.now)
		return err
	})
	return n, err
}

// mayStill reports whether the maker of a code could make it now.
func (t *tx) mayStill(code codeRow) (bool, error) {
	if code.MadeBy == "" || code.MadeBy == code.UserID {
		return true, nil
	}
	var less int64 // users are not deleted
	err := t.db.Raw("SELECT COUNT(*) FROM users WHERE id = ? AND (disabled OR NOT admin)", code.MadeBy).Find(&less).Error
	return less == 0, err
}

// endCodes ends codes, and notes whose they were.
func (t *tx) endCodes(where string, args ...any) (int, error) {
	var codes []codeRow
	if err := t.db.Where(where, args...).Order("user_id, purpose").Find(&codes).Error; err != nil {
		return 0, err
	}
	for _, code := range codes {
		if err := t.db.Where("user_id = ? AND purpose = ?", code.UserID, code.Purpose).Delete(&codeRow{}).Error; err != nil {
			return 0, err
		}
		if err := t.audit("user.code_withdraw", onUser(code.UserID), map[string]string{"purpose": string(code.Purpose), "made_by": code.MadeBy}); err != nil {
			return 0, err
		}
	}
	return len(codes), nil
}

// endAuthority ends what a user made for others and could not make any more: after they are
// disabled or demoted, or have a new password, as somebody whose account was stolen has.
func (t *tx) endAuthority(before, after userRow) error {
	less := after.Disabled && !before.Disabled || before.Admin && !after.Admin
	if !less && after.PasswordHash == before.PasswordHash {
		return nil
	}
	if _, err := t.endCodes("made_by = ? AND user_id <> ?", after.ID, after.ID); err != nil || !less {
		return err
	}
	// Those that stay are given by an admin of the domain from now on.
	if err := t.changeApproved(after.ID); err != nil {
		return err
	}
	if after.Disabled {
		return t.endApprovals("approved_by = ?", after.ID)
	}
	// As an admin of the domain they could still give them.
	return t.endApprovals("approved_by = ? AND domain NOT IN (SELECT domain FROM memberships WHERE user_id = ?)", after.ID, after.ID)
}

// changeApproved puts a change of each token into the feed that a user approved: the approver's power changed.
func (t *tx) changeApproved(userID string) error {
	var ids []string
	if err := t.db.Raw("SELECT DISTINCT pat_id FROM approvals WHERE approved_by = ? ORDER BY pat_id", userID).Find(&ids).Error; err != nil {
		return err
	}
	for _, id := range ids {
		t.change(ChangeToken, id, "")
	}
	return nil
}

// endApprovalsIn ends the approvals that a user gave for a domain, whose role there
// changes; those of a platform admin stay.
func (t *tx) endApprovalsIn(userID, domain string) error {
	return t.endApprovals("domain = ? AND approved_by = ? AND NOT EXISTS (SELECT 1 FROM users WHERE id = ? AND admin AND NOT disabled)", domain, userID, userID)
}

func (t *tx) endApprovals(where string, args ...any) error {
	var given []struct {
		PATID  string `gorm:"column:pat_id"`
		Domain string
	}
	if err := t.db.Raw("SELECT pat_id, domain FROM approvals WHERE "+where+" ORDER BY pat_id, domain", args...).Find(&given).Error; err != nil {
		return err
	}
	for _, a := range given {
		if err := t.db.Exec("DELETE FROM approvals WHERE pat_id = ? AND domain = ?", a.PATID, a.Domain).Error; err != nil {
			return err
		}
		t.change(ChangeToken, a.PATID, "")
		if err := t.audit("pat.withdraw_approval", onPAT(a.PATID), map[string]string{"domain": a.Domain, "because": "who gave it can give it no more"}); err != nil {
			return err
		}
	}
	return nil
}
