package main

import (
	"errors"

	"github.com/spf13/cobra"

	"patrol/api"
	"patrol/cmd/patrol/credentials"
	"patrol/models"
)

func (p *process) loginCommand() *cobra.Command {
	c := &client{process: p}
	var email string
	var fromStdin, withCode bool
	cmd := &cobra.Command{
		Use:     "login [email]",
		GroupID: groupClient,
		Short:   "Sign in to a server",
		Long: `Sign in to a server and keep the session for the other client commands.

The session is kept in patrol/credentials.json in your settings folder, readable by you alone; PATROL_CREDENTIALS names another file.
The password is asked for on the terminal, or read from standard input with --password-stdin. It is not kept.

With --code no password is needed: the page Profile, Sessions of the server has a code for you, in whatever way you signed in there. It is asked for
on the terminal, or read from standard input where there is none.`,
		Example: `  patrol login ada@example.com
  patrol login ada@example.com --server https://patrol.example.com --password-stdin < password.txt
  patrol login --code --server https://patrol.example.com`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if err := c.connect(); err != nil {
				return err
			}
			if withCode {
				return p.loginWithCode(cmd, c, args, email)
			}
			var err error
			if email, err = argument(args, 0, email, "email"); err != nil {
				if fromStdin || terminal(p.stdin) == nil {
					return err
				}
				if email, err = p.ask(ctx, "Email: "); err != nil {
					return err
				}
			}
			password, err := p.password(ctx, fromStdin)
			if err != nil {
				return err
			}
			session, err := c.api.SignIn(ctx, email, password)
			if err != nil {
				return err
			}
			return c.keepSession(cmd, session)
		},
	}
	c.addServer(cmd)
	cmd.Flags().StringVar(&email, "email", "", "whose account (in place of the argument)")
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	cmd.Flags().BoolVar(&withCode, "code", false, "sign in with a code from the server's page Profile, Sessions")
	cmd.MarkFlagsMutuallyExclusive("code", "password-stdin")
	return cmd
}

// keepSession remembers a session and says so.
func (c *client) keepSession(cmd *cobra.Command, session api.Session) error {
	if err := c.remember(session); err != nil {
		return err
	}
	cmd.PrintErrf("Signed in to %s as %s.\n", c.api.Base(), session.User.Email)
	return nil
}

// loginWithCode signs in with a code from a page.
func (p *process) loginWithCode(cmd *cobra.Command, c *client, args []string, email string) error {
	if len(args) > 0 || email != "" {
		return usagef("a code says whose account it is: leave the email address out")
	}
	ctx := cmd.Context()
	var code string
	var err error
	if terminal(p.stdin) == nil {
		code, err = p.readLine("code")
	} else {
		cmd.PrintErrf("Open %s/profile/sessions/code in a browser.\n", c.api.Base())
		code, err = p.askPassword(ctx, "Code: ")
	}
	if err != nil {
		return err
	}
	session, err := c.api.SignInWithCode(ctx, code)
	if err != nil {
		return err
	}
	return c.keepSession(cmd, session)
}

func (p *process) logoutCommand() *cobra.Command {
	c := &client{process: p}
	cmd := &cobra.Command{
		Use:               "logout",
		GroupID:           groupClient,
		Short:             "End the session on a server and forget it",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.connect(); err != nil {
				return err
			}
			if c.api.SessionToken == "" {
				cmd.PrintErrf("You were not signed in to %s.\n", c.api.Base())
				return nil
			}
			// The session is forgotten here whatever the server says; a server that
			// could not be told must be reported, for the session lives on there.
			ended := c.api.SignOut(cmd.Context())
			if api.Is(ended, models.CodeUnauthenticated) {
				ended = nil // it had ended already
			}
			kept := c.save(func(s *credentials.Store) { s.Forget(c.api.Base()) })
			if err := errors.Join(kept, ended); err != nil {
				return err
			}
			cmd.PrintErrf("Signed out of %s.\n", c.api.Base())
			return nil
		},
	}
	c.addServer(cmd)
	return cmd
}

// argument returns what a command was given either as its i-th argument or by a
// flag of the given name.
func argument(args []string, i int, flag, name string) (string, error) {
	switch {
	case i < len(args) && flag != "" && args[i] != flag:
		return "", usagef("the %s is given twice: as an argument and as --%s", name, name)
	case i < len(args):
		return args[i], nil
	case flag != "":
		return flag, nil
	default:
		return "", usagef("which %s? Give it as an argument or as --%s", name, name)
	}
}
