package manage

import (
	"context"
	"fmt"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

// SearchPATs lists tokens of all users.
func (s *Service) SearchPATs(ctx context.Context, search PATSearch, page Page) ([]OwnedPAT, string, error) {
	search.AdminRoles = s.adminRoles()
	found, next, err := s.store.SearchPATs(ctx, search, page)
	roles := s.Catalog().Roles
	for i := range found {
		found[i].PAT = found[i].WithApprovalsHeld(roles)
	}
	return found, next, err
}

// adminRoles are the roles of the policy in force that administer a domain.
func (s *Service) adminRoles() []string {
	names := []string{}
	for name, role := range s.Catalog().Roles {
		if role.AdministersDomain() {
			names = append(names, name)
		}
	}
	return names
}

// SearchPATsWithin lists tokens of all users that reach a domain, as far as its admins may
// see them.
func (s *Service) SearchPATsWithin(ctx context.Context, domain string, search PATSearch, page Page) ([]OwnedPAT, string, error) {
	search.Within = domain
	found, next, err := s.SearchPATs(ctx, search, page)
	for i := range found {
		found[i] = within(domain, found[i])
	}
	return found, next, err
}

// CountWaiting counts the tokens that would work in a domain but for its approval, up to
// a page of them.
func (s *Service) CountWaiting(ctx context.Context, domain string) (int, error) {
	missing := false
	found, _, err := s.SearchPATs(ctx, PATSearch{Within: domain, Approved: &missing, Status: models.StatusActive}, Page{Limit: MaxPage})
	return len(found), err
}

// LivePATs returns the ids of the tokens that a search finds and that work.
func (s *Service) LivePATs(ctx context.Context, search PATSearch) ([]string, error) {
	if search.Status != "" && search.Status != models.StatusActive {
		return nil, nil
	}
	search.Status = models.StatusActive
	var ids []string
	page := Page{Limit: MaxPage}
	for {
		found, next, err := s.SearchPATs(ctx, search, page)
		if err != nil {
			return nil, err
		}
		for _, one := range found {
			ids = append(ids, one.ID)
		}
		if next == "" {
			return ids, nil
		}
		page.After = next
	}
}

// AnyPAT returns a token whoever's it is.
func (s *Service) AnyPAT(ctx context.Context, id string) (OwnedPAT, error) {
	pat, err := s.store.PAT(ctx, id)
	if err != nil {
		return OwnedPAT{}, err
	}
	if pat == nil {
		return OwnedPAT{}, errNoToken
	}
	return s.WithOwner(ctx, *pat)
}

// WithOwner returns a token with the address of its owner.
func (s *Service) WithOwner(ctx context.Context, pat models.PAT) (OwnedPAT, error) {
	owned := OwnedPAT{PAT: pat}
	owner, err := s.store.User(ctx, pat.UserID)
	if owner != nil {
		owned.Email, owned.Platform = owner.Email, owner.Admin
	}
	return owned, err
}

// RevokeLeaked revokes the token whose text somebody found.
func (s *Service) RevokeLeaked(ctx context.Context, p models.Principal, in api.LeakedToken) (OwnedPAT, error) {
	if in.Reason == "" {
		in.Reason = LeakedReason
	}
	pat, err := s.FindLeaked(ctx, in.Token)
	if err != nil {
		return OwnedPAT{}, err
	}
	if pat, err = s.RevokeFor(ctx, p, pat.ID, in.Reason); err != nil {
		return OwnedPAT{}, err
	}
	return s.WithOwner(ctx, pat)
}

// ApprovePAT approves of scopes of a token for a domain; with nil of all that it has there.
func (s *Service) ApprovePAT(ctx context.Context, p models.Principal, domain, id string, scopes []string) error {
	_, err := s.store.ApprovePAT(ctx, p.Actor, domain, id, scopes)
	return err
}

// WithdrawPAT has a domain take a token of a platform admin no more. Its owner is shown the
// reason.
func (s *Service) WithdrawPAT(ctx context.Context, p models.Principal, domain, id, reason string) error {
	var v models.Invalid
	models.ValidateReason("reason", reason, true, &v)
	if err := v.Err(); err != nil {
		return err
	}
	_, err := s.store.WithdrawPAT(ctx, p.Actor, domain, id, reason)
	return err
}

// AdmitPAT takes a domain's withdrawal of a token back.
func (s *Service) AdmitPAT(ctx context.Context, p models.Principal, domain, id string) error {
	_, err := s.store.AdmitPAT(ctx, p.Actor, domain, id)
	return err
}

// WithdrawApproval takes the approval of a token back.
func (s *Service) WithdrawApproval(ctx context.Context, p models.Principal, domain, id string) error {
	_, err := s.store.WithdrawApproval(ctx, p.Actor, domain, id)
	return err
}

// The tokens of others, as a domain's admins and platform admins see them. The
// route table says who may come here for which domain; the store is asked for
// tokens within that domain, so that others are not found.

// DomainPAT returns a token that a domain's admins may know of. It holds only the
// scopes that reach the domain.
func (s *Service) DomainPAT(ctx context.Context, domain, id string) (store.OwnedPAT, error) {
	found, _, err := s.SearchPATs(ctx, store.PATSearch{Within: domain, ID: id}, store.Page{Limit: 1})
	if err != nil {
		return store.OwnedPAT{}, err
	}
	if len(found) == 0 {
		return store.OwnedPAT{}, errNoToken
	}
	return within(domain, found[0]), nil
}

var errNoToken = models.NewError(models.CodeNotFound, "there is no such token")

// within leaves of a token what a domain's admins may see.
func within(domain string, o store.OwnedPAT) store.OwnedPAT {
	o.Scopes = o.ScopesIn(domain)
	approval := o.ApprovedBy(domain)
	if o.Approvals = nil; approval != nil {
		o.Approvals = []models.Approval{*approval}
	}
	withdrawal := o.WithdrawnFrom(domain)
	if o.Withdrawals = nil; withdrawal != nil {
		o.Withdrawals = []models.Withdrawal{*withdrawal}
	}
	if o.Platform { // which of the domains its owner works in is none of this one's business
		o.LastUsedAt = nil
	}
	if o.Revoked.Domain != domain { // what another domain's admin wrote is for the owner
		o.Revoked.Domain = ""
		if o.Revoked.By == models.RevokerDomainAdmin {
			o.Revoked.Reason = ""
		}
	}
	o.Description, o.RotatedTo, o.LastUsedIP, o.LastUsedAgent = "", "", "", ""
	return o
}

// RevokeWithin ends a token for a domain, as a whole. Its owner is shown the
// reason.
func (s *Service) RevokeWithin(ctx context.Context, p models.Principal, domain, id, reason string) error {
	var v models.Invalid
	models.ValidateReason("reason", reason, true, &v)
	if err := v.Err(); err != nil {
		return err
	}
	_, err := s.store.RevokeWithin(ctx, p.Actor, domain, id, reason)
	return s.noteRefused(ctx, p, domain, id, err)
}

// noteRefused audits that an admin of a domain tried to end the token of a platform admin,
// once a minute, and returns the refusal.
func (s *Service) noteRefused(ctx context.Context, p models.Principal, domain, id string, refusal error) error {
	if models.CodeOf(refusal) == models.CodeForbidden && s.refused.First(s.now(), p.User.ID+" "+domain+" "+id) {
		if err := s.store.Audit(ctx, p.Actor, "pat.revoke_refused", "pat:"+id, map[string]string{"domain": domain}); err != nil {
			return err
		}
	}
	return refusal
}

// RevokeFor is [Service.RevokePAT] with a reason for the token's owner, which may be
// "".
func (s *Service) RevokeFor(ctx context.Context, p models.Principal, id, reason string) (models.PAT, error) {
	var v models.Invalid
	models.ValidateReason("reason", reason, false, &v)
	if err := v.Err(); err != nil {
		return models.PAT{}, err
	}
	owner := p.User.ID
	if p.User.Admin {
		owner = ""
	}
	return s.store.RevokeFor(ctx, p.Actor, owner, id, reason)
}

// What platform admins see of everybody: all tokens, tokens that leaked, and the
// audit log.

// LeakedReason is the reason for the owner of a token that somebody else found.
const LeakedReason = "The token was found where it should not be. Whoever saw it could use it."

// FindLeaked returns the token whose text somebody found. The secret is verified
// before anything of the record is looked at: a text that merely has the id of a
// token is nobody's.
func (s *Service) FindLeaked(ctx context.Context, text string) (models.PAT, error) {
	var v models.Invalid
	token, err := models.ParseToken(text)
	if err != nil {
		v.Add("token", "is not a whole token: it begins with patrol_ and has 62 characters")
		return models.PAT{}, v.Err()
	}
	pat, err := s.store.PAT(ctx, token.ID)
	if err != nil {
		return models.PAT{}, err
	}
	var keyID string
	var mac []byte
	if pat != nil {
		keyID, mac = pat.KeyID, pat.MAC
	}
	verified := s.keys.Verify(token, keyID, mac)
	if !verified && pat != nil && s.keys.Status(keyID) == models.KeyUnknown {
		return models.PAT{}, models.NewError(models.CodeUnavailable, fmt.Sprintf("the token was hashed with the key %q, which the ring of this server does not have", keyID))
	}
	if !verified {
		return models.PAT{}, errUnknownLeak
	}
	return *pat, nil
}

var errUnknownLeak = models.NewError(models.CodeNotFound, "the token is not known here: it was deleted, or is of another installation")
