package store

import (
	"context"
	"strings"
	"time"

	"gorm.io/gorm/clause"

	"patrol/models"
)

// formerEmailRow is an address that a user had before. It stays taken, but for that user.
type formerEmailRow struct {
	Email  string `gorm:"primaryKey"`
	UserID string
	Until  time.Time
}

func (formerEmailRow) TableName() string { return "former_emails" }

// CreateEmailCode stores the hash of a code with which a user confirms another address until a
// time, once. An earlier code of the user for an address ends. A disabled user, and the address
// that the user has, are CodeConflict; one that is or was somebody else's is CodeTaken.
func (s *Store) CreateEmailCode(ctx context.Context, by models.Actor, userID, email, hash string, expires time.Time) error {
	email = models.NormalizeEmail(email)
	if !storable(email) {
		var v models.Invalid
		v.Add("email", "is not an email address")
		return v.Err()
	}
	return s.write(ctx, "create_email_code", by, func(t *tx) error {
		user, err := t.lockUser(userID)
		if err != nil {
			return err
		}
		if user.Email == email {
			return models.NewError(models.CodeConflict, "this is the address of the account already")
		}
		if err := t.checkEmail(email, userID); err != nil {
			return err
		}
		var n int64
		if err := t.db.Raw("SELECT COUNT(*) FROM users WHERE email = ?", email).Find(&n).Error; err != nil {
			return err
		}
		if n > 0 {
			return models.NewError(models.CodeTaken, "there is a user with this email address already")
		}
		return t.createCode(codeRow{UserID: userID, Purpose: changeEmail, Hash: hash, ExpiresAt: exact(expires), NewEmail: &email}, "user.email_link")
	})
}

// ChangeEmail uses the code with this hash up and gives its user, who must be the one with the
// id, the address that it is for. Sessions of the user end, but the one with the token spare, and
// so do codes, which went to the old address; identities and tokens stay. The old address stays
// taken. A code that is not known, used, replaced or expired, of another user, or for an address
// that is taken by now is CodeNotFound: the owner of an account is not told who has others.
func (s *Store) ChangeEmail(ctx context.Context, by models.Actor, userID, hash, spare string) (models.User, error) {
	var row userRow
	err := s.write(ctx, "change_email", by, func(t *tx) error {
		// Alone with the accounts: who is added at the same time must not get the old address.
		if err := t.lock(lockAccounts); err != nil {
			return err
		}
		code, user, err := t.useCode(changeEmail, hash)
		if err != nil {
			return err
		}
		if user.ID != userID || code.NewEmail == nil {
			return notFound("code")
		}
		before := user
		row = user
		row.Email = *code.NewEmail
		if err := t.checkEmail(row.Email, userID); err != nil {
			return err
		}
		if err := t.keepEmail(before.Email, row.Email, userID); err != nil {
			return err
		}
		if err := endSessions(t.db.Where("token <> ?", SessionID(spare)), userID); err != nil {
			return err
		}
		if _, err := t.endCodes("user_id = ? OR new_email = ?", userID, row.Email); err != nil {
			return err
		}
		return t.saveUser(before, row)
	})
	if models.CodeOf(err) == models.CodeTaken {
		err = notFound("code")
	}
	return written(row, err)
}

// keepEmail notes that an address was a user's, who has another one now.
func (t *tx) keepEmail(before, now, userID string) error {
	if err := t.db.Exec("DELETE FROM former_emails WHERE email = ?", now).Error; err != nil {
		return err
	}
	row := formerEmailRow{Email: before, UserID: userID, Until: t.now}
	return t.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error
}

// checkEmail is CodeTaken if an address is that of a user who is anonymised, or was that of
// somebody else than the user with the id.
func (t *tx) checkEmail(email, userID string) error {
	hashed, err := t.hashedEmail(email)
	if err != nil {
		return err
	}
	var n int64
	if err := t.db.Raw(`SELECT (SELECT COUNT(*) FROM users WHERE email = ?) + (SELECT COUNT(*) FROM former_emails WHERE email IN (?, ?) AND user_id <> ?)`,
		hashed, email, hashed, userID).Find(&n).Error; err != nil {
		return err
	}
	if n > 0 || strings.HasSuffix(email, models.AnonymisedDomain) {
		return models.NewError(models.CodeTaken, "there is or was a user with this email address; addresses are not given to others")
	}
	return nil
}

// formerEmails returns the addresses that a user had before.
func (t *tx) formerEmails(userID string) (emails []string, err error) {
	err = t.db.Raw("SELECT email FROM former_emails WHERE user_id = ? ORDER BY email", userID).Find(&emails).Error
	return emails, err
}
