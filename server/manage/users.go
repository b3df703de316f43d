package manage

import (
	"context"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

// Me returns what a user may know of themselves.
func (s *Service) Me(ctx context.Context, user models.User) (api.Me, error) {
	memberships, err := s.store.Memberships(ctx, user.ID)
	if err != nil {
		return api.Me{}, err
	}
	me := api.Me{ID: user.ID, Email: user.Email, Name: user.Name, Admin: user.Admin, Policy: user.Policy, Memberships: []api.MyMembership{}, SignInBy: user.SignInBy(s.cfg.MaxAbsence)}
	for _, m := range memberships {
		me.Memberships = append(me.Memberships, api.MyMembership{Domain: m.Domain, Role: m.Role})
	}
	return me, nil
}

var errNoUser = models.NewError(models.CodeNotFound, "there is no such user")

// User returns an account.
func (s *Service) User(ctx context.Context, id string) (models.User, error) {
	user, err := s.store.User(ctx, id)
	if err != nil {
		return models.User{}, err
	}
	if user == nil {
		return models.User{}, errNoUser
	}
	return *user, nil
}

// UserByEmail returns the account of an address, nil if there is none.
func (s *Service) UserByEmail(ctx context.Context, email string) (*models.User, error) {
	return s.store.UserByEmail(ctx, email)
}

// LookUp returns the account of an address, nil if there is none, for an admin of a domain
// who makes members. Who may ask for one address may not ask for all: it is limited, and
// each question is in the audit log.
func (s *Service) LookUp(ctx context.Context, p models.Principal, domain, email string) (*models.User, error) {
	if !p.User.Admin { // who sees all accounts anyway
		if err := s.lookups.begin(p.User.ID, s.now(), s.cfg.Lookups, "at most %d people can be looked up in a minute"); err != nil {
			return nil, err
		}
	}
	user, err := s.store.UserByEmail(ctx, email)
	if err != nil {
		return nil, err
	}
	found := "no"
	if user != nil {
		found = "yes"
	}
	return user, s.store.Audit(ctx, p.Actor, "user.lookup", "domain:"+domain, map[string]string{"email": email, "found": found})
}

// Users lists all accounts.
func (s *Service) Users(ctx context.Context, filter UserFilter, page Page) ([]models.User, string, error) {
	return s.store.Users(ctx, filter, page)
}

// PendingCode is a one-time code that nobody has used.
type PendingCode = store.PendingCode

// PendingCodes lists the one-time codes of a user that nobody has used.
func (s *Service) PendingCodes(ctx context.Context, userID string) ([]PendingCode, error) {
	if _, err := s.User(ctx, userID); err != nil {
		return nil, err
	}
	return s.store.PendingCodes(ctx, userID)
}

// AllPendingCodes lists the one-time codes of all users that nobody has used.
func (s *Service) AllPendingCodes(ctx context.Context, page Page) ([]PendingCode, string, error) {
	return s.store.AllPendingCodes(ctx, page)
}

// WithdrawCodes ends the one-time codes of a user.
func (s *Service) WithdrawCodes(ctx context.Context, p models.Principal, userID string) error {
	_, err := s.store.WithdrawCodes(ctx, p.Actor, userID)
	return err
}

// CreateUser makes an account. Without a password nobody can sign in to it yet.
func (s *Service) CreateUser(ctx context.Context, p models.Principal, in api.NewUser) (models.User, error) {
	user, err := s.newUser(ctx, in, false)
	if err != nil {
		return models.User{}, err
	}
	return s.store.CreateUser(ctx, p.Actor, user)
}

// CreateFirstUser makes the first account of an empty database, which must have a password.
func (s *Service) CreateFirstUser(ctx context.Context, by models.Actor, in api.NewUser) (models.User, error) {
	user, err := s.newUser(ctx, in, true)
	if err != nil {
		return models.User{}, err
	}
	return s.store.CreateFirstAdmin(ctx, by, user)
}

// newUser validates an account and hashes its password.
func (s *Service) newUser(ctx context.Context, in api.NewUser, passwordRequired bool) (models.User, error) {
	user := models.User{Email: models.NormalizeEmail(in.Email), Name: in.Name, Admin: in.Admin, Policy: in.Policy, CreatedAt: s.now()}
	var v models.Invalid
	models.ValidateEmail("email", user.Email, &v)
	models.ValidateName("name", user.Name, &v)
	if in.Password != "" || passwordRequired {
		models.ValidatePassword("password", in.Password, user.Email, &v)
	}
	if err := v.Err(); err != nil {
		return models.User{}, err
	}
	if in.Password == "" {
		return user, nil
	}
	var err error
	user.PasswordHash, err = s.passwords.Hash(ctx, in.Password)
	return user, err
}

// AnonymiseUser takes what names a disabled user out of the database, for good.
func (s *Service) AnonymiseUser(ctx context.Context, p models.Principal, id string) (models.User, error) {
	return s.store.AnonymiseUser(ctx, p.Actor, id)
}

// WidensUser reports whether a change of an account does more than rename it or take power
// away.
func WidensUser(in api.UserPatch) bool {
	return in.Admin != nil && *in.Admin || in.Policy != nil && *in.Policy || in.Disabled != nil && !*in.Disabled
}

// UpdateUser changes an account. Nobody disables or demotes themselves: an admin
// who did so by mistake could not undo it.
func (s *Service) UpdateUser(ctx context.Context, p models.Principal, id string, in api.UserPatch) (models.User, error) {
	if in.Name != nil {
		var v models.Invalid
		models.ValidateName("name", *in.Name, &v)
		if err := v.Err(); err != nil {
			return models.User{}, err
		}
	}
	revoke := in.RevokeTokens != nil && *in.RevokeTokens
	if revoke && (in.Disabled == nil || !*in.Disabled) {
		var v models.Invalid
		v.Add("revoke_tokens", "goes with disabled: true")
		return models.User{}, v.Err()
	}
	if id == p.User.ID && (in.Disabled != nil && *in.Disabled || in.Admin != nil && !*in.Admin) {
		return models.User{}, models.NewError(models.CodeConflict, "you cannot disable your own account or give up being its admin; another admin can")
	}
	return s.store.UpdateUser(ctx, p.Actor, id, store.UserPatch{Name: in.Name, Admin: in.Admin, Policy: in.Policy, Disabled: in.Disabled, RevokeTokens: revoke})
}
