package main

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"patrol/api"
	"patrol/server/identity"
	"patrol/server/request"
)

func (p *process) userEmailCommand() *cobra.Command {
	o := &operator{process: p}
	var named, email string
	cmd := &cobra.Command{
		Use:   "email-link <id or email> <new address>",
		Short: "Make a link with which its owner confirms another email address",
		Long: `Make a link with which the owner of an account confirms another email address, signed in, once, within passwords.reset_valid_for. An earlier link
of this kind stops working. It is printed here and kept nowhere: send it to the new address, which proves it. Nobody else gets the old address.`,
		Example: `  patrol user email-link ada@example.com ada.lovelace@example.com`,
		Args:    cobra.MaximumNArgs(2),
	}
	o.command(cmd, func(ctx context.Context, args []string) error {
		u, err := o.userArgument(ctx, args, 0, named)
		if err != nil {
			return err
		}
		if email, err = argument(args, 1, email, "email"); err != nil {
			return err
		}
		change, err := identity.NewEmailChange(ctx, o.store, o.by, u.ID, email, serverConfig(o.cfg).BaseURL()+request.EmailPath, rand.Reader, time.Now().Add(o.cfg.Passwords.ResetValidFor))
		if err != nil {
			return err
		}
		if o.json() {
			return o.printJSON(change)
		}
		err = o.printf("%s\n", change.URL)
		cmd.PrintErrf("%s can confirm %s there, signed in, once, until %s.\n", u.Email, change.Email, moment(&change.ExpiresAt))
		return err
	})
	cmd.Flags().StringVar(&named, "user", "", "id or email address (in place of the first argument)")
	cmd.Flags().StringVar(&email, "email", "", "the new email address (in place of the second argument)")
	return cmd
}

func (p *process) accountEmailCommand() *cobra.Command {
	c := &client{process: p}
	cmd := &cobra.Command{
		Use:   "confirm-email",
		Short: "Confirm another email address with the code that was sent there",
		Long: `Confirm another email address with the code that an administrator sent there: the link, or the part of it after #. It is asked for on the terminal, or
read from standard input where there is none. It takes a recent sign-in, and ends all your other sessions.`,
		Example: `  patrol account confirm-email
  patrol account confirm-email < link.txt`,
	}
	var code string
	return c.accountDo(cmd, func(ctx context.Context) (err error) {
		if code == "" { // and not a second time, after the password was asked for
			if terminal(p.stdin) == nil {
				code, err = p.readLine("code")
			} else {
				code, err = p.askPassword(ctx, "Code or link: ")
			}
			if err != nil {
				return err
			}
			if _, fragment, ok := strings.Cut(code, "#"); ok { // the whole link
				code = fragment
			}
		}
		me, err := c.api.ConfirmEmail(ctx, code)
		if err != nil {
			return err
		}
		if err := c.remember(api.Session{User: me}); err != nil {
			return err
		}
		if c.json() {
			return c.printJSON(me)
		}
		return c.printf("Your address is %s from now on.\n", me.Email)
	})
}
