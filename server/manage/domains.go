package manage

import (
	"context"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

// Roles returns the roles of a user by domain. A role that the policy no longer has
// permits nothing.
func (s *Service) Roles(ctx context.Context, userID string) (map[string]models.Role, error) {
	memberships, err := s.store.Memberships(ctx, userID)
	if err != nil {
		return nil, err
	}
	catalog, roles := s.engine.Current().Catalog(), map[string]models.Role{}
	for _, m := range memberships {
		role := catalog.Roles[m.Role]
		if role == nil {
			role = models.Role{}
		}
		roles[m.Domain] = role
	}
	return roles, nil
}

// Administered returns the domains that p administers by membership. A frozen one
// is not among them: its admins do not get in.
func (s *Service) Administered(ctx context.Context, p models.Principal) ([]models.Domain, error) {
	memberships, err := s.store.Memberships(ctx, p.User.ID)
	if err != nil {
		return nil, err
	}
	roles, ids := s.engine.Current().Catalog().Roles, []string(nil)
	for _, m := range memberships {
		if roles[m.Role].AdministersDomain() {
			ids = append(ids, m.Domain)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	known, err := s.store.KnownDomains(ctx, p.User.ID, false, ids)
	if err != nil {
		return nil, err
	}
	var own []models.Domain
	for _, id := range ids {
		if d, there := known[id]; there && d.Status != models.DomainIsFrozen {
			own = append(own, d)
		}
	}
	return own, nil
}

// Members lists who belongs to a domain.
func (s *Service) Members(ctx context.Context, domain string, filter MemberFilter, page Page) ([]Member, string, error) {
	return s.store.Members(ctx, domain, filter, page)
}

// MemberOf returns the account of a member of a domain. Of others nothing is told.
func (s *Service) MemberOf(ctx context.Context, domain, userID string) (models.User, error) {
	member, err := s.store.Membership(ctx, userID, domain)
	if err != nil {
		return models.User{}, err
	}
	if member == nil {
		return models.User{}, models.NewError(models.CodeNotFound, "the domain has no such member")
	}
	return s.User(ctx, userID)
}

// RemoveMember ends a membership.
func (s *Service) RemoveMember(ctx context.Context, p models.Principal, domain, userID string) error {
	return s.store.RemoveMember(ctx, p.Actor, userID, domain)
}

// CreateDomain makes an enabled domain without members.
func (s *Service) CreateDomain(ctx context.Context, p models.Principal, in api.NewDomain) (models.Domain, error) {
	var v models.Invalid
	models.ValidateDomainID("id", in.ID, &v)
	models.ValidateName("name", in.Name, &v)
	if err := v.Err(); err != nil {
		return models.Domain{}, err
	}
	return s.store.CreateDomain(ctx, p.Actor, models.Domain{
		ID: in.ID, Name: in.Name, Status: models.DomainEnabled, CreatedAt: s.now(),
	})
}

// WidensDomain reports whether a change of a domain may let more people in than before. To
// freeze one never does.
func WidensDomain(in api.DomainPatch) bool {
	return in.Status != nil && *in.Status != models.DomainIsFrozen
}

// UpdateDomain changes the name and status of a domain.
func (s *Service) UpdateDomain(ctx context.Context, p models.Principal, id string, in api.DomainPatch) (models.Domain, error) {
	var v models.Invalid
	if in.Name != nil {
		models.ValidateName("name", *in.Name, &v)
	}
	if in.Status != nil {
		models.ValidateDomainStatus("status", *in.Status, &v)
	}
	if err := v.Err(); err != nil {
		return models.Domain{}, err
	}
	return s.store.UpdateDomain(ctx, p.Actor, id, store.DomainPatch{Name: in.Name, Status: in.Status})
}

// Domains returns the domains that p may know of: their own, or all for a
// platform admin.
func (s *Service) Domains(ctx context.Context, p models.Principal, filter DomainFilter, page Page) ([]models.Domain, string, error) {
	if filter.UserID = ""; !p.User.Admin {
		filter.UserID = p.User.ID
	}
	return s.store.Domains(ctx, filter, page)
}

// SetMember gives a user a role in a domain, and reports whether they had none
// before.
func (s *Service) SetMember(ctx context.Context, p models.Principal, domain, userID string, in api.SetMember) (member api.Member, created bool, err error) {
	var v models.Invalid
	if in.Role == "" {
		v.Add("role", "is required")
	} else {
		s.Catalog().ValidateRole("role", in.Role, &v)
	}
	if err := v.Err(); err != nil {
		return member, false, err
	}
	user, err := s.User(ctx, userID)
	if err != nil {
		return member, false, err
	}
	created, err = s.store.SetMember(ctx, p.Actor, models.Membership{UserID: userID, Domain: domain, Role: in.Role})
	return api.Member{UserID: userID, Email: user.Email, Role: in.Role}, created, err
}

// ReadableDomain returns a domain that p may know of.
func (s *Service) ReadableDomain(ctx context.Context, p models.Principal, id string) (models.Domain, error) {
	domain, err := s.store.Domain(ctx, id)
	if err != nil {
		return models.Domain{}, err
	}
	if domain == nil {
		return models.Domain{}, errNoDomain
	}
	if p.User.Admin {
		return *domain, nil
	}
	member, err := s.store.Membership(ctx, p.User.ID, id)
	if err != nil {
		return models.Domain{}, err
	}
	if member == nil {
		return models.Domain{}, errNoDomain
	}
	return *domain, nil
}

// MayAdminister returns nil if p may manage the members of a domain: a platform
// admin always, the domain's admins unless it is frozen.
func (s *Service) MayAdminister(ctx context.Context, p models.Principal, id string) error {
	domain, err := s.ReadableDomain(ctx, p, id)
	if err != nil || p.User.Admin {
		return err
	}
	member, err := s.store.Membership(ctx, p.User.ID, id)
	switch {
	case err != nil:
		return err
	case member == nil || !s.Catalog().Roles[member.Role].AdministersDomain():
		return models.NewError(models.CodeForbidden, "only the domain's admins may do this")
	case domain.Status == models.DomainIsFrozen:
		return models.NewError(models.CodeForbidden, "the domain is frozen; only platform admins may do this")
	}
	return nil
}

var errNoDomain = models.NewError(models.CodeNotFound, "there is no such domain")
