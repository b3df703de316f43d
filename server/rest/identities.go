package rest

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/request"
)

// identityRoutes show who people are at providers, which is a way in, and end that.
func (s *Surface) identityRoutes() []endpoint.Route {
	return []endpoint.Route{
		{Method: "POST", Path: "/api/v1/users/:id/anonymise", By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdmin, Do: s.postAnonymise},
		{Method: "GET", Path: "/api/v1/me/export", By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Do: s.getMyExport},
		{Method: "GET", Path: "/api/v1/me/identities", By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Do: s.getMyIdentities},
		{Method: "DELETE", Path: "/api/v1/me/identities/:identity", By: endpoint.Session, SignIn: endpoint.FreshOwn, Do: s.deleteMyIdentity},
		{Method: "GET", Path: "/api/v1/users/:id/identities", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Do: s.getIdentities},
		{Method: "DELETE", Path: "/api/v1/users/:id/identities/:identity", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToNarrow, Do: s.deleteIdentity},
	}
}

func (s *Surface) getMyIdentities(c *gin.Context, p models.Principal) error {
	return s.writeIdentities(c, p.User.ID)
}

func (s *Surface) getIdentities(c *gin.Context, _ models.Principal) error {
	user, err := s.manage.User(c.Request.Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return s.writeIdentities(c, user.ID)
}

func (s *Surface) writeIdentities(c *gin.Context, userID string) error {
	identities, err := s.identity.Identities(c.Request.Context(), userID)
	if err != nil {
		return err
	}
	writePage(c, identities, "", api.IdentityOf)
	return nil
}

func (s *Surface) deleteMyIdentity(c *gin.Context, p models.Principal) error {
	if err := s.identity.DisconnectOwn(c.Request.Context(), c.Writer, p, c.Param("identity")); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

func (s *Surface) deleteIdentity(c *gin.Context, p models.Principal) error {
	ctx := c.Request.Context()
	user, err := s.manage.User(ctx, c.Param("id"))
	if err != nil {
		return err
	}
	if err := s.identity.DisconnectIdentity(ctx, p, user.ID, c.Param("identity")); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

func (s *Surface) getMyExport(c *gin.Context, p models.Principal) error {
	if endpoint.AnswersHead(c) {
		return nil
	}
	out, err := s.identity.Export(c.Request.Context(), p)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Surface) postAnonymise(c *gin.Context, p models.Principal) error {
	user, err := s.manage.AnonymiseUser(c.Request.Context(), p, c.Param("id"))
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, api.UserOf(user))
	return nil
}
