package pages

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/identity"
	"patrol/server/ui"
)

// A program such as the command line is signed in by a code from a page, where its
// user is signed in already, in whatever way: a password would have to be typed
// into the program, and who signs in at the identity provider has none.

func (s *Surface) codeRoutes() []endpoint.Route {
	return []endpoint.Route{
		{Method: "GET", Path: ui.CodePath, By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageCode},
		{Method: "GET", Path: ui.CodePath + "/shown", By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageCodeShown},
		{Method: "POST", Path: ui.CodePath, By: endpoint.Session, SignIn: endpoint.FreshByForm, Page: true, Do: s.formCode, Accepts: endpoint.Accepts{Form: []string{"password"}}},
	}
}

func (s *Surface) pageCode(c *gin.Context, p models.Principal) error {
	return s.show(c, p, http.StatusOK, ui.AskCode{AskPassword: !s.identity.Fresh(p)})
}

// formCode leads to the page that shows the code, once, and nothing else does. A session that a program
// keeps is worth a recent sign-in.
func (s *Surface) formCode(c *gin.Context, p models.Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	ok, err := s.confirmedBy(c, p, form, func(problems ui.Problems) ui.Page {
		return ui.AskCode{AskPassword: true, Problems: problems}
	})
	if err != nil || !ok {
		return err
	}
	if !s.identity.Fresh(p) { // the password has just made it so
		p.SignedInAt = s.now()
	}
	code, expires, err := s.identity.SessionCode(c.Request.Context(), p)
	if err != nil {
		return err
	}
	return s.leadToMade(c, p, ui.CodePath+"/shown", identity.Made{Secret: code.Reveal(), Expires: expires})
}

func (s *Surface) pageCodeShown(c *gin.Context, p models.Principal) error {
	what, there, err := s.identity.TakeMade(c.Writer, c.Request, p)
	if err != nil {
		return err
	}
	if !there {
		return s.seeOther(c, ui.CodePath, shownBefore("A code", "Get another one if you did not use it."))
	}
	return s.show(c, p, http.StatusOK, ui.ShowCode{Code: what.Secret, Expires: s.moment(what.Expires)})
}
