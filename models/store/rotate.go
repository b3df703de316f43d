package store

import (
	"context"
	"fmt"
	"time"

	"patrol/models"
)

// RotatePAT replaces a token by next, of which the caller fills ID, KeyID, MAC
// and ExpiresAt, and CreatedAt if it is not now. The successor takes over name,
// description, scopes (with new ids), approvals and withdrawals and is returned. The old token is
// revoked at once, or expires after the grace, rounded up to a whole second, if
// it would not before.
//
// A token that was rotated before is CodeAlreadyRotated, whatever became of it
// since; one that is revoked or expired is CodeConflict. With a grace both
// tokens count as live, so that CodeLimitReached is possible.
func (s *Store) RotatePAT(ctx context.Context, by models.Actor, userID, id string, next models.PAT, grace time.Duration) (models.PAT, error) {
	var v models.Invalid
	if limit := s.config.Limits.MaxGrace; grace < 0 || grace > limit {
		v.Add("grace", "must be between 0 and %s", models.FormatDuration(limit))
	}
	if err := v.Err(); err != nil {
		return models.PAT{}, err
	}
	var successor models.PAT
	err := s.write(ctx, "rotate_pat", by, func(t *tx) error {
		row, err := t.lockPAT(userID, id)
		if err != nil {
			return err
		}
		if row.RotatedTo != "" {
			return &models.Error{Code: models.CodeAlreadyRotated, Message: "the token was rotated already", RotatedTo: row.RotatedTo}
		}
		if status := t.status(row); status != models.StatusActive {
			return models.NewError(models.CodeConflict, fmt.Sprintf("the token is %s and cannot be rotated; create a new one", status))
		}
		if err := t.retire(row, next.ID, grace); err != nil {
			return err
		}
		created := row.model()
		created.ID, created.KeyID, created.MAC = next.ID, next.KeyID, next.MAC
		created.CreatedAt, created.ExpiresAt = next.CreatedAt, next.ExpiresAt
		for i := range created.Scopes {
			created.Scopes[i].ID = ""
		}
		if _, err := t.insertPAT(created, (*tx).insertNow); err != nil {
			return err
		}
		// The scopes are the same, so what was approved still is.
		if err := t.db.Exec("INSERT INTO approvals (pat_id, domain, approved_by, at) SELECT ?, domain, approved_by, at FROM approvals WHERE pat_id = ?",
			next.ID, id).Error; err != nil {
			return err
		}
		// So is the token to the domains that take it no more.
		if err := t.db.Exec("INSERT INTO withdrawals (pat_id, domain, withdrawn_by, reason, at) SELECT ?, domain, withdrawn_by, reason, at FROM withdrawals WHERE pat_id = ?",
			next.ID, id).Error; err != nil {
			return err
		}
		if grace > 0 {
			if err := t.checkLive(row.UserID); err != nil {
				return err
			}
		}
		if successor, err = t.reload(next.ID); err != nil {
			return err
		}
		if err := t.audit("pat.rotate", onPAT(id), map[string]string{
			"user_id": row.UserID, "rotated_to": next.ID, "grace": grace.String(),
		}); err != nil {
			return err
		}
		return t.audit("pat.create", onPAT(next.ID), describe(successor))
	})
	return successor, err
}

// retire ends a token in favour of its successor.
func (t *tx) retire(row patRow, successor string, grace time.Duration) error {
	update := map[string]any{"rotated_to": successor, "name_held": false}
	if grace == 0 {
		update["revoked_at"] = t.now
	} else if end := models.CeilSecond(t.now.Add(grace)); end.Before(row.ExpiresAt) {
		update["expires_at"] = end
	}
	t.change(ChangeToken, row.ID, "")
	t.outlives(row.ID, row.ExpiresAt)
	return t.db.Model(&patRow{}).Where("id = ?", row.ID).Updates(update).Error
}

