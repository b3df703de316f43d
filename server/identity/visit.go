package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"time"

	"patrol/models"
	"patrol/server/request"
)

// flowCookie is the name of the cookie that remembers a visit to the provider.
func (s *Service) flowCookie() string {
	if s.sessions.secure {
		return "__Host-patrol_flow"
	}
	return "patrol_flow"
}

// setFlow hands the browser what it has to bring back; "" takes it away.
func (s *Service) setFlow(w http.ResponseWriter, value string) {
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

// EndVisit takes somebody who comes back from the provider, and does what the visit was for.
func (s *Service) EndVisit(w http.ResponseWriter, r *http.Request) (Flow, error) {
	var f Flow
	if cookie, err := r.Cookie(s.flowCookie()); err == nil {
		f = unpack(cookie.Value)
	}
	s.setFlow(w, "") // a visit counts once, whatever comes of it
	ctx, x := r.Context(), request.Of(r.Context())
	who, err := s.provider.finish(ctx, f, r.URL.Query(), s.cfg.Sessions.FreshFor, x.Client)
	if err == nil {
		err = s.arrive(w, r, f, who)
	}
	return f, err
}

// arrive does what a visit was for.
func (s *Service) arrive(w http.ResponseWriter, r *http.Request, f Flow, who claims) error {
	if f.Purpose == ToLink {
		p, signedIn, err := s.AdmitSession(w, r)
		if err != nil {
			return err
		}
		return s.arriveToLink(signedIn, p, f, who)
	}
	x := request.Of(r.Context())
	by := x.Actor(models.ActorUser, "", "")
	user, err := s.signInBy(r.Context(), by, who)
	if err != nil {
		return err
	}
	x.UserID = user.ID
	if f.Purpose == ToConfirm {
		p, signedIn, err := s.AdmitSession(w, r)
		if err == nil {
			return s.arriveToConfirm(w, signedIn, p, user, who)
		}
		if models.CodeOf(err) != models.CodeUnauthenticated {
			return err
		}
		// The session ended meanwhile: it is a sign-in like any other.
	}
	token, ends, err := s.beginBy(r.Context(), by, user, who.SignedIn)
	if err != nil {
		return err
	}
	s.sessions.setCookie(w, token, ends)
	return nil
}

// arriveToLink connects the account of the session of r with the provider.
func (s *Service) arriveToLink(r *http.Request, p models.Principal, f Flow, who claims) error {
	ctx := r.Context()
	if s.sessions.scs.PopString(ctx, sessionLinking) != stateHash(f) {
		return errNotSignedIn(messageBegunElsewhere, "the session has not begun to connect accounts with this state")
	}
	if _, _, err := s.sessions.scs.Commit(ctx); err != nil {
		return err
	}
	if err := s.linkBy(ctx, p, who); err != nil {
		return err
	}
	s.LeaveNotice(ctx, "Your account is connected with "+s.cfg.OIDC.Name+".")
	return nil
}

// arriveToConfirm makes the session of r as recent as the sign-in at the provider.
func (s *Service) arriveToConfirm(w http.ResponseWriter, r *http.Request, p models.Principal, user models.User, who claims) error {
	ctx := r.Context()
	token, err := s.confirmBy(ctx, p, user, who.SignedIn)
	if err == nil {
		s.sessions.setCookie(w, token, s.sessions.ends(ctx))
	}
	return err
}

// BeginVisit starts a visit to the provider and returns the address to send the browser to,
// which is handed what it has to bring back.
func (s *Service) BeginVisit(ctx context.Context, w http.ResponseWriter, why Purpose, next string) (target string, err error) {
	f, target, err := s.provider.begin(ctx, why, next, s.cfg.Sessions.FreshFor)
	if err != nil {
		return "", err
	}
	if why == ToLink {
		// What connects accounts is bound to the session, not only to the browser: a
		// planted cookie must not connect somebody else's identity.
		s.sessions.scs.Put(ctx, sessionLinking, stateHash(f))
		if _, _, err := s.sessions.scs.Commit(ctx); err != nil {
			return "", err
		}
	}
	s.setFlow(w, f.pack())
	return target, nil
}

func stateHash(f Flow) string {
	sum := sha256.Sum256([]byte(f.State))
	return hex.EncodeToString(sum[:])
}

// HasProvider reports whether people can sign in at an identity provider.
func (s *Service) HasProvider() bool { return s.provider != nil }

// LogoutURL is the address at which one signs out of the provider itself, "" if that is not
// known. The provider leads to back afterwards.
func (s *Service) LogoutURL(back string) string { return s.provider.logoutURL(back) }

// ConnectedSince returns since when p is connected with the provider, nil if p is not.
func (s *Service) ConnectedSince(ctx context.Context, p models.Principal) (since *time.Time, err error) {
	identities, err := s.store.Identities(ctx, p.User.ID)
	for _, one := range identities {
		if one.Issuer == s.cfg.OIDC.Issuer {
			since = &one.CreatedAt
		}
	}
	return since, err
}

// Disconnect ends the connection of p with the provider, and all sessions but that of ctx,
// which goes on under another token and the password.
func (s *Service) Disconnect(ctx context.Context, w http.ResponseWriter, p models.Principal) error {
	if err := s.store.UnlinkIdentity(ctx, p.Actor, p.User.ID, s.cfg.OIDC.Issuer); err != nil {
		return err
	}
	s.sessions.scs.Put(ctx, sessionProvider, false)
	return s.RenewSession(ctx, w, p.SignedInAt)
}
