package server

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/authz"
)

// Principal is who makes a management call: a signed-in user, or a PAT acting on
// itself. Methods that take one rely on the route table for who may come that
// far, and check for themselves whose the thing is.
type Principal struct {
	User       models.User
	SignedInAt time.Time    // when credentials were last given; zero for a PAT
	AtProvider bool         // the session began at the identity provider, and is confirmed there
	PAT        *models.PAT  // nil for a session
	Actor      models.Actor // for the audit log
}

// credential is what an Authorization header holds.
type credential struct {
	kind  credentialKind
	token string
}

type credentialKind int

const (
	noCredential      credentialKind = iota
	patCredential                    // a Bearer token, whatever it looks like
	sessionCredential                // a Bearer token with the prefix of session tokens
	otherCredential                  // another scheme, or none
)

// credentialOf reads the Authorization header. There is at most one; serve has
// seen to that. Scheme names are case-insensitive (RFC 9110 §11.1).
func credentialOf(h http.Header) credential {
	lines := h["Authorization"]
	if len(lines) == 0 {
		return credential{}
	}
	scheme, token, _ := strings.Cut(lines[0], " ")
	token = strings.Trim(token, " ")
	switch {
	case !strings.EqualFold(scheme, "Bearer"):
		return credential{kind: otherCredential}
	case strings.HasPrefix(token, models.BearerPrefix):
		return credential{kind: sessionCredential, token: token}
	default:
		return credential{kind: patCredential, token: token}
	}
}

// admit finds out who calls and whether they are the caller that the route is
// for. It may replace the request's context by one that holds the session.
func (s *Server) admit(c *gin.Context, by caller) (Principal, error) {
	switch by {
	case anyone, askingProxy, tokenHolder:
		return Principal{}, nil
	case patItself:
		return s.admitPAT(c)
	case bundleReader:
		return s.admitBundleReader(c)
	}
	p, err := s.admitSession(c)
	if err != nil {
		return Principal{}, err
	}
	switch by {
	case session, owner, ownerConfirming, ownerOrPlatformAdmin:
		return p, nil
	case ownerFresh:
		if age := s.now().Sub(p.SignedInAt); age > s.cfg.Sessions.FreshFor {
			return Principal{}, errStaleSignIn
		}
		return p, nil
	case platformAdmin:
		if !p.User.Admin {
			return Principal{}, errAdminOnly
		}
		return p, nil
	case policyTeam:
		if !p.User.Admin && !p.User.Policy {
			return Principal{}, errPolicyTeamOnly
		}
		return p, nil
	case domainReader:
		_, err = s.readableDomain(c.Request.Context(), p, c.Param("id"))
		return p, err
	case domainAdmin:
		return p, s.mayAdminister(c.Request.Context(), p, c.Param("id"))
	}
	return Principal{}, models.NewError(models.CodeForbidden, "nobody may call this")
}

var (
	errSignInFirst    = models.NewError(models.CodeUnauthenticated, "you are not signed in, or your session has ended")
	errStaleSignIn    = models.NewError(models.CodeReauthentication, "your sign-in is too old for this; give your password again at /api/v1/session/reauthenticate")
	errAdminOnly      = models.NewError(models.CodeForbidden, "only platform admins may do this")
	errPolicyTeamOnly = models.NewError(models.CodeForbidden, "only the policy team and platform admins may do this")
	errPATHere        = models.NewError(models.CodeSessionRequired, "a personal access token cannot do this; sign in instead")
	errNoPAT          = models.NewError(models.CodeUnauthenticated, "send the personal access token as 'Authorization: Bearer <token>'")
	errBadPAT         = models.NewError(models.CodeUnauthenticated, "the personal access token is not valid")
	errCrossOrigin    = models.NewError(models.CodeForbidden, "this request was sent by a page of another site")
)

