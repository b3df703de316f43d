package main

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
	"patrol/server/identity"
	"patrol/server/request"
)

func (p *process) userCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "user",
		Aliases: []string{"users"},
		GroupID: groupOperator,
		Short:   "Accounts",
		Long: `Make and change accounts, straight on the database. A user is named by id or email address.
A running server obeys within a second.`,
		Example: `  patrol user create ada@example.com --name "Ada Lovelace" --admin
  patrol user disable ada@example.com`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.userCreateCommand(), p.userListCommand(), p.userDisableCommand(), p.userEnableCommand(), p.userSetCommand(), p.userPasswordCommand(), p.userResetCommand(), p.userEmailCommand(),
		p.userCodesCommand(), p.userSessionsCommand(),
		p.userIdentitiesCommand(), p.userDisconnectCommand(), p.userAnonymiseCommand())
	return cmd
}

func (p *process) userCreateCommand() *cobra.Command {
	o := &operator{process: p}
	var email, name string
	var admin, policyTeam, fromStdin, without bool
	cmd := &cobra.Command{
		Use:   "create <email>",
		Short: "Make an account",
		Long: `Make an account. The password is asked for on the terminal, or read from standard input with --password-stdin.
On an empty database this is how the first administrator comes to be: give --admin.`,
		Example: `  patrol user create ada@example.com --name "Ada Lovelace" --admin
  patrol user create bob@example.com --password-stdin < password.txt`,
		Args: cobra.MaximumNArgs(1),
	}
	o.command(cmd, func(ctx context.Context, args []string) error {
		var err error
		if email, err = argument(args, 0, email, "email"); err != nil {
			return err
		}
		u := models.User{Email: models.NormalizeEmail(email), Name: name, Admin: admin, Policy: policyTeam}
		if u.Name == "" {
			u.Name, _, _ = strings.Cut(u.Email, "@")
		}
		var v models.Invalid
		models.ValidateEmail("email", u.Email, &v)
		models.ValidateName("name", u.Name, &v)
		if err := v.Err(); err != nil {
			return err // before a password is asked for
		}
		if !without {
			if u.PasswordHash, err = o.newPasswordHash(ctx, fromStdin, u.Email); err != nil {
				return err
			}
		}
		if u, err = o.store.CreateUser(ctx, o.by, u); err != nil {
			return err
		}
		return o.printUsers(u)
	})
	cmd.Flags().StringVar(&email, "email", "", "email address (in place of the argument)")
	cmd.Flags().StringVar(&name, "name", "", "name (default: the email address up to its @)")
	cmd.Flags().BoolVar(&admin, "admin", false, "make the user an administrator of the whole platform")
	cmd.Flags().BoolVar(&policyTeam, "policy-team", false, "make the user a member of the policy team")
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	cmd.Flags().BoolVar(&without, "no-password", false, "set no password; nobody can sign in with one until it is set")
	cmd.MarkFlagsMutuallyExclusive("password-stdin", "no-password")
	return cmd
}

// newPasswordHash gets a new password, checks it and returns its hash.
func (o *operator) newPasswordHash(ctx context.Context, fromStdin bool, email string) (string, error) {
	password, err := o.newPassword(ctx, fromStdin)
	if errors.Is(err, errNoTerminal) {
		return "", usagef("%w", err)
	}
	if err != nil {
		return "", err
	}
	var v models.Invalid
	models.ValidatePassword("password", password, email, &v)
	if err := v.Err(); err != nil {
		return "", err
	}
	passwords, err := identity.NewPasswords(serverConfig(o.cfg).Login)
	if err != nil {
		return "", err
	}
	return passwords.Hash(ctx, password)
}

