package pages

import (
	"context"
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

// OIDCCallback is the path to which the provider sends people back.
const OIDCCallback = ui.ProviderPath + "/callback"

// oidcRoutes are the way to the identity provider and back.
func (s *Surface) oidcRoutes() []endpoint.Route {
	return []endpoint.Route{
		{Method: "GET", Path: ui.ProviderPath, By: endpoint.Anyone, SignIn: endpoint.NoSession, Page: true, Do: s.pageProvider, Accepts: endpoint.Accepts{Query: []string{"next"}}},
		{Method: "GET", Path: OIDCCallback, By: endpoint.Anyone, SignIn: endpoint.NoSession, Page: true, Do: s.pageCallback, Accepts: endpoint.Accepts{Open: true}},
		{Method: "GET", Path: ui.IdentityPath, By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageIdentity},
		{Method: "POST", Path: ui.IdentityPath, By: endpoint.Session, SignIn: endpoint.FreshByForm, Page: true, Do: s.formIdentity, Accepts: endpoint.Accepts{Form: []string{"action", "password"}}},
	}
}

// signInPage is the sign-in with all ways to do it.
func (s *Surface) signInPage(in api.SignIn, next, notice string, problems ui.Problems) ui.Form {
	page := ui.SignIn(in, next, notice, problems)
	if s.identity.HasProvider() {
		page.Instead = ui.ProviderLink(s.cfg.OIDC.Name, next)
	}
	return page
}

// pageProvider leads to the provider to sign in.
func (s *Surface) pageProvider(c *gin.Context, _ models.Principal) error {
	if !s.identity.HasProvider() {
		return identity.ErrNoOIDC
	}
	next := request.LocalPath(c.Query("next"))
	if c.Request.Method != http.MethodGet || s.identity.FromElsewhere(c.Request) {
		// A page of another site may not begin a sign-in, which would take the place of the
		// session that is there: people begin it themselves.
		return s.seeOther(c, signInFor(next), "")
	}
	target, err := s.identity.BeginVisit(c.Writer, c.Request, identity.ToSignIn, next)
	if err != nil {
		return s.refuseVisit(c, identity.Flow{Purpose: identity.ToSignIn, Next: next}, err)
	}
	return s.seeOther(c, target, "")
}

// askProvider leads somebody whose sign-in is too old to the provider, and back to
// the form filled in as it was sent.
func (s *Surface) askProvider(c *gin.Context, p models.Principal) error {
	next := c.Request.URL.Path
	if form, err := s.form(c); err == nil {
		next = ui.Resume(next, form, s.cfg.Limits)
	}
	return s.leadToProvider(c, p, identity.ToConfirm, next, ui.WhyConfirm)
}

// leadToProvider answers a form with a page that goes on at the provider.
func (s *Surface) leadToProvider(c *gin.Context, p models.Principal, why identity.Purpose, next, text string) error {
	target, err := s.identity.BeginVisit(c.Writer, c.Request, why, next)
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.Continue{Name: s.cfg.OIDC.Name, URL: target, Why: text})
}

// pageCallback takes whoever comes back from the provider.
func (s *Surface) pageCallback(c *gin.Context, _ models.Principal) error {
	if !s.identity.HasProvider() {
		return identity.ErrNoOIDC
	}
	if c.Request.Method != http.MethodGet { // looking at the headers uses nothing up
		c.Status(http.StatusOK)
		return nil
	}
	f, err := s.identity.EndVisit(c.Writer, c.Request)
	if err != nil {
		return s.refuseVisit(c, f, err)
	}
	next := f.Next
	if next == "" {
		next = patsPage
	}
	return s.seeOther(c, next, "")
}

// refuseVisit says why a visit to the provider came to nothing, where the visitor
// can try again.
func (s *Surface) refuseVisit(c *gin.Context, f identity.Flow, err error) error {
	ctx := c.Request.Context()
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return err
	}
	code := models.CodeOf(err)
	problems, ok := ui.ProblemsOf(err)
	switch {
	case code == models.CodeUnavailable:
		request.Of(ctx).Cause = err // with the request, in the log
		c.Header("Retry-After", "5")
		problems = ui.Problems{General: s.cfg.OIDC.Name + " cannot be reached at the moment. Try again shortly, or sign in with a password."}
	case !ok:
		return err
	default:
		s.identity.LogRefusal(ctx, err)
	}
	switch f.Purpose {
	case identity.ToConfirm, identity.ToLink:
		back := f.Next
		if back == "" {
			back = patsPage
		}
		page := ui.Message{Heading: "That did not work", Lines: []string{problems.General}, Link: back, Label: "Back"}
		return s.again(c, models.Principal{}, err, page)
	}
	return s.again(c, models.Principal{}, err, s.signInPage(emptySignIn, f.Next, "", problems))
}

// identityPage shows the connection of p with the provider.
func (s *Surface) identityPage(c *gin.Context, p models.Principal) (ui.Identity, error) {
	page := ui.Identity{Name: s.cfg.OIDC.Name, HasPassword: p.User.PasswordHash != "", AskPassword: !s.identity.Fresh(p)}
	connected, err := s.identity.ConnectedSince(c.Request.Context(), p)
	if by := p.User.SignInBy(s.cfg.OIDC.MaxAbsence); by != nil {
		at := s.moment(*by)
		page.SignInBy = &at
	}
	if connected != nil {
		since := s.moment(*connected)
		page.Since = &since
	}
	return page, err
}

func (s *Surface) pageIdentity(c *gin.Context, p models.Principal) error {
	if !s.identity.HasProvider() {
		return identity.ErrNoOIDC
	}
	page, err := s.identityPage(c, p)
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, page)
}

// formIdentity connects an account with the provider, or ends that. Either is a way
// in for good, so it takes a recent sign-in.
func (s *Surface) formIdentity(c *gin.Context, p models.Principal) error {
	if !s.identity.HasProvider() {
		return identity.ErrNoOIDC
	}
	form, err := s.form(c)
	if err != nil {
		return err
	}
	page, err := s.identityPage(c, p)
	if err != nil {
		return err
	}
	action := form.Get("action")
	if action != "connect" && action != "disconnect" {
		var v models.Invalid
		v.Add("action", "must be connect or disconnect")
		return v.Err()
	}
	ok, err := s.confirmedBy(c, p, form, func(problems ui.Problems) ui.Page {
		page.AskPassword, page.Problems = true, problems
		return page
	})
	if err != nil || !ok {
		return err
	}
	if action == "connect" {
		return s.leadToProvider(c, p, identity.ToLink, ui.IdentityPath, ui.WhyConnect)
	}
	if err := s.identity.Disconnect(c.Request.Context(), c.Writer, p); err != nil {
		return err
	}
	return s.seeOther(c, ui.IdentityPath, "The connection has ended. Sign in with your password from now on.")
}
