package store

import (
	"context"
	"slices"
	"strconv"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"patrol/models"
)

// User returns the user, nil if there is none.
func (s *Store) User(ctx context.Context, id string) (*models.User, error) {
	return s.oneUser(ctx, "user", "SELECT * FROM users WHERE id = ?", id)
}

// UserByEmail returns the user with this email address, however it is written,
// nil if there is none.
func (s *Store) UserByEmail(ctx context.Context, email string) (*models.User, error) {
	return s.oneUser(ctx, "user_by_email", "SELECT * FROM users WHERE email = ?", models.NormalizeEmail(email))
}

// oneUser returns the user that a query finds, nil if there is none.
func (s *Store) oneUser(ctx context.Context, op, query string, args ...any) (*models.User, error) {
	for _, arg := range args {
		if text, ok := arg.(string); ok && !storable(text) {
			return nil, nil
		}
	}
	var row userRow
	found := false
	err := s.read(ctx, op, func(db *gorm.DB) error {
		result := db.Raw(query, args...).Find(&row)
		found = result.RowsAffected > 0
		return result.Error
	})
	if err != nil || !found {
		return nil, err
	}
	u := row.model()
	return &u, nil
}

// Users lists users by email address.
func (s *Store) Users(ctx context.Context, f UserFilter, p Page) ([]models.User, string, error) {
	key, err := p.key("user", 1)
	if err != nil {
		return nil, "", err
	}
	if !storable(f.Email, f.Name) {
		return []models.User{}, "", nil
	}
	var rows []userRow
	err = s.list(ctx, "users", func(db *gorm.DB) error {
		q := db.Order("email").Limit(p.limit() + 1)
		if key != nil { // by id, so that no address is in a URL
			q = q.Where("email > (SELECT email FROM users WHERE id = ?)", key[0])
		}
		if f.Admin != nil {
			q = q.Where("admin = ?", *f.Admin)
		}
		if f.Disabled != nil {
			q = q.Where("disabled = ?", *f.Disabled)
		}
		if f.Email != "" {
			q = q.Where(`email LIKE ? ESCAPE '\'`, contains(models.NormalizeEmail(f.Email)))
		}
		if f.Name != "" {
			q = q.Where(`LOWER(name) LIKE LOWER(?) ESCAPE '\'`, contains(nfc(f.Name)))
		}
		return q.Find(&rows).Error
	})
	if err != nil {
		return nil, "", err
	}
	users, next := cut(rows, p.limit(), userRow.model, func(r userRow) string { return newCursor("user", r.ID) })
	return users, next, nil
}

// CountUsers returns how many users there are, disabled ones included.
func (s *Store) CountUsers(ctx context.Context) (n int64, err error) {
	err = s.list(ctx, "count_users", func(db *gorm.DB) error {
		return db.Raw("SELECT COUNT(*) FROM users").Find(&n).Error
	})
	return n, err
}

// CreateUser adds a user. The email address is normalized; an id and a time of
// creation are set if they are missing. An address that is or was in use is
// CodeTaken.
func (s *Store) CreateUser(ctx context.Context, by models.Actor, u models.User) (models.User, error) {
	return s.createUser(ctx, "create_user", by, u, nil, nil)
}

// CreateFirstAdmin adds an enabled platform admin if there is no user at all,
// and is CodeConflict otherwise: of any number of calls, one succeeds.
func (s *Store) CreateFirstAdmin(ctx context.Context, by models.Actor, u models.User) (models.User, error) {
	u.Admin, u.Disabled = true, false
	return s.createUser(ctx, "create_first_admin", by, u, func(t *tx) error {
		var n int64
		if err := t.db.Raw("SELECT COUNT(*) FROM users").Find(&n).Error; err != nil {
			return err
		}
		if n > 0 {
			return models.NewError(models.CodeConflict, "there are users already; a platform admin can add more")
		}
		return nil
	}, nil)
}

