package server

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/request"
	"patrol/server/ui"
)

// setup is the state of a first start: there is no default account, so whoever
// can read a file on the server proves it with the code in there and makes the
// first admin.
type setup struct {
	file string

	mu      sync.Mutex
	pending bool
	code    string // its hash
	expires time.Time
}

// Setup makes a setup code if the database has no users, and writes it to a file
// that only the owner of the process can read. The log names the file and the
// page that asks for the code, never the code. [Server.Serve] calls it.
func (s *Server) Setup(ctx context.Context) error {
	n, err := s.store.CountUsers(ctx)
	if err != nil {
		return fmt.Errorf("look for users: %w", err)
	}
	if n > 0 {
		return s.finishSetup()
	}
	code, err := models.NewOneTimeCode(s.random)
	if err != nil {
		return err
	}
	if err := writeSecret(s.setup.file, code.Reveal()+"\n"); err != nil {
		return fmt.Errorf("write the setup code: %w", err)
	}
	s.setup.mu.Lock()
	s.setup.pending, s.setup.code, s.setup.expires = true, code.Hash(), s.now().Add(s.cfg.SetupValidFor)
	s.setup.mu.Unlock()
	s.log.InfoContext(ctx, "there are no users yet: create the first admin on the setup page, with the code from the file",
		"file", s.setup.file, "page", s.BaseURL()+"/setup", "valid_for", s.cfg.SetupValidFor)
	return nil
}

// writeSecret replaces the file at path by one that only its owner can read. A
// file that is there already is not written into: it may be open to others.
func writeSecret(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temp := path + "." + strings.ToLower(rand.Text()[:8])
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the settings name the file
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return nil
}

// finishSetup forgets the code and removes its file.
func (s *Server) finishSetup() error {
	s.setup.mu.Lock()
	s.setup.pending = false
	s.setup.mu.Unlock()
	if err := os.Remove(s.setup.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the setup code: %w", err)
	}
	return nil
}

var (
	errNoSetup      = models.NewError(models.CodeNotFound, "there is nothing at this path")
	errSetupCode    = models.NewError(models.CodeForbidden, "this is not the setup code")
	errSetupExpired = models.NewError(models.CodeForbidden,
		"the setup code has expired; restart Patrol for a new one, or run: patrol user create --admin")
)

// setupOpen returns nil while a first admin can be made, errNoSetup once there is
// a user, whoever made it, and errSetupExpired when the code's time is over.
func (s *Server) setupOpen(ctx context.Context) error {
	s.setup.mu.Lock()
	pending, expires := s.setup.pending, s.setup.expires
	s.setup.mu.Unlock()
	if !pending {
		return errNoSetup
	}
	n, err := s.store.CountUsers(ctx)
	switch {
	case err != nil:
		return err
	case n > 0:
		return errors.Join(errNoSetup, s.finishSetup())
	case !s.now().Before(expires):
		return errSetupExpired
	}
	return nil
}

// CreateFirstAdmin makes the first account of an empty database for whoever knows
// the setup code. Wrong ones are not counted: guessing at 100 random bits is hopeless,
// and a count would let strangers keep the operator out. by is where the request comes from.
func (s *Server) CreateFirstAdmin(ctx context.Context, by models.Actor, in api.Setup) (models.User, error) {
	if err := s.setupOpen(ctx); err != nil {
		return models.User{}, err
	}
	s.setup.mu.Lock()
	same := subtle.ConstantTimeCompare([]byte(models.ReadOneTimeCode(in.Code).Hash()), []byte(s.setup.code)) == 1
	s.setup.mu.Unlock()
	if !same {
		return models.User{}, errSetupCode
	}
	user, err := s.manage.CreateFirstUser(ctx, by, api.NewUser{Email: in.Email, Name: in.Name, Password: in.Password, Admin: true})
	if err != nil {
		return models.User{}, err
	}
	if err := s.finishSetup(); err != nil { // the account is there, and the code is forgotten
		s.log.WarnContext(ctx, "the file with the used setup code is still there", "request_id", request.ID(ctx), "error", err)
	}
	return user, nil
}

func (s *Server) getSetup(c *gin.Context, _ models.Principal) error {
	err := s.setupOpen(c.Request.Context())
	if errors.Is(err, errSetupExpired) {
		return s.show(c, models.Principal{}, http.StatusGone, ui.SetupPage(api.Setup{}, ui.Problems{}, true))
	}
	if err != nil && wantsPage(c.Request) {
		s.failPage(c, models.Principal{}, err)
		return nil
	}
	if err != nil {
		return err
	}
	return s.show(c, models.Principal{}, http.StatusOK, ui.SetupPage(api.Setup{}, ui.Problems{}, false))
}

func (s *Server) postSetup(c *gin.Context, _ models.Principal) error {
	if err := s.sameSite(c.Request); err != nil {
		return err
	}
	ctx, x := c.Request.Context(), request.Of(c.Request.Context())
	media, _, _ := mime.ParseMediaType(c.Request.Header.Get("Content-Type")) // "" is not a form
	form := media == "application/x-www-form-urlencoded"
	var in api.Setup
	if form {
		c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, s.cfg.HTTP.MaxBodyBytes)
		if err := c.Request.ParseForm(); err != nil {
			return models.WrapError(models.CodeMalformed, "the form could not be read", err)
		}
		if err := x.Enter(); err != nil {
			return err
		}
		posted := c.Request.PostForm
		in = api.Setup{Code: posted.Get("code"), Email: posted.Get("email"), Name: posted.Get("name"), Password: posted.Get("password")}
	} else if err := s.readBody(c, &in); err != nil {
		return err
	}
	user, err := s.CreateFirstAdmin(ctx, x.Actor(models.ActorSystem, "", ""), in)
	switch {
	case err != nil && form:
		return s.showSetupProblem(c, in, err)
	case err != nil:
		return err
	case form:
		return s.show(c, models.Principal{}, http.StatusCreated, ui.SetupDone(user.Email))
	}
	request.WriteJSON(c.Writer, http.StatusCreated, api.UserOf(user))
	return nil
}

// showSetupProblem shows the form again with what was wrong.
func (s *Server) showSetupProblem(c *gin.Context, in api.Setup, err error) error {
	e, ok := errors.AsType[*models.Error](err)
	if !ok {
		return err
	}
	if status := request.Statuses[e.Code]; status >= http.StatusInternalServerError || e.Code == models.CodeNotFound {
		return err
	}
	problems, _ := ui.ProblemsOf(err)
	if errors.Is(err, errSetupCode) {
		problems = ui.Problems{}
		problems.Add("code", "is not the code in the file")
	}
	return s.again(c, models.Principal{}, err, ui.SetupPage(in, problems, errors.Is(err, errSetupExpired)))
}
