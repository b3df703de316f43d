package store

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"gorm.io/gorm"

	"patrol/models"
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
// one. how says for the audit log in what way; "" for the plain one.
func (ss *SessionStore) EndWithCode(ctx context.Context, by models.Actor, userID, id, how string) error {
	return ss.end(ctx, by, userID, id, how, func(t *tx) error {
		// The code first: a session that it begins until then is another one's.
		if err := t.db.Where("user_id = ? AND purpose = ?", userID, beginSession).Delete(&codeRow{}).Error; err != nil {
			return err
		}
		return endSessions(t.db.Where("token = ?", id), userID)
	})
}

// DeleteOne ends a session of a user, by its id. One that is not there, or not
// theirs, is no error.
func (ss *SessionStore) DeleteOne(ctx context.Context, by models.Actor, userID, id, how string) error {
	return ss.end(ctx, by, userID, id, how, func(t *tx) error {
		return endSessions(t.db.Where("token = ?", id), userID)
	})
}

// DeleteByUser ends all sessions of a user but the one with the token
// exceptToken, as [scs.SessionManager.Token] returns it, or "" for none, and the
// code that would begin a further one.
func (ss *SessionStore) DeleteByUser(ctx context.Context, by models.Actor, userID, exceptToken, how string) error {
	return ss.end(ctx, by, userID, "", how, func(t *tx) error {
		// The code first: a session that it begins until then is among those that end.
		if err := t.db.Where("user_id = ? AND purpose = ?", userID, beginSession).Delete(&codeRow{}).Error; err != nil {
			return err
		}
		return endSessions(t.db.Where("token <> ?", SessionID(exceptToken)), userID)
	})
}

// end ends sessions of a user with their audit event.
func (ss *SessionStore) end(ctx context.Context, by models.Actor, userID, id, how string, end func(*tx) error) error {
	if !storable(userID, id) {
		return nil
	}
	return ss.s.write(ctx, "end_sessions", by, func(t *tx) error {
		if err := end(t); err != nil {
			return err
		}
		var detail map[string]string
		if how != "" {
			detail = map[string]string{"by": how}
		}
		return t.audit("session.end", onUser(userID), detail)
	})
}
