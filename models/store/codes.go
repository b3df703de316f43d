package store

import (
	"context"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"patrol/models"
)

// codePurpose is the act that a one-time code permits.
type codePurpose string

const (
	resetPassword codePurpose = "reset_password" // choose a new password
	beginSession  codePurpose = "begin_session"  // sign a program in
	changeEmail   codePurpose = "change_email"   // confirm another address, as its signed-in owner
)

type codeRow struct {
	UserID     string      `gorm:"primaryKey"`
	Purpose    codePurpose `gorm:"primaryKey"`
	Hash       string
	ExpiresAt  time.Time
	SignedInAt *time.Time // of a code that begins a session
	MadeBy     string     // a user, "" for an operator
	MadeAt     *time.Time
	NewEmail   *string // of a code that changes an address
	// As in [AtProvider], of the session that made a code that begins one; nil: it did not begin
	// at a provider.
	ProviderSubject *string
	ProviderSession *string
}

func (codeRow) TableName() string { return "one_time_codes" }

// CreateResetCode stores the hash of a code that lets its holder choose a new
// password for a user until a time, once. An earlier code of the user ends. What is to be
// removed is removed in the same transaction; the answer counts it, and what stays. A
// disabled user is CodeConflict.
func (s *Store) CreateResetCode(ctx context.Context, by models.Actor, userID, hash string, expires time.Time, remove models.Removal) (removed, stays models.WaysIn, err error) {
	err = s.write(ctx, "create_reset_code", by, func(t *tx) error {
		if err := t.createCode(codeRow{UserID: userID, Purpose: resetPassword, Hash: hash, ExpiresAt: exact(expires)}, "user.reset_link"); err != nil {
			return err
		}
		before, err := t.waysIn(userID)
		if err != nil {
			return err
		}
		if err := t.remove(userID, remove); err != nil {
			return err
		}
		if stays, err = t.waysIn(userID); err != nil {
			return err
		}
		removed = before.Less(stays)
		return nil
	})
	return removed, stays, err
}

// createCode stores a code in place of the user's earlier one of the purpose.
func (t *tx) createCode(row codeRow, action string) error {
	user, err := t.lockUser(row.UserID)
	if err != nil {
		return err
	}
	if user.Disabled {
		return models.NewError(models.CodeConflict, "the account is disabled; enable it first")
	}
	if err := t.db.Where("expires_at <= ?", t.now).Delete(&codeRow{}).Error; err != nil {
		return err
	}
	if t.by.Kind == models.ActorUser {
		row.MadeBy = t.by.UserID
	}
	row.MadeAt = &t.now
	if err := t.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error; err != nil {
		return err
	}
	detail := map[string]string{"email": user.Email, "expires": row.ExpiresAt.Format(time.RFC3339)}
	if row.NewEmail != nil {
		detail["to"] = *row.NewEmail
	}
	return t.audit(action, onUser(user.ID), detail)
}

// useCode takes a code away and returns it and its user, locked. A code that is not
// known, used, replaced or expired, or whose user is disabled, is CodeNotFound.
func (t *tx) useCode(purpose codePurpose, hash string) (code codeRow, user userRow, err error) {
	if !storable(hash) {
		return code, user, notFound("code")
	}
	result := t.db.Where("hash = ? AND purpose = ? AND expires_at > ?", hash, purpose, t.now).Limit(1).Find(&code)
	if result.Error != nil {
		return code, user, result.Error
	}
	if result.RowsAffected == 0 {
		return code, user, notFound("code")
	}
	if user, err = t.lockUser(code.UserID); err != nil {
		return code, user, err
	}
	if able, err := t.mayStill(code); err != nil || !able {
		if err == nil {
			err = notFound("code")
		}
		return code, user, err
	}
	// The code was read before the lock: whoever held it may have used the code.
	result = t.db.Where("hash = ? AND purpose = ?", hash, purpose).Delete(&codeRow{})
	if result.Error != nil {
		return code, user, result.Error
	}
	if result.RowsAffected == 0 || user.Disabled {
		return code, user, notFound("code")
	}
	t.by.UserID = user.ID // who holds the code acts as its user
	return code, user, nil
}

