package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"patrol/models"
)

// AtProvider names a person and a session at an identity provider, each by a hash of issuer
// and id; "" for none.
type AtProvider struct{ Subject, Session string }

// Logout names the sessions that an identity provider ends: those that began there, of a person,
// in a session there, or of a person in a session. Those of which the provider did not name its
// session are in any.
type Logout struct {
	AtProvider
	Token   string    // hash of issuer and id of the message, which counts once
	Expires time.Time // no message is taken so long after it was made
}

// meant narrows rows with provider_subject and provider_session to those of a logout.
func (l Logout) meant(db *gorm.DB) *gorm.DB {
	switch {
	case l.Subject == "":
		return db.Where("provider_session = ?", l.Session)
	case l.Session == "":
		return db.Where("provider_subject = ?", l.Subject)
	}
	return db.Where("provider_subject = ? AND (provider_session IS NULL OR provider_session = ?)", l.Subject, l.Session)
}

// EndAtProvider ends sessions because their identity provider says so, and the codes that would
// begin further ones, and returns how many sessions there were. Tokens stay. A message that was
// obeyed before is CodeTaken.
func (s *Store) EndAtProvider(ctx context.Context, by models.Actor, in Logout) (ended int, err error) {
	if in.Subject == "" && in.Session == "" {
		return 0, nil
	}
	err = s.write(ctx, "end_at_provider", by, func(t *tx) error {
		if err := t.db.Exec("DELETE FROM logout_tokens WHERE expires_at <= ?", t.now).Error; err != nil {
			return err
		}
		result := t.db.Exec("INSERT INTO logout_tokens (hash, expires_at) VALUES (?, ?) ON CONFLICT DO NOTHING", in.Token, exact(in.Expires))
		switch {
		case result.Error != nil:
			return result.Error
		case result.RowsAffected == 0:
			return models.NewError(models.CodeTaken, "this message was obeyed before")
		}
		// The codes first: a session that one of them begins until then is among those that end.
		if err := in.meant(t.db).Where("purpose = ?", beginSession).Delete(&codeRow{}).Error; err != nil {
			return err
		}
		var rows []struct {
			UserID string
			N      int
		}
		if err := in.meant(t.db.Table("sessions")).Select("user_id, COUNT(*) AS n").Where("NOT ended AND user_id IS NOT NULL").
			Group("user_id").Order("user_id").Find(&rows).Error; err != nil {
			return err
		}
		ended = 0
		for _, row := range rows {
			ended += row.N
			if err := endSessions(in.meant(t.db), row.UserID); err != nil {
				return err
			}
			if err := t.audit("session.end", onUser(row.UserID), map[string]string{"by": "the identity provider"}); err != nil {
				return err
			}
		}
		return nil
	})
	return ended, err
}
