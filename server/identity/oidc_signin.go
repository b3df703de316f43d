package identity

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"patrol/models"
	"patrol/models/store"
	"patrol/server/request"
)

var (
	// ErrNoOIDC is the error where people sign in with passwords alone.
	ErrNoOIDC       = models.NewError(models.CodeNotFound, "there is no identity provider to sign in at")
	errNotVerified  = models.NewError(models.CodeForbidden, "the identity provider has not verified an email address of yours, which an account here needs")
	errForeignEmail = models.NewError(models.CodeForbidden, "your email address is of no domain that may sign in here")
	errShutOut      = models.NewError(models.CodeForbidden, "your account here is disabled")
	errEmailTaken   = models.NewError(models.CodeConflict,
		"there is an account with your email address already; sign in to it with its password, then connect the two under Profile, Password")
	errNoAccount = models.NewError(models.CodeForbidden,
		"you have no account here; ask an administrator for one, then connect the two under Profile, Password")
	errSomebodyElse = models.NewError(models.CodeForbidden, "you signed in at the identity provider as somebody else than here")
)

// signInBy returns the account of somebody who came from the provider, and brings
// it up to date with what the provider says. An account is found by issuer and
// subject alone: an address proves nothing about an account that was there before,
// since whoever runs a provider can claim any. by has the origin of the request.
func (s *Service) signInBy(ctx context.Context, by models.Actor, who claims) (models.User, error) {
	cfg := s.cfg.OIDC
	if err := cfg.admits(who.Email); err != nil {
		return models.User{}, err
	}
	found, err := s.store.UserByIdentity(ctx, cfg.Issuer, who.Subject)
	if err != nil {
		return models.User{}, err
	}
	system := by
	system.Kind, system.UserID = models.ActorSystem, ""
	if found == nil {
		created, err := s.createBy(ctx, system, who)
		if err != nil {
			return models.User{}, err
		}
		found = &created
	}
	if found.Disabled {
		s.noteRefusal(ctx, by, found.ID, "disabled")
		return models.User{}, errShutOut
	}
	if who.GroupsUnknown {
		s.log.WarnContext(ctx, "the identity provider has more groups of somebody than it sends; their rights stay as they are",
			"user_id", found.ID, "claim", cfg.GroupsClaim, "request_id", request.ID(ctx))
		return *found, nil
	}
	return s.follow(ctx, system, *found, who.Groups)
}

// admits holds a verified address against the domains that may sign in.
func (c OIDCConfig) admits(email string) error {
	if len(c.EmailDomains) == 0 {
		return nil
	}
	if email == "" {
		return errNotVerified
	}
	_, domain, _ := strings.Cut(email, "@")
	if !slices.ContainsFunc(c.EmailDomains, func(allowed string) bool { return models.NormalizeEmail(allowed) == domain }) {
		return errForeignEmail
	}
	return nil
}

// createBy makes an account for somebody who has none.
func (s *Service) createBy(ctx context.Context, by models.Actor, who claims) (models.User, error) {
	cfg := s.cfg.OIDC
	if !cfg.AllowCreate {
		return models.User{}, errNoAccount
	}
	var v models.Invalid
	models.ValidateEmail("email", who.Email, &v)
	if who.Email == "" || v.Err() != nil {
		return models.User{}, errNotVerified
	}
	user := models.User{Email: who.Email, Name: strings.TrimSpace(who.Name), CreatedAt: s.now(), Admin: cfg.makesAdmin(who.Groups)}
	var name models.Invalid
	if models.ValidateName("name", user.Name, &name); name.Err() != nil {
		user.Name, _, _ = strings.Cut(user.Email, "@")
	}
	created, err := s.manage.CreateUserWithIdentity(ctx, by, user, cfg.Issuer, who.Subject)
	if models.CodeOf(err) == models.CodeTaken {
		// Two requests of one person may have come at once.
		if found, findErr := s.store.UserByIdentity(ctx, cfg.Issuer, who.Subject); findErr == nil && found != nil {
			return *found, nil
		}
		return models.User{}, errEmailTaken
	}
	return created, err
}

func (c OIDCConfig) makesAdmin(groups []string) bool {
	return c.AdminGroup != "" && slices.Contains(groups, c.AdminGroup)
}

