package server

import (
	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/identity"
)

// admitSession admits a signed-in user, and gives the request the context of the session.
func (s *Server) admitSession(c *gin.Context) (p models.Principal, err error) {
	p, c.Request, err = s.identity.AdmitSession(c.Writer, c.Request)
	return p, err
}

// admit finds out who calls and whether they are the caller that the route is
// for. It may replace the request's context by one that holds the session.
func (s *Server) admit(c *gin.Context, by caller) (models.Principal, error) {
	switch by {
	case anyone, askingProxy, tokenHolder:
		return models.Principal{}, nil
	case patItself:
		return s.identity.AdmitPAT(c.Writer, c.Request)
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
		if !s.identity.Fresh(p) {
			return models.Principal{}, identity.ErrStaleSignIn
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
	errAdminOnly      = models.NewError(models.CodeForbidden, "only platform admins may do this")
	errPolicyTeamOnly = models.NewError(models.CodeForbidden, "only the policy team and platform admins may do this")
)
