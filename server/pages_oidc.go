package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/request"
	"patrol/server/ui"
)

// oidcCallback is where the provider sends people back to.
const oidcCallback = ui.ProviderPath + "/callback"

// oidcRoutes are the way to the identity provider and back.
var oidcRoutes = []route{
	{method: "GET", path: ui.ProviderPath, by: anyone, page: true, do: (*Server).pageProvider, accepts: accepts{query: []string{"next"}}},
	{method: "GET", path: oidcCallback, by: anyone, page: true, do: (*Server).pageCallback, accepts: accepts{open: true}},
	{method: "GET", path: ui.IdentityPath, by: session, page: true, do: (*Server).pageIdentity},
	{method: "POST", path: ui.IdentityPath, by: session, page: true, do: (*Server).formIdentity, accepts: accepts{form: []string{"action", "password"}}},
}

// signInPage is the sign-in with all ways to do it.
func (s *Server) signInPage(in api.SignIn, next, notice string, problems ui.Problems) ui.Form {
	page := ui.SignIn(in, next, notice, problems)
	if s.provider != nil {
		page.Instead = ui.ProviderLink(s.cfg.OIDC.Name, next)
	}
	return page
}

// flowCookie is the name of the cookie that remembers a visit to the provider.
func (s *Server) flowCookie() string {
	if s.sessions.secure {
		return "__Host-patrol_flow"
	}
	return "patrol_flow"
}

// setFlow hands the browser what it has to bring back; "" takes it away.
func (s *Server) setFlow(w http.ResponseWriter, value string) {
	cookie := &http.Cookie{ //nolint:gosec // over plain HTTP a browser would not keep a Secure cookie
		Name: s.flowCookie(), Value: value, Path: "/",
		HttpOnly: true, Secure: s.sessions.secure, SameSite: http.SameSiteLaxMode, // the way back begins at the provider
		MaxAge: int(flowLife / time.Second),
	}
	if value == "" {
		cookie.MaxAge = -1
	}
	http.SetCookie(w, cookie)
}

// pageProvider leads to the provider to sign in.
func (s *Server) pageProvider(c *gin.Context, _ models.Principal) error {
	if s.provider == nil {
		return errNoOIDC
	}
	next := ui.LocalPath(c.Query("next"))
	f, target, err := s.provider.begin(c.Request.Context(), toSignIn, next, s.cfg.Sessions.FreshFor)
	if err != nil {
		return s.refuseVisit(c, flow{Purpose: toSignIn, Next: next}, err)
	}
	s.setFlow(c.Writer, f.pack())
	return s.seeOther(c, target, "")
}

// askProvider leads somebody whose sign-in is too old to the provider, and back to
// the form filled in as it was sent.
func (s *Server) askProvider(c *gin.Context, p models.Principal) error {
	next := c.Request.URL.Path
	if form, err := s.form(c); err == nil {
		next = ui.Resume(next, form, s.cfg.Limits)
	}
	return s.leadToProvider(c, p, toConfirm, next, ui.WhyConfirm)
}

// leadToProvider answers a form with a page that goes on at the provider.
func (s *Server) leadToProvider(c *gin.Context, p models.Principal, why purpose, next, text string) error {
	ctx := c.Request.Context()
	f, target, err := s.provider.begin(ctx, why, next, s.cfg.Sessions.FreshFor)
	if err != nil {
		return err
	}
	if why == toLink {
		// What connects accounts is bound to the session, not only to the browser: a
		// planted cookie must not connect somebody else's identity.
		s.sessions.scs.Put(ctx, sessionLinking, stateHash(f))
		if _, _, err := s.sessions.scs.Commit(ctx); err != nil {
			return err
		}
	}
	s.setFlow(c.Writer, f.pack())
	return s.show(c, p, http.StatusOK, ui.Continue{Name: s.cfg.OIDC.Name, URL: target, Why: text})
}

func stateHash(f flow) string {
	sum := sha256.Sum256([]byte(f.State))
	return hex.EncodeToString(sum[:])
}

// pageCallback takes whoever comes back from the provider.
func (s *Server) pageCallback(c *gin.Context, _ models.Principal) error {
	if s.provider == nil {
		return errNoOIDC
	}
	var f flow
	if cookie, err := c.Request.Cookie(s.flowCookie()); err == nil {
		f = unpack(cookie.Value)
	}
	s.setFlow(c.Writer, "") // a visit counts once, whatever comes of it
	ctx, x := c.Request.Context(), request.Of(c.Request.Context())
	who, err := s.provider.finish(ctx, f, c.Request.URL.Query(), s.cfg.Sessions.FreshFor, x.Client)
	if err == nil {
		err = s.arrive(c, f, who)
	}
	if err != nil {
		return s.refuseVisit(c, f, err)
	}
	next := f.Next
	if next == "" {
		next = patsPage
	}
	return s.seeOther(c, next, "")
}

