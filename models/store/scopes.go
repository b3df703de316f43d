package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"patrol/models"
)

// AddScope widens a token, which ends the approvals of the domains that the new
// scope reaches. A scope that it has is CodeTaken, one too many
// CodeLimitReached; a token that is dead or was rotated is CodeConflict.
func (s *Store) AddScope(ctx context.Context, by models.Actor, userID, id string, sc models.Scope) (models.PAT, error) {
	if sc.ID == "" {
		sc.ID = models.NewID()
	}
	return s.editScopes(ctx, "add_scope", by, userID, id, func(t *tx, row patRow) error {
		if row.RotatedTo != "" {
			return models.NewError(models.CodeConflict, "the token was rotated; change its successor")
		}
		if limit := t.config.Limits.MaxScopes; len(row.Scopes) >= limit {
			return models.NewError(models.CodeLimitReached, fmt.Sprintf("a token can have at most %d scopes", limit))
		}
		if slices.ContainsFunc(row.Scopes, sc.Same) {
			return models.NewError(models.CodeTaken, fmt.Sprintf("the token has the scope %s already", sc))
		}
		var position int
		if err := t.db.Raw("SELECT MAX(position) + 1 FROM scopes WHERE pat_id = ?", id).Find(&position).Error; err != nil {
			return err
		}
		scope := newScopeRow(id, position, sc)
		if err := t.db.Create(&scope).Error; err != nil {
			return err
		}
		detail := map[string]string{"user_id": row.UserID, "scope": sc.String()}
		lost, err := t.loseApprovals(row, sc)
		if err != nil {
			return err
		}
		if lost != "" {
			detail["approvals_lost"] = lost
		}
		return t.audit("pat.add_scope", onPAT(id), detail)
	})
}

// RemoveScope narrows a token. The only scope cannot go: CodeLastScope. A scope
// that the token does not have is CodeNotFound; a dead token is CodeConflict.
func (s *Store) RemoveScope(ctx context.Context, by models.Actor, userID, id, scopeID string) (models.PAT, error) {
	return s.editScopes(ctx, "remove_scope", by, userID, id, func(t *tx, row patRow) error {
		i := slices.IndexFunc(row.Scopes, func(sc models.Scope) bool { return sc.ID == scopeID })
		if i < 0 {
			return notFound("scope")
		}
		if len(row.Scopes) == 1 {
			return models.NewError(models.CodeLastScope, "a token keeps at least one scope; revoke the token instead")
		}
		if err := t.db.Exec("DELETE FROM scopes WHERE id = ? AND pat_id = ?", scopeID, id).Error; err != nil {
			return err
		}
		return t.audit("pat.remove_scope", onPAT(id), map[string]string{"user_id": row.UserID, "scope": row.Scopes[i].String()})
	})
}

func (s *Store) editScopes(ctx context.Context, op string, by models.Actor, userID, id string, edit func(*tx, patRow) error) (models.PAT, error) {
	var edited models.PAT
	err := s.write(ctx, op, by, func(t *tx) error {
		row, err := t.lockPAT(userID, id)
		if err != nil {
			return err
		}
		if status := t.status(row); status != models.StatusActive {
			return models.NewError(models.CodeConflict, fmt.Sprintf("the token is %s; its scopes do not change any more", status))
		}
		if err := edit(t, row); err != nil {
			return err
		}
		t.change(ChangeToken, id, "")
		t.outlives(id, row.ExpiresAt)
		edited, err = t.reload(id)
		return err
	})
	return edited, err
}

// NarrowPAT leaves a token the given scopes, each of which must be included in one
// that it has: anything else is CodeInvalid. Scopes that stay keep their ids.
// Approvals stay too, since the token can do nothing that it could not before. A
// dead token is CodeConflict.
func (s *Store) NarrowPAT(ctx context.Context, by models.Actor, userID, id string, scopes []models.Scope) (models.PAT, error) {
	return s.editScopes(ctx, "narrow_pat", by, userID, id, func(t *tx, row patRow) error {
		var v models.Invalid
		if len(scopes) == 0 {
			v.Add("scopes", "a token keeps at least one scope; revoke the token instead")
		}
		for i, sc := range scopes {
			if !slices.ContainsFunc(row.Scopes, func(has models.Scope) bool { return has.Includes(sc) }) {
				v.Add(fmt.Sprintf("scopes[%d]", i), "is not within a scope that the token has")
			}
			if slices.ContainsFunc(scopes[:i], sc.Same) {
				v.Add(fmt.Sprintf("scopes[%d]", i), "is there twice")
			}
		}
		if limit := t.config.Limits.MaxScopes; len(scopes) > limit {
			v.Add("scopes", "a token can have at most %d scopes", limit)
		}
		if err := v.Err(); err != nil {
			return err
		}
		detail := map[string]string{"user_id": row.UserID}
		var before, after []string
		for _, sc := range row.Scopes {
			before = append(before, sc.String())
			if slices.ContainsFunc(scopes, sc.Same) {
				continue
			}
			if err := t.db.Exec("DELETE FROM scopes WHERE id = ? AND pat_id = ?", sc.ID, id).Error; err != nil {
				return err
			}
		}
		var position int
		if err := t.db.Raw("SELECT COALESCE(MAX(position), -1) + 1 FROM scopes WHERE pat_id = ?", id).Find(&position).Error; err != nil {
			return err
		}
		for _, sc := range scopes {
			after = append(after, sc.String())
			if slices.ContainsFunc(row.Scopes, sc.Same) {
				continue
			}
			sc.ID = models.NewID()
			scope := newScopeRow(id, position, sc)
			if err := t.db.Create(&scope).Error; err != nil {
				return err
			}
			position++
		}
		detail["from"], detail["to"] = strings.Join(before, " "), strings.Join(after, " ")
		return t.audit("pat.narrow", onPAT(id), detail)
	})
}
