package server

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/models/store"
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
var pageRoutes = []route{
	{method: "GET", path: "/", by: anyone, page: true, do: (*Server).pageRoot},
	{method: "GET", path: "/assets/:name", by: anyone, page: true, do: (*Server).pageAsset, quiet: true},
	{method: "GET", path: "/login", by: anyone, page: true, do: (*Server).pageSignIn, accepts: accepts{query: []string{"next"}}},
	{method: "POST", path: "/login", by: anyone, page: true, do: (*Server).formSignIn, accepts: accepts{form: []string{"email", "password", "next"}}},
	{method: "POST", path: "/logout", by: session, page: true, do: (*Server).formSignOut},

	{method: "GET", path: "/profile/pats", by: owner, page: true, do: (*Server).pagePATs, accepts: accepts{query: []string{"status", "name", "sort", "after"}}},
	{method: "GET", path: "/profile/pats/new", by: owner, page: true, do: (*Server).pageCreate, accepts: accepts{query: []string{"name", "description", "expires_in", "expires_on", "preset", "domain", "from"}, lists: []string{"scope"}}},
	{method: "POST", path: "/profile/pats/new", by: ownerConfirming, page: true, do: (*Server).formCreate, accepts: accepts{form: []string{"name", "description", "expires_in", "expires_on", "preset_domain", "key", "action", "password"}, rows: true}},
	{method: "GET", path: "/profile/pats/revoke-all", by: owner, page: true, do: (*Server).pageRevokeAll},
	{method: "POST", path: "/profile/pats/revoke-all", by: owner, page: true, do: (*Server).formRevokeAll, accepts: accepts{form: []string{"all"}}},
	{method: "GET", path: "/profile/pats/:id", by: owner, page: true, do: (*Server).pagePAT},
	{method: "GET", path: "/profile/pats/:id/token", by: owner, page: true, do: (*Server).pageToken},
	{method: "GET", path: "/profile/pats/:id/edit", by: owner, page: true, do: (*Server).pageEdit, accepts: accepts{query: []string{"name", "description"}}},
	{method: "POST", path: "/profile/pats/:id/edit", by: owner, page: true, do: (*Server).formEdit, accepts: accepts{form: []string{"name", "description"}}},
	{method: "GET", path: "/profile/pats/:id/rotate", by: owner, page: true, do: (*Server).pageRotate, accepts: accepts{query: []string{"expires_in", "expires_on", "grace"}}},
	{method: "POST", path: "/profile/pats/:id/rotate", by: ownerConfirming, page: true, do: (*Server).formRotate, accepts: accepts{form: []string{"expires_in", "expires_on", "grace", "key", "password"}}},
	{method: "GET", path: "/profile/pats/:id/revoke", by: owner, page: true, do: (*Server).pageRevoke},
	{method: "POST", path: "/profile/pats/:id/revoke", by: owner, page: true, do: (*Server).formRevoke},
	{method: "GET", path: "/profile/pats/:id/delete", by: owner, page: true, do: (*Server).pageDelete},
	{method: "POST", path: "/profile/pats/:id/delete", by: owner, page: true, do: (*Server).formDelete},
	{method: "GET", path: "/profile/pats/:id/scopes", by: owner, page: true, do: (*Server).pageWiden, accepts: accepts{query: []string{"scope"}}},
	{method: "POST", path: "/profile/pats/:id/scopes", by: ownerConfirming, page: true, do: (*Server).formWiden, accepts: accepts{form: []string{"password"}, rows: true}},
	{method: "GET", path: "/profile/pats/:id/scopes/:scope/remove", by: owner, page: true, do: (*Server).pageNarrow},
	{method: "POST", path: "/profile/pats/:id/scopes/:scope/remove", by: owner, page: true, do: (*Server).formNarrow},

	{method: "GET", path: "/profile/password", by: session, page: true, do: (*Server).pagePassword},
	{method: "POST", path: "/profile/password", by: session, page: true, do: (*Server).formPassword, accepts: accepts{form: []string{"current", "password", "repeat"}}},
	{method: "GET", path: "/profile/sessions", by: session, page: true, do: (*Server).pageSessions},
	{method: "POST", path: "/profile/sessions/end", by: session, page: true, do: (*Server).formEndSession, accepts: accepts{form: []string{"id"}}},

	{method: "GET", path: "/help", by: session, page: true, do: (*Server).pageHelp},
	{method: "GET", path: "/help/test", by: session, page: true, do: (*Server).pageTest},
	{method: "POST", path: "/help/test", by: session, page: true, do: (*Server).formTest, accepts: accepts{form: []string{"token", "domain", "entity_type", "entity", "operation"}}},
}

