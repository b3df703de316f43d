package identity

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"patrol/models"
	"patrol/models/store"
	"patrol/server/request"
	"patrol/server/window"
)

// The identity provider says that a session there is over (OpenID Connect Back-Channel Logout
// 1.0), and the sessions that began in it end here. Tokens stay: whose they are is judged at
// each call.

const (
	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
	// logoutAge is the greatest age of a message that is accepted.
	logoutAge = 10 * time.Minute
	// maxLogoutToken bounds the message.
	maxLogoutToken = 32 << 10
)

// errLogout is a message that is no good; why is for the log and for the provider's operator.
func errLogout(why string) error {
	return models.WrapError(models.CodeInvalid, "the logout token is not valid: "+why, errors.New(why))
}

// EndedElsewhere obeys a logout token. by has the origin of the request. CodeInvalid says what
// is wrong with the token; a session that is not there is none that has to be ended. What is
// refused is in the audit log once a minute, so that strangers cannot fill it.
func (s *Service) EndedElsewhere(ctx context.Context, by models.Actor, tokens []string) error {
	by.Kind, by.UserID = models.ActorSystem, ""
	from := request.Of(ctx).Client
	if wait := s.provider.refusing(s.provider.logouts, from); wait > 0 {
		return window.TooSoon(wait, "too many logout tokens from your address were refused")
	}
	err := s.endElsewhere(ctx, by, tokens)
	if models.CodeOf(err) == models.CodeInvalid {
		s.provider.countRefused(s.provider.logouts, from)
		if s.stale.First(s.now(), "logout token") {
			s.log.WarnContext(ctx, "a logout token was refused", "cause", err.Error(), "request_id", request.ID(ctx))
			if err := s.store.Audit(ctx, by, "session.logout_refuse", "provider:"+s.cfg.OIDC.Issuer, map[string]string{"reason": err.Error()}); err != nil {
				return err
			}
		}
	}
	return err
}

func (s *Service) endElsewhere(ctx context.Context, by models.Actor, tokens []string) error {
	if len(tokens) != 1 || tokens[0] == "" || len(tokens[0]) > maxLogoutToken {
		return errLogout("there must be one, of a sensible size")
	}
	in, err := s.provider.judgeLogout(ctx, tokens[0])
	if err != nil {
		return err
	}
	_, err = s.store.EndAtProvider(ctx, by, in)
	if models.CodeOf(err) == models.CodeTaken {
		return errLogout("it was used before (jti)")
	}
	return err
}

// judgeLogout judges a logout token (§2.6), and returns which sessions end.
func (p *provider) judgeLogout(ctx context.Context, raw string) (store.Logout, error) {
	if err := headerSays(raw, "logout+jwt"); err != nil {
		return store.Logout{}, errLogout(err.Error())
	}
	found, err := p.discover(ctx)
	if err != nil {
		return store.Logout{}, err
	}
	token, err := found.verifier.Verify(p.context(ctx), raw)
	if err != nil {
		return store.Logout{}, errLogout("signature, iss or aud is wrong")
	}
	said, err := claimsOf(token)
	if err != nil {
		return store.Logout{}, errLogout(err.Error())
	}
	now := p.now()
	issued, expires := number(said["iat"]), number(said["exp"])
	var events map[string]json.RawMessage
	var event map[string]json.RawMessage
	if json.Unmarshal(said["events"], &events) == nil {
		_ = json.Unmarshal(events[logoutEvent], &event) // nil: it is no object
	}
	jti, sid, subject := text(said["jti"]), sidOf(said["sid"]), ""
	switch {
	case said["nonce"] != nil:
		return store.Logout{}, errLogout("it has a nonce, which only ID tokens have")
	case event == nil:
		return store.Logout{}, errLogout("events does not have " + logoutEvent)
	case issued <= 0 || issued > float64(now.Add(oidcSkew).Unix()) || issued < float64(now.Add(-logoutAge-oidcSkew).Unix()):
		return store.Logout{}, errLogout("iat is missing, in the future or too long ago")
	case expires <= 0 || expires <= float64(now.Add(-oidcSkew).Unix()):
		return store.Logout{}, errLogout("exp is missing or over")
	case said["nbf"] != nil && (number(said["nbf"]) <= 0 || number(said["nbf"]) > float64(now.Add(oidcSkew).Unix())):
		return store.Logout{}, errLogout("nbf is in the future")
	case jti == "" || len(jti) > 255:
		return store.Logout{}, errLogout("jti is missing")
	case said["sid"] != nil && sid == "":
		return store.Logout{}, errLogout("sid is not the id of a session")
	case said["sub"] == nil && said["sid"] == nil:
		return store.Logout{}, errLogout("it has neither sub nor sid")
	}
	if said["sub"] != nil {
		var ok bool
		if subject, ok = subjectOf(said["sub"]); !ok {
			return store.Logout{}, errLogout("sub is no usable subject")
		}
	}
	return store.Logout{
		AtProvider: p.there(subject, sid), Token: hashOf("logout token", p.cfg.Issuer, jti), Expires: now.Add(2*logoutAge + 2*oidcSkew),
	}, nil
}

// sidOf reads the id of a session at the provider, "" for anything that is none.
func sidOf(raw json.RawMessage) string {
	if sid, ok := subjectOf(raw); ok {
		return sid
	}
	return ""
}

// there names a person and a session at the provider; "" for none.
func (p *provider) there(subject, sid string) (at store.AtProvider) {
	if subject != "" {
		at.Subject = hashOf("subject", p.cfg.Issuer, subject)
	}
	if sid != "" {
		at.Session = hashOf("session", p.cfg.Issuer, sid)
	}
	return at
}

// hashOf is a hash of texts of which each has its own place.
func hashOf(texts ...string) string {
	plain, err := json.Marshal(texts)
	if err != nil {
		panic(err) // strings can be marshalled
	}
	sum := sha256.Sum256(plain)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
