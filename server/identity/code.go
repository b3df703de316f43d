package identity

import (
	"context"
	"time"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

// sessionCodeLife is the lifetime of a code.
const sessionCodeLife = 5 * time.Minute

var errSessionCode = models.NewError(models.CodeBadCredentials, "this code is not valid, or not any more; get a new one")

// SessionCode makes a code that signs a program in as p, once, soon, and no more
// recently than p is. It is tied to the session at the identity provider that ctx's is.
func (s *Service) SessionCode(ctx context.Context, p models.Principal) (models.OneTimeCode, time.Time, error) {
	code, err := models.NewOneTimeCode(s.random)
	if err != nil {
		return models.OneTimeCode{}, time.Time{}, err
	}
	expires := s.now().Add(sessionCodeLife)
	return code, expires, s.store.CreateSessionCode(ctx, p.Actor, p.User.ID, code.Hash(), p.SignedInAt, expires, s.sessions.there(ctx))
}

// signInByCode begins the session of a program by a code of [Service.SessionCode]. Wrong
// ones are not counted; see [Service.ResetPassword].
func (s *Service) signInByCode(ctx context.Context, by models.Actor, in api.SignIn) (user models.User, token string, ends time.Time, err error) {
	var v models.Invalid
	if in.Email != "" {
		v.Add("email", "must not be given with a code")
	}
	if in.Password != "" {
		v.Add("password", "must not be given with a code")
	}
	if in.Transport != TransportBearer {
		v.Add("transport", "must be bearer with a code, which is for programs")
	}
	if err := v.Err(); err != nil {
		return user, "", ends, err
	}
	hash := models.ReadOneTimeCode(in.Code).Hash()
	// A wrong code is told without a place among the writers, which strangers would take from others.
	user, signedInAt, there, err := s.store.SessionCode(ctx, hash)
	if err == nil {
		start := sessionStart{bearer: true, signedInAt: signedInAt, there: there, with: store.Beginning{Code: hash}}
		token, ends, err = s.sessions.begin(ctx, user.ID, by, start)
	}
	switch models.CodeOf(err) {
	case "":
	case models.CodeNotFound: // used or ended in the meantime, too
		s.countSignIn("refused")
		return user, "", ends, errSessionCode
	default:
		return user, "", ends, err
	}
	s.countSignIn("accepted")
	by.UserID = user.ID
	// If this fails, the session is there, but its token has been told to nobody.
	err = s.store.Audit(ctx, by, "session.create", "user:"+user.ID, map[string]string{"transport": TransportBearer, "by": "code"})
	return user, token, ends, err
}