const patsPage = "/profile/pats"

// show answers with a page.
func (s *Server) show(c *gin.Context, p models.Principal, status int, page ui.Page) error {
	frame := ui.Frame{Now: s.now(), RequestID: request.ID(c.Request.Context()), Sent: s.formOf(c, p)}
	if p.User.ID != "" {
		frame.Viewer = &ui.Viewer{
			Name: p.User.Name, Email: p.User.Email, Admin: p.User.Admin, Policy: p.User.Policy,
			Domains: s.administersAny(c.Request.Context(), p),
		}
		if p.AtProvider {
			frame.Viewer.Provider = s.cfg.OIDC.Name
		}
		frame.Notice = s.identity.TakeNotice(c.Request.Context())
	}
	return s.ui.Write(c.Writer, c.Request, status, frame, page)
}

// formOf is the page of the form that the request sent, filled in but for secrets, "" if it
// sent none. The answer stands under that address in the history of the browser.
func (s *Server) formOf(c *gin.Context, p models.Principal) string {
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
func (s *Server) again(c *gin.Context, p models.Principal, cause error, page ui.Page) error {
	status := http.StatusUnprocessableEntity
	if e, ok := errors.AsType[*models.Error](cause); ok {
		status = request.Statuses[e.Code]
		if e.RetryAfter > 0 {
			c.Header("Retry-After", strconv.Itoa(e.RetryAfter))
		}
	}
	return s.show(c, p, status, page)
}

// seeOther sends the browser to another page, so that a reload does not send the
// form again. notice is what the page says of what was done, "" for nothing.
func (s *Server) seeOther(c *gin.Context, path, notice string) error {
	// What went wrong beside what was done is told to people, too.
	notice = strings.TrimSpace(strings.Join(append([]string{notice}, request.Of(c.Request.Context()).Warnings.Texts()...), " "))
	if notice != "" {
		s.identity.LeaveNotice(c.Request.Context(), notice)
	}
	c.Header("Location", path)
	c.Writer.WriteHeader(http.StatusSeeOther)
	return nil
}

// maxForm bounds a form: 64 scopes with ids of 256 characters, percent-encoded,
// and room to spare.
const maxForm = 256 << 10

var errNoForm = models.NewError(models.CodeMediaType, "a form is sent as application/x-www-form-urlencoded")

// form reads a submitted form.
func (s *Server) form(c *gin.Context) (url.Values, error) { return s.formUpTo(c, maxForm) }

// formUpTo is form for one of at most so many bytes.
func (s *Server) formUpTo(c *gin.Context, limit int64) (url.Values, error) {
	media, _, err := mime.ParseMediaType(c.Request.Header.Get("Content-Type"))
	if err != nil || media != "application/x-www-form-urlencoded" {
		return nil, errNoForm
	}
	c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, limit)
	if err := c.Request.ParseForm(); err != nil {
		if _, over := errors.AsType[*http.MaxBytesError](err); over {
			return nil, tooLarge(limit)
		}
		return nil, models.WrapError(models.CodeMalformed, "the form could not be read", err)
	}
	return c.Request.PostForm, request.Of(c.Request.Context()).Enter()
}

