package identity

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"

	"patrol/models"
	"patrol/models/store"
	"patrol/server/request"
)

// The data of a session, besides the user's id under [store.SessionUserKey].
const (
	sessionSignedIn = "signed_in_at" // Unix nanoseconds of when credentials were last given
	sessionEnds     = "ends_at"      // Unix nanoseconds of the absolute end
	sessionSeen     = "seen_at"      // Unix nanoseconds, as of the last write
	sessionIP       = "ip"           // where the sign-in came from, for its owner to recognise
	sessionAgent    = "user_agent"   // likewise
	sessionBearer   = "bearer"       // true if the token travels in the Authorization header
	sessionProvider = "provider"     // true if it began at the identity provider
	sessionLinking  = "linking"      // hash of the state of a visit to the provider that connects accounts
)

// sessions are the sign-ins of people. Tokens are 256 random bits, stored only
// as hashes. Deadlines are kept here, on the injected clock, and not by scs,
// whose idle timeout would write to the database at every call.
type sessions struct {
	scs     *scs.SessionManager
	cfg     SessionConfig
	now     func() time.Time
	log     *slog.Logger
	cookies cookies
}

func newSessions(backing scs.CtxStore, cfg SessionConfig, cookies cookies, now func() time.Time, log *slog.Logger) *sessions {
	// Not scs.New, which starts a goroutine for a store in memory that it makes.
	manager := &scs.SessionManager{Store: backing, Codec: scs.GobCodec{}, Lifetime: cfg.Lifetime, HashTokenInStore: true}
	return &sessions{scs: manager, cfg: cfg, now: now, log: log, cookies: cookies}
}

// maxSessionToken is more than any session's token has characters.
const maxSessionToken = 128

// sessionStart describes the beginning of a session.
type sessionStart struct {
	bearer     bool      // the token travels in the Authorization header
	provider   bool      // at the identity provider
	signedInAt time.Time // when the credentials were given
	with       store.Beginning
	// there identifies person and session at the identity provider, which can end the session.
	there store.AtProvider
}

// begin starts a session for a user, from where by says, and returns its token and
// absolute end. A session that the client came with is not continued: its token may
// have been planted.
func (s *sessions) begin(ctx context.Context, userID string, by models.Actor, how sessionStart) (token string, ends time.Time, err error) {
	if ctx, err = s.scs.Load(ctx, ""); err != nil {
		return "", time.Time{}, fmt.Errorf("begin a session: %w", err)
	}
	ends = s.now().Add(s.cfg.Lifetime).UTC()
	s.scs.Put(ctx, store.SessionUserKey, userID)
	s.scs.Put(ctx, sessionEnds, ends.UnixNano())
	s.scs.Put(ctx, sessionBearer, how.bearer)
	s.scs.Put(ctx, sessionProvider, how.provider)
	s.bind(ctx, how.there)
	s.scs.Put(ctx, sessionIP, by.IP)
	s.scs.Put(ctx, sessionAgent, by.UserAgent)
	how.with.By = by
	token, err = s.stamp(store.WithBeginning(ctx, how.with), how.signedInAt)
	return token, ends, err
}

// bind ties the session of ctx to one at the identity provider.
func (s *sessions) bind(ctx context.Context, there store.AtProvider) {
	s.scs.Put(ctx, store.SessionSubjectKey, there.Subject)
	s.scs.Put(ctx, store.SessionProviderKey, there.Session)
}

// there returns person and session at the identity provider that the session of ctx began with.
func (s *sessions) there(ctx context.Context) store.AtProvider {
	return store.AtProvider{Subject: s.scs.GetString(ctx, store.SessionSubjectKey), Session: s.scs.GetString(ctx, store.SessionProviderKey)}
}

// stamp notes when the credentials were given, and stores the session.
func (s *sessions) stamp(ctx context.Context, signedInAt time.Time) (token string, err error) {
	s.scs.Put(ctx, sessionSignedIn, signedInAt.UnixNano())
	return s.touch(ctx, s.now())
}

// touch moves the idle deadline and stores the session.
func (s *sessions) touch(ctx context.Context, now time.Time) (token string, err error) {
	s.scs.Put(ctx, sessionSeen, now.UnixNano())
	deadline := now.Add(s.cfg.IdleTimeout)
	if ends := s.ends(ctx); ends.Before(deadline) {
		deadline = ends
	}
	s.scs.SetDeadline(ctx, deadline.UTC())
	if token, _, err = s.scs.Commit(ctx); err != nil {
		return "", fmt.Errorf("store the session: %w", err)
	}
	return token, nil
}

