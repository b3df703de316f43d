package main

import (
	"context"

	"github.com/spf13/cobra"
)

func (p *process) userAnonymiseCommand() *cobra.Command {
	o := &operator{process: p}
	var named string
	cmd := &cobra.Command{
		Use:   "anonymise <id or email>",
		Short: "Take what names a disabled account out of the database, for good",
		Long: `Take what names a disabled account out of the database, for good: name, address, identities, memberships, names of tokens and from where they
were used, in the audit log, too. Tokens are revoked. The address stays taken, as a hash. Recorded decisions go when they are as old as
decision_log.retention says, and backups keep what they have.`,
		Example: `  patrol user disable ada@example.com
  patrol user anonymise ada@example.com`,
		Args: cobra.MaximumNArgs(1),
	}
	o.command(cmd, func(ctx context.Context, args []string) error {
		u, err := o.userArgument(ctx, args, 0, named)
		if err != nil {
			return err
		}
		if u, err = o.store.AnonymiseUser(ctx, o.by, u.ID); err != nil {
			return err
		}
		return o.printUsers(u)
	})
	cmd.Flags().StringVar(&named, "user", "", "id or email address (in place of the argument)")
	return cmd
}
