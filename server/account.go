package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
	"patrol/server/request"
)

// errBadPassword is the one answer to every failed sign-in: it does not tell
// whether the account exists, has a password or is disabled.
var errBadPassword = models.NewError(models.CodeBadCredentials, "the email address and password do not match an account that may sign in")

// SignIn checks an email address and a password, or a code of [Server.SessionCode],
// and begins a session. by is
// where the request comes from. The token is for the cookie, or with transport
// "bearer" for the answer's body.
func (s *Server) SignIn(ctx context.Context, by models.Actor, in api.SignIn) (user models.User, token string, ends time.Time, err error) {
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
	if in.Transport != "" && in.Transport != transportCookie && in.Transport != transportBearer {
		v.Add("transport", "must be cookie or bearer")
	}
	if err := v.Err(); err != nil {
		return user, "", ends, err
	}
	account, err := s.store.UserByEmail(ctx, email)
	if err != nil {
		return user, "", ends, err
	}
	if account == nil {
		account = &models.User{Email: email}
	}
	outdated, err := s.checkPassword(ctx, by, *account, in.Password, s.knownBrowser(request.Of(ctx).RequestHeader, account.ID))
	if err != nil {
		return user, "", ends, err
	}
	if outdated {
		s.rehash(ctx, by, *account, in.Password)
	}
	bearer := in.Transport == transportBearer
	if token, ends, err = s.sessions.begin(ctx, account.ID, by, sessionStart{bearer: bearer, signedInAt: s.now()}); err != nil {
		return user, "", ends, err
	}
	by.UserID = account.ID
	detail := map[string]string{"transport": transportCookie}
	if bearer {
		detail["transport"] = transportBearer
	}
	// If this fails, the session is there, but its token has been told to nobody.
	err = s.store.Audit(ctx, by, "session.create", "user:"+account.ID, detail)
	return *account, token, ends, err
}