// CreateSessionCode stores the hash of a code that begins a session of a user until
// a time, once, as recent as the sign-in of whoever makes it. An earlier code of the
// user ends. What ends the maker's session at the provider ends that session, too. A
// disabled user is CodeConflict.
func (s *Store) CreateSessionCode(ctx context.Context, by models.Actor, userID, hash string, signedInAt, expires time.Time, there AtProvider) error {
	at := exact(signedInAt)
	row := codeRow{UserID: userID, Purpose: beginSession, Hash: hash, ExpiresAt: exact(expires), SignedInAt: &at}
	if there.Subject != "" {
		row.ProviderSubject = &there.Subject
	}
	if there.Session != "" {
		row.ProviderSession = &there.Session
	}
	return s.write(ctx, "create_session_code", by, func(t *tx) error { return t.createCode(row, "session.code") })
}

// there is the person and session at a provider that a code is bound to.
func (r codeRow) there() (at AtProvider) {
	if r.ProviderSubject != nil {
		at.Subject = *r.ProviderSubject
	}
	if r.ProviderSession != nil {
		at.Session = *r.ProviderSession
	}
	return at
}

// SessionCode returns whose session a code would begin, when they gave their credentials, and
// where. The code is used up by the session that it begins; see [Beginning]. One that is no good
// is CodeNotFound, as in [Store.ResetPassword].
func (s *Store) SessionCode(ctx context.Context, hash string) (models.User, time.Time, AtProvider, error) {
	var code codeRow
	found := false
	if storable(hash) {
		err := s.read(ctx, "session_code", func(db *gorm.DB) error {
			result := db.Where("hash = ? AND purpose = ? AND expires_at > ?", hash, beginSession, s.now()).Limit(1).Find(&code)
			found = result.RowsAffected > 0
			return result.Error
		})
		if err != nil {
			return models.User{}, time.Time{}, AtProvider{}, err
		}
	}
	if !found {
		return models.User{}, time.Time{}, AtProvider{}, notFound("code")
	}
	user, err := s.User(ctx, code.UserID)
	if err == nil && (user == nil || user.Disabled) {
		err = notFound("code")
	}
	if err != nil {
		return models.User{}, time.Time{}, AtProvider{}, err
	}
	var at time.Time
	if code.SignedInAt != nil {
		at = code.SignedInAt.UTC()
	}
	return *user, at, code.there(), nil
}

// ResetCodeUser returns the user whose password the code with this hash can
// reset now, nil if there is none.
func (s *Store) ResetCodeUser(ctx context.Context, hash string) (*models.User, error) {
	return s.oneUser(ctx, "reset_code_user", `SELECT u.* FROM one_time_codes c JOIN users u ON u.id = c.user_id
		WHERE c.hash = ? AND c.purpose = ? AND c.expires_at > ? AND NOT u.disabled
		AND NOT EXISTS (SELECT 1 FROM users m WHERE m.id = c.made_by AND (m.disabled OR NOT m.admin))`, hash, resetPassword, s.now())
}

// ResetPassword uses the code with this hash up and gives its user a new
// password, which ends all of the user's sessions. The holder of the code acts as
// the user. A code that is not known, used, replaced or expired, or whose user is
// disabled, is CodeNotFound: of any number of calls with one code, one succeeds.
func (s *Store) ResetPassword(ctx context.Context, by models.Actor, hash, passwordHash string) (models.User, error) {
	var row userRow
	err := s.write(ctx, "reset_password", by, func(t *tx) error {
		_, user, err := t.useCode(resetPassword, hash)
		if err != nil {
			return err
		}
		row = user
		before := row
		row.PasswordHash = passwordHash
		if err := t.audit("user.reset", onUser(row.ID), map[string]string{"email": row.Email}); err != nil {
			return err
		}
		return t.saveUser(before, row)
	})
	return written(row, err)
}

// SetPassword gives a user another password, which ends all of the user's sessions and one-time
// codes. With "" the user has none.
func (s *Store) SetPassword(ctx context.Context, by models.Actor, userID, passwordHash string) (models.User, error) {
	return s.UpdateUser(ctx, by, userID, UserPatch{PasswordHash: &passwordHash})
}

// RenewPasswordHash replaces the stored hash of a password by another hash of the
// same password. It is no new password: sessions go on. If the hash is not from
// any more, because the password was changed meanwhile, nothing happens.
func (s *Store) RenewPasswordHash(ctx context.Context, by models.Actor, userID, from, to string) error {
	return s.write(ctx, "renew_password_hash", by, func(t *tx) error {
		user, err := t.lockUser(userID)
		if err != nil || user.PasswordHash != from {
			return err
		}
		if err := t.db.Model(&userRow{}).Where("id = ?", userID).Update("password_hash", to).Error; err != nil {
			return err
		}
		t.change(ChangeUser, userID, "")
		return t.audit("user.rehash", onUser(userID), map[string]string{"email": user.Email})
	})
}
