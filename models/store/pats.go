package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"patrol/models"
)

// PAT returns the token with its scopes, nil if there is none. Its expiry is the
// one that was set; see [models.PAT.WithMaxLifetime].
func (s *Store) PAT(ctx context.Context, id string) (*models.PAT, error) {
	return s.onePAT(ctx, "pat", id, "")
}

// PATOf returns the user's token with its scopes, nil if there is none or it is
// another user's.
func (s *Store) PATOf(ctx context.Context, userID, id string) (*models.PAT, error) {
	return s.onePAT(ctx, "pat_of", id, userID)
}

func (s *Store) onePAT(ctx context.Context, op, id, userID string) (*models.PAT, error) {
	if !storable(id) {
		return nil, nil
	}
	var row patRow
	found := false
	err := s.read(ctx, op, func(db *gorm.DB) (err error) {
		row, found, err = s.patByID(db, id)
		return err
	})
	if err != nil || !found || userID != "" && row.UserID != userID {
		return nil, err
	}
	p := row.model()
	return &p, nil
}

func (s *Store) patByID(db *gorm.DB, id string) (row patRow, found bool, err error) {
	result := db.Raw(s.dialect.patByID, id).Find(&row)
	return row, result.RowsAffected > 0, result.Error
}

// PATs lists tokens with their scopes, the newest first.
func (s *Store) PATs(ctx context.Context, f PATFilter, p Page) ([]models.PAT, string, error) {
	key, err := p.key("pat", 2)
	if err != nil {
		return nil, "", err
	}
	var before time.Time
	if key != nil {
		micros, err := strconv.ParseInt(key[0], 10, 64)
		if err != nil {
			return nil, "", badCursor()
		}
		before = time.UnixMicro(micros).UTC()
	}
	if !storable(f.UserID, f.Name) {
		return []models.PAT{}, "", nil
	}
	var rows []patRow
	err = s.list(ctx, "pats", func(db *gorm.DB) error {
		q := db.Table("pats AS p").Select(s.dialect.patSelect).Order("p.created_at DESC, p.id DESC").Limit(p.limit() + 1)
		if key != nil {
			q = q.Where("(p.created_at, p.id) < (?, ?)", before, key[1])
		}
		if f.UserID != "" {
			q = q.Where("p.user_id = ?", f.UserID)
		}
		if f.Name != "" {
			q = q.Where("p.name = ?", nfc(f.Name))
		}
		if where, args := s.statusIs(f.Status, s.now()); where != "" {
			q = q.Where(where, args...)
		}
		return q.Find(&rows).Error
	})
	if err != nil {
		return nil, "", err
	}
	pats, next := cut(rows, p.limit(), patRow.model, func(r patRow) string {
		return newCursor("pat", strconv.FormatInt(r.CreatedAt.UnixMicro(), 10), r.ID)
	})
	return pats, next, nil
}

// live is the condition that a row of pats is active at the times that
// [Store.liveAt] gives: what [models.PAT.Status] says of
// [models.PAT.WithMaxLifetime].
const live = "(revoked_at IS NULL AND expires_at > ? AND created_at > ?)"

// liveAt returns the arguments of [live]. A token counts as expired from the
// first whole second that is a maximum lifetime after its creation, if that is
// before its own expiry.
func (s *Store) liveAt(now time.Time) []any {
	return []any{now, now.Truncate(time.Second).Add(-s.config.Limits.MaxLifetime)}
}

// statusIs returns the condition for a status; any other value than the three
// that there are means no condition.
func (s *Store) statusIs(status models.Status, now time.Time) (where string, args []any) {
	switch status {
	case models.StatusActive:
		return live, s.liveAt(now)
	case models.StatusExpired:
		return "revoked_at IS NULL AND NOT " + live, s.liveAt(now)
	case models.StatusRevoked:
		return "revoked_at IS NOT NULL", nil
	}
	return "", nil
}

// status returns a row's status at the time of the transaction.
func (t *tx) status(r patRow) models.Status {
	return r.model().WithMaxLifetime(t.config.Limits.MaxLifetime).Status(t.now)
}