// The transports of a session token.
const (
	transportCookie = "cookie"
	transportBearer = "bearer"
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
func (s *Server) checkPassword(ctx context.Context, by models.Actor, account models.User, password, known string) (outdated bool, err error) {
	mask := time.NewTimer(maskFor)
	defer mask.Stop()
	client := request.Of(ctx).Client
	try, later, err := s.attempts.begin(guess{
		account: account.Email, exists: account.ID != "", from: client, known: known,
		session: func() bool { return s.hasSessionFrom(ctx, account.ID, by) },
	})
	if err != nil {
		s.metrics.signIn("throttled")
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
		s.metrics.signIn("accepted")
		return outdated, nil
	}
	try.finish(wrong)
	s.metrics.signIn("refused")
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

// maskFor is how long a failure takes in a network that is over its limit: longer than
// a password hash that did not have to wait.
const maskFor = 300 * time.Millisecond

func awaitMask(ctx context.Context, mask *time.Timer) {
	select {
	case <-mask.C:
	case <-ctx.Done():
	}
}

// knownSession is what an account knows the session of ctx by.
func (s *Server) knownSession(ctx context.Context) string {
	return "session " + store.SessionID(s.sessions.scs.Token(ctx))
}

// noteRefusal audits a failed sign-in without holding up its answer, which must
// not take longer, or fail in another way, where the account exists.
func (s *Server) noteRefusal(ctx context.Context, by models.Actor, userID, reason string) {
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
func (s *Server) rehash(ctx context.Context, by models.Actor, account models.User, password string) {
	hash, err := s.passwords.Hash(ctx, password)
	if err == nil {
		by.UserID = account.ID
		err = s.store.RenewPasswordHash(ctx, by, account.ID, account.PasswordHash, hash)
	}
	if err != nil {
		s.log.WarnContext(ctx, "a password hash could not be renewed", "request_id", request.ID(ctx), "error", err)
	}
}

// SignOut ends the session of ctx.
func (s *Server) SignOut(ctx context.Context, p models.Principal) error {
	if err := s.sessions.end(ctx); err != nil {
		return err
	}
	return s.store.Audit(ctx, p.Actor, "session.end", "user:"+p.User.ID, nil)
}

// Reauthenticate makes the sign-in of ctx recent again. It returns the session's
// token, a new one if it is in a cookie.
func (s *Server) Reauthenticate(ctx context.Context, p models.Principal, in api.Reauthenticate) (token string, err error) {
	if in.Password == "" {
		var v models.Invalid
		v.Add("password", "is required")
		return "", v.Err()
	}
	if _, err := s.checkPassword(ctx, p.Actor, p.User, in.Password, s.knownSession(ctx)); err != nil {
		return "", err
	}
	if token, err = s.sessions.renew(ctx, s.now()); err != nil {
		return "", err
	}
	return token, s.store.Audit(ctx, p.Actor, "session.reauthenticate", "user:"+p.User.ID, nil)
}

func (s *Server) postSession(c *gin.Context, _ models.Principal) error {
	// Another site must not be able to sign its visitor in as somebody else.
	if err := s.sameSite(c.Request); err != nil {
		return err
	}
	var in api.SignIn
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	ctx, x := c.Request.Context(), request.Of(c.Request.Context())
	user, token, ends, err := s.SignIn(ctx, x.Actor(models.ActorUser, "", ""), in)
	if err != nil {
		return err
	}
	x.UserID = user.ID
	return s.answerSession(c, http.StatusCreated, user, token, ends, in.Transport == transportBearer)
}

func (s *Server) postReauthenticate(c *gin.Context, p models.Principal) error {
	var in api.Reauthenticate
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	ctx := c.Request.Context()
	token, err := s.Reauthenticate(ctx, p, in)
	if err != nil {
		return err
	}
	if s.sessions.bearer(ctx) {
		token = "" // it stays the same, and is not told twice
	}
	return s.answerSession(c, http.StatusOK, p.User, token, s.sessions.ends(ctx), s.sessions.bearer(ctx))
}

func (s *Server) answerSession(c *gin.Context, status int, user models.User, token string, ends time.Time, bearer bool) error {
	me, err := s.manage.Me(c.Request.Context(), user)
	if err != nil {
		return err
	}
	out := api.Session{User: me, ExpiresAt: &ends}
	switch {
	case !bearer:
		s.sessions.setCookie(c.Writer, token, ends)
	case token != "":
		out.SessionToken = models.BearerPrefix + token
	}
	request.WriteJSON(c.Writer, status, out)
	return nil
}

func (s *Server) deleteSession(c *gin.Context, p models.Principal) error {
	ctx := c.Request.Context()
	bearer := s.sessions.bearer(ctx)
	if err := s.SignOut(ctx, p); err != nil {
		return err
	}
	if !bearer {
		s.sessions.setCookie(c.Writer, "", time.Time{})
	}
	c.Status(http.StatusNoContent)
	return nil
}

func (s *Server) getMe(c *gin.Context, p models.Principal) error {
	me, err := s.manage.Me(c.Request.Context(), p.User)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, me)
	return nil
}

func (s *Server) getCatalog(c *gin.Context, _ models.Principal) error {
	request.WriteJSON(c.Writer, http.StatusOK, s.manage.Catalog())
	return nil
}

// readBody reads the JSON body of an API request.
func (s *Server) readBody(c *gin.Context, dst any) error {
	if err := readJSON(c.Writer, c.Request, s.cfg.HTTP.MaxBodyBytes, dst); err != nil {
		return err
	}
	return request.Of(c.Request.Context()).Enter()
}

// readBodyIfAny is readBody where the body may be left out.
func (s *Server) readBodyIfAny(c *gin.Context, dst any) error {
	body := bufio.NewReaderSize(c.Request.Body, 16)
	if _, err := body.Peek(1); errors.Is(err, io.EOF) {
		return nil
	}
	c.Request.Body = struct {
		io.Reader
		io.Closer
	}{body, c.Request.Body}
	return s.readBody(c, dst)
}
