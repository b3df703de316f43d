package store

import (
	"context"

	"gorm.io/gorm"

	"patrol/models"
)

// Beginning has what a session begins with. It is judged in the transaction that stores the
// session, so that whatever shuts the user out either refuses the session or ends it.
type Beginning struct {
	By models.Actor
	// Code is the hash of the code of [Store.CreateSessionCode] that begins the session and is
	// used up by it; "" if there is none. One that is no good is CodeNotFound.
	Code string
	// PasswordHash is the stored hash that the password was right for; "" if none was given. If
	// the user has another one by now, or is disabled, the session does not begin: CodeConflict.
	PasswordHash string
	// Renews is the id of the session that goes on under another token and ends with this
	// beginning; "" if there is none. One that has ended by now is CodeUnauthenticated.
	Renews string
}

type beginningKey struct{}

// WithBeginning returns a context in which a session that is committed begins with b.
func WithBeginning(ctx context.Context, b Beginning) context.Context {
	return context.WithValue(ctx, beginningKey{}, b)
}

// begin stores a session of a user if it may begin.
func (s *Store) begin(ctx context.Context, b Beginning, userID string, store func(*gorm.DB) error) error {
	return s.write(ctx, "begin_session", b.By, func(t *tx) error {
		user, err := t.beginner(b, userID)
		if err != nil {
			return err
		}
		if user.Disabled || b.PasswordHash != "" && user.PasswordHash != b.PasswordHash {
			return models.NewError(models.CodeConflict, "the account was changed while the session began")
		}
		if b.Renews != "" {
			result := t.db.Exec("UPDATE sessions SET ended = TRUE, data = ? WHERE token = ? AND user_id = ? AND NOT ended", []byte{}, b.Renews, userID)
			if result.Error != nil {
				return result.Error
			}
			if result.RowsAffected == 0 {
				return models.NewError(models.CodeUnauthenticated, "the session has ended")
			}
		}
		return store(t.db)
	})
}

// beginner returns the user whose session begins, locked, and uses the code up.
func (t *tx) beginner(b Beginning, userID string) (userRow, error) {
	if b.Code == "" {
		return t.lockUser(userID)
	}
	_, user, err := t.useCode(beginSession, b.Code)
	if err == nil && user.ID != userID {
		err = notFound("code")
	}
	if err != nil {
		return userRow{}, err
	}
	return user, t.audit("session.code_use", onUser(user.ID), map[string]string{"email": user.Email})
}
