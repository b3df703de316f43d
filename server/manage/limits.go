package manage

import (
	"context"
	"maps"
	"slices"
	"time"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

// The limits that a domain sets itself. Policy judges them at every use; what is
// here sets them, and refuses early what they would refuse later.

// SetLimits replaces what a domain demands of tokens. It binds the next call, of
// tokens that are in use already, too.
func (s *Service) SetLimits(ctx context.Context, p models.Principal, domain string, in api.SetDomainLimits) (models.DomainLimits, error) {
	limits, err := newLimits(in)
	if err != nil {
		return models.DomainLimits{}, err
	}
	d, err := s.store.UpdateDomain(ctx, p.Actor, domain, store.DomainPatch{Limits: &limits})
	return d.Limits, err
}

// newLimits reads limits. What is a demand or none must be said: a field that is
// left out by mistake must not lift one.
func newLimits(in api.SetDomainLimits) (models.DomainLimits, error) {
	var v models.Invalid
	var out models.DomainLimits
	if in.MaxLifetime != nil {
		d, err := models.ParseDuration(*in.MaxLifetime)
		switch {
		case err != nil:
			v.Add("max_lifetime", "%s", err.Error())
		case d < time.Second || d%time.Second != 0:
			v.Add("max_lifetime", "must be whole seconds, at least 1")
		}
		out.MaxLifetime = d
	}
	if in.Wildcards == nil {
		v.Add("wildcards", "is required")
	} else {
		out.NoWildcards = !*in.Wildcards
	}
	if in.Approval == nil {
		v.Add("approval", "is required")
	} else {
		out.Approval = *in.Approval
	}
	return out, v.Err()
}

// domainLimits has the demands of domains, by domain.
type domainLimits map[string]models.DomainLimits

// limitsOf returns the limits of the domains that scopes name and p belongs to. Those of known
// are taken as they are, the others are read. p may not know of any other domain.
func (s *Service) limitsOf(ctx context.Context, p models.Principal, scopes []models.Scope, known []models.Domain) (domainLimits, error) {
	limits := domainLimits{}
	of := make(map[string]models.DomainLimits, len(known))
	for _, d := range known {
		of[d.ID] = d.Limits
	}
	var ids []string
	for _, sc := range scopes {
		if _, there := limits[sc.Domain]; !there && sc.Domain != models.Any {
			l, read := of[sc.Domain]
			if limits[sc.Domain] = l; !read {
				ids = append(ids, sc.Domain)
			}
		}
	}
	if len(ids) == 0 {
		return limits, nil
	}
	read, err := s.store.KnownDomains(ctx, p.User.ID, p.User.Admin, ids)
	if err != nil {
		return nil, err
	}
	for id, d := range read {
		limits[id] = d.Limits
	}
	return limits, nil
}

// checkScope adds to v, under prefix, what is wrong with a scope in its domain.
func (l domainLimits) checkScope(sc models.Scope, prefix string, v *models.Invalid) {
	if l[sc.Domain].NoWildcards && sc.Entity == models.Any {
		v.Add(prefix+"entity", "must name an entity: %s takes no wildcards", sc.Domain)
	}
}

// checkExpiry adds to v what is wrong with the expiry of a token that is made now.
func (l domainLimits) checkExpiry(now, expires time.Time, v *models.Invalid) {
	for _, domain := range slices.Sorted(maps.Keys(l)) {
		limit := l[domain].MaxLifetime
		if limit > 0 && !expires.Before(now.Add(limit+time.Second)) { // an expiry is rounded up to a second
			v.Add("expires_in", "is longer than the %s that %s allows", models.FormatDuration(limit), domain)
			return
		}
	}
}

// Unapproved returns the domains that p's token names, that p belongs to, and that
// would have to approve it before it works there. known are domains of p that were read before.
func (s *Service) Unapproved(ctx context.Context, p models.Principal, pat models.PAT, known ...models.Domain) ([]string, error) {
	limits, err := s.limitsOf(ctx, p, pat.Scopes, known)
	if err != nil {
		return nil, err
	}
	pat = s.Counted(pat)
	var domains []string
	for _, sc := range pat.Scopes {
		if l, ok := limits[sc.Domain]; ok && l.Approval && pat.ApprovedBy(sc.Domain) == nil {
			domains = append(domains, sc.Domain)
			delete(limits, sc.Domain)
		}
	}
	return domains, nil
}
