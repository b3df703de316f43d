package identity

import (
	"context"
	"io"
	"net/http"
	"time"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

// NewEmailChange makes a code with which the owner of an account confirms another address once,
// before it expires, in place of an earlier one. page is the URL of the page that takes the
// code. The answer is the only place where the code is told. See
// docs/decisions/0039-a-new-address.md.
func NewEmailChange(ctx context.Context, to *store.Store, by models.Actor, userID, email, page string, random io.Reader, expires time.Time) (api.EmailChange, error) {
	email = models.NormalizeEmail(email)
	var v models.Invalid
	models.ValidateEmail("email", email, &v)
	if err := v.Err(); err != nil {
		return api.EmailChange{}, err
	}
	code, err := models.NewOneTimeCode(random)
	if err != nil {
		return api.EmailChange{}, err
	}
	if err := to.CreateEmailCode(ctx, by, userID, email, code.Hash(), expires); err != nil {
		return api.EmailChange{}, err
	}
	return api.EmailChange{Email: email, Code: code.Reveal(), URL: page + "#" + code.Reveal(), ExpiresAt: expires.UTC()}, nil
}

// NewEmailChange makes a code for another address of a user. Nobody makes one for themselves:
// an address that only its owner vouches for proves nothing, and policies may judge by it.
func (s *Service) NewEmailChange(ctx context.Context, p models.Principal, userID, email, page string) (api.EmailChange, error) {
	if userID == p.User.ID {
		return api.EmailChange{}, models.NewError(models.CodeConflict, "you cannot change your own address; ask another admin, or use 'patrol user email-link' at the server's shell")
	}
	return NewEmailChange(ctx, s.store, p.Actor, userID, email, page, s.random, s.now().Add(s.cfg.Login.ResetValidFor))
}

// ConfirmEmail gives p the address that a code is for. All other sessions of p end; the one of
// ctx goes on, in a browser under another token.
func (s *Service) ConfirmEmail(ctx context.Context, w http.ResponseWriter, p models.Principal, in api.ConfirmEmail) (models.User, error) {
	code := models.ReadOneTimeCode(in.Code)
	if code == (models.OneTimeCode{}) {
		var v models.Invalid
		v.Add("code", "is required")
		return models.User{}, v.Err()
	}
	user, err := s.store.ChangeEmail(ctx, p.Actor, p.User.ID, code.Hash(), s.sessions.scs.Token(ctx))
	if models.CodeOf(err) == models.CodeNotFound {
		return models.User{}, errResetCode
	}
	if err != nil {
		return models.User{}, err
	}
	return user, s.goOn(ctx, w, p)
}
