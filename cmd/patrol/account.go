package main

import (
	"context"

	"github.com/spf13/cobra"

	"patrol/api"
)

func (p *process) accountCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "account",
		GroupID: groupClient,
		Short:   "Your account",
		Long:    `Look at your account on a server: links and codes that let somebody in, and all that is kept about you. Confirm another address.`,
		Example: `  patrol account codes
  patrol account export > account.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	hideSettings(cmd)
	cmd.AddCommand(p.accountCodesCommand(), p.accountEmailCommand(), p.accountExportCommand())
	return cmd
}

// accountDo completes a command about one's own account.
func (c *client) accountDo(cmd *cobra.Command, do func(ctx context.Context) error) *cobra.Command {
	cmd.Args, cmd.ValidArgsFunction = cobra.NoArgs, cobra.NoFileCompletions
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := c.connectSignedIn(); err != nil {
			return err
		}
		return c.freshly(cmd.Context(), func() error { return do(cmd.Context()) })
	}
	c.addServer(cmd)
	addOutput(cmd, &c.output)
	return cmd
}

func (p *process) accountCodesCommand() *cobra.Command {
	c := &client{process: p}
	var withdraw bool
	cmd := &cobra.Command{
		Use:   "codes",
		Short: "List links and codes that let somebody into your account and that nobody has used, or withdraw them",
		Long:  `List links to choose a new password or to confirm an address, and codes that sign a program in, which nobody has used. --withdraw ends them, and takes a recent sign-in.`,
		Example: `  patrol account codes
  patrol account codes --withdraw`,
	}
	cmd.Flags().BoolVar(&withdraw, "withdraw", false, "end them")
	return c.accountDo(cmd, func(ctx context.Context) error {
		if withdraw {
			return c.api.WithdrawMyCodes(ctx)
		}
		codes, err := c.api.MyCodes(ctx)
		if err != nil {
			return err
		}
		return printCodes(&c.output, append([]api.PendingCode{}, codes...))
	})
}

func (p *process) accountExportCommand() *cobra.Command {
	c := &client{process: p}
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print what is kept about you, as JSON",
		Long: `Print what is kept about you, as JSON: your account, memberships, identities, tokens, sessions, codes, what you did and what was done to your
account, and decisions about your tokens. No secret is in it.`,
		Example: `  patrol account export > account.json`,
	}
	return c.accountDo(cmd, func(ctx context.Context) error {
		out, err := c.api.ExportMe(ctx)
		if err != nil {
			return err
		}
		return c.printJSON(out)
	})
}
