package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"patrol/api"
	"patrol/models"
	"patrol/server/request"
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

// BeginSetup makes a setup code if the database has no users, and writes it to a file
// that only the owner of the process can read. The log names the file and the
// page that asks for the code, never the code. base is the URL under which people reach the server.
func (s *Service) BeginSetup(ctx context.Context, base string) error {
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
		"file", s.setup.file, "page", base+"/setup", "valid_for", s.cfg.SetupValidFor)
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
func (s *Service) finishSetup() error {
	s.setup.mu.Lock()
	s.setup.pending = false
	s.setup.mu.Unlock()
	if err := os.Remove(s.setup.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the setup code: %w", err)
	}
	return nil
}

var (
	errNoSetup = models.NewError(models.CodeNotFound, "there is nothing at this path")
	// ErrSetupCode is the error for a wrong code.
	ErrSetupCode = models.NewError(models.CodeForbidden, "this is not the setup code")
	// ErrSetupExpired is the error once the time of the code is over.
	ErrSetupExpired = models.NewError(models.CodeForbidden,
		"the setup code has expired; restart Patrol for a new one, or run: patrol user create --admin")
)

// SetupOpen returns nil while a first admin can be made, errNoSetup once there is
// a user, whoever made it, and errSetupExpired when the code's time is over.
func (s *Service) SetupOpen(ctx context.Context) error {
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
		return ErrSetupExpired
	}
	return nil
}

// CreateFirstAdmin makes the first account of an empty database for whoever knows
// the setup code. Wrong ones are not counted: guessing at 100 random bits is hopeless,
// and a count would let strangers keep the operator out. by has the origin of the request.
func (s *Service) CreateFirstAdmin(ctx context.Context, by models.Actor, in api.Setup) (models.User, error) {
	if err := s.SetupOpen(ctx); err != nil {
		return models.User{}, err
	}
	s.setup.mu.Lock()
	same := subtle.ConstantTimeCompare([]byte(models.ReadOneTimeCode(in.Code).Hash()), []byte(s.setup.code)) == 1
	s.setup.mu.Unlock()
	if !same {
		return models.User{}, ErrSetupCode
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
