package identity

import (
	"context"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"

	"patrol/models"
	"patrol/models/store"
	"patrol/server/request"
)

func unixNano(value any) time.Time {
	n, _ := value.(int64)
	return time.Unix(0, n)
}

// Fresh reports whether the sign-in is recent enough to hand out access.
func (s *Service) Fresh(p models.Principal) bool {
	return s.now().Sub(p.SignedInAt) <= s.cfg.Sessions.FreshFor
}

// FreshAdmin reports whether the sign-in is recent enough to widen anybody's power.
func (s *Service) FreshAdmin(p models.Principal) bool {
	return s.now().Sub(p.SignedInAt) <= s.cfg.Sessions.FreshAdminFor
}

// RequireFresh returns an error unless the sign-in is recent enough to hand out access.
func (s *Service) RequireFresh(p models.Principal) error {
	if s.Fresh(p) {
		return nil
	}
	return ErrStaleForm
}

// RequireFreshAdmin returns an error unless the sign-in is recent enough to widen
// anybody's power.
func (s *Service) RequireFreshAdmin(p models.Principal) error {
	if s.FreshAdmin(p) {
		return nil
	}
	return ErrStaleForm
}

// NoteStale audits that somebody tried with an old sign-in what needs a recent one, as who
// stole a session does. Each act is noted once a minute and session: nobody fills the log by
// trying again.
func (s *Service) NoteStale(ctx context.Context, p models.Principal, what string) {
	if !s.stale.First(s.now(), store.SessionID(s.sessions.scs.Token(ctx))+" "+what) {
		return
	}
	if err := s.store.Audit(ctx, p.Actor, "session.too_old", "user:"+p.User.ID, map[string]string{"for": what}); err != nil {
		s.log.ErrorContext(ctx, "an attempt with an old sign-in could not be audited", "user_id", p.User.ID, "request_id", request.ID(ctx), "error", err)
	}
}

// sessionNotice is the key of the session's data for what the next page says.
const sessionNotice = "notice"

// LeaveNotice keeps a text for the next page. It is a courtesy: if it cannot be
// stored, the page comes without it.
func (s *Service) LeaveNotice(ctx context.Context, text string) {
	s.sessions.scs.Put(ctx, sessionNotice, text)
	if _, _, err := s.sessions.scs.Commit(ctx); err != nil {
		s.log.WarnContext(ctx, "a notice could not be stored", "request_id", request.ID(ctx), "error", err)
	}
}

// TakeNotice returns what the page is to say of what was done before, once.
func (s *Service) TakeNotice(ctx context.Context) string {
	if !s.sessions.scs.Exists(ctx, sessionNotice) {
		return ""
	}
	text := s.sessions.scs.PopString(ctx, sessionNotice)
	if _, _, err := s.sessions.scs.Commit(ctx); err != nil {
		s.log.WarnContext(ctx, "a notice could not be removed", "request_id", request.ID(ctx), "error", err)
	}
	return text
}

// Session is a sign-in of somebody, for its owner to recognise.
type Session struct {
	ID                   string
	Current              bool // that of the request
	Program              bool // the token travels in the Authorization header
	IP, Agent            string
	SignedIn, Seen, Ends time.Time
}

// SessionsOf lists the sessions of p.
func (s *Service) SessionsOf(ctx context.Context, p models.Principal) ([]Session, error) {
	stored, err := s.store.Sessions().ByUser(ctx, p.User.ID)
	if err != nil {
		return nil, err
	}
	current := store.SessionID(s.sessions.scs.Token(ctx))
	sessions := make([]Session, len(stored))
	for i, one := range stored {
		_, values, err := scs.GobCodec{}.Decode(one.Data)
		if err != nil {
			return nil, err
		}
		session := &sessions[i]
		session.ID, session.Current = one.ID, one.ID == current
		session.Program, _ = values[sessionBearer].(bool)
		session.IP, _ = values[sessionIP].(string)
		session.Agent, _ = values[sessionAgent].(string)
		session.SignedIn, session.Seen, session.Ends = unixNano(values[sessionSignedIn]), unixNano(values[sessionSeen]), unixNano(values[sessionEnds])
	}
	return sessions, nil
}