// arrive does what a visit was for.
func (s *Server) arrive(c *gin.Context, f flow, who claims) error {
	x := request.Of(c.Request.Context())
	if f.Purpose == toLink {
		p, err := s.admitSession(c)
		if err != nil {
			return err
		}
		ctx := c.Request.Context()
		if s.sessions.scs.PopString(ctx, sessionLinking) != stateHash(f) {
			return errNotSignedIn(messageBegunElsewhere, "the session has not begun to connect accounts with this state")
		}
		if _, _, err := s.sessions.scs.Commit(ctx); err != nil {
			return err
		}
		if err := s.linkBy(ctx, p, who); err != nil {
			return err
		}
		s.leaveNotice(ctx, "Your account is connected with "+s.cfg.OIDC.Name+".")
		return nil
	}
	by := x.Actor(models.ActorUser, "", "")
	user, err := s.signInBy(c.Request.Context(), by, who)
	if err != nil {
		return err
	}
	x.UserID = user.ID
	if f.Purpose == toConfirm {
		p, err := s.admitSession(c)
		if err == nil {
			ctx := c.Request.Context()
			token, err := s.confirmBy(ctx, p, user, who.SignedIn)
			if err == nil {
				s.sessions.setCookie(c.Writer, token, s.sessions.ends(ctx))
			}
			return err
		}
		if models.CodeOf(err) != models.CodeUnauthenticated {
			return err
		}
		// The session ended meanwhile: it is a sign-in like any other.
	}
	token, ends, err := s.beginBy(c.Request.Context(), by, user, who.SignedIn)
	if err != nil {
		return err
	}
	s.sessions.setCookie(c.Writer, token, ends)
	return nil
}

// refuseVisit says why a visit to the provider came to nothing, where the visitor
// can try again.
func (s *Server) refuseVisit(c *gin.Context, f flow, err error) error {
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
		s.logRefusal(ctx, err)
	}
	switch f.Purpose {
	case toConfirm, toLink:
		back := f.Next
		if back == "" {
			back = patsPage
		}
		page := ui.Message{Heading: "That did not work", Lines: []string{problems.General}, Link: back, Label: "Back"}
		return s.again(c, models.Principal{}, err, page)
	}
	return s.again(c, models.Principal{}, err, s.signInPage(emptySignIn, f.Next, "", problems))
}

// identityPage is what p may know of their connection with the provider.
func (s *Server) identityPage(c *gin.Context, p models.Principal) (ui.Identity, error) {
	page := ui.Identity{Name: s.cfg.OIDC.Name, HasPassword: p.User.PasswordHash != "", AskPassword: !s.fresh(p)}
	identities, err := s.store.Identities(c.Request.Context(), p.User.ID)
	for _, one := range identities {
		if one.Issuer == s.cfg.OIDC.Issuer {
			since := s.moment(one.CreatedAt)
			page.Since = &since
		}
	}
	return page, err
}

func (s *Server) pageIdentity(c *gin.Context, p models.Principal) error {
	if s.provider == nil {
		return errNoOIDC
	}
	page, err := s.identityPage(c, p)
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, page)
}

// formIdentity connects an account with the provider, or ends that. Either is a way
// in for good, so it takes a recent sign-in.
func (s *Server) formIdentity(c *gin.Context, p models.Principal) error {
	if s.provider == nil {
		return errNoOIDC
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
	ok, problems, err := s.confirm(c, p, form.Get("password"))
	if err != nil {
		return err
	}
	if !ok {
		page.AskPassword, page.Problems = true, problems
		return s.again(c, p, nil, page)
	}
	ctx := c.Request.Context()
	if action == "connect" {
		return s.leadToProvider(c, p, toLink, ui.IdentityPath, ui.WhyConnect)
	}
	if err := s.store.UnlinkIdentity(ctx, p.Actor, p.User.ID, s.cfg.OIDC.Issuer); err != nil {
		return err
	}
	// All sessions have ended; this one goes on, under another token and the password.
	s.sessions.scs.Put(ctx, sessionProvider, false)
	token, err := s.sessions.renew(ctx, p.SignedInAt)
	if err != nil {
		return err
	}
	s.sessions.setCookie(c.Writer, token, s.sessions.ends(ctx))
	return s.seeOther(c, ui.IdentityPath, "The connection has ended. Sign in with your password from now on.")
}