// CreatePAT adds a token with its scopes. The caller fills ID, UserID, Name,
// KeyID, MAC, ExpiresAt and Scopes; a time of creation and ids of scopes are set
// if they are missing. A name that another live token of the user holds is
// CodeTaken; more live tokens or scopes than the limits allow are
// CodeLimitReached; an unknown user is CodeNotFound.
//
// Ids are drawn at random from 62¹⁶ (95 bits) and are not remembered after a
// token is deleted.
func (s *Store) CreatePAT(ctx context.Context, by models.Actor, p models.PAT) (models.PAT, error) {
	var created models.PAT
	p.Name = nfc(p.Name)
	err := s.write(ctx, "create_pat", by, func(t *tx) error {
		if _, err := t.lockUser(p.UserID); err != nil {
			return err
		}
		if err := t.takeName(p.UserID, p.Name, p.ID, 1); err != nil {
			return err
		}
		var err error
		if created, err = t.insertPAT(p, (*tx).insertLast); err != nil {
			return err
		}
		return t.audit("pat.create", onPAT(p.ID), describe(created))
	})
	return created, err
}

// describe is the detail of the audit event for a new token.
func describe(p models.PAT) map[string]string {
	scopes := make([]string, len(p.Scopes))
	for i, s := range p.Scopes {
		scopes[i] = s.String()
	}
	detail := map[string]string{
		"user_id": p.UserID, "name": p.Name, "expires_at": p.ExpiresAt.Format(time.RFC3339),
		"scopes": strings.Join(scopes, " "), // which have no spaces
	}
	if len(p.AllowedIPs) > 0 {
		detail["allowed_ips"] = strings.Join(p.AllowedIPs, " ")
	}
	return detail
}

// takeName makes a name free that a token holds which expired, for the token
// that is about to have it, and has the limit of live tokens hold when there are that
// many more. The caller locked the user.
func (t *tx) takeName(userID, name, forID string, more int) error {
	const query = `SELECT COALESCE(SUM(CASE WHEN ` + live + ` THEN 1 ELSE 0 END), 0) AS live,
			COALESCE(SUM(CASE WHEN name = ? AND name_held AND id <> ? AND ` + live + ` THEN 1 ELSE 0 END), 0) AS held,
			COALESCE(SUM(CASE WHEN name = ? AND name_held AND NOT ` + live + ` THEN 1 ELSE 0 END), 0) AS expired
		FROM pats WHERE user_id = ?`
	var found struct{ Live, Held, Expired int }
	at := t.liveAt(t.now)
	args := slices.Concat(at, []any{name, forID}, at, []any{name}, at, []any{userID})
	if err := t.db.Raw(query, args...).Find(&found).Error; err != nil {
		return err
	}
	if found.Held > 0 {
		return models.NewError(models.CodeTaken, fmt.Sprintf("there is a live token named %q already", name))
	}
	if more > 0 {
		if err := t.checkLimit(found.Live + more); err != nil {
			return err
		}
	}
	if found.Expired == 0 {
		return nil
	}
	return t.db.Exec("UPDATE pats SET name_held = FALSE WHERE user_id = ? AND name = ? AND name_held AND NOT "+live,
		append([]any{userID, name}, at...)...).Error
}

// insertPAT adds a token with its scopes by insert, and returns it as it is read.
func (t *tx) insertPAT(p models.PAT, insert func(*tx, patRow, []scopeRow) error) (models.PAT, error) {
	switch limit := t.config.Limits.MaxScopes; {
	case len(p.Scopes) > limit:
		return p, models.NewError(models.CodeLimitReached, fmt.Sprintf("a token can have at most %d scopes", limit))
	case len(p.Scopes) == 0:
		return p, models.NewError(models.CodeLastScope, "a token needs at least one scope")
	}
	if p.CreatedAt.IsZero() {
		p.CreatedAt = t.now
	}
	row := newPATRow(p)
	row.Scopes = slices.Clone(p.Scopes)
	scopes := make([]scopeRow, len(row.Scopes))
	for i := range row.Scopes {
		if row.Scopes[i].ID == "" {
			row.Scopes[i].ID = models.NewID()
		}
		scopes[i] = newScopeRow(p.ID, i, row.Scopes[i])
	}
	t.change(ChangeToken, p.ID, "")
	return row.model(), insert(t, row, scopes)
}

