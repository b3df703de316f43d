package server

import (
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/identity"
	"patrol/server/request"
	"patrol/server/ui"
)

// A forgotten password is reset by a code that an administrator hands over. The
// code stands in the fragment of a link, which browsers keep to themselves, and
// can be typed as well; the database holds its hash. See [NewReset].

// resetRoutes make codes and take them.
var resetRoutes = []route{
	{method: "POST", path: "/api/v1/users/:id/password-reset", by: platformAdmin, do: (*Server).postNewReset},
	{method: "POST", path: "/api/v1/password-reset", by: anyone, do: (*Server).postReset, accepts: accepts{body: object}},

	{method: "GET", path: "/admin/users/:id/reset", by: platformAdmin, page: true, do: (*Server).pageNewReset},
	{method: "POST", path: "/admin/users/:id/reset", by: platformAdmin, page: true, do: (*Server).formNewReset},
	{method: "GET", path: "/admin/users/:id/reset/link", by: platformAdmin, page: true, do: (*Server).pageResetLink},
	{method: "GET", path: ui.ResetPath, by: anyone, page: true, do: (*Server).pageReset},
	{method: "POST", path: ui.ResetPath, by: anyone, page: true, do: (*Server).formReset, accepts: accepts{form: []string{"code", "password", "repeat"}}},
}

func (s *Server) postNewReset(c *gin.Context, p models.Principal) error {
	reset, err := s.identity.NewReset(c.Request.Context(), p, c.Param("id"), s.pageBase(c.Request)+ui.ResetPath)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusCreated, reset)
	return nil
}

func (s *Server) postReset(c *gin.Context, _ models.Principal) error {
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

func (s *Server) pageNewReset(c *gin.Context, p models.Principal) error {
	user, err := s.userHere(c)
	if err != nil {
		return err
	}
	if user.Disabled || user.ID == p.User.ID {
		return s.seeOther(c, "/admin/users/"+url.PathEscape(user.ID), "")
	}
	return s.show(c, p, http.StatusOK, ui.NewReset(user, s.cfg.Login.ResetValidFor))
}

// formNewReset leads to the page that shows the link, once, as a new token is shown. Sent
// again, it makes a new one, and the one before ends.
func (s *Server) formNewReset(c *gin.Context, p models.Principal) error {
	user, err := s.userHere(c)
	if err != nil {
		return err
	}
	reset, err := s.identity.NewReset(c.Request.Context(), p, user.ID, s.pageBase(c.Request)+ui.ResetPath)
	if err != nil {
		return err
	}
	return s.leadToMade(c, p, "/admin/users/"+url.PathEscape(user.ID)+"/reset/link", identity.Made{Secret: reset.Code, URL: reset.URL, Expires: reset.ExpiresAt})
}

func (s *Server) pageResetLink(c *gin.Context, p models.Principal) error {
	user, err := s.userHere(c)
	if err != nil {
		return err
	}
	what, there, err := s.identity.TakeMade(c.Writer, c.Request, p)
	if err != nil {
		return err
	}
	if !there {
		return s.seeOther(c, "/admin/users/"+url.PathEscape(user.ID), shownBefore("A reset link", "Make another one if you did not pass it on; that one ends then."))
	}
	return s.show(c, p, http.StatusOK, ui.ResetLink{User: user, Code: what.Secret, URL: what.URL, Expires: s.moment(what.Expires)})
}

func (s *Server) pageReset(c *gin.Context, _ models.Principal) error {
	return s.show(c, models.Principal{}, http.StatusOK, ui.Reset("", ui.Problems{}))
}

func (s *Server) formReset(c *gin.Context, _ models.Principal) error {
	if err := s.identity.SameSite(c.Request); err != nil {
		return err
	}
	form, err := s.form(c)
	if err != nil {
		return err
	}
	in, problems := ui.DecodeReset(form)
	if problems.Any() {
		return s.again(c, models.Principal{}, nil, ui.Reset(in.Code, problems))
	}
	ctx, x := c.Request.Context(), request.Of(c.Request.Context())
	user, err := s.identity.ResetPassword(ctx, x.Actor(models.ActorUser, "", ""), in)
	if err != nil {
		problems, ok := ui.ProblemsOf(err)
		if !ok {
			return err
		}
		return s.again(c, models.Principal{}, err, ui.Reset(in.Code, problems))
	}
	x.UserID = user.ID
	return s.show(c, models.Principal{}, http.StatusOK, ui.ResetDone(user.Email))
}