func (p *process) userListCommand() *cobra.Command {
	o := &operator{process: p}
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List all accounts", Args: cobra.NoArgs}
	return o.command(cmd, func(ctx context.Context, _ []string) error {
		users, err := all(func(page store.Page) ([]models.User, string, error) {
			return o.store.Users(ctx, store.UserFilter{}, page)
		})
		if err != nil {
			return err
		}
		if o.json() {
			out := make([]api.User, len(users))
			for i, u := range users {
				out[i] = api.UserOf(u)
			}
			return o.printJSON(out)
		}
		return o.printUsers(users...)
	})
}

// printUsers shows accounts; in JSON it is given exactly one.
func (o *operator) printUsers(users ...models.User) error {
	if o.json() {
		return o.printJSON(api.UserOf(users[0]))
	}
	rows := make([][]string, len(users))
	for i, u := range users {
		kind, status := "user", "enabled"
		switch {
		case u.Admin:
			kind = "admin"
		case u.Policy:
			kind = "policy"
		}
		if u.Disabled {
			status = "disabled"
		}
		rows[i] = []string{u.ID, u.Email, u.Name, kind, status, moment(&u.CreatedAt)}
	}
	return o.printTable([]column{{title: "ID"}, {title: "EMAIL", shrink: true}, {title: "NAME", shrink: true}, {title: "KIND"}, {title: "STATUS"}, {title: "CREATED"}}, rows)
}

func (p *process) userDisableCommand() *cobra.Command {
	return p.userSwitchCommand("disable <id or email>", "Shut an account out: its sessions end, its tokens are refused", true)
}

func (p *process) userEnableCommand() *cobra.Command {
	return p.userSwitchCommand("enable <id or email>", "Let a disabled account in again", false)
}

func (p *process) userSwitchCommand(use, short string, disabled bool) *cobra.Command {
	o := &operator{process: p}
	var named, list string
	var revoke bool
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.MaximumNArgs(1)}
	if disabled {
		cmd.Flags().BoolVar(&revoke, "revoke-tokens", false, "revoke all tokens, too, so that enabling does not bring them back")
	}
	o.command(cmd, func(ctx context.Context, args []string) error {
		if list != "" {
			if len(args) > 0 || named != "" {
				return usagef("name one account, or a file with --from-list")
			}
			return o.disableListed(ctx, cmd, list, revoke)
		}
		u, err := o.userArgument(ctx, args, 0, named)
		if err != nil {
			return err
		}
		if u, err = o.store.UpdateUser(ctx, o.by, u.ID, store.UserPatch{Disabled: &disabled, RevokeTokens: revoke}); err != nil {
			return err
		}
		return o.printUsers(u)
	})
	cmd.Flags().StringVar(&named, "user", "", "id or email address (in place of the argument)")
	if disabled {
		cmd.Flags().StringVar(&list, "from-list", "", "file with ids or email addresses, one a line; - is standard input")
	}
	return cmd
}

func (p *process) userSetCommand() *cobra.Command {
	o := &operator{process: p}
	var named string
	var admin, policyTeam bool
	cmd := &cobra.Command{
		Use:   "set <id or email>",
		Short: "Give an account a role on the platform, or take one away",
		Long: `Give an account a role on the platform, or take one away. An administrator may do everything; a member of the policy team sees the policy in
force and recorded decisions, and may roll the policy back. No role changes what somebody's tokens may do, but that of an administrator.`,
		Example: `  patrol user set ada@example.com --policy-team
  patrol user set ada@example.com --admin=false`,
		Args: cobra.MaximumNArgs(1),
	}
	o.command(cmd, func(ctx context.Context, args []string) error {
		var patch store.UserPatch
		if cmd.Flags().Changed("admin") {
			patch.Admin = &admin
		}
		if cmd.Flags().Changed("policy-team") {
			patch.Policy = &policyTeam
		}
		if patch == (store.UserPatch{}) {
			return usagef("say which role: --admin or --policy-team, with =false to take it away")
		}
		u, err := o.userArgument(ctx, args, 0, named)
		if err != nil {
			return err
		}
		if u, err = o.store.UpdateUser(ctx, o.by, u.ID, patch); err != nil {
			return err
		}
		return o.printUsers(u)
	})
	cmd.Flags().StringVar(&named, "user", "", "id or email address (in place of the argument)")
	cmd.Flags().BoolVar(&admin, "admin", false, "administrator of the whole platform")
	cmd.Flags().BoolVar(&policyTeam, "policy-team", false, "member of the policy team")
	return cmd
}

