package main

import (
	"context"

	"github.com/spf13/cobra"

	"patrol/api"
)

func (p *process) userCodesCommand() *cobra.Command {
	o := &operator{process: p}
	var withdraw bool
	cmd := &cobra.Command{
		Use:   "codes [<id or email>]",
		Short: "List reset links and sign-in codes that nobody has used, or withdraw a user's",
		Long: `List reset links and sign-in codes that nobody has used, of a user or of all. They end with the power of who made them. --withdraw ends those
of one user.`,
		Args: cobra.MaximumNArgs(1),
	}
	o.command(cmd, func(ctx context.Context, args []string) error {
		id := ""
		if len(args) == 1 {
			u, err := o.findUser(ctx, args[0])
			if err != nil {
				return err
			}
			id = u.ID
		}
		if withdraw {
			if id == "" {
				return usagef("whose codes? Name the user")
			}
			_, err := o.store.WithdrawCodes(ctx, o.by, id)
			return err
		}
		codes, err := o.store.PendingCodes(ctx, id)
		if err != nil {
			return err
		}
		if o.json() {
			out := make([]api.PendingCode, len(codes))
			for i, code := range codes {
				out[i] = api.PendingCode(code)
			}
			return o.printJSON(out)
		}
		rows := make([][]string, len(codes))
		for i, code := range codes {
			by := code.MadeBy
			if by == "" {
				by = "operator"
			}
			rows[i] = []string{code.Email, code.Purpose, by, moment(&code.ExpiresAt)}
		}
		return o.printTable([]column{{title: "EMAIL", shrink: true}, {title: "PURPOSE"}, {title: "MADE BY"}, {title: "EXPIRES"}}, rows)
	})
	cmd.Flags().BoolVar(&withdraw, "withdraw", false, "end the codes of the user")
	return cmd
}

func (p *process) userSessionsCommand() *cobra.Command {
	o := &operator{process: p}
	cmd := &cobra.Command{
		Use:   "end-sessions <id or email>",
		Short: "Sign an account out everywhere; its tokens stay",
		Args:  cobra.ExactArgs(1),
	}
	return o.command(cmd, func(ctx context.Context, args []string) error {
		u, err := o.findUser(ctx, args[0])
		if err != nil {
			return err
		}
		if err := o.store.Sessions().DeleteByUser(ctx, u.ID, ""); err != nil {
			return err
		}
		return o.store.Audit(ctx, o.by, "session.end", "user:"+u.ID, map[string]string{"by": "operator"})
	})
}
