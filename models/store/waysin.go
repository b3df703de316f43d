package store

import "patrol/models"

// Codes of a user besides links to choose a new password: those that sign a program in as
// the user or change the address, and what the user made for others.
const waysByCode = "(user_id = ? AND purpose <> 'reset_password' OR made_by = ? AND user_id <> ?) AND expires_at > ?"

// waysIn counts what would let somebody in as a user, or act for them, without the password.
func (t *tx) waysIn(userID string) (found models.WaysIn, err error) {
	for _, count := range []struct {
		into  *int
		query string
		args  []any
	}{
		{&found.Identities, "SELECT COUNT(*) FROM identities WHERE user_id = ?", []any{userID}},
		{&found.Sessions, "SELECT COUNT(*) FROM sessions WHERE user_id = ? AND NOT ended AND expires_at > ?", []any{userID, t.now}},
		{&found.Codes, "SELECT COUNT(*) FROM one_time_codes WHERE " + waysByCode, []any{userID, userID, userID, t.now}},
		{&found.Tokens, "SELECT COUNT(*) FROM pats WHERE user_id = ? AND revoked_at IS NULL AND expires_at > ?", []any{userID, t.now}},
	} {
		var n int64
		if err := t.db.Raw(count.query, count.args...).Find(&n).Error; err != nil {
			return found, err
		}
		*count.into = int(n)
	}
	return found, nil
}

// remove ends ways into an account, which the transaction has locked.
func (t *tx) remove(userID string, what models.Removal) error {
	if what.Codes {
		if _, err := t.endCodes(waysByCode, userID, userID, userID, t.now); err != nil {
			return err
		}
	}
	if what.Identities {
		user, err := t.lockUser(userID)
		if err != nil {
			return err
		}
		var rows []identityRow
		if err := t.db.Where("user_id = ?", userID).Order("issuer").Find(&rows).Error; err != nil {
			return err
		}
		if err := t.unlinkIdentities(user, "", rows...); err != nil {
			return err
		}
	}
	if what.Sessions {
		if err := endSessions(t.db, userID); err != nil {
			return err
		}
		if err := t.audit("session.end", onUser(userID), map[string]string{"by": "reset of the password"}); err != nil {
			return err
		}
	}
	if what.Tokens {
		if _, err := t.revokeAll(userID, models.Revocation{Reason: "The password of the account was reset."}); err != nil {
			return err
		}
	}
	return nil
}
