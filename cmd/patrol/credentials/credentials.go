// Package credentials keeps the sign-ins of the client commands in a file that
// only its owner can read.
//
// The file holds one sign-in for each server, and which server was signed in to
// last. It is replaced as a whole, by a rename, so that a reader never sees half
// of it and a crash loses nothing. Whoever changes it holds a lock on a file beside
// it, so that of two sign-ins at once neither loses the other. A file that others can read is not used: what
// was in it must be taken as known.
package credentials

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gofrs/flock"
)

// SignIn is a session on one server.
type SignIn struct {
	Email        string     `json:"email"`
	SessionToken string     `json:"session_token"`
	ExpiresAt    *time.Time `json:"expires_at,omitempty"` // nil if the server did not say
}

// Store is the content of the file.
type Store struct {
	Current string            `json:"current,omitempty"` // the server signed in to last
	Servers map[string]SignIn `json:"servers"`           // by address
	path    string
}

// Path returns where the file is unless PATROL_CREDENTIALS, given as override,
// says otherwise: in the user's configuration folder. getenv looks up the
// environment.
func Path(override string, getenv func(string) string) (string, error) {
	if override != "" {
		return override, nil
	}
	dir := getenv("XDG_CONFIG_HOME")
	if dir == "" {
		var err error
		if dir, err = os.UserConfigDir(); err != nil {
			return "", errors.New("there is no folder for your settings: set HOME, or PATROL_CREDENTIALS to a file")
		}
	}
	return filepath.Join(dir, "patrol", "credentials.json"), nil
}

// Load reads the file at path. A file that does not exist is empty.
func Load(path string) (*Store, error) {
	s := &Store{Servers: map[string]SignIn{}, path: path}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil
	case err != nil:
		return nil, fmt.Errorf("read the credentials: %w", err)
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("others can read the credentials in %s: sign in again after 'rm %s', and 'chmod 600' it in future", path, path)
	}
	content, err := os.ReadFile(path) //nolint:gosec // the user names the file
	if err != nil {
		return nil, fmt.Errorf("read the credentials: %w", err)
	}
	if err := json.Unmarshal(content, s); err != nil { // the parser's words could quote the file
		return nil, fmt.Errorf("the credentials in %s are damaged: delete the file and sign in again", path)
	}
	if s.Servers == nil {
		s.Servers = map[string]SignIn{}
	}
	return s, nil
}

// Update changes the file at path: it reads it, has change make the change, and
// writes it, while nobody else does. It returns what the file now holds.
func Update(path string, change func(*Store)) (*Store, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep the credentials: %w", err)
	}
	lock := flock.New(path+".lock", flock.SetPermissions(0o600))
	if err := lock.Lock(); err != nil {
		return nil, fmt.Errorf("keep the credentials: %w", err)
	}
	defer func() { _ = lock.Unlock() }() // closing the file would do it too
	s, err := Load(path)
	if err != nil {
		return nil, err
	}
	change(s)
	return s, s.save()
}

// Set remembers a sign-in and makes its server the current one.
func (s *Store) Set(server string, in SignIn) {
	s.Servers[server] = in
	s.Current = server
}

// Forget drops the sign-in on a server. It reports whether there was one.
func (s *Store) Forget(server string) bool {
	_, ok := s.Servers[server]
	delete(s.Servers, server)
	if s.Current == server {
		s.Current = ""
	}
	return ok
}

// save writes the file with mode 0600.
func (s *Store) save() (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep the credentials: %w", err)
		}
	}()
	dir := filepath.Dir(s.path)
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".credentials-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already if all went well
	_, err = tmp.Write(append(content, '\n'))
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), s.path)
}
