package server

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/identity"
	"patrol/server/ui"
)

// A program such as the command line is signed in by a code from a page, where its
// user is signed in already, in whatever way: a password would have to be typed
// into the program, and who signs in at the identity provider has none.

var codeRoutes = []route{
	{method: "GET", path: ui.CodePath, by: session, page: true, do: (*Server).pageCode},
	{method: "GET", path: ui.CodePath + "/shown", by: session, page: true, do: (*Server).pageCodeShown},
	{method: "POST", path: ui.CodePath, by: session, page: true, do: (*Server).formCode, accepts: accepts{form: []string{"password"}}},
}

func (s *Server) pageCode(c *gin.Context, p models.Principal) error {
	return s.show(c, p, http.StatusOK, ui.AskCode{AskPassword: !s.identity.Fresh(p)})
}

// formCode leads to the page that shows the code, once, and nothing else does. A session that a program
// keeps is worth a recent sign-in.
func (s *Server) formCode(c *gin.Context, p models.Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	ok, problems, err := s.confirm(c, p, form.Get("password"))
	if err != nil {
		return err
	}
	if !ok {
		return s.again(c, p, nil, ui.AskCode{AskPassword: true, Problems: problems})
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

func (s *Server) pageCodeShown(c *gin.Context, p models.Principal) error {
	what, there, err := s.identity.TakeMade(c.Writer, c.Request, p)
	if err != nil {
		return err
	}
	if !there {
		return s.seeOther(c, ui.CodePath, shownBefore("A code", "Get another one if you did not use it."))
	}
	return s.show(c, p, http.StatusOK, ui.ShowCode{Code: what.Secret, Expires: s.moment(what.Expires)})
}
