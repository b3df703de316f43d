package manage

import (
	"context"

	"patrol/models"
	"patrol/models/store"
)

// Changes that follow an identity provider, on behalf of Patrol itself.

// CreateUserWithIdentity makes an account for somebody whom a provider knows.
func (s *Service) CreateUserWithIdentity(ctx context.Context, by models.Actor, user models.User, issuer, subject string) (models.User, error) {
	return s.store.CreateUserWithIdentity(ctx, by, user, issuer, subject)
}

// SetAdmin makes a user a platform admin, or not one any more.
func (s *Service) SetAdmin(ctx context.Context, by models.Actor, userID string, admin bool) (models.User, error) {
	return s.store.UpdateUser(ctx, by, userID, store.UserPatch{Admin: &admin})
}

// FollowMembership gives a user the role that a group gives, or with none ends the
// membership.
func (s *Service) FollowMembership(ctx context.Context, by models.Actor, m models.Membership) error {
	if m.Role == "" {
		return s.store.RemoveMember(ctx, by, m.UserID, m.Domain)
	}
	_, err := s.store.SetMember(ctx, by, m)
	return err
}
