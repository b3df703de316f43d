package pages

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/authz"
	"patrol/server/endpoint"
	"patrol/server/request"
	"patrol/server/ui"
)

var emptySignIn api.SignIn

func reauthenticate(password string) api.Reauthenticate {
	return api.Reauthenticate{Password: password}
}

// pageRoot leads to where most people want to go.
func (s *Surface) pageRoot(c *gin.Context, _ models.Principal) error {
	if s.identity.SetupOpen(c.Request.Context()) == nil {
		return s.seeOther(c, "/setup", "")
	}
	return s.seeOther(c, patsPage, "")
}

func (s *Surface) pageAsset(c *gin.Context, _ models.Principal) error {
	if !s.ui.ServeAsset(c.Writer, c.Request, c.Param("name")) {
		return models.NewError(models.CodeNotFound, "there is nothing at this path")
	}
	return nil
}

func (s *Surface) pageSignIn(c *gin.Context, _ models.Principal) error {
	next := request.LocalPath(c.Query("next"))
	if s.identity.HasCookie(c.Request) {
		if _, err := s.signedIn(c); err == nil {
			if next == "" {
				next = patsPage
			}
			return s.seeOther(c, next, "")
		}
	}
	return s.show(c, models.Principal{}, http.StatusOK, s.signInPage(emptySignIn, next, "", ui.Problems{}))
}

func (s *Surface) formSignIn(c *gin.Context, _ models.Principal) error {
	// Another site must not be able to sign its visitor in as somebody else.
	if err := s.identity.SameSite(c.Request); err != nil {
		return err
	}
	form, err := s.form(c)
	if err != nil {
		return err
	}
	in, next := ui.DecodeSignIn(form)
	ctx, x := c.Request.Context(), request.Of(c.Request.Context())
	user, token, ends, err := s.identity.SignIn(ctx, x.Actor(models.ActorUser, "", ""), in)
	if err != nil {
		problems, ok := ui.ProblemsOf(err)
		if !ok {
			return err
		}
		return s.again(c, models.Principal{}, err, s.signInPage(in, next, "", problems))
	}
	x.UserID = user.ID
	if err := s.identity.Replace(c.Request, x.Actor(models.ActorUser, "", "")); err != nil {
		return err
	}
	if err := s.identity.WelcomeBrowser(c.Writer, token, ends, user.ID); err != nil {
		return err
	}
	if next == "" {
		next = patsPage
	}
	return s.seeOther(c, next, "")
}

func (s *Surface) formSignOut(c *gin.Context, p models.Principal) error {
	if err := s.identity.SignOut(c.Request.Context(), p); err != nil {
		return err
	}
	s.identity.ClearCookie(c.Writer)
	if p.AtProvider {
		if logout := s.identity.LogoutURL(s.baseURL() + "/login"); logout != "" {
			return s.show(c, models.Principal{}, http.StatusOK, ui.SignedOut(s.cfg.OIDC.Name, logout))
		}
	}
	return s.seeOther(c, "/login", "")
}

func (s *Surface) pagePassword(c *gin.Context, p models.Principal) error {
	return s.show(c, p, http.StatusOK, s.passwordPage(p, ui.Problems{}))
}

// passwordPage is the page on which p changes the password, or reads that there is
// none.
func (s *Surface) passwordPage(p models.Principal, problems ui.Problems) ui.Page {
	name := ""
	if s.identity.HasProvider() {
		name = s.cfg.OIDC.Name
	}
	if p.User.PasswordHash == "" {
		return ui.NoPassword(name)
	}
	page := ui.ChangePassword(problems)
	if name != "" {
		page.More = ui.Link{Label: "Sign-in with " + name, URL: ui.IdentityPath}
	}
	return page
}

func (s *Surface) formPassword(c *gin.Context, p models.Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	in := ui.DecodeNewPassword(form)
	var problems ui.Problems
	if in.Check(&problems); problems.Any() {
		return s.again(c, p, nil, s.passwordPage(p, problems))
	}
	ctx := c.Request.Context()
	err = s.identity.ChangePassword(ctx, p, in.Current, in.Password)
	if models.CodeOf(err) == models.CodeBadCredentials {
		problems.Add("current", "is not right")
		return s.again(c, p, err, s.passwordPage(p, problems))
	}
	if err != nil {
		return s.retry(c, p, err, func(problems ui.Problems) ui.Page { return s.passwordPage(p, problems) })
	}
	if err := s.identity.RenewSession(ctx, c.Writer, s.now()); err != nil { // the one of the form goes on, under another token
		return err
	}
	return s.seeOther(c, patsPage, "Your password is changed. All your other sessions have ended. Your tokens stay as they are.")
}

func (s *Surface) pageSessions(c *gin.Context, p models.Principal) error {
	sessions, err := s.identity.SessionsOf(c.Request.Context(), p)
	if err != nil {
		return err
	}
	codes, err := s.manage.PendingCodes(c.Request.Context(), p.User.ID)
	if err != nil {
		return err
	}
	var page ui.Sessions
	if page.Codes, err = s.waiting(c.Request.Context(), codes); err != nil {
		return err
	}
	for _, one := range sessions {
		session := ui.Session{
			ID: one.ID, Current: one.Current, Program: one.Program, IP: one.IP, Agent: one.Agent,
			SignedIn: s.moment(one.SignedIn), Seen: s.moment(one.Seen), Ends: s.moment(one.Ends),
		}
		if session.Current {
			page.Sessions = append([]ui.Session{session}, page.Sessions...)
		} else {
			page.Sessions = append(page.Sessions, session)
		}
	}
	return s.show(c, p, http.StatusOK, page)
}

func (s *Surface) formEndSession(c *gin.Context, p models.Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	notice, id := "The session has ended.", form.Get("id")
	if endpoint.Blank(id) {
		var v models.Invalid
		v.Add("id", "is required: the session to end, or others")
		return v.Err()
	}
	if id == "others" {
		notice = "All your other sessions have ended."
		id = ""
	}
	if err := s.identity.EndSessions(ctx, p, id); err != nil {
		return err
	}
	return s.seeOther(c, "/profile/sessions", notice)
}

func (s *Surface) pageHelp(c *gin.Context, p models.Principal) error {
	choices, err := s.choices(c.Request.Context(), p)
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.NewHelp(s.baseURL(), choices))
}

func (s *Surface) pageTest(c *gin.Context, p models.Principal) error {
	choices, err := s.choices(c.Request.Context(), p)
	if err != nil {
		return err
	}
	page, _ := ui.DecodeTest(nil, choices)
	return s.show(c, p, http.StatusOK, page)
}

// formTest asks for a decision as /authorize does. Whoever holds a token may ask
// about it.
func (s *Surface) formTest(c *gin.Context, p models.Principal) error {
	form, choices, err := s.choicesForm(c, p)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	page, token := ui.DecodeTest(form, choices)
	if token == "" {
		page.Problems.Add("token", "is required")
	}
	if err := page.Request.Validate(); err != nil {
		problems, _ := ui.ProblemsOf(err)
		page.Problems.Fields = append(page.Problems.Fields, problems.Fields...)
	}
	if page.Problems.Any() {
		return s.again(c, p, nil, page)
	}
	decision := s.authz.Authorize(ctx, authz.Call{
		Token: token, Request: page.Request, Surface: "page", RequestID: request.Of(ctx).ID, IP: request.Of(ctx).Client, UserAgent: c.Request.UserAgent(),
	})
	page.Decision = &decision
	return s.show(c, p, http.StatusOK, page)
}
