package store

import (
	"context"
	"slices"
	"time"

	"gorm.io/gorm"

	"patrol/models"
)

type identityRow struct {
	Issuer     string `gorm:"primaryKey"`
	Subject    string `gorm:"primaryKey"`
	UserID     string
	CreatedAt  time.Time
	LastUsedAt *time.Time
}

func (identityRow) TableName() string { return "identities" }

func (r identityRow) model() models.Identity {
	r.CreatedAt, r.LastUsedAt = r.CreatedAt.UTC(), utc(r.LastUsedAt)
	return models.Identity(r)
}

// UserByIdentity returns the user who is the subject at the issuer, nil if there is
// none.
func (s *Store) UserByIdentity(ctx context.Context, issuer, subject string) (*models.User, error) {
	return s.oneUser(ctx, "user_by_identity", "SELECT u.* FROM identities i JOIN users u ON u.id = i.user_id WHERE i.issuer = ? AND i.subject = ?", issuer, subject)
}

// Identities returns who a user is at providers, by issuer.
func (s *Store) Identities(ctx context.Context, userID string) ([]models.Identity, error) {
	if !storable(userID) {
		return []models.Identity{}, nil
	}
	var rows []identityRow
	err := s.read(ctx, "identities", func(db *gorm.DB) error {
		return db.Where("user_id = ?", userID).Order("issuer").Find(&rows).Error
	})
	if err != nil {
		return nil, err
	}
	identities := make([]models.Identity, len(rows))
	for i, r := range rows {
		identities[i] = r.model()
	}
	return identities, nil
}

// CreateUserWithIdentity adds a user, as [Store.CreateUser] does, who is the
// subject at the issuer. An address or an identity that is in use is CodeTaken. The
// first user of all must be an admin: CodeConflict.
func (s *Store) CreateUserWithIdentity(ctx context.Context, by models.Actor, u models.User, issuer, subject string) (models.User, error) {
	return s.createUser(ctx, "create_user_with_identity", by, u, func(t *tx) error {
		if u.Admin {
			return nil
		}
		var n int64
		if err := t.db.Raw("SELECT COUNT(*) FROM users").Find(&n).Error; err != nil {
			return err
		}
		if n == 0 {
			return models.NewError(models.CodeConflict, "Patrol is not set up yet: an administrator comes first")
		}
		return nil
	}, func(t *tx, row userRow) error { return t.linkIdentity(row, issuer, subject) })
}

// LinkIdentity notes that a user is the subject at the issuer. If another user is,
// or the user is somebody else there, it is CodeTaken.
func (s *Store) LinkIdentity(ctx context.Context, by models.Actor, userID, issuer, subject string) error {
	return s.write(ctx, "link_identity", by, func(t *tx) error {
		user, err := t.lockUser(userID)
		if err != nil {
			return err
		}
		var same int64
		err = t.db.Raw("SELECT COUNT(*) FROM identities WHERE issuer = ? AND subject = ? AND user_id = ?", issuer, subject, userID).Find(&same).Error
		if err != nil || same > 0 {
			return err
		}
		return t.linkIdentity(user, issuer, subject)
	})
}

func (t *tx) linkIdentity(user userRow, issuer, subject string) error {
	row := identityRow{Issuer: issuer, Subject: subject, UserID: user.ID, CreatedAt: t.now}
	if err := t.db.Create(&row).Error; err != nil {
		if isDuplicate(err) {
			return models.WrapError(models.CodeTaken, "this identity, or another one at the same provider, is in use already", err)
		}
		return err
	}
	return t.audit("identity.link", onUser(user.ID), map[string]string{"email": user.Email, "issuer": issuer, "subject": subject})
}

// UnlinkIdentity forgets who a user is at an issuer, and ends the user's sessions, but the
// one with the token spare, and the code that would begin one.
// If the user could not sign in any more, for want of a password and of another identity,
// it is CodeConflict, unless the last way in may go; if there is no such identity, CodeNotFound.
func (s *Store) UnlinkIdentity(ctx context.Context, by models.Actor, userID, issuer string, lastToo bool, spare string) error {
	return s.write(ctx, "unlink_identity", by, func(t *tx) error {
		user, err := t.lockUser(userID)
		if err != nil {
			return err
		}
		if !storable(issuer) {
			return notFound("identity")
		}
		var rows []identityRow
		if err := t.db.Where("user_id = ?", userID).Find(&rows).Error; err != nil {
			return err
		}
		i := slices.IndexFunc(rows, func(r identityRow) bool { return r.Issuer == issuer })
		switch {
		case i < 0:
			return notFound("identity")
		case user.PasswordHash == "" && len(rows) == 1 && !lastToo:
			return models.NewError(models.CodeConflict, "the account has no password and could not sign in any more; ask an administrator for a reset link first")
		}
		return t.unlinkIdentities(user, spare, rows[i])
	})
}

// unlinkIdentities forgets identities of a user, and ends what they may have begun.
func (t *tx) unlinkIdentities(user userRow, spare string, rows ...identityRow) error {
	for _, row := range rows {
		if err := t.db.Where("issuer = ? AND subject = ?", row.Issuer, row.Subject).Delete(&identityRow{}).Error; err != nil {
			return err
		}
		if err := t.audit("identity.unlink", onUser(user.ID), map[string]string{"email": user.Email, "issuer": row.Issuer, "subject": row.Subject}); err != nil {
			return err
		}
	}
	if len(rows) == 0 {
		return nil
	}
	if err := t.db.Where("user_id = ? AND purpose = ?", user.ID, beginSession).Delete(&codeRow{}).Error; err != nil {
		return err
	}
	return endSessions(t.db.Where("token <> ?", SessionID(spare)), user.ID)
}

// UseIdentity notes that the user who is the subject at the issuer has come from there, as
// the audit event of what they came for. CodeNotFound says that there is no such user any more.
func (s *Store) UseIdentity(ctx context.Context, by models.Actor, issuer, subject, action string, detail map[string]string) error {
	return s.write(ctx, "use_identity", by, func(t *tx) error {
		if !storable(issuer, subject) {
			return notFound("identity")
		}
		var row identityRow
		result := t.db.Where("issuer = ? AND subject = ?", issuer, subject).Limit(1).Find(&row)
		switch {
		case result.Error != nil:
			return result.Error
		case result.RowsAffected == 0:
			return notFound("identity")
		}
		if _, err := t.lockUser(row.UserID); err != nil {
			return err
		}
		err := t.db.Model(&identityRow{}).Where("issuer = ? AND subject = ?", issuer, subject).Update("last_used_at", t.now).Error
		if err != nil {
			return err
		}
		if err := t.db.Model(&userRow{}).Where("id = ?", row.UserID).Update("provider_at", t.now).Error; err != nil {
			return err
		}
		t.change(ChangeUser, row.UserID, "")
		return t.audit(action, onUser(row.UserID), detail)
	})
}
