package store

import (
	"context"
	"fmt"
	"time"

	"github.com/alexedwards/scs/v2"
	"gorm.io/gorm"
)

// SessionUserKey is the key of the session's data under which the manager keeps
// the id of the signed-in user, a string. The store reads it from every session
// that it commits, so that a user's sessions are known without further ado. A
// session without it belongs to nobody.
const SessionUserKey = "user_id"

// Keys of a session's data for the person and the session at the identity provider with which it
// began, as in [AtProvider]. The store reads them likewise.
const (
	SessionSubjectKey  = "provider_subject"
	SessionProviderKey = "provider_session"
)

// SessionStore keeps sign-in sessions for an [scs.SessionManager] with
// HashTokenInStore and the default codec. A token is here what that manager
// hands over: a hash.
//
// A session that was ended stays ended: requests that were under way write their
// session back when they are done, and that must not revive it.
type SessionStore struct{ s *Store }

var _ scs.CtxStore = (*SessionStore)(nil)

// Sessions returns the sessions in this database.
func (s *Store) Sessions() *SessionStore { return &SessionStore{s} }

// FindCtx returns the data of a session that is there and neither expired nor
// ended.
func (ss *SessionStore) FindCtx(ctx context.Context, token string) (data []byte, found bool, err error) {
	if !storable(token) {
		return nil, false, nil
	}
	var row struct{ Data []byte }
	err = ss.s.read(ctx, "find_session", func(db *gorm.DB) error {
		result := db.Raw("SELECT data FROM sessions WHERE token = ? AND NOT ended AND expires_at > ?", token, ss.s.now()).Find(&row)
		found = result.RowsAffected > 0
		return result.Error
	})
	if err != nil || !found {
		return nil, false, err
	}
	return row.Data, true, nil
}

// CommitCtx writes a session, unless it was ended before. One that begins with something is
// stored if that holds; see [WithBeginning].
func (ss *SessionStore) CommitCtx(ctx context.Context, token string, data []byte, expiry time.Time) error {
	_, values, err := scs.GobCodec{}.Decode(data)
	if err != nil {
		return fmt.Errorf("read the session's user: %w", err)
	}
	named := func(key string) *string {
		if id, ok := values[key].(string); ok && id != "" {
			return &id
		}
		return nil
	}
	user, subject, there := named(SessionUserKey), named(SessionSubjectKey), named(SessionProviderKey)
	store := func(db *gorm.DB) error {
		return db.Exec(`INSERT INTO sessions (token, user_id, data, expires_at, ended, provider_subject, provider_session) VALUES (?, ?, ?, ?, FALSE, ?, ?)
			ON CONFLICT (token) DO UPDATE SET user_id = excluded.user_id, data = excluded.data, expires_at = excluded.expires_at,
				provider_subject = excluded.provider_subject, provider_session = excluded.provider_session
			WHERE NOT sessions.ended`, token, user, data, exact(expiry), subject, there).Error
	}
	if b, begins := ctx.Value(beginningKey{}).(Beginning); begins && user != nil {
		return ss.s.begin(ctx, b, *user, store)
	}
	return ss.s.run(ctx, "commit_session", ss.s.writer, store)
}

// DeleteCtx ends a session. One that is not there is no error. While it is renewed it goes on; see
// [Beginning].
func (ss *SessionStore) DeleteCtx(ctx context.Context, token string) error {
	if b, begins := ctx.Value(beginningKey{}).(Beginning); begins && b.Renews != "" && token == b.Renews {
		return nil
	}
	return ss.s.run(ctx, "delete_session", ss.s.writer, func(db *gorm.DB) error {
		return db.Exec("UPDATE sessions SET ended = TRUE, data = ? WHERE token = ? AND NOT ended", []byte{}, token).Error
	})
}

// Find is FindCtx without a context.
func (ss *SessionStore) Find(token string) ([]byte, bool, error) {
	return ss.FindCtx(context.Background(), token)
}

// Commit is CommitCtx without a context.
func (ss *SessionStore) Commit(token string, data []byte, expiry time.Time) error {
	return ss.CommitCtx(context.Background(), token, data, expiry)
}

// Delete is DeleteCtx without a context.
func (ss *SessionStore) Delete(token string) error { return ss.DeleteCtx(context.Background(), token) }

func endSessions(db *gorm.DB, userID string) error {
	return db.Table("sessions").Where("user_id = ? AND NOT ended", userID).
		Updates(map[string]any{"ended": true, "data": []byte{}}).Error
}

// sweepDelay is the time for which rows outlive their session, so that a request that was
// under way when it ended finds it ended.
const sweepDelay = time.Hour

// Sweep removes the rows of sessions that expired a while ago.
func (ss *SessionStore) Sweep(ctx context.Context) error {
	return ss.s.run(ctx, "sweep_sessions", ss.s.writer, func(db *gorm.DB) error {
		return db.Exec("DELETE FROM sessions WHERE expires_at <= ?", ss.s.now().Add(-sweepDelay)).Error
	})
}
