package server

import (
	"crypto/sha256"
	"crypto/subtle"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/identity"
	"patrol/server/request"
)

// admitSession admits a signed-in user, and gives the request the context of the session.
func (s *Server) admitSession(c *gin.Context) (p models.Principal, err error) {
	p, c.Request, err = s.identity.AdmitSession(c.Writer, c.Request)
	return p, err
}

// admit finds out who calls and whether they are the caller that the route is
// for. It may replace the request's context by one that holds the session.
func (s *Server) admit(c *gin.Context, by endpoint.Caller) (models.Principal, error) {
	switch by {
	case endpoint.Anyone, endpoint.AskingProxy, endpoint.TokenHolder:
		return models.Principal{}, nil
	case endpoint.PatItself:
		return s.identity.AdmitPAT(c.Writer, c.Request)
	case endpoint.BundleReader:
		return s.admitBundleReader(c)
	}
	p, err := s.admitSession(c)
	if err != nil {
		return models.Principal{}, err
	}
	switch by {
	case endpoint.Session, endpoint.Owner, endpoint.OwnerConfirming, endpoint.OwnerOrPlatformAdmin:
		return p, nil
	case endpoint.ThatUserOrPlatformAdmin:
		if p.User.ID != c.Param("id") && !p.User.Admin {
			return models.Principal{}, errNoUser
		}
		return p, nil
	case endpoint.OwnerFresh:
		if !s.identity.Fresh(p) {
			return models.Principal{}, identity.ErrStaleSignIn
		}
		return p, nil
	case endpoint.PlatformAdmin:
		if !p.User.Admin {
			return models.Principal{}, errAdminOnly
		}
		return p, nil
	case endpoint.PolicyTeam:
		if !p.User.Admin && !p.User.Policy {
			return models.Principal{}, errPolicyTeamOnly
		}
		return p, nil
	case endpoint.DomainReader:
		_, err = s.manage.ReadableDomain(c.Request.Context(), p, c.Param("id"))
		return p, err
	case endpoint.DomainAdmin:
		return p, s.manage.MayAdminister(c.Request.Context(), p, c.Param("id"))
	}
	return models.Principal{}, models.NewError(models.CodeForbidden, "nobody may call this")
}

// recent returns p if the sign-in is as recent as the route needs it, or becomes so by the
// password that came with a page's form.
func (s *Server) recent(c *gin.Context, r *endpoint.Route, p models.Principal) (_ models.Principal, err error) {
	if r.Confirms() {
		if p, err = s.pages.Confirm(c, p); err != nil {
			return p, err
		}
	}
	switch r.SignIn {
	case endpoint.FreshAdmin:
		return p, s.identity.RequireFreshAdmin(p)
	case endpoint.FreshOwn:
		return p, s.identity.RequireFresh(p)
	}
	return p, nil
}

var (
	errNoUser         = models.NewError(models.CodeNotFound, "there is no such user")
	errAdminOnly      = models.NewError(models.CodeForbidden, "only platform admins may do this")
	errPolicyTeamOnly = models.NewError(models.CodeForbidden, "only the policy team and platform admins may do this")
)

// admitBundleReader admits who holds the configured credential, or the policy team.
func (s *Server) admitBundleReader(c *gin.Context) (models.Principal, error) {
	if cred := request.CredentialOf(c.Request.Header); cred.Kind == request.AccessCredential && s.cfg.BundleCredential != "" {
		given, want := sha256.Sum256([]byte(cred.Token)), sha256.Sum256([]byte(s.cfg.BundleCredential))
		if subtle.ConstantTimeCompare(given[:], want[:]) == 1 {
			return models.Principal{}, nil
		}
	}
	p, err := s.admitSession(c)
	if err == nil && !p.User.Admin && !p.User.Policy {
		return models.Principal{}, errPolicyTeamOnly
	}
	return p, err
}
