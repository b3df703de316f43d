package pages

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/identity"
	"patrol/server/manage"
	"patrol/server/request"
	"patrol/server/ui"
)

// The pages are routes like any other: the table says who may call them, and
// their handlers call the same methods of Server that the API calls. What is
// different is the form of the answer, and who is not signed in is asked to.
//
// pageRoutes are the pages for everybody. Forms are sent to the address of the page that shows
// them.
func (s *Surface) pageRoutes() []endpoint.Route {
	return []endpoint.Route{
		{Method: "GET", Path: "/", By: endpoint.Anyone, SignIn: endpoint.NoSession, Page: true, Do: s.pageRoot},
		{Method: "GET", Path: "/assets/:name", By: endpoint.Anyone, SignIn: endpoint.NoSession, Page: true, Do: s.pageAsset, Quiet: true},
		{Method: "GET", Path: "/login", By: endpoint.Anyone, SignIn: endpoint.NoSession, Page: true, Do: s.pageSignIn, Accepts: endpoint.Accepts{Query: []string{"next"}}},
		{Method: "POST", Path: "/login", By: endpoint.Anyone, SignIn: endpoint.NoSession, Page: true, Do: s.formSignIn, Accepts: endpoint.Accepts{Form: []string{"email", "password", "next"}}},
		{Method: "POST", Path: "/logout", By: endpoint.Session, SignIn: endpoint.AnyAgeForOwn, Page: true, Do: s.formSignOut},

		{Method: "GET", Path: "/profile/pats", By: endpoint.Owner, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pagePATs, Accepts: endpoint.Accepts{Query: []string{"status", "name", "sort", "after"}}},
		{Method: "GET", Path: "/profile/pats/new", By: endpoint.Owner, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageCreate, Accepts: endpoint.Accepts{Query: []string{"name", "description", "allowed_ips", "expires_in", "expires_on", "preset", "domain", "from"}, Lists: []string{"scope"}}},
		{Method: "POST", Path: "/profile/pats/new", By: endpoint.OwnerConfirming, SignIn: endpoint.FreshByForm, Page: true, Do: s.formCreate, Accepts: endpoint.Accepts{Form: []string{"name", "description", "allowed_ips", "expires_in", "expires_on", "preset_domain", "key", "action", "password"}, Rows: ui.IsRowField}},
		{Method: "GET", Path: "/profile/pats/revoke-all", By: endpoint.Owner, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageRevokeAll},
		{Method: "POST", Path: "/profile/pats/revoke-all", By: endpoint.Owner, SignIn: endpoint.AnyAgeToNarrow, Page: true, Do: s.formRevokeAll, Accepts: endpoint.Accepts{Form: []string{"all"}}},
		{Method: "GET", Path: "/profile/pats/:id", By: endpoint.Owner, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pagePAT},
		{Method: "GET", Path: "/profile/pats/:id/token", By: endpoint.Owner, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageToken},
		{Method: "GET", Path: "/profile/pats/:id/edit", By: endpoint.Owner, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageEdit, Accepts: endpoint.Accepts{Query: []string{"name", "description", "allowed_ips"}}},
		{Method: "POST", Path: "/profile/pats/:id/edit", By: endpoint.Owner, SignIn: endpoint.FreshOwnToWiden, Page: true, Do: s.formEdit, Accepts: endpoint.Accepts{Form: []string{"name", "description", "allowed_ips"}}},
		{Method: "GET", Path: "/profile/pats/:id/rotate", By: endpoint.Owner, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageRotate, Accepts: endpoint.Accepts{Query: []string{"expires_in", "expires_on", "grace"}}},
		{Method: "POST", Path: "/profile/pats/:id/rotate", By: endpoint.OwnerConfirming, SignIn: endpoint.FreshByForm, Page: true, Do: s.formRotate, Accepts: endpoint.Accepts{Form: []string{"expires_in", "expires_on", "grace", "key", "password"}}},
		{Method: "GET", Path: "/profile/pats/:id/revoke", By: endpoint.Owner, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageRevoke},
		{Method: "POST", Path: "/profile/pats/:id/revoke", By: endpoint.Owner, SignIn: endpoint.AnyAgeToNarrow, Page: true, Do: s.formRevoke},
		{Method: "GET", Path: "/profile/pats/:id/delete", By: endpoint.Owner, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageDelete},
		{Method: "POST", Path: "/profile/pats/:id/delete", By: endpoint.Owner, SignIn: endpoint.AnyAgeForOwn, Page: true, Do: s.formDelete},
		{Method: "GET", Path: "/profile/pats/:id/scopes", By: endpoint.Owner, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageWiden, Accepts: endpoint.Accepts{Query: []string{"scope"}}},
		{Method: "POST", Path: "/profile/pats/:id/scopes", By: endpoint.OwnerConfirming, SignIn: endpoint.FreshByForm, Page: true, Do: s.formWiden, Accepts: endpoint.Accepts{Form: []string{"password"}, Rows: ui.IsRowField}},
		{Method: "GET", Path: "/profile/pats/:id/scopes/:scope/remove", By: endpoint.Owner, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageNarrow},
		{Method: "POST", Path: "/profile/pats/:id/scopes/:scope/remove", By: endpoint.Owner, SignIn: endpoint.AnyAgeToNarrow, Page: true, Do: s.formNarrow},

		{Method: "GET", Path: "/profile/password", By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pagePassword},
		{Method: "POST", Path: "/profile/password", By: endpoint.Session, SignIn: endpoint.FreshByForm, Page: true, Do: s.formPassword, Accepts: endpoint.Accepts{Form: []string{"current", "password", "repeat"}}},
		{Method: "GET", Path: "/profile/sessions", By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageSessions},
		{Method: "POST", Path: "/profile/sessions/end", By: endpoint.Session, SignIn: endpoint.FreshOwn, Page: true, Do: s.formEndSession, Accepts: endpoint.Accepts{Form: []string{"id"}}},

		{Method: "GET", Path: "/help", By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageHelp},
		{Method: "GET", Path: "/help/test", By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageTest},
		{Method: "POST", Path: "/help/test", By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.formTest, Accepts: endpoint.Accepts{Form: []string{"token", "domain", "entity_type", "entity", "operation"}}},
	}
}