// admitSession admits a signed-in user: by the session token in the
// Authorization header if there is one, else by the cookie. The user is read at
// every call, so that disabling one ends their sessions.
func (s *Server) admitSession(c *gin.Context) (Principal, error) {
	r := c.Request
	var token string
	switch cred := credentialOf(r.Header); cred.kind {
	case noCredential:
		if err := s.sameSite(r); err != nil {
			return Principal{}, err
		}
		token = s.sessions.cookieValue(r)
	case sessionCredential:
		token = strings.TrimPrefix(cred.token, models.BearerPrefix)
	case patCredential:
		if _, _, err := s.verifyPAT(c, cred.token); err != nil {
			return Principal{}, err
		}
		return Principal{}, errPATHere
	default:
		return Principal{}, errSignInFirst
	}
	ctx, err := s.sessions.load(r.Context(), token, r.Header["Authorization"] != nil)
	if err != nil {
		if credentialOf(r.Header).kind == sessionCredential && models.CodeOf(err) == models.CodeUnauthenticated {
			c.Header("WWW-Authenticate", challengeInvalid)
		}
		return Principal{}, err
	}
	userID, signedInAt := s.sessions.user(ctx)
	user, err := s.store.User(ctx, userID)
	if err != nil {
		return Principal{}, err
	}
	if user == nil || user.Disabled {
		return Principal{}, errSignInFirst
	}
	x := exchangeOf(ctx)
	x.userID = user.ID
	c.Request = r.WithContext(ctx)
	return Principal{User: *user, SignedInAt: signedInAt, AtProvider: s.provider != nil && s.sessions.atProvider(ctx), Actor: x.actor(r, models.ActorUser, user.ID, "")}, nil
}

// sameSite refuses what a page of another site made a browser send. It is asked
// only where a cookie could count as the caller's consent.
func (s *Server) sameSite(r *http.Request) error {
	if err := s.crossOrigin.Check(r); err != nil {
		return errCrossOrigin
	}
	return nil
}

// admitPAT admits a PAT that is alive, as whose owner is.
func (s *Server) admitPAT(c *gin.Context) (Principal, error) {
	cred := credentialOf(c.Request.Header)
	switch cred.kind {
	case noCredential, otherCredential:
		return Principal{}, errNoPAT
	case sessionCredential:
		c.Header("WWW-Authenticate", challengeInvalid)
		return Principal{}, errBadPAT
	}
	pat, user, err := s.verifyPAT(c, cred.token)
	if err != nil {
		return Principal{}, err
	}
	x := exchangeOf(c.Request.Context())
	x.userID = user.ID
	return Principal{User: *user, PAT: pat, Actor: x.actor(c.Request, models.ActorToken, user.ID, pat.ID)}, nil
}

// verifyPAT returns the record of a PAT that may be used now, and its owner. The
// secret is verified before anything else is looked at; then the state is read
// from the store, not from a cache.
func (s *Server) verifyPAT(c *gin.Context, text string) (*models.PAT, *models.User, error) {
	ctx, x := c.Request.Context(), exchangeOf(c.Request.Context())
	_, d, ok := s.authz.Begin(ctx, authz.Call{Token: text, Surface: "api", RequestID: x.requestID, IP: x.client, UserAgent: c.Request.UserAgent()})
	if !ok {
		if d.Status() == http.StatusServiceUnavailable {
			return nil, nil, models.NewError(models.CodeUnavailable, "the token could not be looked up")
		}
		c.Header("WWW-Authenticate", challengeInvalid)
		return nil, nil, errBadPAT
	}
	token, err := models.ParseToken(text)
	if err != nil {
		return nil, nil, err // Begin would have refused it
	}
	pat, err := s.store.PAT(ctx, token.ID)
	if err != nil {
		return nil, nil, err
	}
	var user *models.User
	if pat != nil {
		*pat = pat.WithMaxLifetime(s.cfg.Limits.MaxLifetime)
		if user, err = s.store.User(ctx, pat.UserID); err != nil {
			return nil, nil, err
		}
	}
	if pat == nil || pat.Status(s.now()) != models.StatusActive || user == nil || user.Disabled {
		c.Header("WWW-Authenticate", challengeInvalid)
		return nil, nil, errBadPAT
	}
	return pat, user, nil
}

// readableDomain returns a domain that p may know of.
func (s *Server) readableDomain(ctx context.Context, p Principal, id string) (models.Domain, error) {
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

// mayAdminister returns nil if p may manage the members of a domain: a platform
// admin always, the domain's admins unless it is frozen.
func (s *Server) mayAdminister(ctx context.Context, p Principal, id string) error {
	domain, err := s.readableDomain(ctx, p, id)
	if err != nil || p.User.Admin {
		return err
	}
	member, err := s.store.Membership(ctx, p.User.ID, id)
	switch {
	case err != nil:
		return err
	case member == nil || !s.engine.Current().Catalog().Roles[member.Role].AdministersDomain():
		return models.NewError(models.CodeForbidden, "only the domain's admins may do this")
	case domain.Status == models.DomainIsFrozen:
		return models.NewError(models.CodeForbidden, "the domain is frozen; only platform admins may do this")
	}
	return nil
}

var errNoDomain = models.NewError(models.CodeNotFound, "there is no such domain")
