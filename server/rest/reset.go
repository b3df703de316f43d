package rest

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/manage"
	"patrol/server/request"
)

// A forgotten password is reset by a code that an administrator hands over. The
// code stands in the fragment of a link, which browsers keep to themselves, and
// can be typed as well; the database holds its hash. See [NewReset].

// resetRoutes make codes and take them.
func (s *Surface) resetRoutes() []endpoint.Route {
	return []endpoint.Route{
		{Method: "POST", Path: "/api/v1/users/:id/password-reset", By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdmin, Do: s.postNewReset, Accepts: endpoint.Accepts{Body: endpoint.ObjectOrNothing}},
		{Method: "POST", Path: "/api/v1/users/:id/email-change", By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdmin, Do: s.postEmailChange, Accepts: endpoint.Accepts{Body: endpoint.Object}},
		{Method: "POST", Path: "/api/v1/me/email", By: endpoint.Session, SignIn: endpoint.FreshOwn, Do: s.postConfirmEmail, Accepts: endpoint.Accepts{Body: endpoint.Object}},
		{Method: "GET", Path: "/api/v1/users/:id/codes", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Do: s.getCodes},
		{Method: "DELETE", Path: "/api/v1/users/:id/codes", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToNarrow, Do: s.deleteCodes},
		{Method: "DELETE", Path: "/api/v1/users/:id/sessions", By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdmin, Do: s.deleteSessions},
		{Method: "GET", Path: "/api/v1/admin/codes", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Do: s.getAllCodes, Accepts: endpoint.Accepts{Query: endpoint.With()}},
		{Method: "GET", Path: "/api/v1/me/codes", By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Do: s.getMyCodes},
		// Who stole a session could end the link that an admin made for its owner.
		{Method: "DELETE", Path: "/api/v1/me/codes", By: endpoint.Session, SignIn: endpoint.FreshOwn, Do: s.deleteMyCodes},
		{Method: "POST", Path: "/api/v1/password-reset", By: endpoint.Anyone, SignIn: endpoint.NoSession, Do: s.postReset, Accepts: endpoint.Accepts{Body: endpoint.Object}},
	}
}

func (s *Surface) postNewReset(c *gin.Context, p models.Principal) error {
	var in api.NewPasswordReset
	if err := s.readBodyIfAny(c, &in); err != nil {
		return err
	}
	reset, err := s.identity.NewReset(c.Request.Context(), p, c.Param("id"), s.pageBase()+request.ResetPath, in.Removal())
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusCreated, reset)
	return nil
}

func (s *Surface) postEmailChange(c *gin.Context, p models.Principal) error {
	var in api.NewEmailChange
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	change, err := s.identity.NewEmailChange(c.Request.Context(), p, c.Param("id"), in.Email, s.pageBase()+request.EmailPath)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusCreated, change)
	return nil
}

func (s *Surface) postConfirmEmail(c *gin.Context, p models.Principal) error {
	var in api.ConfirmEmail
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	ctx := c.Request.Context()
	user, err := s.identity.ConfirmEmail(ctx, c.Writer, p, in)
	if err != nil {
		return err
	}
	me, err := s.manage.Me(ctx, user)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, me)
	return nil
}

func (s *Surface) getCodes(c *gin.Context, _ models.Principal) error {
	return s.writeCodes(c, c.Param("id"))
}

func (s *Surface) getMyCodes(c *gin.Context, p models.Principal) error {
	return s.writeCodes(c, p.User.ID)
}

func (s *Surface) getAllCodes(c *gin.Context, _ models.Principal) error {
	var v models.Invalid
	page := readPage(c.Request.URL.Query(), &v)
	if err := v.Err(); err != nil {
		return err
	}
	codes, next, err := s.manage.AllPendingCodes(c.Request.Context(), page)
	if err != nil {
		return err
	}
	writePage(c, codes, next, func(code manage.PendingCode) api.PendingCode { return api.PendingCode(code) })
	return nil
}

func (s *Surface) writeCodes(c *gin.Context, userID string) error {
	codes, err := s.manage.PendingCodes(c.Request.Context(), userID)
	if err != nil {
		return err
	}
	out := struct {
		Items []api.PendingCode `json:"items"`
	}{[]api.PendingCode{}}
	for _, code := range codes {
		out.Items = append(out.Items, api.PendingCode(code))
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Surface) deleteCodes(c *gin.Context, p models.Principal) error {
	return s.withdrawCodes(c, p, c.Param("id"))
}

func (s *Surface) deleteMyCodes(c *gin.Context, p models.Principal) error {
	return s.withdrawCodes(c, p, p.User.ID)
}

func (s *Surface) withdrawCodes(c *gin.Context, p models.Principal, userID string) error {
	if err := s.manage.WithdrawCodes(c.Request.Context(), p, userID); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

func (s *Surface) deleteSessions(c *gin.Context, p models.Principal) error {
	if err := s.identity.EndSessionsOf(c.Request.Context(), p, c.Param("id")); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

func (s *Surface) postReset(c *gin.Context, _ models.Principal) error {
	if err := s.identity.SameSite(c.Request); err != nil {
		return err
	}
	var in api.ResetPassword
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	ctx, x := c.Request.Context(), request.Of(c.Request.Context())
	user, err := s.identity.ResetPassword(ctx, x.Actor(models.ActorUser, "", ""), in)
	if err != nil {
		return err
	}
	x.UserID = user.ID
	c.Status(http.StatusNoContent)
	return nil
}
