package identity

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"time"

	"patrol/models"
	"patrol/models/store"
	"patrol/server/request"
)

// A visit to the provider is kept by the browser, in a cookie of its own for each, so that one
// that was begun in another tab does not end it.

// Bounds of what a browser keeps of visits that are under way. Beyond them the oldest is
// forgotten: requests must fit through proxies.
const (
	maxFlows     = 5
	maxFlowBytes = 6000
)

func (s *Service) flowPrefix() string { return s.cookies.name("flow") + "_" }

// flowCookie is the name of the cookie of the visit with a state. The state itself is in the
// value.
func (s *Service) flowCookie(state string) string {
	sum := sha256.Sum256([]byte("flow " + state))
	return s.flowPrefix() + hex.EncodeToString(sum[:8])
}

// setFlow hands the browser what it has to bring back, under the name; "" takes it away.
func (s *Service) setFlow(w http.ResponseWriter, name, value string) {
	// Lax: the way back begins at the provider.
	s.cookies.set(w, name, value, "/", http.SameSiteLaxMode, flowLife)
}

// keepFlow hands the browser a visit, and has it forget the oldest ones that there is no room for.
func (s *Service) keepFlow(w http.ResponseWriter, r *http.Request, f Flow) {
	packed := f.pack()
	there := s.cookies.under(r, s.flowPrefix())
	slices.SortStableFunc(there, func(a, b *http.Cookie) int { return cmp.Compare(unpack(b.Value).Begun, unpack(a.Value).Begun) })
	n, size := 1, len(packed)
	for _, cookie := range there {
		n, size = n+1, size+len(cookie.Value)
		if n > maxFlows || size > maxFlowBytes || s.now().Unix()-unpack(cookie.Value).Begun > int64(flowLife/time.Second) {
			s.setFlow(w, cookie.Name, "")
		}
	}
	s.setFlow(w, s.flowCookie(f.State), packed)
}

// EndVisit takes somebody who comes back from the provider, and does what the visit was for.
// Whoever only looks at the headers takes nothing. The visit counts once, whatever comes of
// it; an answer that no visit asked for ends none.
func (s *Service) EndVisit(w http.ResponseWriter, r *http.Request) (Flow, error) {
	var f Flow
	state := r.URL.Query().Get("state")
	name := s.flowCookie(state)
	if value := s.cookies.value(r, name); state != "" && value != "" {
		if f = unpack(value); f.State == state {
			s.setFlow(w, name, "")
		} else {
			f = Flow{}
		}
	}
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
	if err := s.Replace(r, by); err != nil {
		return err
	}
	token, ends, err := s.beginBy(r.Context(), by, user, who)
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
	if err := s.tell(ctx, s.now()); err != nil { // the notice says it
		return err
	}
	s.LeaveNotice(ctx, "Your account is connected with "+s.cfg.OIDC.Name+".")
	return nil
}

// arriveToConfirm makes the session of r as recent as the sign-in at the provider.
func (s *Service) arriveToConfirm(w http.ResponseWriter, r *http.Request, p models.Principal, user models.User, who claims) error {
	ctx := r.Context()
	token, err := s.confirmBy(ctx, p, user, who)
	if err == nil {
		s.sessions.setCookie(w, token, s.sessions.ends(ctx))
	}
	return err
}

// BeginVisit starts a visit to the provider and returns the address to send the browser to,
// which is handed what it has to bring back.
func (s *Service) BeginVisit(w http.ResponseWriter, r *http.Request, why Purpose, next string) (target string, err error) {
	ctx := r.Context()
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
	s.keepFlow(w, r, f)
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

// Identities lists who a user is at providers.
func (s *Service) Identities(ctx context.Context, userID string) ([]models.Identity, error) {
	return s.store.Identities(ctx, userID)
}

// DisconnectIdentity ends a connection of a user with a provider, by its id, and the user's
// sessions, but that of ctx. An admin may take the only way in, and makes a reset link then;
// its owner may not.
func (s *Service) DisconnectIdentity(ctx context.Context, p models.Principal, userID, id string) error {
	identities, err := s.store.Identities(ctx, userID)
	if err != nil {
		return err
	}
	own, spare := userID == p.User.ID, ""
	if own {
		spare = s.sessions.scs.Token(ctx)
	}
	for _, one := range identities {
		if one.ID() == id {
			return s.store.UnlinkIdentity(ctx, p.Actor, userID, one.Issuer, !own, spare)
		}
	}
	return ErrNoIdentity
}

// ErrNoIdentity is the error where an account has no such identity.
var ErrNoIdentity = models.NewError(models.CodeNotFound, "there is no such identity")

// DisconnectOwn ends a connection of p with a provider, and all sessions but that of ctx,
// which goes on, in a browser under another token.
func (s *Service) DisconnectOwn(ctx context.Context, w http.ResponseWriter, p models.Principal, id string) error {
	if err := s.DisconnectIdentity(ctx, p, p.User.ID, id); err != nil {
		return err
	}
	s.sessions.scs.Put(ctx, sessionProvider, false)
	s.sessions.bind(ctx, store.AtProvider{})
	s.sessions.scs.Put(ctx, sessionTold, s.now().UnixNano())
	return s.goOn(ctx, w, p)
}

// Disconnect is [Service.DisconnectOwn] of the identity at the provider of the settings.
func (s *Service) Disconnect(ctx context.Context, w http.ResponseWriter, p models.Principal) error {
	identities, err := s.store.Identities(ctx, p.User.ID)
	if err != nil {
		return err
	}
	for _, one := range identities {
		if one.Issuer == s.cfg.OIDC.Issuer {
			return s.DisconnectOwn(ctx, w, p, one.ID())
		}
	}
	return ErrNoIdentity
}