// failPage answers with a page that says what went wrong. Who is not signed in is
// asked to, and finds the form as it was filled in afterwards.
func (s *Server) failPage(c *gin.Context, p models.Principal, err error) {
	x := request.Of(c.Request.Context())
	p = s.viewer(c, p, err)
	code := models.CodeOf(err)
	if code == models.CodeUnauthenticated {
		s.askSignIn(c)
		return
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

// viewer is who looks at a page that says what went wrong: whoever is signed in, whom the
// route may not have asked for or not have let in. It is a courtesy, and left out where there
// is too much to do.
func (s *Server) viewer(c *gin.Context, p models.Principal, cause error) models.Principal {
	if p.User.ID != "" || errors.Is(cause, request.ErrBusy) || !s.identity.HasCookie(c.Request) || request.CredentialOf(c.Request.Header).Kind != request.NoCredential {
		return p
	}
	found, err := s.admitSession(c)
	if err != nil {
		return p
	}
	return found
}

// wantsPage reports whether a request that no route answers with a page comes from somebody
// who typed or followed an address or sent a form, and not from a program.
func wantsPage(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html") && !strings.HasPrefix(r.URL.Path, "/api/")
}

// askSignIn leads to the sign-in and back.
func (s *Server) askSignIn(c *gin.Context) {
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

// confirm returns true if the sign-in is recent, or becomes so by the password
// that came with the form. Otherwise problems says what is missing, or, if the
// session began at the identity provider, the error leads there; see failPage.
// Handlers of routes by ownerConfirming call it before they do anything.
func (s *Server) confirm(c *gin.Context, p models.Principal, password string) (ok bool, problems ui.Problems, err error) {
	if s.identity.Fresh(p) {
		return true, problems, nil
	}
	if p.AtProvider {
		return false, problems, identity.ErrStaleSignIn
	}
	if password == "" {
		problems.Add("password", "is needed: you signed in a while ago")
		return false, problems, nil
	}
	ctx := c.Request.Context()
	token, err := s.identity.Reauthenticate(ctx, p, reauthenticate(password))
	switch models.CodeOf(err) {
	case "":
		s.identity.SetSessionCookie(ctx, c.Writer, token)
		return true, problems, nil
	case models.CodeBadCredentials:
		problems.Add("password", "is not right")
		return false, problems, nil
	case models.CodeRateLimited:
		problems, _ = ui.ProblemsOf(err)
		return false, problems, nil
	default:
		return false, problems, err
	}
}

// choices are the domains of p, with what p may do there.
func (s *Server) choices(ctx context.Context, p models.Principal) (ui.Choices, error) {
	roles, err := s.manage.Roles(ctx, p.User.ID)
	if err != nil {
		return ui.Choices{}, err
	}
	var domains []ui.DomainRole
	page := store.Page{Limit: manage.MaxPage}
	for {
		found, next, err := s.manage.Domains(ctx, p, page)
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

// maxChoices bounds the list of domains on a page.
const maxChoices = 1000

// pageBase is the address of this server for whoever reads a page: the public URL,
// or else the one that they reached it by.
func (s *Server) pageBase(r *http.Request) string {
	if s.cfg.PublicURL != "" || r.Host == "" {
		return s.BaseURL()
	}
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

func (s *Server) moment(t time.Time) ui.Moment { return ui.At(t, s.now()) }

// leadToMade keeps what was made, and sends the browser to the page of p at path that
// shows it.
func (s *Server) leadToMade(c *gin.Context, p models.Principal, path string, what identity.Made) error {
	if err := s.identity.KeepMade(c.Request.Context(), c.Writer, p, path, what); err != nil {
		return err
	}
	return s.seeOther(c, path, "")
}

// shownBefore is what somebody reads who comes again for a secret.
func shownBefore(what, mend string) string {
	return strings.Join([]string{what, "is shown once, right after it was made.", mend}, " ")
}
