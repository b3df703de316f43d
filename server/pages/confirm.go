package pages

import (
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/identity"
	"patrol/server/request"
	"patrol/server/ui"
)

// A form that asks for a recent sign-in and comes with an old one is answered with a page
// that holds it as it was sent, and asks for the password. Sending that page sends the
// form again, so that nothing is typed twice but what is secret.

func (s *Surface) confirmRoutes() []endpoint.Route {
	return []endpoint.Route{
		{Method: "GET", Path: ui.ConfirmPath, By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageConfirmed},
		{Method: "POST", Path: ui.ConfirmPath, By: endpoint.Session, SignIn: endpoint.AnyAgeForOwn, Page: true, Do: s.formConfirm},
	}
}

// staleFormError is the error for a form that came with a password that does not make its
// sign-in recent.
type staleFormError struct{ problems ui.Problems }

func (staleFormError) Error() string { return identity.ErrStaleForm.Error() }
func (staleFormError) Unwrap() error { return identity.ErrStaleForm }

// Confirm makes the sign-in of p recent by the password that came with a form, if one
// did and p's is not.
func (s *Surface) Confirm(c *gin.Context, p models.Principal) (models.Principal, error) {
	password := c.Request.PostForm.Get(endpoint.ConfirmField)
	if password == "" || p.AtProvider || s.identity.Fresh(p) {
		return p, nil
	}
	ok, problems, err := s.renew(c, p, endpoint.ConfirmField, password)
	if ok {
		p.SignedInAt = s.now()
	} else if err == nil {
		err = staleFormError{problems}
	}
	return p, err
}

// renew makes the sign-in of p recent by a password. Problems say why it does not, in the
// field that the password came in.
func (s *Surface) renew(c *gin.Context, p models.Principal, field, password string) (ok bool, problems ui.Problems, err error) {
	ctx := c.Request.Context()
	token, err := s.identity.Reauthenticate(ctx, p, reauthenticate(password))
	switch models.CodeOf(err) {
	case "":
		s.identity.SetSessionCookie(ctx, c.Writer, token)
		return true, problems, nil
	case models.CodeBadCredentials:
		problems.Add(field, "is not right")
		return false, problems, nil
	case models.CodeRateLimited:
		problems, _ = ui.ProblemsOf(err)
		return false, problems, nil
	}
	return false, problems, err
}

// confirm returns true if the sign-in of p is recent, or becomes so by the password that came
// with the form. Otherwise problems says what is missing, or, if the session began at the
// identity provider, the error leads there; see failPage. Handlers of routes by
// ownerConfirming call it before they do anything.
func (s *Surface) confirm(c *gin.Context, p models.Principal, password string) (ok bool, problems ui.Problems, err error) {
	switch {
	case s.identity.Fresh(p):
		return true, problems, nil
	case p.AtProvider:
		return false, problems, identity.ErrStaleSignIn
	case password == "":
		problems.Add("password", "is needed: you signed in a while ago")
		return false, problems, nil
	}
	return s.renew(c, p, "password", password)
}

// passwordForm is a page with a form that asks for the password where the sign-in is not recent.
type passwordForm[P ui.Page] interface {
	ui.Page
	Password() string
	Asking(password bool) P
	Refused(problems ui.Problems) P
}

// confirmed shows a form again while problems are left in it or the sign-in of p is not
// recent, and returns false then. It returns the page without the field for the password.
func confirmed[P passwordForm[P]](s *Surface, c *gin.Context, p models.Principal, page P, problems ui.Problems) (P, bool, error) {
	if problems.Any() {
		return page, false, s.again(c, p, nil, page.Refused(problems))
	}
	ok, problems, err := s.confirm(c, p, page.Password())
	if err == nil && !ok {
		err = s.again(c, p, nil, page.Asking(true).Refused(problems))
	}
	return page.Asking(false), ok, err
}

// confirmedBy returns true if the sign-in of p is recent, or becomes so by the password of the
// form. Otherwise it shows ask with the problems.
func (s *Surface) confirmedBy(c *gin.Context, p models.Principal, form url.Values, ask func(ui.Problems) ui.Page) (bool, error) {
	ok, problems, err := s.confirm(c, p, form.Get("password"))
	if err == nil && !ok {
		err = s.again(c, p, nil, ask(problems))
	}
	return ok, err
}

// askAgain answers a form whose sign-in is too old with the page that sends it again.
func (s *Surface) askAgain(c *gin.Context, p models.Principal, problems ui.Problems) error {
	page := ui.ConfirmForm(c.Request.URL.Path, ui.Resume(c.Request.URL.Path, c.Request.PostForm, s.cfg.Limits), c.Request.PostForm)
	page.Problems = problems
	return s.show(c, p, request.Statuses[models.CodeReauthentication], page)
}

// formConfirm leads somebody who signed in at the identity provider there, in a window of
// its own: the one with the form stays.
func (s *Surface) formConfirm(c *gin.Context, p models.Principal) error {
	if !p.AtProvider {
		return s.seeOther(c, ui.ConfirmPath, "")
	}
	return s.leadToProvider(c, p, identity.ToConfirm, ui.ConfirmPath, ui.WhyConfirm)
}

func (s *Surface) pageConfirmed(c *gin.Context, p models.Principal) error {
	return s.show(c, p, http.StatusOK, ui.Confirmed(s.identity.Fresh(p)))
}