// RevokePAT ends a token for good, and with it the grace of the tokens that were
// rotated to it, directly or over others: whoever revokes a token wants an end
// of the access that it stands for. The token's successor lives on. Revoking a
// dead token again changes nothing and is no error. With userID "" any user's
// token can be revoked.
func (s *Store) RevokePAT(ctx context.Context, by models.Actor, userID, id string) (models.PAT, error) {
	return s.RevokeFor(ctx, by, userID, id, "")
}

// RevokeFor is [Store.RevokePAT] with a reason for the token's owner.
func (s *Store) RevokeFor(ctx context.Context, by models.Actor, userID, id, reason string) (models.PAT, error) {
	pat, _, err := s.revokePAT(ctx, by, userID, id, models.Revocation{Reason: reason}, false)
	return pat, err
}

// RevokeAwaited is [Store.RevokeFor], or with a domain [Store.RevokeWithin], for who
// waits until all servers know: see [Store.Acknowledged]. What is revoked already is
// announced once more.
func (s *Store) RevokeAwaited(ctx context.Context, by models.Actor, userID, domain, id, reason string) (models.PAT, Mark, error) {
	why := models.Revocation{Reason: reason}
	if domain != "" {
		userID, why = "", models.Revocation{By: models.RevokerDomainAdmin, Domain: domain, Reason: reason}
	}
	return s.revokePAT(ctx, by, userID, id, why, true)
}

// RevokeWithin is [Store.RevokePAT] by an admin of a domain. A token that does not
// reach the domain, as [PATSearch.Within] has it, is CodeNotFound.
func (s *Store) RevokeWithin(ctx context.Context, by models.Actor, domain, id, reason string) (models.PAT, error) {
	pat, _, err := s.revokePAT(ctx, by, "", id, models.Revocation{By: models.RevokerDomainAdmin, Domain: domain, Reason: reason}, false)
	return pat, err
}

// revokeChain ends a token with all of the chain that leads to it. Dead links in between do not
// break it.
func (t *tx) revokeChain(row patRow, why models.Revocation) error {
	const chain = `WITH RECURSIVE chain (id) AS (
			SELECT id FROM pats WHERE id = ?
			UNION
			SELECT p.id FROM pats p JOIN chain c ON p.rotated_to = c.id WHERE p.user_id = ?
		)
		SELECT p.id FROM chain c JOIN pats p ON p.id = c.id WHERE p.revoked_at IS NULL ORDER BY p.id`
	var ids []string
	if err := t.db.Raw(chain, row.ID, row.UserID).Find(&ids).Error; err != nil {
		return err
	}
	return t.revoke(row.UserID, row.ID, ids, why)
}

// RevokeSome is [Store.RevokePAT] for several tokens of a user, all of them or, if one is not
// theirs, none: CodeNotFound, which names the field `ids[n]`.
func (s *Store) RevokeSome(ctx context.Context, by models.Actor, userID string, ids []string) (revoked []models.PAT, err error) {
	err = s.write(ctx, "revoke_some", by, func(t *tx) error {
		revoked, t.ends = make([]models.PAT, len(ids)), true
		if _, err := t.lockUser(userID); err != nil { // so that two who name the same tokens do not wait for each other
			return err
		}
		for i, id := range ids {
			row, err := t.lockPAT(userID, id)
			if models.CodeOf(err) == models.CodeNotFound {
				e := models.NewError(models.CodeNotFound, "one of the ids is no token of yours; none was revoked")
				e.Fields = []models.FieldError{{Field: fmt.Sprintf("ids[%d]", i), Message: "is no token of yours"}}
				return e
			}
			if err == nil {
				err = t.revokeChain(row, models.Revocation{})
			}
			if err != nil {
				return err
			}
		}
		for i, id := range ids {
			if revoked[i], err = t.reload(id); err != nil {
				return err
			}
		}
		return nil
	})
	return revoked, err
}

