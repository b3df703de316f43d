package api

import (
	"time"

	"patrol/models"
)

// PATOf returns a token's record in the form of the API, as of now.
func PATOf(p models.PAT, now time.Time) PAT {
	out := PAT{
		ID: p.ID, Name: p.Name, Description: p.Description, Status: p.Status(now),
		Scopes: make([]Scope, len(p.Scopes)), CreatedAt: p.CreatedAt.UTC(), ExpiresAt: p.ExpiresAt.UTC(),
		LastUsedAt: utc(p.LastUsedAt), RevokedAt: utc(p.RevokedAt),
		Approvals: make([]Approval, len(p.Approvals)), Withdrawals: make([]Withdrawal, len(p.Withdrawals)),
	}
	out.AllowedIPs = append([]string{}, p.AllowedIPs...)
	if p.Revoked.By != "" {
		out.RevokedBy = &p.Revoked.By
	}
	if p.Revoked.Domain != "" {
		out.RevokedDomain = &p.Revoked.Domain
	}
	if p.Revoked.Reason != "" {
		out.RevokedReason = &p.Revoked.Reason
	}
	for i, sc := range p.Scopes {
		out.Scopes[i] = Scope(sc)
	}
	for i, a := range p.Approvals {
		out.Approvals[i] = Approval{Domain: a.Domain, ApprovedAt: a.At.UTC()}
	}
	for i, w := range p.Withdrawals {
		out.Withdrawals[i] = Withdrawal{Domain: w.Domain, WithdrawnAt: w.At.UTC(), Reason: w.Reason}
	}
	if p.LastUsedIP != "" {
		out.LastUsedIP = &p.LastUsedIP
	}
	if p.RotatedTo != "" {
		out.RotatedTo = &p.RotatedTo
	}
	return out
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}