// EndSessions ends a session of p, or with "" all but that of ctx.
func (s *Service) EndSessions(ctx context.Context, p models.Principal, id string) error {
	const how = "owner, from another session"
	if id == "" {
		return s.store.Sessions().DeleteByUser(ctx, p.Actor, p.User.ID, s.sessions.scs.Token(ctx), how)
	}
	return s.store.Sessions().DeleteOne(ctx, p.Actor, p.User.ID, id, how)
}

// EndSessionsOf ends all sessions of somebody else, and codes that would begin one.
func (s *Service) EndSessionsOf(ctx context.Context, p models.Principal, userID string) error {
	if userID == p.User.ID {
		return models.NewError(models.CodeConflict, "these are your own sessions; end them under Profile, Sessions")
	}
	if _, err := s.manage.User(ctx, userID); err != nil {
		return err
	}
	return s.store.Sessions().DeleteByUser(ctx, p.Actor, userID, "", "admin")
}

// IsBearer reports whether the token of the session of ctx travels in the Authorization
// header.
func (s *Service) IsBearer(ctx context.Context) bool { return s.sessions.bearer(ctx) }

// SessionEnds returns the absolute end of the session of ctx.
func (s *Service) SessionEnds(ctx context.Context) time.Time { return s.sessions.ends(ctx) }

// HasCookie reports whether a request has the cookie of a session, good or not.
func (s *Service) HasCookie(r *http.Request) bool { return s.sessions.cookieValue(r) != "" }

// SetCookie hands a browser its session, until ends at most.
func (s *Service) SetCookie(w http.ResponseWriter, token string, ends time.Time) {
	s.sessions.setCookie(w, token, ends)
}

// ClearCookie takes the session from a browser, and what it kept besides. The cookie by which
// it is known to the account stays, as do those of others on the host.
func (s *Service) ClearCookie(w http.ResponseWriter) {
	s.sessions.setCookie(w, "", s.now())
	w.Header().Set("Clear-Site-Data", `"cache", "storage"`)
}

// SetSessionCookie hands a browser the new token of the session of ctx. A program's stays.
func (s *Service) SetSessionCookie(ctx context.Context, w http.ResponseWriter, token string) {
	if !s.sessions.bearer(ctx) {
		s.sessions.setCookie(w, token, s.sessions.ends(ctx))
	}
}

// WelcomeBrowser hands a browser the session that began in it, and makes it known to the user.
func (s *Service) WelcomeBrowser(w http.ResponseWriter, token string, ends time.Time, userID string) error {
	s.sessions.setCookie(w, token, ends)
	return s.knowBrowser(w, userID)
}

// RenewSession gives the session of ctx another token, in the browser's cookie.
func (s *Service) RenewSession(ctx context.Context, w http.ResponseWriter, signedInAt time.Time) error {
	token, err := s.sessions.renew(ctx, signedInAt, store.Beginning{})
	if err != nil {
		return err
	}
	s.sessions.setCookie(w, token, s.sessions.ends(ctx))
	return nil
}

// goOn stores the session of ctx, as recent as it was, in a browser under another token.
func (s *Service) goOn(ctx context.Context, w http.ResponseWriter, p models.Principal) error {
	if !s.sessions.bearer(ctx) {
		return s.RenewSession(ctx, w, p.SignedInAt)
	}
	_, err := s.sessions.stamp(ctx, p.SignedInAt)
	return err
}

// sweepEvery is the time between two removals of ended sessions from the database.
const sweepEvery = 15 * time.Minute

// Sweep removes ended sessions until ctx ends.
func (s *Service) Sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		if err := s.store.Sessions().Sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "ended sessions could not be removed", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