func (s *Store) revokePAT(ctx context.Context, by models.Actor, userID, id string, why models.Revocation, awaited bool) (revoked models.PAT, mark Mark, err error) {
	var done *tx
	err = s.write(ctx, "revoke_pat", by, func(t *tx) error {
		done, t.awaited, t.ends = t, awaited, true
		row, err := t.lockPAT(userID, id)
		if err == nil && why.Domain != "" {
			err = t.checkWithin(row, why.Domain)
		}
		if err == nil && why.Domain != "" {
			err = t.checkRevokableWithin(row)
		}
		if err != nil {
			return err
		}
		if err := t.revokeChain(row, why); err != nil {
			return err
		}
		if awaited && len(t.changes) == 0 {
			t.change(ChangeToken, id, "")
		}
		revoked, err = t.reload(id)
		return err
	})
	if err != nil || !awaited {
		return revoked, mark, err
	}
	last := done.changes[len(done.changes)-1]
	return revoked, Mark{seq: last.Seq, nonce: last.Nonce, xid: last.XID}, nil
}

// RevokeAll ends all live tokens of a user and returns how many there were.
func (s *Store) RevokeAll(ctx context.Context, by models.Actor, userID string) (_ int, err error) {
	var ids []string
	err = s.write(ctx, "revoke_all", by, func(t *tx) error {
		if _, err := t.lockUser(userID); err != nil {
			return err
		}
		ids, err = t.revokeAll(userID, models.Revocation{})
		return err
	})
	if err != nil {
		return 0, err
	}
	return len(ids), nil
}

// revokeAll ends all live tokens of a user, those over the maximum lifetime too: a later
// configuration may permit them again.
func (t *tx) revokeAll(userID string, why models.Revocation) (ids []string, err error) {
	t.ends = true
	if err := t.db.Raw("SELECT id FROM pats WHERE user_id = ? AND revoked_at IS NULL AND expires_at > ? ORDER BY id", userID, t.now).Find(&ids).Error; err != nil {
		return nil, err
	}
	return ids, t.revoke(userID, "", ids, why)
}

// revoke ends tokens that are not revoked. With a cause, the id of the token that
// was meant, the others are noted as its predecessors. Why fills itself from who
// acts.
func (t *tx) revoke(userID, cause string, ids []string, why models.Revocation) error {
	if len(ids) == 0 {
		return nil
	}
	if why.By == "" {
		why.By = t.revoker(userID)
	}
	if err := t.noteExpiry(ids); err != nil {
		return err
	}
	err := t.db.Exec("UPDATE pats SET revoked_at = ?, name_held = FALSE, revoked_by = ?, revoked_domain = ?, revoked_reason = ? WHERE id IN ?",
		t.now, why.By, why.Domain, why.Reason, ids).Error
	if err != nil {
		return err
	}
	for _, id := range ids {
		detail := map[string]string{"user_id": userID, "by": string(why.By)}
		if why.Domain != "" {
			detail["domain"] = why.Domain
		}
		if why.Reason != "" {
			detail["reason"] = why.Reason
		}
		if cause != "" && id != cause {
			detail["predecessor_of"] = cause
		}
		t.change(ChangeToken, id, "")
		if err := t.audit("pat.revoke", onPAT(id), detail); err != nil {
			return err
		}
	}
	return nil
}

// noteExpiry notes for the tombstones of tokens until when they matter.
func (t *tx) noteExpiry(ids []string) error {
	if t.config.Tombstones == nil {
		return nil
	}
	var rows []struct {
		ID        string
		ExpiresAt time.Time
	}
	if err := t.db.Raw("SELECT id, expires_at FROM pats WHERE id IN ?", ids).Find(&rows).Error; err != nil {
		return err
	}
	for _, r := range rows {
		t.outlives(r.ID, r.ExpiresAt)
	}
	return nil
}

// revoker is in what capacity the transaction's actor revokes a token of the user.
func (t *tx) revoker(userID string) models.RevokerKind {
	switch {
	case t.by.Kind == models.ActorToken:
		return models.RevokerToken
	case t.by.Kind != models.ActorUser:
		return models.RevokerOperator
	case t.by.UserID == userID:
		return models.RevokerOwner
	default:
		return models.RevokerPlatformAdmin
	}
}
