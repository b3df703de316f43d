package server

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
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

// sessionCodeLife is how long a code waits to be pasted.
const sessionCodeLife = 5 * time.Minute

var errSessionCode = models.NewError(models.CodeBadCredentials, "this code is not valid, or not any more; get a new one")

// SessionCode makes a code that signs a program in as p, once, soon, and no more
// recently than p is.
func (s *Server) SessionCode(ctx context.Context, p models.Principal) (models.OneTimeCode, time.Time, error) {
	code, err := models.NewOneTimeCode(s.random)
	if err != nil {
		return models.OneTimeCode{}, time.Time{}, err
	}
	expires := s.now().Add(sessionCodeLife)
	return code, expires, s.store.CreateSessionCode(ctx, p.Actor, p.User.ID, code.Hash(), p.SignedInAt, expires)
}

// signInByCode begins the session of a program by a code of [Server.SessionCode]. Wrong
// ones are not counted; see [Server.ResetPassword].
func (s *Server) signInByCode(ctx context.Context, by models.Actor, in api.SignIn) (user models.User, token string, ends time.Time, err error) {
	var v models.Invalid
	if in.Email != "" {
		v.Add("email", "must not be given with a code")
	}
	if in.Password != "" {
		v.Add("password", "must not be given with a code")
	}
	if in.Transport != transportBearer {
		v.Add("transport", "must be bearer with a code, which is for programs")
	}
	if err := v.Err(); err != nil {
		return user, "", ends, err
	}
	user, signedInAt, err := s.store.UseSessionCode(ctx, by, models.ReadOneTimeCode(in.Code).Hash())
	switch models.CodeOf(err) {
	case "":
	case models.CodeNotFound:
		s.metrics.signIn("refused")
		return user, "", ends, errSessionCode
	default:
		return user, "", ends, err
	}
	s.metrics.signIn("accepted")
	token, ends, err = s.sessions.begin(ctx, user.ID, by, sessionStart{bearer: true, signedInAt: signedInAt})
	if err != nil {
		return user, "", ends, err
	}
	by.UserID = user.ID
	// If this fails, the session is there, but its token has been told to nobody.
	err = s.store.Audit(ctx, by, "session.create", "user:"+user.ID, map[string]string{"transport": transportBearer, "by": "code"})
	return user, token, ends, err
}

func (s *Server) pageCode(c *gin.Context, p models.Principal) error {
	return s.show(c, p, http.StatusOK, ui.AskCode{AskPassword: !s.fresh(p)})
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
	if !s.fresh(p) { // the password has just made it so
		p.SignedInAt = s.now()
	}
	code, expires, err := s.SessionCode(c.Request.Context(), p)
	if err != nil {
		return err
	}
	return s.leadToMade(c, p, ui.CodePath+"/shown", made{Secret: code.Reveal(), Expires: expires})
}

func (s *Server) pageCodeShown(c *gin.Context, p models.Principal) error {
	what, there, err := s.takeMade(c, p)
	if err != nil {
		return err
	}
	if !there {
		return s.seeOther(c, ui.CodePath, shownBefore("A code", "Get another one if you did not use it."))
	}
	return s.show(c, p, http.StatusOK, ui.ShowCode{Code: what.Secret, Expires: s.moment(what.Expires)})
}
