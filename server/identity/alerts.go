package identity

import (
	"context"
	"strings"
	"time"

	"patrol/models"
	"patrol/server/request"
)

// The owner of an account is told of ways in that came or went: every session is, once, for a
// while, so that whoever did it in a stolen session cannot keep it from them.

const (
	sessionTold = "told" // Unix nanoseconds of what the session was told last; 0: of nothing yet
	// tellFor is the maximum age of an event that a new session is told of.
	tellFor = 14 * 24 * time.Hour
)

// told has the audit events that owners are told of, in their words.
var told = map[string]string{
	"identity.link":   "was connected with",
	"identity.unlink": "was disconnected from",
}

// Alerts returns what the session of ctx, which is p's, is told of, once; "" for nothing. If it
// cannot be read, it is told with the next page.
func (s *Service) Alerts(ctx context.Context, p models.Principal) string {
	now := s.now()
	last := time.Unix(0, s.sessions.scs.GetInt64(ctx, sessionTold))
	if s.sessions.scs.Exists(ctx, sessionTold) {
		// The change that took away a way to sign in ended this session: another may have come.
		identities, err := s.store.Identities(ctx, p.User.ID)
		fresh := false
		for _, one := range identities {
			fresh = fresh || one.CreatedAt.After(last)
		}
		if err != nil || !fresh {
			return ""
		}
	} else {
		last = now.Add(-tellFor)
	}
	events, err := s.store.AccountEvents(ctx, p.User.ID, last, "identity.link", "identity.unlink")
	if err == nil {
		err = s.tell(ctx, now)
	}
	if err != nil {
		s.log.WarnContext(ctx, "what happened to an account could not be told to its owner", "request_id", request.ID(ctx), "error", err)
		return ""
	}
	var lines []string
	for _, e := range events {
		if e.Actor.Kind == models.ActorSystem { // with the account, or as the provider's groups say
			continue
		}
		line := "Your account " + told[e.Action] + " " + e.Detail["issuer"] + " on " + e.At.Format("2 January 2006, 15:04 UTC")
		if e.Actor.IP != "" {
			line += ", from " + e.Actor.IP
		}
		lines = append(lines, line+".")
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(append(lines, "If that was not you, look at your identities under Profile, Password, and change your password."), " ")
}

// tell notes that the session of ctx knows what happened until now.
func (s *Service) tell(ctx context.Context, now time.Time) error {
	s.sessions.scs.Put(ctx, sessionTold, now.UnixNano())
	_, _, err := s.sessions.scs.Commit(ctx)
	return err
}