// follow gives a user the rights that their groups give, and takes away those that
// they give no more. A right that cannot be given, such as a role in a domain that
// does not exist, is left out and logged.
func (s *Service) follow(ctx context.Context, by models.Actor, user models.User, groups []string) (models.User, error) {
	cfg := s.cfg.OIDC
	if admin := cfg.makesAdmin(groups); cfg.AdminGroup != "" && user.Admin != admin {
		updated, err := s.manage.SetAdmin(ctx, by, user.ID, admin)
		switch models.CodeOf(err) {
		case "":
			user = updated
		case models.CodeConflict: // the last admin who can sign in
			s.log.WarnContext(ctx, "the last platform admin is in no group that makes admins, and stays one", "user_id", user.ID, "request_id", request.ID(ctx))
		default:
			return models.User{}, err
		}
	}
	if len(cfg.Memberships) == 0 {
		return user, nil
	}
	memberships, err := s.store.Memberships(ctx, user.ID)
	if err != nil {
		return models.User{}, err
	}
	has := map[string]string{}
	for _, m := range memberships {
		has[m.Domain] = m.Role
	}
	for _, want := range s.given(ctx, groups) {
		m := models.Membership{UserID: user.ID, Domain: want.Domain, Role: want.Role}
		switch {
		case want.Role == has[want.Domain]:
		case want.Role != "":
			err = s.manage.FollowMembership(ctx, by, m)
		case cfg.RemoveMemberships:
			err = s.manage.FollowMembership(ctx, by, models.Membership{UserID: user.ID, Domain: want.Domain})
		}
		if models.CodeOf(err) == models.CodeNotFound {
			s.log.WarnContext(ctx, "a group gives a role in a domain that does not exist", "domain", want.Domain, "request_id", request.ID(ctx))
			err = nil
		}
		if err != nil {
			return models.User{}, err
		}
	}
	return user, nil
}

// given returns, for every domain that the mapping names, the role that groups
// give, "" for none. What is taken away comes before what is given.
func (s *Service) given(ctx context.Context, groups []string) []GroupMembership {
	roles := s.manage.Catalog().Roles
	var none, some []GroupMembership
	seen, named := map[string]bool{}, []string{}
	for _, m := range s.cfg.OIDC.Memberships {
		if !slices.Contains(named, m.Domain) {
			named = append(named, m.Domain)
		}
		if seen[m.Domain] || !slices.Contains(groups, m.Group) {
			continue
		}
		if _, known := roles[m.Role]; !known {
			s.log.WarnContext(ctx, "a group gives a role that the policy does not have", "role", m.Role, "domain", m.Domain, "request_id", request.ID(ctx))
			continue
		}
		seen[m.Domain] = true
		some = append(some, m)
	}
	for _, domain := range named {
		if !seen[domain] {
			none = append(none, GroupMembership{Domain: domain})
		}
	}
	return append(none, some...)
}

// beginBy begins a session of somebody who came from the provider.
func (s *Service) beginBy(ctx context.Context, by models.Actor, user models.User, who claims) (token string, ends time.Time, err error) {
	if token, ends, err = s.sessions.begin(ctx, user.ID, by, sessionStart{provider: true, signedInAt: who.SignedIn, there: s.provider.there(who.Subject, who.Session)}); err != nil {
		if models.CodeOf(err) == models.CodeConflict { // disabled in the meantime
			err = errShutOut
		}
		return "", time.Time{}, err
	}
	s.countSignIn("accepted")
	by.UserID = user.ID
	// If this fails, the session is there, but its token has been told to nobody.
	err = s.store.UseIdentity(ctx, by, s.cfg.OIDC.Issuer, who.Subject, "session.create", map[string]string{"transport": transportCookie, "issuer": s.cfg.OIDC.Issuer})
	return token, ends, err
}

// confirmBy makes the session of ctx, which is p's, as recent as the sign-in at the
// provider.
func (s *Service) confirmBy(ctx context.Context, p models.Principal, user models.User, who claims) (token string, err error) {
	if user.ID != p.User.ID {
		return "", errSomebodyElse
	}
	s.sessions.bind(ctx, s.provider.there(who.Subject, who.Session))
	if token, err = s.sessions.confirm(ctx, who.SignedIn, store.Beginning{By: p.Actor}); err != nil {
		return "", err
	}
	return token, s.store.UseIdentity(ctx, p.Actor, s.cfg.OIDC.Issuer, who.Subject, "session.reauthenticate", map[string]string{"issuer": s.cfg.OIDC.Issuer})
}

// linkBy connects p with the person who came from the provider.
func (s *Service) linkBy(ctx context.Context, p models.Principal, who claims) error {
	if err := s.cfg.OIDC.admits(who.Email); err != nil {
		return err
	}
	err := s.store.LinkIdentity(ctx, p.Actor, p.User.ID, s.cfg.OIDC.Issuer, who.Subject)
	if models.CodeOf(err) == models.CodeTaken {
		return models.WrapError(models.CodeConflict,
			"this is somebody else's identity here, or you are connected to another one; disconnect that first", err)
	}
	return err
}

// LogRefusal writes why somebody did not get in by way of the provider, which their
// page does not tell in full.
func (s *Service) LogRefusal(ctx context.Context, err error) {
	s.countSignIn("refused")
	cause := err
	if e, ok := errors.AsType[*models.Error](err); ok && errors.Unwrap(e) != nil {
		cause = errors.Unwrap(e)
	}
	s.log.WarnContext(ctx, "a sign-in at the identity provider was refused", "cause", cause.Error(), "request_id", request.ID(ctx))
}
