package pages

import (
	"net/http"

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
	ctx := c.Request.Context()
	token, err := s.identity.Reauthenticate(ctx, p, reauthenticate(password))
	switch models.CodeOf(err) {
	case "":
		s.identity.SetSessionCookie(ctx, c.Writer, token)
		p.SignedInAt = s.now()
		return p, nil
	case models.CodeBadCredentials:
		var problems ui.Problems
		problems.Add(endpoint.ConfirmField, "is not right")
		return p, staleFormError{problems}
	case models.CodeRateLimited:
		problems, _ := ui.ProblemsOf(err)
		return p, staleFormError{problems}
	}
	return p, err
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
