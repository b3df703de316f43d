package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
	"patrol/server/request"
)

// errBadPassword is the one answer to every failed sign-in: it does not tell
// whether the account exists, has a password or is disabled.
var errBadPassword = models.NewError(models.CodeBadCredentials, "the email address and password do not match an account that may sign in")

// SignIn checks an email address and a password, or a code of [Service.SessionCode],
// and begins a session. by is
// where the request comes from. The token is for the cookie, or with transport
// "bearer" for the answer's body.
func (s *Service) SignIn(ctx context.Context, by models.Actor, in api.SignIn) (user models.User, token string, ends time.Time, err error) {
	if in.Code != "" {
		return s.signInByCode(ctx, by, in)
	}
	var v models.Invalid
	email := models.NormalizeEmail(in.Email)
	if email == "" {
		v.Add("email", "is required")
	}
	if in.Password == "" {
		v.Add("password", "is required")
	}
	if in.Transport != "" && in.Transport != transportCookie && in.Transport != TransportBearer {
		v.Add("transport", "must be cookie or bearer")
	}
	if err := v.Err(); err != nil {
		return user, "", ends, err
	}
	bearer := in.Transport == TransportBearer
	user, token, ends, err = s.signInByPassword(ctx, by, email, in.Password, bearer)
	if models.CodeOf(err) == models.CodeConflict { // the account was changed while its password was checked
		user, token, ends, err = s.signInByPassword(ctx, by, email, in.Password, bearer)
	}
	if models.CodeOf(err) == models.CodeConflict {
		err = errBadPassword
	}
	if err != nil {
		return models.User{}, "", ends, err
	}
	by.UserID = user.ID
	detail := map[string]string{"transport": transportCookie}
	if bearer {
		detail["transport"] = TransportBearer
	}
	// If this fails, the session is there, but its token has been told to nobody.
	err = s.store.Audit(ctx, by, "session.create", "user:"+user.ID, detail)
	return user, token, ends, err
}

// signInByPassword begins a session of the account of an address, if the password is right and
// the account is as it was when the password was checked; else it is CodeConflict.
func (s *Service) signInByPassword(ctx context.Context, by models.Actor, email, password string, bearer bool) (user models.User, token string, ends time.Time, err error) {
	account, err := s.store.UserByEmail(ctx, email)
	if err != nil {
		return user, "", ends, err
	}
	if account == nil {
		account = &models.User{Email: email}
	}
	outdated, err := s.checkPassword(ctx, by, *account, password, s.knownBrowser(request.Of(ctx).RequestHeader, account.ID))
	if err != nil {
		return user, "", ends, err
	}
	token, ends, err = s.sessions.begin(ctx, account.ID, by, sessionStart{bearer: bearer, signedInAt: s.now(), with: store.Beginning{PasswordHash: account.PasswordHash}})
	if err == nil && outdated {
		s.rehash(ctx, by, *account, password)
	}
	return *account, token, ends, err
}

// The transports of a session token.
const (
	transportCookie = "cookie"
	TransportBearer = "bearer"
)

// checkPassword returns nil if password is account's and account may sign in. An
// account without an id is one that does not exist. Attempts are counted per
// account and address; wrong ones at existing accounts are audited, others only
// counted, so that nobody can fill the audit log with invented names. known is what
// the account knows the sender by, "" for nothing. outdated says that the stored hash
// should be made anew.
//
// In a network that is over its limit a password is still checked if the account
// exists, and every failure is told to wait, after a time that does not say whether
// there was anything to check.
func (s *Service) checkPassword(ctx context.Context, by models.Actor, account models.User, password, known string) (outdated bool, err error) {
	mask := time.NewTimer(maskFor)
	defer mask.Stop()
	client := request.Of(ctx).Client
	try, later, err := s.attempts.begin(guess{
		account: account.Email, exists: account.ID != "", from: client, known: known,
		session: func() bool { return s.hasSessionFrom(ctx, account.ID, by) },
	})
	if err != nil {
		s.countSignIn("throttled")
		if later {
			awaitMask(ctx, mask)
		}
		return false, err
	}
	match, outdated, err := s.passwords.Verify(ctx, password, account.PasswordHash, try.lane(), request.Network(client))
	if err != nil {
		try.finish(untried)
		if try.masked > 0 && errors.Is(err, errBusyHashing) {
			awaitMask(ctx, mask)
			return false, tooMany(try.masked)
		}
		return false, err
	}
	if match && !account.Disabled {
		try.finish(right)
		s.countSignIn("accepted")
		return outdated, nil
	}
	try.finish(wrong)
	s.countSignIn("refused")
	if account.ID != "" {
		reason := "wrong password"
		if match {
			reason = "disabled"
		}
		s.noteRefusal(ctx, by, account.ID, reason)
	}
	if try.masked > 0 {
		awaitMask(ctx, mask)
		return false, tooMany(try.masked)
	}
	return false, errBadPassword
}

// maskFor is the duration of a failure in a network that is over its limit: longer than
// a password hash that did not have to wait.
const maskFor = 300 * time.Millisecond

