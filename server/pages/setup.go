package pages

import (
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/identity"
	"patrol/server/request"
	"patrol/server/ui"
)

// GetSetup shows the form that asks for the setup code.
func (s *Surface) GetSetup(c *gin.Context, _ models.Principal) error {
	err := s.identity.SetupOpen(c.Request.Context())
	if errors.Is(err, identity.ErrSetupExpired) {
		return s.show(c, models.Principal{}, http.StatusGone, ui.SetupPage(api.Setup{}, ui.Problems{}, true))
	}
	if err != nil && endpoint.WantsPage(c.Request) {
		s.Fail(c, models.Principal{}, err)
		return nil
	}
	if err != nil {
		return err
	}
	return s.show(c, models.Principal{}, http.StatusOK, ui.SetupPage(api.Setup{}, ui.Problems{}, false))
}

// PostSetup makes the first account of an empty database.
func (s *Surface) PostSetup(c *gin.Context, _ models.Principal) error {
	if err := s.identity.SameSite(c.Request); err != nil {
		return err
	}
	posted, err := endpoint.ReadForm(c, s.cfg.HTTP.MaxBodyBytes)
	if err != nil {
		return err
	}
	in := api.Setup{Code: posted.Get("code"), Email: posted.Get("email"), Name: posted.Get("name"), Password: posted.Get("password")}
	x := request.Of(c.Request.Context())
	user, err := s.identity.CreateFirstAdmin(c.Request.Context(), x.Actor(models.ActorSystem, "", ""), in)
	if err != nil {
		return s.showSetupProblem(c, in, err)
	}
	return s.show(c, models.Principal{}, http.StatusCreated, ui.SetupDone(user.Email))
}

// showSetupProblem shows the form again with what was wrong.
func (s *Surface) showSetupProblem(c *gin.Context, in api.Setup, err error) error {
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
