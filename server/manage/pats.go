package manage

import (
	"context"
	"fmt"
	"time"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

// PATs lists the tokens of p, those of a status or name alone if one is given.
func (s *Service) PATs(ctx context.Context, p models.Principal, status models.Status, name string, page Page) ([]models.PAT, string, error) {
	return s.store.PATs(ctx, store.PATFilter{UserID: p.User.ID, Status: status, Name: name}, page)
}

// HasPAT reports whether p has a token of a status, "" for any.
func (s *Service) HasPAT(ctx context.Context, p models.Principal, status models.Status) (bool, error) {
	found, _, err := s.PATs(ctx, p, status, "", Page{Limit: 1})
	return len(found) > 0, err
}

// CountLivePATs counts the tokens of p that work.
func (s *Service) CountLivePATs(ctx context.Context, p models.Principal) (n int, err error) {
	page := Page{Limit: MaxPage}
	for {
		found, next, err := s.PATs(ctx, p, models.StatusActive, "", page)
		if err != nil {
			return 0, err
		}
		if n += len(found); next == "" {
			return n, nil
		}
		page.After = next
	}
}

// PATFamily returns the tokens that a token of p came from and went into by rotation, with
// the expiry that counts.
func (s *Service) PATFamily(ctx context.Context, p models.Principal, id string) ([]models.PAT, error) {
	family, err := s.store.PATFamily(ctx, p.User.ID, id)
	for i := range family {
		family[i] = s.Counted(family[i])
	}
	return family, err
}

// DeletePAT removes the record of a dead token of p.
func (s *Service) DeletePAT(ctx context.Context, p models.Principal, id string) error {
	return s.store.DeletePAT(ctx, p.Actor, p.User.ID, id)
}

// RevokeAll revokes all tokens of p, and returns how many worked until then.
func (s *Service) RevokeAll(ctx context.Context, p models.Principal) (int, error) {
	return s.store.RevokeAll(ctx, p.Actor, p.User.ID)
}

// maxSome bounds the tokens that one call revokes.
const maxSome = 200

// RevokeSome revokes several tokens of p: all of them, or if one is not theirs, none.
func (s *Service) RevokeSome(ctx context.Context, p models.Principal, ids []string) ([]models.PAT, error) {
	var v models.Invalid
	if n := len(ids); n < 1 || n > maxSome {
		v.Add("ids", "must have 1 to %d items, not %d", maxSome, n)
	}
	seen := make(map[string]int, len(ids))
	for i, id := range ids {
		if first, twice := seen[id]; twice {
			v.Add(fmt.Sprintf("ids[%d]", i), "is the same as ids[%d]", first)
			continue
		}
		seen[id] = i
	}
	if err := v.Err(); err != nil {
		return nil, err
	}
	return s.store.RevokeSome(ctx, p.Actor, p.User.ID, ids)
}

// RevokeItself revokes the token that p is, whatever its scopes: a program that has to give
// up a leaked token needs nobody's help.
func (s *Service) RevokeItself(ctx context.Context, p models.Principal) error {
	_, err := s.store.RevokePAT(ctx, p.Actor, p.User.ID, p.PAT.ID)
	return err
}

// RemoveScope narrows a token of p by a scope.
func (s *Service) RemoveScope(ctx context.Context, p models.Principal, id, scope string) (models.PAT, error) {
	return s.store.RemoveScope(ctx, p.Actor, p.User.ID, id, scope)
}

// Counted returns a token with the expiry and the approvals that count.
func (s *Service) Counted(p models.PAT) models.PAT {
	return p.WithMaxLifetime(s.cfg.Limits.MaxLifetime).WithApprovalsHeld(s.Catalog().Roles)
}

// CreatePAT makes a token for p with what in asks for. The token is told here
// and nowhere else. known are domains of p that the caller has read for the same request.
func (s *Service) CreatePAT(ctx context.Context, p models.Principal, in api.NewPAT, known ...models.Domain) (models.PAT, models.Token, error) {
	now := s.now()
	var v models.Invalid
	models.ValidateName("name", in.Name, &v)
	models.ValidateDescription("description", in.Description, &v)
	expires := lifetime(in.ExpiresIn, in.ExpiresAt).Resolve(now, s.cfg.Limits.MaxLifetime, &v)
	scopes := make([]models.Scope, len(in.Scopes))
	for i, sc := range in.Scopes {
		scopes[i] = newScope(sc)
	}
	models.ValidateScopes(scopes, s.Catalog(), s.cfg.Limits, &v)
	allowed := models.ValidateAllowedIPs("allowed_ips", in.AllowedIPs, s.cfg.Limits.MaxAllowedIPs, &v)
	limits, err := s.limitsOf(ctx, p, scopes, known)
	if err != nil {
		return models.PAT{}, models.Token{}, err
	}
	for i, sc := range scopes {
		limits.checkScope(sc, fmt.Sprintf("scopes[%d].", i), &v)
	}
	limits.checkExpiry(now, expires, &v)
	if err := v.Err(); err != nil {
		return models.PAT{}, models.Token{}, err
	}
	for i := range scopes {
		scopes[i].ID = models.NewID()
	}
	pat, token, err := s.mint(now, expires)
	if err != nil {
		return models.PAT{}, models.Token{}, err
	}
	pat.UserID, pat.Name, pat.Description, pat.Scopes, pat.AllowedIPs = p.User.ID, in.Name, in.Description, scopes, allowed
	pat, err = s.store.CreatePAT(ctx, p.Actor, pat)
	if err != nil {
		return models.PAT{}, models.Token{}, err
	}
	return pat, token, nil
}

// RotatePAT replaces a token of p by a new one with the same name and scopes.
func (s *Service) RotatePAT(ctx context.Context, p models.Principal, id string, in api.Rotation) (models.PAT, models.Token, error) {
	now := s.now()
	var v models.Invalid
	expires := lifetime(in.ExpiresIn, in.ExpiresAt).Resolve(now, s.cfg.Limits.MaxLifetime, &v)
	var grace time.Duration
	if in.Grace != "" {
		var err error
		switch grace, err = models.ParseDuration(in.Grace); {
		case err != nil:
			v.Add("grace", "%s", err.Error())
		case grace > s.cfg.Limits.MaxGrace:
			v.Add("grace", "is longer than the maximum of %s", models.FormatDuration(s.cfg.Limits.MaxGrace))
		}
	}
	old, err := s.store.PATOf(ctx, p.User.ID, id)
	if err != nil {
		return models.PAT{}, models.Token{}, err
	}
	if old != nil { // else the store says so
		limits, err := s.limitsOf(ctx, p, old.Scopes, nil)
		if err != nil {
			return models.PAT{}, models.Token{}, err
		}
		limits.checkExpiry(now, expires, &v)
	}
	if err := v.Err(); err != nil {
		return models.PAT{}, models.Token{}, err
	}
	next, token, err := s.mint(now, expires)
	if err != nil {
		return models.PAT{}, models.Token{}, err
	}
	next, err = s.store.RotatePAT(ctx, p.Actor, p.User.ID, id, next, grace)
	if err != nil {
		return models.PAT{}, models.Token{}, err
	}
	return next, token, nil
}

// mint draws a token and starts its record.
func (s *Service) mint(now, expires time.Time) (models.PAT, models.Token, error) {
	token, err := models.Mint(s.random)
	if err != nil {
		return models.PAT{}, models.Token{}, err
	}
	mac, keyID := s.keys.Sum(token)
	return models.PAT{ID: token.ID, KeyID: keyID, MAC: mac, CreatedAt: now, ExpiresAt: expires}, token, nil
}

// PAT returns a token of p.
func (s *Service) PAT(ctx context.Context, p models.Principal, id string) (models.PAT, error) {
	pat, err := s.store.PATOf(ctx, p.User.ID, id)
	if err != nil {
		return models.PAT{}, err
	}
	if pat == nil {
		return models.PAT{}, models.NewError(models.CodeNotFound, "you have no such token")
	}
	return *pat, nil
}

// ForeignUse returns from where and when a token was last noted to be used from an address
// that it is not for; at is zero if it was not.
func (s *Service) ForeignUse(ctx context.Context, pat models.PAT) (ip string, at time.Time, err error) {
	events, _, err := s.store.AuditEvents(ctx, store.AuditFilter{Action: "pat.ip_forbidden", Subject: "pat:" + pat.ID}, Page{Limit: 1})
	if err != nil || len(events) == 0 {
		return "", at, err
	}
	return events[0].Detail["ip"], events[0].At, nil
}

// UpdatePAT changes the name and description of a token of p, and the addresses that it may
// be used from: more of them if p's sign-in is fresh, else CodeReauthentication.
func (s *Service) UpdatePAT(ctx context.Context, p models.Principal, id string, in api.PATPatch, fresh bool) (models.PAT, error) {
	var v models.Invalid
	if in.Name != nil {
		models.ValidateName("name", *in.Name, &v)
	}
	if in.Description != nil {
		models.ValidateDescription("description", *in.Description, &v)
	}
	patch := store.PATPatch{Name: in.Name, Description: in.Description, NoWider: !fresh}
	if in.AllowedIPs != nil {
		patch.AllowedIPs = new(models.ValidateAllowedIPs("allowed_ips", *in.AllowedIPs, s.cfg.Limits.MaxAllowedIPs, &v))
	}
	if err := v.Err(); err != nil {
		return models.PAT{}, err
	}
	return s.store.UpdatePAT(ctx, p.Actor, p.User.ID, id, patch)
}

// RevokePAT ends a token of p, or anybody's if p is a platform admin. Doing it
// again changes nothing.
func (s *Service) RevokePAT(ctx context.Context, p models.Principal, id string) (models.PAT, error) {
	return s.RevokeFor(ctx, p, id, "")
}

// AddScope widens a token of p. known are domains of p that the caller has read for the same
// request.
func (s *Service) AddScope(ctx context.Context, p models.Principal, id string, in api.NewScope, known ...models.Domain) (models.PAT, error) {
	scope := newScope(in)
	var v models.Invalid
	scope.Validate(s.Catalog(), "", &v)
	limits, err := s.limitsOf(ctx, p, []models.Scope{scope}, known)
	if err != nil {
		return models.PAT{}, err
	}
	limits.checkScope(scope, "", &v)
	if err := v.Err(); err != nil {
		return models.PAT{}, err
	}
	scope.ID = models.NewID()
	return s.store.AddScope(ctx, p.Actor, p.User.ID, id, scope)
}

func lifetime(in string, at *time.Time) models.Lifetime {
	l := models.Lifetime{In: in}
	if at != nil {
		l.At = *at
	}
	return l
}

func newScope(in api.NewScope) models.Scope {
	return models.Scope{Domain: in.Domain, EntityType: in.EntityType, Entity: in.Entity, Operation: in.Operation}
}

// UTC returns a time in UTC, nil for nil.
func UTC(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}