const patsPage = "/profile/pats"

// show answers with a page.
func (s *Surface) show(c *gin.Context, p models.Principal, status int, page ui.Page) error {
	frame := ui.Frame{Now: s.now(), RequestID: request.ID(c.Request.Context()), Sent: s.formOf(c, p)}
	if p.User.ID != "" {
		frame.Viewer = &ui.Viewer{
			Name: p.User.Name, Email: p.User.Email, Admin: p.User.Admin, Policy: p.User.Policy,
			Domains: s.administersAny(c.Request.Context(), p),
		}
		if p.AtProvider {
			frame.Viewer.Provider = s.cfg.OIDC.Name
		}
		if c.Request.Method != http.MethodHead { // which shows nobody what it takes
			frame.Notice = strings.TrimSpace(s.identity.TakeNotice(c.Request.Context()) + " " + s.identity.Alerts(c.Request.Context(), p))
		}
	}
	return s.ui.Write(c.Writer, c.Request, status, frame, page)
}

// formOf is the page of the form that the request sent, filled in but for secrets, "" if it
// sent none. The answer stands under that address in the history of the browser.
func (s *Surface) formOf(c *gin.Context, p models.Principal) string {
	if c.Request.Method != http.MethodPost {
		return ""
	}
	page := ui.Resume(c.Request.URL.Path, c.Request.PostForm, s.cfg.Limits)
	if r := request.Of(c.Request.Context()).Route; p.User.ID == "" && page != "" && r != nil && !r.Open {
		return signInFor(page)
	}
	return page
}

// again shows a form again after it was refused.
func (s *Surface) again(c *gin.Context, p models.Principal, cause error, page ui.Page) error {
	status := http.StatusUnprocessableEntity
	if e, ok := errors.AsType[*models.Error](cause); ok {
		status = request.Statuses[e.Code]
		if e.RetryAfter > 0 {
			c.Header("Retry-After", strconv.Itoa(e.RetryAfter))
		}
	}
	return s.show(c, p, status, page)
}

// retry shows a form again after an error that its user can mend, and returns every other.
func (s *Surface) retry(c *gin.Context, p models.Principal, err error, page func(ui.Problems) ui.Page) error {
	problems, ok := ui.ProblemsOf(err)
	if !ok {
		return err
	}
	return s.again(c, p, err, page(problems))
}

// seeOther sends the browser to another page, so that a reload does not send the
// form again. notice tells on the page what was done; "" for nothing.
func (s *Surface) seeOther(c *gin.Context, path, notice string) error {
	// Warnings beside the result are shown to people, too.
	notice = strings.TrimSpace(strings.Join(append([]string{notice}, request.Of(c.Request.Context()).Warnings.Texts()...), " "))
	if notice != "" && c.Request.Method != http.MethodHead {
		s.identity.LeaveNotice(c.Request.Context(), notice)
	}
	c.Header("Location", path)
	c.Writer.WriteHeader(http.StatusSeeOther)
	return nil
}

// form reads a submitted form.
func (s *Surface) form(c *gin.Context) (url.Values, error) {
	return endpoint.ReadForm(c, endpoint.MaxForm)
}

