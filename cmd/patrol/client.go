package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"patrol/api"
	"patrol/cmd/patrol/credentials"
	"patrol/models"
)

const (
	defaultServer = "http://127.0.0.1:8080"
	// completionPatience is the time that somebody who pressed Tab waits.
	completionPatience = 2 * time.Second
)

// client is shared by the commands that talk to a server.
type client struct {
	*process
	output
	server   string
	insecure bool

	api   *api.Client
	path  string // of the credentials
	saved *credentials.Store

	warnings []string // of the server, beside what it did
}

// addServer defines the flags that say which server, and how safe the way is.
func (c *client) addServer(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.server, "server", "", "address of the server (PATROL_SERVER; default: where you signed in last, else "+defaultServer+")")
	cmd.Flags().BoolVar(&c.insecure, "insecure", false, "send passwords and tokens over plain http to another machine, where anybody on the way can read them")
	_ = cmd.RegisterFlagCompletionFunc("server", cobra.NoFileCompletions) // fails only for a flag that does not exist
	hideSettings(cmd)
}

// connect chooses the server. It refuses one to which secrets would travel in the
// clear.
func (c *client) connect() error {
	address := c.server
	if address == "" {
		address = c.getenv("PATROL_SERVER")
	}
	address = strings.TrimSpace(address) // a file that was read into a variable ends in a line break
	var err error
	if c.path, err = credentials.Path(c.getenv("PATROL_CREDENTIALS"), c.getenv); err != nil {
		return err
	}
	if c.saved, err = credentials.Load(c.path); err != nil {
		return err
	}
	if address == "" {
		address = c.saved.Current
	}
	if address == "" {
		address = defaultServer
	}
	if c.api, err = api.NewClient(address, nil); err != nil {
		return err
	}
	if !c.api.Private() && !c.insecure {
		return fmt.Errorf("%s is not encrypted: anybody on the way could read the password or token; use https, or --insecure if the way is safe", c.api.Base())
	}
	c.api.UserAgent = "patrol-cli/" + currentVersion()
	c.api.OnWarning = c.warn
	c.api.SessionToken = c.saved.Servers[c.api.Base()].SessionToken
	return nil
}

// warn tells of what went wrong beside what the server did, each once.
func (c *client) warn(text string) {
	if !slices.Contains(c.warnings, text) {
		c.warnings = append(c.warnings, text)
		_, _ = fmt.Fprintf(c.stderr, "patrol: warning: %s\n", printable(text)) // nobody to tell if that fails
	}
}

// printJSON writes v, with the server's warnings as a member if there are any.
func (c *client) printJSON(v any) error {
	if len(c.warnings) == 0 {
		return c.output.printJSON(v)
	}
	object, err := json.Marshal(v)
	if err != nil {
		return err
	}
	warnings, err := json.Marshal(c.warnings)
	if err != nil {
		return err
	}
	if rest, ok := bytes.CutSuffix(object, []byte("}")); ok && len(rest) > 1 { // a list has no place for them
		object = append(append(append(rest, `,"warnings":`...), warnings...), '}')
	}
	return c.output.printJSON(json.RawMessage(object))
}

// connectSignedIn is connect for commands that need a sign-in.
func (c *client) connectSignedIn() error {
	if err := c.connect(); err != nil {
		return err
	}
	if c.api.SessionToken == "" {
		return fmt.Errorf("you are not signed in to %s: run 'patrol login'", c.api.Base())
	}
	return nil
}

// remember saves the session that the API client now has.
func (c *client) remember(in api.Session) error {
	return c.save(func(s *credentials.Store) {
		entry := s.Servers[c.api.Base()]
		if in.User.Email != "" {
			entry.Email = in.User.Email
		}
		if in.ExpiresAt != nil {
			entry.ExpiresAt = in.ExpiresAt
		}
		entry.SessionToken = c.api.SessionToken
		s.Set(c.api.Base(), entry)
	})
}

func (c *client) save(change func(*credentials.Store)) error {
	saved, err := credentials.Update(c.path, change)
	if err == nil {
		c.saved = saved
	}
	return err
}

// signedIn words the server's refusals of a session.
func (c *client) signedIn(err error) error {
	if api.Is(err, models.CodeUnauthenticated) {
		return fmt.Errorf("your sign-in to %s has ended: run 'patrol login' (%w)", c.api.Base(), err)
	}
	return err
}

// freshly does something that needs a recent sign-in. If the sign-in is too old it
// asks for the password and does it again; where there is nobody to ask it says
// what to do.
func (c *client) freshly(ctx context.Context, do func() error) error {
	err := do()
	if !api.Is(err, models.CodeReauthentication) {
		return c.signedIn(err)
	}
	email := c.saved.Servers[c.api.Base()].Email
	password, askErr := c.askPassword(ctx, fmt.Sprintf("Your sign-in is too old for this. Password of %s: ", email))
	if errors.Is(askErr, errNoTerminal) {
		return fmt.Errorf("your sign-in is too old for this: run 'patrol login' again, with --password-stdin in a script, or with --code (%w)", err)
	}
	if askErr != nil {
		return askErr
	}
	session, err := c.api.Reauthenticate(ctx, password)
	if err != nil {
		return c.signedIn(err)
	}
	if err := c.remember(session); err != nil {
		return err
	}
	return c.signedIn(do())
}
