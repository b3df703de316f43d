package store

import (
	"context"

	"patrol/models"
)

// A domain's admins cannot end the token of a platform admin, which works elsewhere, too.
// They withdraw it from their domain instead.

// WithdrawPAT has a domain take a token of a platform admin no more, for a reason that its
// owner is shown. A token that does not reach the domain is CodeNotFound; one of anybody
// else, which can be revoked, or that is dead, is CodeConflict. Withdrawing again changes
// nothing.
func (s *Store) WithdrawPAT(ctx context.Context, by models.Actor, domain, id, reason string) (models.PAT, error) {
	return s.editApproval(ctx, "withdraw_pat", by, domain, id, func(t *tx, row patRow) error {
		p := row.model()
		if p.WithdrawnFrom(domain) != nil {
			return nil
		}
		if status := t.status(row); status != models.StatusActive {
			return models.NewError(models.CodeConflict, "the token is "+string(status)+"; there is nothing to withdraw")
		}
		owner, err := t.lockUser(row.UserID)
		if err != nil {
			return err
		}
		if !owner.Admin {
			return models.NewError(models.CodeConflict, "the token is not a platform admin's; revoke it instead")
		}
		err = t.db.Exec("INSERT INTO withdrawals (pat_id, domain, withdrawn_by, reason, at) VALUES (?, ?, ?, ?, ?)", id, domain, t.by.UserID, reason, t.now).Error
		if err != nil {
			return err
		}
		t.outlives(id, row.ExpiresAt)
		t.change(ChangeToken, id, "")
		return t.audit("pat.withdraw", onPAT(id), map[string]string{"domain": domain, "user_id": row.UserID, "reason": reason})
	})
}

// AdmitPAT takes a domain's withdrawal of a token back. Where there is none it changes
// nothing.
func (s *Store) AdmitPAT(ctx context.Context, by models.Actor, domain, id string) (models.PAT, error) {
	return s.editApproval(ctx, "admit_pat", by, domain, id, func(t *tx, row patRow) error {
		if row.model().WithdrawnFrom(domain) == nil {
			return nil
		}
		if err := t.db.Exec("DELETE FROM withdrawals WHERE pat_id = ? AND domain = ?", id, domain).Error; err != nil {
			return err
		}
		t.change(ChangeToken, id, "")
		return t.audit("pat.admit", onPAT(id), map[string]string{"domain": domain, "user_id": row.UserID})
	})
}

// checkRevokableWithin returns CodeForbidden if the token is a platform admin's, unless
// another one acts, or an operator.
func (t *tx) checkRevokableWithin(row patRow) error {
	owner, err := t.lockUser(row.UserID)
	if err != nil || !owner.Admin || t.by.Kind == models.ActorOperator {
		return err
	}
	if t.by.UserID != "" {
		var actor userRow
		if err := t.db.Where("id = ?", t.by.UserID).Limit(1).Find(&actor).Error; err != nil || actor.Admin && !actor.Disabled {
			return err
		}
	}
	return models.NewError(models.CodeForbidden, "the token is a platform admin's and works elsewhere, too; withdraw it from the domain instead")
}

// reapplyWithdrawal withdraws a token again.
func (t *tx) reapplyWithdrawal(id, domain string, stone models.Tombstone) (bool, error) {
	row, found, err := t.patByID(t.db, id)
	if err != nil || !found || row.model().WithdrawnFrom(domain) != nil {
		return false, err
	}
	var domains int64
	if err := t.db.Raw("SELECT COUNT(*) FROM domains WHERE id = ?", domain).Find(&domains).Error; err != nil || domains == 0 {
		return false, err
	}
	t.change(ChangeToken, id, "")
	return true, t.db.Exec("INSERT INTO withdrawals (pat_id, domain, withdrawn_by, reason, at) VALUES (?, ?, '', ?, ?)", id, domain, stone.Detail["reason"], exact(stone.At)).Error
}