func awaitMask(ctx context.Context, mask *time.Timer) {
	select {
	case <-mask.C:
	case <-ctx.Done():
	}
}

// knownSession identifies the session of ctx to its account.
func (s *Service) knownSession(ctx context.Context) string {
	return "session " + store.SessionID(s.sessions.scs.Token(ctx))
}

// noteRefusal audits a failed sign-in without holding up its answer, which must
// not take longer, or fail in another way, where the account exists.
func (s *Service) noteRefusal(ctx context.Context, by models.Actor, userID, reason string) {
	ctx = context.WithoutCancel(ctx)
	s.notes.Go(func() {
		if err := s.store.Audit(ctx, by, "session.refuse", "user:"+userID, map[string]string{"reason": reason}); err != nil {
			s.log.ErrorContext(ctx, "a failed sign-in could not be audited",
				"user_id", userID, "reason", reason, "request_id", by.RequestID, "error", err)
		}
	})
}

// rehash replaces a hash made with other parameters than today's. If it fails,
// the old hash still works, and the next sign-in tries again.
func (s *Service) rehash(ctx context.Context, by models.Actor, account models.User, password string) {
	hash, err := s.passwords.Hash(ctx, password)
	if err == nil {
		by.UserID = account.ID
		err = s.store.RenewPasswordHash(ctx, by, account.ID, account.PasswordHash, hash)
	}
	if err != nil {
		s.log.WarnContext(ctx, "a password hash could not be renewed", "request_id", request.ID(ctx), "error", err)
	}
}

// SignOut ends the session of ctx, and the code that would begin another one.
func (s *Service) SignOut(ctx context.Context, p models.Principal) error {
	if err := s.store.Sessions().EndWithCode(ctx, p.Actor, p.User.ID, store.SessionID(s.sessions.scs.Token(ctx)), ""); err != nil {
		return err
	}
	return s.sessions.end(ctx)
}

// Replace ends the session that the browser of a request has, which a sign-in there takes the
// place of, with the code that would begin another one. by has the origin of the request.
func (s *Service) Replace(r *http.Request, by models.Actor) error {
	token := s.sessions.cookieValue(r)
	if token == "" || len(token) > maxSessionToken {
		return nil
	}
	// Not in the context of the request, which the session that begins is for.
	ctx, err := s.sessions.scs.Load(context.WithoutCancel(r.Context()), token)
	if err != nil {
		return fmt.Errorf("load the session before: %w", err)
	}
	userID, _ := s.sessions.user(ctx)
	if userID == "" || s.sessions.bearer(ctx) {
		return nil
	}
	by.UserID = userID
	return s.store.Sessions().EndWithCode(ctx, by, userID, store.SessionID(token), "another sign-in in the same browser")
}

// Reauthenticate makes the sign-in of ctx recent again. It returns the session's
// token, a new one if it is in a cookie.
func (s *Service) Reauthenticate(ctx context.Context, p models.Principal, in api.Reauthenticate) (token string, err error) {
	if in.Password == "" {
		var v models.Invalid
		v.Add("password", "is required")
		return "", v.Err()
	}
	token, err = s.confirmByPassword(ctx, p.Actor, p.User, in.Password)
	if models.CodeOf(err) == models.CodeConflict {
		// The account is another one by now. If only its hash was renewed, the password is still right.
		user, readErr := s.store.User(ctx, p.User.ID)
		if readErr != nil {
			return "", readErr
		}
		if user != nil {
			token, err = s.confirmByPassword(ctx, p.Actor, *user, in.Password)
		}
	}
	if models.CodeOf(err) == models.CodeConflict {
		return "", errBadPassword
	}
	if err != nil {
		return "", err
	}
	return token, s.store.Audit(ctx, p.Actor, "session.reauthenticate", "user:"+p.User.ID, nil)
}

// confirmByPassword makes the session of ctx recent if the password is that of its user, and the
// user is as when the password was checked; else it is CodeConflict.
func (s *Service) confirmByPassword(ctx context.Context, by models.Actor, user models.User, password string) (token string, err error) {
	if _, err := s.checkPassword(ctx, by, user, password, s.knownSession(ctx)); err != nil {
		return "", err
	}
	return s.sessions.confirm(ctx, s.now(), store.Beginning{By: by, PasswordHash: user.PasswordHash})
}

// ChangePassword gives p another password and ends all sessions of p. The caller
// renews the one of the request.
func (s *Service) ChangePassword(ctx context.Context, p models.Principal, current, next string) error {
	var v models.Invalid
	models.ValidatePassword("password", next, p.User.Email, &v)
	if err := v.Err(); err != nil {
		return err
	}
	if _, err := s.checkPassword(ctx, p.Actor, p.User, current, s.knownSession(ctx)); err != nil {
		return err
	}
	hash, err := s.passwords.Hash(ctx, next)
	if err != nil {
		return err
	}
	_, err = s.store.SetPassword(ctx, p.Actor, p.User.ID, hash)
	return err
}

// Wait returns when the audit events that are on their way are written.
func (s *Service) Wait() { s.notes.Wait() }
