package store

import (
	"context"
	"slices"
	"strings"

	"patrol/models"
)

// ApprovePAT notes that a domain approves of a token with the scopes that reach
// it. With scopes, ids, the approval is of exactly those: if others reach the
// domain meanwhile it is CodeConflict. A token that does not reach the domain, as
// [PATSearch.Within] has it, is CodeNotFound, one that is dead CodeConflict.
// Approving again changes nothing; by somebody else it makes the approval theirs.
func (s *Store) ApprovePAT(ctx context.Context, by models.Actor, domain, id string, scopes []string) (models.PAT, error) {
	return s.editApproval(ctx, "approve_pat", by, domain, id, func(t *tx, row patRow) error {
		p := row.model()
		reaching := p.ScopesIn(domain)
		if scopes != nil && !sameScopes(reaching, scopes) {
			return models.NewError(models.CodeConflict, "the token has other scopes meanwhile; look at it again")
		}
		if status := t.status(row); status != models.StatusActive {
			return models.NewError(models.CodeConflict, "the token is "+string(status)+"; there is nothing to approve")
		}
		if before := p.ApprovedBy(domain); before != nil && before.By == t.by.UserID {
			return nil
		}
		if err := t.db.Exec(`INSERT INTO approvals (pat_id, domain, approved_by, at) VALUES (?, ?, ?, ?)
			ON CONFLICT (pat_id, domain) DO UPDATE SET approved_by = excluded.approved_by, at = excluded.at`, id, domain, t.by.UserID, t.now).Error; err != nil {
			return err
		}
		texts := make([]string, len(reaching))
		for i, sc := range reaching {
			texts[i] = sc.String()
		}
		t.change(ChangeToken, id, "")
		return t.audit("pat.approve", onPAT(id), map[string]string{"domain": domain, "user_id": row.UserID, "scopes": strings.Join(texts, " ")})
	})
}

// WithdrawApproval takes a domain's approval of a token back. Withdrawing what was
// never given changes nothing.
func (s *Store) WithdrawApproval(ctx context.Context, by models.Actor, domain, id string) (models.PAT, error) {
	return s.editApproval(ctx, "withdraw_approval", by, domain, id, func(t *tx, row patRow) error {
		if row.model().ApprovedBy(domain) == nil {
			return nil
		}
		if err := t.db.Exec("DELETE FROM approvals WHERE pat_id = ? AND domain = ?", id, domain).Error; err != nil {
			return err
		}
		t.change(ChangeToken, id, "")
		return t.audit("pat.withdraw_approval", onPAT(id), map[string]string{"domain": domain, "user_id": row.UserID})
	})
}

func (s *Store) editApproval(ctx context.Context, op string, by models.Actor, domain, id string, edit func(*tx, patRow) error) (models.PAT, error) {
	var edited models.PAT
	err := s.write(ctx, op, by, func(t *tx) error {
		row, err := t.lockPAT("", id)
		if err == nil {
			err = t.checkWithin(row, domain)
		}
		if err == nil {
			err = edit(t, row)
		}
		if err != nil {
			return err
		}
		edited, err = t.reload(id)
		return err
	})
	return edited, err
}

// checkWithin returns CodeNotFound unless the domain is one whose admins may know
// of the token.
func (t *tx) checkWithin(row patRow, domain string) error {
	if !storable(domain) {
		return notFound("domain")
	}
	var domains, found int64
	if err := t.db.Raw("SELECT COUNT(*) FROM domains WHERE id = ?", domain).Find(&domains).Error; err != nil {
		return err
	}
	if domains == 0 {
		return notFound("domain")
	}
	err := t.db.Raw("SELECT COUNT(*) FROM pats AS p JOIN users AS u ON u.id = p.user_id WHERE p.id = ? AND "+within,
		row.ID, domain, models.Any, domain).Find(&found).Error
	if err == nil && found == 0 {
		return notFound("token")
	}
	return err
}

// loseApprovals ends the approvals of a token that is widened by a scope, and
// returns the domains that had given them.
func (t *tx) loseApprovals(row patRow, widened models.Scope) (lost string, err error) {
	var domains []string
	for _, a := range row.Approvals {
		if widened.Reaches(a.Domain) {
			domains = append(domains, a.Domain)
		}
	}
	if len(domains) == 0 {
		return "", nil
	}
	err = t.db.Exec("DELETE FROM approvals WHERE pat_id = ? AND domain IN ?", row.ID, domains).Error
	return strings.Join(domains, " "), err
}

// sameScopes reports whether ids are those of the scopes, in any order.
func sameScopes(scopes []models.Scope, ids []string) bool {
	have := make([]string, len(scopes))
	for i, sc := range scopes {
		have[i] = sc.ID
	}
	slices.Sort(have)
	ids = slices.Sorted(slices.Values(ids))
	return slices.Equal(have, ids)
}
