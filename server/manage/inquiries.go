package manage

import (
	"context"
	"strings"
	"time"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

// What reports and questions about others are made on. Nothing here says what anybody can do:
// that is for the policy.

// FindUser returns the user with this id or email address, nil if there is none.
func (s *Service) FindUser(ctx context.Context, idOrEmail string) (*models.User, error) {
	if strings.Contains(idOrEmail, "@") {
		return s.store.UserByEmail(ctx, idOrEmail)
	}
	return s.store.User(ctx, idOrEmail)
}

// FindDomain returns a domain, nil if there is none.
func (s *Service) FindDomain(ctx context.Context, id string) (*models.Domain, error) {
	return s.store.Domain(ctx, id)
}

// FindMembership returns what a user is in a domain, nil if they are not in it.
func (s *Service) FindMembership(ctx context.Context, userID, domain string) (*models.Membership, error) {
	return s.store.Membership(ctx, userID, domain)
}

// FindMemberships returns what a user is in which domains.
func (s *Service) FindMemberships(ctx context.Context, userID string) ([]models.Membership, error) {
	return s.store.Memberships(ctx, userID)
}

// FindDomains returns the first domains by id, up to a page of them.
func (s *Service) FindDomains(ctx context.Context) ([]models.Domain, error) {
	found, _, err := s.store.Domains(ctx, store.DomainFilter{}, Page{Limit: MaxPage})
	return found, err
}

// maxLive bounds the live tokens of one user that are looked at.
const maxLive = 1000

// LivePATsOf returns the tokens of a user that work, as they count.
func (s *Service) LivePATsOf(ctx context.Context, userID string) ([]models.PAT, error) {
	found, _, err := s.store.PATs(ctx, store.PATFilter{UserID: userID, Status: models.StatusActive}, Page{Limit: maxLive})
	return found, err
}

// FindPAT returns a token as it counts, nil if there is none.
func (s *Service) FindPAT(ctx context.Context, id string) (*models.PAT, error) {
	return s.store.PAT(ctx, id)
}

// Standings lists all users by email address, each with the membership in a domain.
func (s *Service) Standings(ctx context.Context, domain string, page Page) ([]models.Standing, string, error) {
	return s.store.Standings(ctx, domain, page)
}

// ReadDraft reads the scopes and the lifetime of a token that is not made yet.
func (s *Service) ReadDraft(in api.ReachDraft) (scopes []models.Scope, length time.Duration, err error) {
	var v models.Invalid
	for _, sc := range in.Scopes {
		scopes = append(scopes, newScope(sc))
	}
	models.ValidateScopes(scopes, s.Catalog(), s.cfg.Limits, &v)
	length = min(models.DefaultLifetime, s.cfg.Limits.MaxLifetime)
	if in.ExpiresIn != "" {
		now := s.now()
		length = lifetime(in.ExpiresIn, nil).Resolve(now, s.cfg.Limits.MaxLifetime, &v).Sub(now)
	}
	return scopes, length, v.Err()
}