// Fail answers with a page that says what went wrong. Who is not signed in is
// asked to, and finds the form as it was filled in afterwards.
func (s *Surface) Fail(c *gin.Context, p models.Principal, err error) {
	x := request.Of(c.Request.Context())
	p = s.viewer(c, p, err)
	code := models.CodeOf(err)
	if code == models.CodeUnauthenticated {
		s.askSignIn(c)
		return
	}
	if errors.Is(err, identity.ErrStaleForm) && c.Request.Method == http.MethodPost {
		stale, _ := errors.AsType[staleFormError](err)
		failed := s.askAgain(c, p, stale.problems)
		if failed == nil {
			return
		}
		err, code = failed, models.CodeOf(failed)
	}
	if code == models.CodeReauthentication && p.AtProvider {
		failed := s.askProvider(c, p)
		if failed == nil {
			return
		}
		err, code = failed, models.CodeOf(failed)
	}
	status := request.Statuses[code]
	switch {
	case errors.Is(err, context.Canceled) && c.Request.Context().Err() != nil:
		status = http.StatusServiceUnavailable // for the access log alone
	case status == 0 || status >= http.StatusInternalServerError:
		x.Cause = err
		if status == 0 {
			status = http.StatusInternalServerError
		}
	}
	if status == http.StatusServiceUnavailable {
		c.Header("Retry-After", "1")
	}
	message := ""
	if e, ok := errors.AsType[*models.Error](err); ok && status < http.StatusInternalServerError {
		message = e.Message
		for i, f := range e.Fields { // such as a part of an address that no page reads
			message = []string{"", message + "; "}[min(i, 1)] + f.Field + " " + f.Message
		}
		if e.RetryAfter > 0 {
			c.Header("Retry-After", strconv.Itoa(e.RetryAfter))
		}
	}
	page := ui.Failure(status, message)
	if code == models.CodeMethodNotAllowed {
		page = ui.NotAPage(ui.Resume(c.Request.URL.Path, nil, s.cfg.Limits))
	}
	if err := s.show(c, p, status, page); err != nil {
		request.WriteError(c.Writer, c.Request, err)
	}
}

// viewer returns who looks at a page that says what went wrong: whoever is signed in, whom the
// route may not have asked for or not have let in. It is a courtesy, and left out where there
// is too much to do.
func (s *Surface) viewer(c *gin.Context, p models.Principal, cause error) models.Principal {
	if p.User.ID != "" || errors.Is(cause, request.ErrBusy) || !s.identity.HasCookie(c.Request) || request.CredentialOf(c.Request.Header).Kind != request.NoCredential {
		return p
	}
	found, err := s.signedIn(c)
	if err != nil {
		return p
	}
	return found
}

// askSignIn leads to the sign-in and back.
func (s *Surface) askSignIn(c *gin.Context) {
	if c.Request.Method == http.MethodGet || c.Request.Method == http.MethodHead {
		c.Header("Location", signInFor(request.LocalPath(c.Request.URL.RequestURI())))
		c.Writer.WriteHeader(http.StatusSeeOther)
		return
	}
	next := ""
	if form, err := s.form(c); err == nil {
		next = ui.Resume(c.Request.URL.Path, form, s.cfg.Limits)
	}
	page := s.signInPage(emptySignIn, next, ui.NoticeEnded, ui.Problems{})
	if err := s.show(c, models.Principal{}, http.StatusUnauthorized, page); err != nil {
		request.WriteError(c.Writer, c.Request, err)
	}
}

// signInFor is the address of the sign-in that leads to a page afterwards.
func signInFor(page string) string {
	if page == "" || page == patsPage {
		return "/login"
	}
	return "/login?" + url.Values{"next": {page}}.Encode()
}

// choices are the domains of p, with what p may do there.
func (s *Surface) choices(ctx context.Context, p models.Principal) (ui.Choices, error) {
	roles, err := s.manage.Roles(ctx, p.User.ID)
	if err != nil {
		return ui.Choices{}, err
	}
	var domains []ui.DomainRole
	page := manage.Page{Limit: manage.MaxPage}
	for {
		found, next, err := s.manage.Domains(ctx, p, manage.DomainFilter{}, page)
		if err != nil {
			return ui.Choices{}, err
		}
		for _, d := range found {
			role := roles[d.ID]
			if p.User.Admin {
				role = nil // every operation
			}
			domains = append(domains, ui.DomainRole{Domain: d, Role: role})
		}
		if next == "" || len(domains) >= maxChoices {
			return ui.NewChoices(s.manage.Catalog(), s.cfg.Limits, domains), nil
		}
		page.After = next
	}
}

// choicesForm returns the form that was sent, and the domains of p with what p may do there.
func (s *Surface) choicesForm(c *gin.Context, p models.Principal) (form url.Values, choices ui.Choices, err error) {
	if form, err = s.form(c); err == nil {
		choices, err = s.choices(c.Request.Context(), p)
	}
	return form, choices, err
}

// maxChoices bounds the list of domains on a page.
const maxChoices = 1000

func (s *Surface) moment(t time.Time) ui.Moment { return ui.At(t, s.now()) }

// leadToMade keeps what was made, and sends the browser to the page of p at path that
// shows it.
func (s *Surface) leadToMade(c *gin.Context, p models.Principal, path string, what identity.Made) error {
	if err := s.identity.KeepMade(c.Request.Context(), c.Writer, p, path, what); err != nil {
		return err
	}
	return s.seeOther(c, path, "")
}

// shownBefore is the notice for somebody who comes again for a secret.
func shownBefore(what, mend string) string {
	return strings.Join([]string{what, "is shown once, right after it was made.", mend}, " ")
}

// signedIn returns whoever is signed in, and gives the request the context of the session.
func (s *Surface) signedIn(c *gin.Context) (p models.Principal, err error) {
	p, c.Request, err = s.identity.AdmitSession(c.Writer, c.Request)
	return p, err
}