// createUser adds a user if check agrees, and does what belongs to it; both may be
// nil.
func (s *Store) createUser(ctx context.Context, op string, by models.Actor, u models.User, check func(*tx) error, then func(*tx, userRow) error) (models.User, error) {
	if u.ID == "" {
		u.ID = models.NewID()
	}
	u.Email = models.NormalizeEmail(u.Email)
	var row userRow
	err := s.write(ctx, op, by, func(t *tx) error {
		// To be added beside others is no matter but to who must be alone.
		lock := t.lockShared
		if check != nil {
			lock = t.lock
		}
		if err := lock(lockAccounts); err != nil {
			return err
		}
		if check != nil {
			if err := check(t); err != nil {
				return err
			}
		}
		if err := t.checkEmail(u.Email, u.ID); err != nil {
			return err
		}
		created := u
		if created.CreatedAt.IsZero() {
			created.CreatedAt = t.now
		}
		row = newUserRow(created)
		if err := t.db.Create(&row).Error; err != nil {
			if isDuplicate(err) {
				return models.WrapError(models.CodeTaken, "there is a user with this email address already", err)
			}
			return err
		}
		if _, err := t.endCodes("new_email = ?", row.Email); err != nil {
			return err
		}
		t.change(ChangeUser, row.ID, "")
		err := t.audit("user.create", onUser(row.ID), map[string]string{
			"email": row.Email, "admin": strconv.FormatBool(row.Admin), "policy": strconv.FormatBool(row.Policy),
		})
		if err != nil || then == nil {
			return err
		}
		return then(t, row)
	})
	if err != nil {
		return models.User{}, err
	}
	return row.model(), nil
}

// UpdateUser changes a user. The last enabled platform admin can be neither
// disabled nor demoted: CodeConflict. Disabling a user, and a new password, end
// all of the user's sessions and one-time codes.
func (s *Store) UpdateUser(ctx context.Context, by models.Actor, id string, p UserPatch) (models.User, error) {
	var row userRow
	err := s.write(ctx, "update_user", by, func(t *tx) error {
		if p.Admin != nil || p.Disabled != nil {
			if err := t.lock(lockAccounts); err != nil {
				return err
			}
		}
		var err error
		if row, err = t.lockUser(id); err != nil {
			return err
		}
		if row.model().Anonymised() {
			return models.NewError(models.CodeConflict, "the account is anonymised, and stays as it is")
		}
		before := row
		apply(p.Name, &row.Name)
		apply(p.Admin, &row.Admin)
		apply(p.Policy, &row.Policy)
		apply(p.Disabled, &row.Disabled)
		apply(p.PasswordHash, &row.PasswordHash)
		if p.RevokeTokens {
			if !row.Disabled {
				return models.NewError(models.CodeConflict, "tokens are revoked with an account that is disabled")
			}
			if _, err := t.revokeAll(id, models.Revocation{Reason: "The account was disabled."}); err != nil {
				return err
			}
		}
		if row == before {
			return nil
		}
		if before.Admin && !before.Disabled && (!row.Admin || row.Disabled) {
			if err := t.checkOtherAdmin(id); err != nil {
				return err
			}
		}
		return t.saveUser(before, row)
	})
	return written(row, err)
}

// written returns the user that was written, nobody after an error.
func written(row userRow, err error) (models.User, error) {
	if err != nil {
		return models.User{}, err
	}
	return row.model(), nil
}

// saveUser writes what differs, and ends the access that goes with it.
func (t *tx) saveUser(before, after userRow) error {
	if err := t.db.Model(&userRow{}).Where("id = ?", after.ID).Updates(map[string]any{
		"email": after.Email, "name": after.Name, "admin": after.Admin, "policy": after.Policy, "disabled": after.Disabled, "password_hash": after.PasswordHash,
	}).Error; err != nil {
		return err
	}
	if after.Disabled && !before.Disabled || after.PasswordHash != before.PasswordHash {
		if err := endSessions(t.db, after.ID); err != nil {
			return err
		}
		if err := t.db.Where("user_id = ?", after.ID).Delete(&codeRow{}).Error; err != nil {
			return err
		}
	}
	if err := t.endAuthority(before, after); err != nil {
		return err
	}
	t.change(ChangeUser, after.ID, "")
	return t.auditUser(before, after)
}

