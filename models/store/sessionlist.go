package store

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"gorm.io/gorm"
)

// StoredSession is one session of a user.
type StoredSession struct {
	ID        string // of the session: the hash of its token, which is no secret
	Data      []byte // as the manager encoded it
	ExpiresAt time.Time
}

// SessionID returns the id of the session with a token, as
// [scs.SessionManager.Token] returns it.
func SessionID(token string) string {
	sum := sha256.Sum256([]byte(token)) // as HashTokenInStore does
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// ByUser returns the sessions of a user that are neither expired nor ended.
func (ss *SessionStore) ByUser(ctx context.Context, userID string) ([]StoredSession, error) {
	if !storable(userID) {
		return nil, nil
	}
	var rows []struct {
		Token     string
		Data      []byte
		ExpiresAt time.Time
	}
	err := ss.s.list(ctx, "list_sessions", func(db *gorm.DB) error {
		return db.Raw("SELECT token, data, expires_at FROM sessions WHERE user_id = ? AND NOT ended AND expires_at > ? ORDER BY expires_at DESC, token",
			userID, ss.s.now()).Find(&rows).Error
	})
	if err != nil {
		return nil, err
	}
	out := make([]StoredSession, len(rows))
	for i, r := range rows {
		out[i] = StoredSession{ID: r.Token, Data: r.Data, ExpiresAt: r.ExpiresAt.UTC()}
	}
	return out, nil
}

// EndWithCode ends a session of a user, by its id, and the code that would begin a further
// one.
func (ss *SessionStore) EndWithCode(ctx context.Context, userID, id string) error {
	if !storable(userID, id) {
		return nil
	}
	return ss.s.run(ctx, "end_session", ss.s.writer, func(db *gorm.DB) error {
		// The code first: a session that it begins until then is another one's.
		if err := db.Where("user_id = ? AND purpose = ?", userID, beginSession).Delete(&codeRow{}).Error; err != nil {
			return err
		}
		return endSessions(db.Where("token = ?", id), userID)
	})
}

// DeleteOne ends a session of a user, by its id. One that is not there, or not
// theirs, is no error.
func (ss *SessionStore) DeleteOne(ctx context.Context, userID, id string) error {
	if !storable(userID, id) {
		return nil
	}
	return ss.s.run(ctx, "delete_session", ss.s.writer, func(db *gorm.DB) error {
		return endSessions(db.Where("token = ?", id), userID)
	})
}
