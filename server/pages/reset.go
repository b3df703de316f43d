package pages

import (
	"context"
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/identity"
	"patrol/server/manage"
	"patrol/server/request"
	"patrol/server/ui"
)

// resetPages make codes and take them.
func (s *Surface) resetPages() []endpoint.Route {
	return []endpoint.Route{
		{Method: "GET", Path: "/admin/users/:id/reset", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageNewReset},
		{Method: "POST", Path: "/admin/users/:id/reset", By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdmin, Page: true, Do: s.formNewReset, Accepts: endpoint.Accepts{Lists: ui.ResetFields}},
		{Method: "GET", Path: "/admin/users/:id/email", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageNewEmail},
		{Method: "POST", Path: "/admin/users/:id/email", By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdmin, Page: true, Do: s.formNewEmail, Accepts: endpoint.Accepts{Form: []string{"email"}}},
		{Method: "GET", Path: "/admin/users/:id/email/link", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageEmailLink},
		{Method: "GET", Path: ui.EmailPath, By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageEmail},
		{Method: "POST", Path: ui.EmailPath, By: endpoint.Session, SignIn: endpoint.FreshOwn, Page: true, Do: s.formEmail, Accepts: endpoint.Accepts{Form: []string{"code"}}},
		{Method: "GET", Path: "/admin/users/:id/access", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageAccess},
		{Method: "POST", Path: "/admin/users/:id/access/sessions", By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdmin, Page: true, Do: s.formEndSessionsOf},
		{Method: "POST", Path: "/admin/users/:id/access/codes", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToNarrow, Page: true, Do: s.formWithdrawCodes},
		{Method: "GET", Path: "/admin/codes", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageAllCodes, Accepts: endpoint.Accepts{Query: []string{"after"}}},
		{Method: "POST", Path: "/profile/sessions/codes", By: endpoint.Session, SignIn: endpoint.FreshOwn, Page: true, Do: s.formWithdrawOwnCodes},
		{Method: "GET", Path: "/admin/users/:id/reset/link", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageResetLink},
		{Method: "GET", Path: ui.ResetPath, By: endpoint.Anyone, SignIn: endpoint.NoSession, Page: true, Do: s.pageReset},
		{Method: "POST", Path: ui.ResetPath, By: endpoint.Anyone, SignIn: endpoint.NoSession, Page: true, Do: s.formReset, Accepts: endpoint.Accepts{Form: []string{"code", "password", "repeat"}}},
	}
}

func (s *Surface) pageNewReset(c *gin.Context, p models.Principal) error {
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
func (s *Surface) formNewReset(c *gin.Context, p models.Principal) error {
	user, err := s.userHere(c)
	if err != nil {
		return err
	}
	form, err := s.form(c)
	if err != nil {
		return err
	}
	reset, err := s.identity.NewReset(c.Request.Context(), p, user.ID, s.pageBase()+ui.ResetPath, ui.DecodeNewReset(form).Removal())
	if err != nil {
		return err
	}
	return s.leadToMade(c, p, "/admin/users/"+url.PathEscape(user.ID)+"/reset/link", identity.Made{Secret: reset.Code, URL: reset.URL, Expires: reset.ExpiresAt, Removed: reset.Removed, Stays: reset.Stays})
}

// pageAccess shows what would let somebody in, for it to be ended.
func (s *Surface) pageAccess(c *gin.Context, p models.Principal) error {
	user, err := s.userHere(c)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	sessions, err := s.identity.SessionsOf(ctx, models.Principal{User: user})
	if err != nil {
		return err
	}
	codes, err := s.manage.PendingCodes(ctx, user.ID)
	if err != nil {
		return err
	}
	page := ui.Access{User: user, Self: user.ID == p.User.ID, Sessions: len(sessions)}
	if page.Codes, err = s.waiting(ctx, codes); err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, page)
}

// waiting puts codes that nobody has used as pages show them.
func (s *Surface) waiting(ctx context.Context, codes []manage.PendingCode) ([]ui.CodeWaiting, error) {
	makers := make([]string, len(codes))
	for i, code := range codes {
		makers[i] = code.MadeBy
	}
	emails, _, err := s.manage.Names(ctx, makers, nil)
	if err != nil {
		return nil, err
	}
	shown := make([]ui.CodeWaiting, len(codes))
	for i, code := range codes {
		shown[i] = ui.CodeWaiting{UserID: code.UserID, Email: code.Email, Does: ui.CodeDoes(code.Purpose, code.NewEmail), By: emails[code.MadeBy], Expires: s.moment(code.ExpiresAt)}
	}
	return shown, nil
}

func (s *Surface) pageAllCodes(c *gin.Context, p models.Principal) error {
	ctx, after := c.Request.Context(), c.Query("after")
	codes, next, err := s.manage.AllPendingCodes(ctx, manage.Page{Limit: endpoint.DefaultPage, After: after})
	if err != nil {
		return err
	}
	shown, err := s.waiting(ctx, codes)
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.AllCodes(shown, next, after == ""))
}

func (s *Surface) formWithdrawOwnCodes(c *gin.Context, p models.Principal) error {
	if err := s.manage.WithdrawCodes(c.Request.Context(), p, p.User.ID); err != nil {
		return err
	}
	return s.seeOther(c, "/profile/sessions", "The links and codes are withdrawn.")
}

func (s *Surface) formEndSessionsOf(c *gin.Context, p models.Principal) error {
	if err := s.identity.EndSessionsOf(c.Request.Context(), p, c.Param("id")); err != nil {
		return err
	}
	return s.seeOther(c, "/admin/users/"+url.PathEscape(c.Param("id"))+"/access", "They are signed out everywhere.")
}

func (s *Surface) formWithdrawCodes(c *gin.Context, p models.Principal) error {
	if err := s.manage.WithdrawCodes(c.Request.Context(), p, c.Param("id")); err != nil {
		return err
	}
	return s.seeOther(c, "/admin/users/"+url.PathEscape(c.Param("id"))+"/access", "The links and codes are withdrawn.")
}

func (s *Surface) pageResetLink(c *gin.Context, p models.Principal) error {
	user, err := s.userHere(c)
	if err != nil {
		return err
	}
	what, there, err := s.identity.TakeMade(c.Writer, c.Request, p)
	if err != nil {
		return err
	}
	if !there {
		return s.seeOther(c, "/admin/users/"+url.PathEscape(user.ID), shownBefore("A reset link", "Make another one if you did not pass it on; that one ends then."))
	}
	return s.show(c, p, http.StatusOK, ui.ResetLink{User: user, Code: what.Secret, URL: what.URL, Expires: s.moment(what.Expires), Removed: what.Removed, Stays: what.Stays})
}

func (s *Surface) pageReset(c *gin.Context, _ models.Principal) error {
	return s.show(c, models.Principal{}, http.StatusOK, ui.Reset("", ui.Problems{}))
}

func (s *Surface) formReset(c *gin.Context, _ models.Principal) error {
	if err := s.identity.SameSite(c.Request); err != nil {
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
	user, err := s.identity.ResetPassword(ctx, x.Actor(models.ActorUser, "", ""), in)
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
