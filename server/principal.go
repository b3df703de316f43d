package server

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/authz"
	"patrol/server/request"
)

// admit finds out who calls and whether they are the caller that the route is
// for. It may replace the request's context by one that holds the session.
func (s *Server) admit(c *gin.Context, by caller) (models.Principal, error) {
	switch by {
	case anyone, askingProxy, tokenHolder:
		return models.Principal{}, nil
	case patItself:
		return s.admitPAT(c)
	case bundleReader:
		return s.admitBundleReader(c)
	}
	p, err := s.admitSession(c)
	if err != nil {
		return models.Principal{}, err
	}
	switch by {
	case session, owner, ownerConfirming, ownerOrPlatformAdmin:
		return p, nil
	case ownerFresh:
		if age := s.now().Sub(p.SignedInAt); age > s.cfg.Sessions.FreshFor {
			return models.Principal{}, errStaleSignIn
		}
		return p, nil
	case platformAdmin:
		if !p.User.Admin {
			return models.Principal{}, errAdminOnly
		}
		return p, nil
	case policyTeam:
		if !p.User.Admin && !p.User.Policy {
			return models.Principal{}, errPolicyTeamOnly
		}
		return p, nil
	case domainReader:
		_, err = s.manage.ReadableDomain(c.Request.Context(), p, c.Param("id"))
		return p, err
	case domainAdmin:
		return p, s.manage.MayAdminister(c.Request.Context(), p, c.Param("id"))
	}
	return models.Principal{}, models.NewError(models.CodeForbidden, "nobody may call this")
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
func (s *Server) admitSession(c *gin.Context) (models.Principal, error) {
	r := c.Request
	var token string
	switch cred := request.CredentialOf(r.Header); cred.Kind {
	case request.NoCredential:
		if err := s.sameSite(r); err != nil {
			return models.Principal{}, err
		}
		token = s.sessions.cookieValue(r)
	case request.SessionCredential:
		token = strings.TrimPrefix(cred.Token, models.BearerPrefix)
	case request.AccessCredential:
		if _, _, err := s.verifyPAT(c, cred.Token); err != nil {
			return models.Principal{}, err
		}
		return models.Principal{}, errPATHere
	default:
		return models.Principal{}, errSignInFirst
	}
	ctx, err := s.sessions.load(r.Context(), token, r.Header["Authorization"] != nil)
	if err != nil {
		if request.CredentialOf(r.Header).Kind == request.SessionCredential && models.CodeOf(err) == models.CodeUnauthenticated {
			c.Header("WWW-Authenticate", request.ChallengeInvalid)
		}
		return models.Principal{}, err
	}
	userID, signedInAt := s.sessions.user(ctx)
	user, err := s.store.User(ctx, userID)
	if err != nil {
		return models.Principal{}, err
	}
	if user == nil || user.Disabled {
		return models.Principal{}, errSignInFirst
	}
	x := request.Of(ctx)
	x.UserID = user.ID
	c.Request = r.WithContext(ctx)
	return models.Principal{User: *user, SignedInAt: signedInAt, AtProvider: s.provider != nil && s.sessions.atProvider(ctx), Actor: x.Actor(models.ActorUser, user.ID, "")}, nil
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
func (s *Server) admitPAT(c *gin.Context) (models.Principal, error) {
	cred := request.CredentialOf(c.Request.Header)
	switch cred.Kind {
	case request.NoCredential, request.OtherCredential:
		return models.Principal{}, errNoPAT
	case request.SessionCredential:
		c.Header("WWW-Authenticate", request.ChallengeInvalid)
		return models.Principal{}, errBadPAT
	}
	pat, user, err := s.verifyPAT(c, cred.Token)
	if err != nil {
		return models.Principal{}, err
	}
	x := request.Of(c.Request.Context())
	x.UserID = user.ID
	return models.Principal{User: *user, PAT: pat, Actor: x.Actor(models.ActorToken, user.ID, pat.ID)}, nil
}

// verifyPAT returns the record of a PAT that may be used now, and its owner. The
// secret is verified before anything else is looked at; then the state is read
// from the store, not from a cache.
func (s *Server) verifyPAT(c *gin.Context, text string) (*models.PAT, *models.User, error) {
	ctx, x := c.Request.Context(), request.Of(c.Request.Context())
	_, d, ok := s.authz.Begin(ctx, authz.Call{Token: text, Surface: "api", RequestID: x.ID, IP: x.Client, UserAgent: c.Request.UserAgent()})
	if !ok {
		if d.Status() == http.StatusServiceUnavailable {
			return nil, nil, models.NewError(models.CodeUnavailable, "the token could not be looked up")
		}
		c.Header("WWW-Authenticate", request.ChallengeInvalid)
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
		c.Header("WWW-Authenticate", request.ChallengeInvalid)
		return nil, nil, errBadPAT
	}
	return pat, user, nil
}