// insertNow inserts the rows of a token.
func (t *tx) insertNow(row patRow, scopes []scopeRow) error {
	if err := t.db.Create(&row).Error; err != nil {
		return duplicatePAT(err, "there is a token with this id or name already")
	}
	return duplicatePAT(t.db.Create(&scopes).Error, "a scope is there twice")
}

func duplicatePAT(err error, message string) error {
	if err != nil && isDuplicate(err) {
		return models.WrapError(models.CodeTaken, message, err)
	}
	return err
}

// insertLast inserts the rows of a token with what is written at the end of the
// transaction, which saves round trips.
func (t *tx) insertLast(row patRow, scopes []scopeRow) error {
	if t.database.driver == sqliteDriver {
		return t.insertNow(row, scopes)
	}
	t.insertWith("INSERT INTO pats (id, user_id, name, name_held, description, key_id, mac, created_at, expires_at, allowed_ips) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		row.ID, row.UserID, row.Name, row.NameHeld, row.Description, row.KeyID, row.MAC, row.CreatedAt, row.ExpiresAt, row.AllowedIPs)
	var args []any
	for _, s := range scopes {
		args = append(args, s.PATID, s.Position, s.ID, s.Domain, s.EntityType, s.Entity, s.Operation)
	}
	t.insertWith("INSERT INTO scopes (pat_id, position, id, domain, entity_type, entity, operation) VALUES "+
		repeat("(?, ?, ?, ?, ?, ?, ?)", len(scopes)), args...)
	t.onDuplicate = func(err error) error {
		if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.TableName == "scopes" {
			return duplicatePAT(err, "a scope is there twice")
		}
		return duplicatePAT(err, "there is a token with this id or name already")
	}
	return nil
}

// checkLive counts the user's live tokens after one was added.
func (t *tx) checkLive(userID string) error {
	var n int
	if err := t.db.Raw("SELECT COUNT(*) FROM pats WHERE user_id = ? AND "+live, append([]any{userID}, t.liveAt(t.now)...)...).Find(&n).Error; err != nil {
		return err
	}
	return t.checkLimit(n)
}

func (t *tx) checkLimit(live int) error {
	if limit := t.config.Limits.MaxLive; live > limit {
		return models.NewError(models.CodeLimitReached, fmt.Sprintf("a user can have at most %d live tokens; revoke one first", limit))
	}
	return nil
}

// lockPAT reads a token and keeps others from changing any of its owner's
// tokens until the transaction ends. With a userID, another user's token is
// CodeNotFound.
func (t *tx) lockPAT(userID, id string) (patRow, error) {
	if !storable(userID, id) {
		return patRow{}, notFound("token")
	}
	row, found, err := t.patByID(t.db, id)
	if err != nil {
		return row, err
	}
	if !found || userID != "" && row.UserID != userID {
		return row, notFound("token")
	}
	if _, err := t.lockUser(row.UserID); err != nil {
		return row, err
	}
	// Its owner cannot have changed, but all else can while this waited.
	row, found, err = t.patByID(t.db, id)
	if err == nil && !found {
		return row, notFound("token")
	}
	return row, err
}

func (t *tx) reload(id string) (models.PAT, error) {
	row, found, err := t.patByID(t.db, id)
	if err == nil && !found {
		err = notFound("token")
	}
	return row.model(), err
}

// UpdatePAT changes a token's labels, and the addresses that it may be used from. A token that holds its name must find the
// new one free: CodeTaken. Dead and retired tokens hold none, so theirs are mere
// labels.
func (s *Store) UpdatePAT(ctx context.Context, by models.Actor, userID, id string, p PATPatch) (models.PAT, error) {
	var updated models.PAT
	err := s.write(ctx, "update_pat", by, func(t *tx) error {
		row, err := t.lockPAT(userID, id)
		if err != nil {
			return err
		}
		before := row
		apply(p.Name, &row.Name)
		row.Name = nfc(row.Name)
		apply(p.Description, &row.Description)
		if err := t.setAllowedIPs(row, p); err != nil {
			return err
		}
		if row.Name == before.Name && row.Description == before.Description {
			updated, err = t.reload(id)
			return err
		}
		held := row.NameHeld && t.status(row) == models.StatusActive
		if held && row.Name != before.Name {
			if err := t.takeName(row.UserID, row.Name, id, 0); err != nil {
				return err
			}
		}
		if err := t.db.Model(&patRow{}).Where("id = ?", id).Updates(map[string]any{
			"name": row.Name, "description": row.Description, "name_held": held,
		}).Error; err != nil {
			return err
		}
		t.change(ChangeToken, id, "")
		detail := map[string]string{"user_id": row.UserID, "name": row.Name}
		if row.Name != before.Name {
			detail["from"] = before.Name
		}
		if err := t.audit("pat.update", onPAT(id), detail); err != nil {
			return err
		}
		updated, err = t.reload(id)
		return err
	})
	return updated, err
}

// DeletePAT removes the record of a dead token: an active one is
// CodeTokenAlive. Tokens that were rotated to it then name its own successor, so
// that revoking that one still ends their grace.
func (s *Store) DeletePAT(ctx context.Context, by models.Actor, userID, id string) error {
	return s.write(ctx, "delete_pat", by, func(t *tx) error {
		row, err := t.lockPAT(userID, id)
		if err != nil {
			return err
		}
		if t.status(row) == models.StatusActive {
			return models.NewError(models.CodeTokenAlive, "the token is alive; revoke it first")
		}
		if row.RotatedTo != "" {
			if err := t.db.Exec("UPDATE pats SET rotated_to = ? WHERE rotated_to = ?", row.RotatedTo, id).Error; err != nil {
				return err
			}
		}
		if err := t.db.Exec("DELETE FROM pats WHERE id = ?", id).Error; err != nil {
			return err
		}
		t.change(ChangeToken, id, "")
		return t.audit("pat.delete", onPAT(id), map[string]string{"user_id": row.UserID, "name": row.Name})
	})
}

// VerifiersOf returns of the tokens with these ids what a secret is verified by, whose they are, and
// whether they are revoked; nothing else. It is one query.
func (s *Store) VerifiersOf(ctx context.Context, ids []string) ([]models.PAT, error) {
	var rows []patRow
	err := s.read(ctx, "verifiers", func(db *gorm.DB) error {
		return db.Table("pats").Select("id, user_id, key_id, mac, revoked_at").Where("id IN ?", ids).Order("id").Find(&rows).Error
	})
	if err != nil {
		return nil, err
	}
	found := make([]models.PAT, len(rows))
	for i, r := range rows {
		found[i] = models.PAT{ID: r.ID, UserID: r.UserID, KeyID: r.KeyID, MAC: r.MAC, RevokedAt: utc(r.RevokedAt)}
	}
	return found, nil
}

// KeyIDs returns the ids of the keys that stored tokens, dead ones included, are
// hashed with, in order, without those that are retired.
func (s *Store) KeyIDs(ctx context.Context) (ids []string, err error) {
	defer func() { slices.Sort(ids) }()
	err = s.read(ctx, "key_ids", func(db *gorm.DB) error {
		// From each key straight to the next one: servers ask every few seconds.
		return db.Raw(`WITH RECURSIVE used (key_id) AS (
				SELECT MIN(key_id) FROM pats
				UNION ALL SELECT (SELECT MIN(p.key_id) FROM pats p WHERE p.key_id > used.key_id) FROM used WHERE used.key_id IS NOT NULL
			) SELECT key_id FROM used WHERE key_id IS NOT NULL AND key_id NOT IN (SELECT id FROM token_keys WHERE retired_at IS NOT NULL)`).Find(&ids).Error
	})
	return ids, err
}