func apply[T any](patch, field *T) {
	if patch != nil {
		*field = *patch
	}
}

// lockUser reads a user and keeps others from changing it, or its tokens, until
// the transaction ends.
func (t *tx) lockUser(id string) (userRow, error) {
	var row userRow
	if !storable(id) {
		return row, notFound("user")
	}
	// Not FOR UPDATE, which would make rows that only refer to the user wait.
	result := t.db.Clauses(clause.Locking{Strength: "NO KEY UPDATE"}).Where("id = ?", id).Limit(1).Find(&row)
	if result.Error == nil && result.RowsAffected == 0 {
		return row, notFound("user")
	}
	return row, result.Error
}

func (t *tx) checkOtherAdmin(id string) error {
	var others int64
	if err := t.db.Raw("SELECT COUNT(*) FROM users WHERE admin AND NOT disabled AND id <> ?", id).Find(&others).Error; err != nil {
		return err
	}
	if others == 0 {
		return models.NewError(models.CodeConflict, "this is the last platform admin who can sign in; make another user an admin first")
	}
	return nil
}

// auditUser notes each aspect of a user that changes.
func (t *tx) auditUser(before, after userRow) error {
	type event struct {
		changed bool
		action  string
		detail  map[string]string
	}
	toggled := func(on bool, yes, no string) string {
		if on {
			return yes
		}
		return no
	}
	for _, e := range []event{
		{before.Email != after.Email, "user.email", map[string]string{"from": before.Email, "to": after.Email}},
		{before.Name != after.Name, "user.rename", map[string]string{"from": before.Name, "to": after.Name}},
		{before.Admin != after.Admin, toggled(after.Admin, "user.promote", "user.demote"), nil},
		{before.Policy != after.Policy, toggled(after.Policy, "user.policy.grant", "user.policy.withdraw"), nil},
		{before.Disabled != after.Disabled, toggled(after.Disabled, "user.disable", "user.enable"), nil},
		{before.PasswordHash != after.PasswordHash, "user.password", nil},
	} {
		if !e.changed {
			continue
		}
		if e.detail == nil {
			e.detail = map[string]string{}
		}
		e.detail["email"] = after.Email
		if err := t.audit(e.action, onUser(after.ID), e.detail); err != nil {
			return err
		}
	}
	return nil
}

// Names returns the addresses of users and the names of tokens by their ids, for lists
// that hold ids. Those of who or what is gone are missing.
func (s *Store) Names(ctx context.Context, users, tokens []string) (emails, names map[string]string, err error) {
	emails, err = s.labels(ctx, "emails", "SELECT id, email AS label FROM users WHERE id IN ?", users)
	if err != nil {
		return nil, nil, err
	}
	names, err = s.labels(ctx, "pat_names", "SELECT id, name AS label FROM pats WHERE id IN ?", tokens)
	return emails, names, err
}

// labels reads what ids are called. Empty ids and repeated ones do not count.
func (s *Store) labels(ctx context.Context, op, query string, ids []string) (map[string]string, error) {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	ids = slices.DeleteFunc(ids, func(id string) bool { return id == "" || !storable(id) })
	labels := make(map[string]string, len(ids))
	for part := range slices.Chunk(ids, useBatch) {
		var rows []struct{ ID, Label string }
		if err := s.read(ctx, op, func(db *gorm.DB) error { return db.Raw(query, part).Find(&rows).Error }); err != nil {
			return nil, err
		}
		for _, r := range rows {
			labels[r.ID] = r.Label
		}
	}
	return labels, nil
}