// userArgument finds the user whom the i-th argument names, or the flag --user.
func (o *operator) userArgument(ctx context.Context, args []string, i int, flag string) (models.User, error) {
	text, err := argument(args, i, flag, "user")
	if err != nil {
		return models.User{}, err
	}
	return o.findUser(ctx, text)
}

func (p *process) userPasswordCommand() *cobra.Command {
	o := &operator{process: p}
	var named string
	var fromStdin bool
	cmd := &cobra.Command{
		Use:   "set-password <id or email>",
		Short: "Give an account a new password and end its sessions",
		Args:  cobra.MaximumNArgs(1),
	}
	o.command(cmd, func(ctx context.Context, args []string) error {
		u, err := o.userArgument(ctx, args, 0, named)
		if err != nil {
			return err
		}
		hash, err := o.newPasswordHash(ctx, fromStdin, u.Email)
		if err != nil {
			return err
		}
		if u, err = o.store.SetPassword(ctx, o.by, u.ID, hash); err != nil {
			return err
		}
		return o.printUsers(u)
	})
	cmd.Flags().StringVar(&named, "user", "", "id or email address (in place of the argument)")
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	return cmd
}

func (p *process) userResetCommand() *cobra.Command {
	o := &operator{process: p}
	var named string
	var remove models.Removal
	cmd := &cobra.Command{
		Use:   "reset-link <id or email>",
		Short: "Make a link with which its owner chooses a new password",
		Long: `Make a link with which the owner of an account chooses a new password, once, within passwords.reset_valid_for. An earlier link stops working.
It begins with public_url, or else with the address in listen. It is printed here and kept nowhere: hand it over by a way that others do not read.
If somebody else may know the password, remove what they may have left behind: it goes at once, whether or not the link is used. The old password
works until the link is used; see 'patrol user disable'.`,
		Example: `  patrol user reset-link ada@example.com
  patrol user reset-link ada@example.com --disconnect-identities --end-sessions --withdraw-codes --revoke-tokens`,
		Args: cobra.MaximumNArgs(1),
	}
	o.command(cmd, func(ctx context.Context, args []string) error {
		u, err := o.userArgument(ctx, args, 0, named)
		if err != nil {
			return err
		}
		reset, err := identity.NewReset(ctx, o.store, o.by, u.ID, serverConfig(o.cfg).BaseURL()+request.ResetPath, remove, rand.Reader, time.Now().Add(o.cfg.Passwords.ResetValidFor))
		if err != nil {
			return err
		}
		if o.json() {
			return o.printJSON(reset)
		}
		err = o.printf("%s\n", reset.URL)
		cmd.PrintErrf("%s can choose a new password there, once, until %s.\nRemoved: %s. Stays: %s.\n", u.Email, moment(&reset.ExpiresAt), reset.Removed, reset.Stays)
		return err
	})
	cmd.Flags().StringVar(&named, "user", "", "id or email address (in place of the argument)")
	cmd.Flags().BoolVar(&remove.Identities, "disconnect-identities", false, "disconnect all identities at providers, which ends the sessions, too")
	cmd.Flags().BoolVar(&remove.Sessions, "end-sessions", false, "end all sessions")
	cmd.Flags().BoolVar(&remove.Codes, "withdraw-codes", false, "withdraw codes that sign a program in, and links that the user made for others")
	cmd.Flags().BoolVar(&remove.Tokens, "revoke-tokens", false, "revoke all tokens")
	return cmd
}
