package manage

import (
	"context"
	"strings"

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

// FindPAT returns a token as it counts, nil if there is none.
func (s *Service) FindPAT(ctx context.Context, id string) (*models.PAT, error) {
	return s.store.PAT(ctx, id)
}

// Standings lists all users by email address, each with the membership in a domain.
func (s *Service) Standings(ctx context.Context, domain string, page Page) ([]models.Standing, string, error) {
	return s.store.Standings(ctx, domain, page)
}
