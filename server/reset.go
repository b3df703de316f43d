package server

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
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

// NewReset makes a code with which a user can choose a new password once, before
// it expires, in place of an earlier one. base is the URL under which people
// reach the server. A disabled user is CodeConflict. The answer is the only place
// where the code is told.
func NewReset(ctx context.Context, to *store.Store, by models.Actor, userID, base string, random io.Reader, expires time.Time) (api.PasswordReset, error) {
	code, err := models.NewOneTimeCode(random)
	if err != nil {
		return api.PasswordReset{}, err
	}
	if err := to.CreateResetCode(ctx, by, userID, code.Hash(), expires); err != nil {
		return api.PasswordReset{}, err
	}
	return api.PasswordReset{Code: code.Reveal(), URL: base + ui.ResetPath + "#" + code.Reveal(), ExpiresAt: expires.UTC()}, nil
}

// NewReset makes a reset code for a user. Nobody makes one for themselves: who
// stole a session could keep the account by it. base is the URL that the link
// begins with.
func (s *Server) NewReset(ctx context.Context, p models.Principal, userID, base string) (api.PasswordReset, error) {
	if userID == p.User.ID {
		return api.PasswordReset{}, models.NewError(models.CodeConflict,
			"you cannot reset your own password; change it under Profile, Password, or ask another admin")
	}
	return NewReset(ctx, s.store, p.Actor, userID, base, s.random, s.now().Add(s.cfg.Login.ResetValidFor))
}

// errResetCode is the one answer to every code that is no good: it does not tell
// whether there ever was such a code, or what became of it.
var errResetCode = models.NewError(models.CodeForbidden, "this code is not valid, or not any more; ask an administrator for a new one")

// ResetPassword gives the user whom a code was made for a new password, and ends
// all sessions of the user. by is where the request comes from. Wrong codes are not
// counted: with so many random bits guessing is hopeless, one costs a look-up, and
// strangers must not be able to keep others out.
func (s *Server) ResetPassword(ctx context.Context, by models.Actor, in api.ResetPassword) (models.User, error) {
	code := models.ReadOneTimeCode(in.Code)
	var v models.Invalid
	if code == (models.OneTimeCode{}) {
		v.Add("code", "is required")
	}
	models.ValidatePassword("password", in.Password, "", &v)
	if err := v.Err(); err != nil {
		return models.User{}, err
	}
	user, err := s.store.ResetCodeUser(ctx, code.Hash())
	if err != nil {
		return models.User{}, err
	}
	if user == nil {
		return models.User{}, errResetCode
	}
	models.ValidatePassword("password", in.Password, user.Email, &v)
	if err := v.Err(); err != nil {
		return models.User{}, err
	}
	hash, err := s.passwords.Hash(ctx, in.Password)
	if err != nil {
		return models.User{}, err
	}
	changed, err := s.store.ResetPassword(ctx, by, code.Hash(), hash)
	if models.CodeOf(err) == models.CodeNotFound { // used or ended in the meantime
		return models.User{}, errResetCode
	}
	return changed, err
}

func (s *Server) postNewReset(c *gin.Context, p models.Principal) error {
	reset, err := s.NewReset(c.Request.Context(), p, c.Param("id"), s.pageBase(c.Request))
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusCreated, reset)
	return nil
}

func (s *Server) postReset(c *gin.Context, _ models.Principal) error {
	if err := s.sameSite(c.Request); err != nil {
		return err
	}
	var in api.ResetPassword
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	ctx, x := c.Request.Context(), request.Of(c.Request.Context())
	user, err := s.ResetPassword(ctx, x.Actor(models.ActorUser, "", ""), in)
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
	reset, err := s.NewReset(c.Request.Context(), p, user.ID, s.pageBase(c.Request))
	if err != nil {
		return err
	}
	return s.leadToMade(c, p, "/admin/users/"+url.PathEscape(user.ID)+"/reset/link", made{Secret: reset.Code, URL: reset.URL, Expires: reset.ExpiresAt})
}

func (s *Server) pageResetLink(c *gin.Context, p models.Principal) error {
	user, err := s.userHere(c)
	if err != nil {
		return err
	}
	what, there, err := s.takeMade(c, p)
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
	if err := s.sameSite(c.Request); err != nil {
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
	user, err := s.ResetPassword(ctx, x.Actor(models.ActorUser, "", ""), in)
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
