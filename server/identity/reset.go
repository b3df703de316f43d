package identity

import (
	"context"
	"io"
	"time"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

// NewReset makes a code with which a user can choose a new password once, before
// it expires, in place of an earlier one. page is the URL of the page that takes
// the code. A disabled user is CodeConflict. What is to be removed is removed at once.
// The answer is the only place where the code is told.
func NewReset(ctx context.Context, to *store.Store, by models.Actor, userID, page string, remove models.Removal, random io.Reader, expires time.Time) (api.PasswordReset, error) {
	code, err := models.NewOneTimeCode(random)
	if err != nil {
		return api.PasswordReset{}, err
	}
	removed, stays, err := to.CreateResetCode(ctx, by, userID, code.Hash(), expires, remove)
	if err != nil {
		return api.PasswordReset{}, err
	}
	return api.PasswordReset{Code: code.Reveal(), URL: page + "#" + code.Reveal(), ExpiresAt: expires.UTC(), Removed: removed, Stays: stays}, nil
}

// NewReset makes a reset code for a user. Nobody makes one for themselves: who
// stole a session could keep the account by it. page is the URL of the page
// that takes the code.
func (s *Service) NewReset(ctx context.Context, p models.Principal, userID, page string, remove models.Removal) (api.PasswordReset, error) {
	if userID == p.User.ID {
		return api.PasswordReset{}, models.NewError(models.CodeConflict,
			"you cannot reset your own password; change it under Profile, Password, or ask another admin")
	}
	return NewReset(ctx, s.store, p.Actor, userID, page, remove, s.random, s.now().Add(s.cfg.Login.ResetValidFor))
}

// errResetCode is the one answer to every code that is no good: it does not tell
// whether there ever was such a code, or what became of it.
var errResetCode = models.NewError(models.CodeForbidden, "this code is not valid, or not any more; ask an administrator for a new one")

// ResetPassword gives the user whom a code was made for a new password, and ends
// all sessions of the user. by has the origin of the request. Wrong codes are not
// counted: with so many random bits guessing is hopeless, one costs a look-up, and
// strangers must not be able to keep others out.
func (s *Service) ResetPassword(ctx context.Context, by models.Actor, in api.ResetPassword) (models.User, error) {
	code := models.ReadOneTimeCode(in.Code)
	var v models.Invalid
	if code == (models.OneTimeCode{}) {
		v.Add("code", "is required")
	}
	models.ValidatePassword("password", in.Password, "", &v)
	if err := v.Err(); err != nil {
		return models.User{}, err
	}
	user, err := s.store.ResetCodeUser(ctx, code.Hash())
	if err != nil {
		return models.User{}, err
	}
	if user == nil {
		return models.User{}, errResetCode
	}
	models.ValidatePassword("password", in.Password, user.Email, &v)
	if err := v.Err(); err != nil {
		return models.User{}, err
	}
	hash, err := s.passwords.Hash(ctx, in.Password)
	if err != nil {
		return models.User{}, err
	}
	changed, err := s.store.ResetPassword(ctx, by, code.Hash(), hash)
	if models.CodeOf(err) == models.CodeNotFound { // used or ended in the meantime
		return models.User{}, errResetCode
	}
	return changed, err
}
