package rest

import (
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/identity"
	"patrol/server/request"
)

// LogoutPath receives the identity provider's logout tokens.
const LogoutPath = "/login/oidc/backchannel-logout"

func (s *Surface) logoutRoutes() []endpoint.Route {
	return []endpoint.Route{
		// Providers may send more than the token, which does not count.
		{Method: "POST", Path: LogoutPath, By: endpoint.Anyone, SignIn: endpoint.NoSession, Do: s.postLogout, Accepts: endpoint.Accepts{Body: endpoint.Object}},
	}
}

// postLogout answers as the specification says (OpenID Connect Back-Channel Logout 1.0, §2.8).
func (s *Surface) postLogout(c *gin.Context, _ models.Principal) error {
	if !s.identity.HasProvider() {
		return identity.ErrNoOIDC
	}
	form, err := endpoint.ReadForm(c, s.cfg.HTTP.MaxBodyBytes)
	if err == nil {
		err = s.identity.EndedElsewhere(c.Request.Context(), request.Of(c.Request.Context()).Actor(models.ActorSystem, "", ""), form["logout_token"])
	}
	if err == nil {
		c.Status(http.StatusOK)
		return nil
	}
	e, ok := errors.AsType[*models.Error](err)
	if !ok || request.Statuses[e.Code] >= http.StatusInternalServerError || e.Code == models.CodeRateLimited {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusBadRequest, api.OAuthError{Error: "invalid_request", Description: e.Message})
	return nil
}
