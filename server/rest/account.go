package rest

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/identity"
	"patrol/server/request"
)

func (s *Surface) postSession(c *gin.Context, _ models.Principal) error {
	// Another site must not be able to sign its visitor in as somebody else.
	if err := s.identity.SameSite(c.Request); err != nil {
		return err
	}
	var in api.SignIn
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	ctx, x := c.Request.Context(), request.Of(c.Request.Context())
	user, token, ends, err := s.identity.SignIn(ctx, x.Actor(models.ActorUser, "", ""), in)
	if err != nil {
		return err
	}
	x.UserID = user.ID
	if in.Transport != identity.TransportBearer {
		if err := s.identity.Replace(c.Request, x.Actor(models.ActorUser, "", "")); err != nil {
			return err
		}
	}
	return s.answerSession(c, http.StatusCreated, user, token, ends, in.Transport == identity.TransportBearer)
}

func (s *Surface) postReauthenticate(c *gin.Context, p models.Principal) error {
	var in api.Reauthenticate
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	ctx := c.Request.Context()
	token, err := s.identity.Reauthenticate(ctx, p, in)
	if err != nil {
		return err
	}
	bearer := s.identity.IsBearer(ctx)
	if bearer {
		token = "" // it stays the same, and is not told twice
	}
	return s.answerSession(c, http.StatusOK, p.User, token, s.identity.SessionEnds(ctx), bearer)
}

func (s *Surface) answerSession(c *gin.Context, status int, user models.User, token string, ends time.Time, bearer bool) error {
	me, err := s.manage.Me(c.Request.Context(), user)
	if err != nil {
		return err
	}
	out := api.Session{User: me, ExpiresAt: &ends}
	switch {
	case !bearer:
		s.identity.SetCookie(c.Writer, token, ends)
	case token != "":
		out.SessionToken = models.BearerPrefix + token
	}
	request.WriteJSON(c.Writer, status, out)
	return nil
}

func (s *Surface) deleteSession(c *gin.Context, p models.Principal) error {
	ctx := c.Request.Context()
	bearer := s.identity.IsBearer(ctx)
	if err := s.identity.SignOut(ctx, p); err != nil {
		return err
	}
	if !bearer {
		s.identity.ClearCookie(c.Writer)
	}
	c.Status(http.StatusNoContent)
	return nil
}

func (s *Surface) getMe(c *gin.Context, p models.Principal) error {
	me, err := s.manage.Me(c.Request.Context(), p.User)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, me)
	return nil
}

func (s *Surface) getCatalog(c *gin.Context, _ models.Principal) error {
	request.WriteJSON(c.Writer, http.StatusOK, s.manage.Catalog())
	return nil
}

// readBody reads the JSON body of an API request.
func (s *Surface) readBody(c *gin.Context, dst any) error {
	return s.readBodyUpTo(c, s.cfg.HTTP.MaxBodyBytes, dst)
}

// readBodyUpTo is readBody where a body may be longer than elsewhere.
func (s *Surface) readBodyUpTo(c *gin.Context, limit int64, dst any) error {
	if err := readJSON(c.Writer, c.Request, limit, dst); err != nil {
		return err
	}
	return request.Of(c.Request.Context()).Enter()
}

// readBodyIfAny is readBody where the body may be left out.
func (s *Surface) readBodyIfAny(c *gin.Context, dst any) error {
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