// load returns a context with the session of a token, and CodeUnauthenticated if
// there is none or it is over. A token is good only for the transport that it
// was issued for.
func (s *sessions) load(ctx context.Context, token string, bearer bool) (context.Context, error) {
	if token == "" || len(token) > maxSessionToken {
		return nil, errSignInFirst
	}
	ctx, err := s.scs.Load(ctx, token)
	if err != nil {
		return nil, fmt.Errorf("load the session: %w", err)
	}
	now := s.now()
	seen := s.time(ctx, sessionSeen)
	switch {
	case s.scs.Token(ctx) == "" || s.scs.GetBool(ctx, sessionBearer) != bearer:
		return nil, errSignInFirst
	case !now.Before(s.ends(ctx)) || !now.Before(seen.Add(s.cfg.IdleTimeout)):
		if err := s.scs.Destroy(ctx); err != nil {
			s.log.WarnContext(ctx, "an ended session could not be removed", "request_id", request.ID(ctx), "error", err)
		}
		return nil, errSignInFirst
	}
	// One write in a while is enough to know that a session is in use.
	if now.Sub(seen) >= min(s.cfg.IdleTimeout/20, 5*time.Minute) {
		if _, err := s.touch(ctx, now); err != nil {
			s.log.WarnContext(ctx, "a session's last use could not be stored", "request_id", request.ID(ctx), "error", err)
		}
	}
	return ctx, nil
}

// confirm is renew for credentials that were given just now: if what the session begins anew
// with does not hold, it is as it was, and goes on.
func (s *sessions) confirm(ctx context.Context, signedInAt time.Time, with store.Beginning) (token string, err error) {
	before := s.time(ctx, sessionSignedIn)
	if token, err = s.stamp(store.WithBeginning(ctx, with), signedInAt); err != nil {
		s.scs.Put(ctx, sessionSignedIn, before.UnixNano())
		return "", err
	}
	if s.bearer(ctx) {
		return token, nil
	}
	with.Renews = store.SessionID(s.scs.Token(ctx))
	return s.renew(ctx, signedInAt, with)
}

// renew notes that the credentials were given again, and when, if what it begins anew with
// holds. A session in a cookie gets a new token, which is returned; one of a program keeps its
// own.
func (s *sessions) renew(ctx context.Context, signedInAt time.Time, with store.Beginning) (token string, err error) {
	if !s.bearer(ctx) {
		if err := s.scs.RenewToken(store.WithBeginning(ctx, with)); err != nil {
			return "", fmt.Errorf("renew the session's token: %w", err)
		}
	}
	return s.stamp(store.WithBeginning(ctx, with), signedInAt)
}

// end removes the session from the server.
func (s *sessions) end(ctx context.Context) error {
	if err := s.scs.Destroy(ctx); err != nil {
		return fmt.Errorf("end the session: %w", err)
	}
	return nil
}

// user returns whose the session of ctx is and when credentials were last given.
func (s *sessions) user(ctx context.Context) (id string, signedInAt time.Time) {
	return s.scs.GetString(ctx, store.SessionUserKey), s.time(ctx, sessionSignedIn)
}

// atProvider reports whether the session began at the identity provider, where it is
// also confirmed.
func (s *sessions) atProvider(ctx context.Context) bool { return s.scs.GetBool(ctx, sessionProvider) }

func (s *sessions) bearer(ctx context.Context) bool { return s.scs.GetBool(ctx, sessionBearer) }

func (s *sessions) ends(ctx context.Context) time.Time { return s.time(ctx, sessionEnds).UTC() }

func (s *sessions) time(ctx context.Context, key string) time.Time {
	return time.Unix(0, s.scs.GetInt64(ctx, key))
}

// cookieValue returns the token in the request's session cookie, or "".
func (s *sessions) cookieValue(r *http.Request) string {
	return s.cookies.value(r, s.cookies.name("session"))
}

// setCookie hands a browser its session, until ends at most; "" takes it away.
func (s *sessions) setCookie(w http.ResponseWriter, token string, ends time.Time) {
	s.cookies.set(w, s.cookies.name("session"), token, "/", http.SameSiteLaxMode, ends.Sub(s.now()))
}
