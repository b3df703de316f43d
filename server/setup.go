package server

import (
	"errors"
	"mime"
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/identity"
	"patrol/server/request"
	"patrol/server/ui"
)

func (s *Server) getSetup(c *gin.Context, _ models.Principal) error {
	err := s.identity.SetupOpen(c.Request.Context())
	if errors.Is(err, identity.ErrSetupExpired) {
		return s.show(c, models.Principal{}, http.StatusGone, ui.SetupPage(api.Setup{}, ui.Problems{}, true))
	}
	if err != nil && wantsPage(c.Request) {
		s.failPage(c, models.Principal{}, err)
		return nil
	}
	if err != nil {
		return err
	}
	return s.show(c, models.Principal{}, http.StatusOK, ui.SetupPage(api.Setup{}, ui.Problems{}, false))
}

func (s *Server) postSetup(c *gin.Context, _ models.Principal) error {
	if err := s.identity.SameSite(c.Request); err != nil {
		return err
	}
	ctx, x := c.Request.Context(), request.Of(c.Request.Context())
	media, _, _ := mime.ParseMediaType(c.Request.Header.Get("Content-Type")) // "" is not a form
	form := media == "application/x-www-form-urlencoded"
	var in api.Setup
	if form {
		c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, s.cfg.HTTP.MaxBodyBytes)
		if err := c.Request.ParseForm(); err != nil {
			return models.WrapError(models.CodeMalformed, "the form could not be read", err)
		}
		if err := x.Enter(); err != nil {
			return err
		}
		posted := c.Request.PostForm
		in = api.Setup{Code: posted.Get("code"), Email: posted.Get("email"), Name: posted.Get("name"), Password: posted.Get("password")}
	} else if err := s.readBody(c, &in); err != nil {
		return err
	}
	user, err := s.identity.CreateFirstAdmin(ctx, x.Actor(models.ActorSystem, "", ""), in)
	switch {
	case err != nil && form:
		return s.showSetupProblem(c, in, err)
	case err != nil:
		return err
	case form:
		return s.show(c, models.Principal{}, http.StatusCreated, ui.SetupDone(user.Email))
	}
	request.WriteJSON(c.Writer, http.StatusCreated, api.UserOf(user))
	return nil
}

// showSetupProblem shows the form again with what was wrong.
func (s *Server) showSetupProblem(c *gin.Context, in api.Setup, err error) error {
	e, ok := errors.AsType[*models.Error](err)
	if !ok {
		return err
	}
	if status := request.Statuses[e.Code]; status >= http.StatusInternalServerError || e.Code == models.CodeNotFound {
		return err
	}
	problems, _ := ui.ProblemsOf(err)
	if errors.Is(err, identity.ErrSetupCode) {
		problems = ui.Problems{}
		problems.Add("code", "is not the code in the file")
	}
	return s.again(c, models.Principal{}, err, ui.SetupPage(in, problems, errors.Is(err, identity.ErrSetupExpired)))
}
