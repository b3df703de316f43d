package main

import (
	"context"

	"github.com/spf13/cobra"

	"patrol/api"
	"patrol/models/store"
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
		codes, err := o.pendingCodes(ctx, id)
		if err != nil {
			return err
		}
		return printCodes(&o.output, codes)
	})
	cmd.Flags().BoolVar(&withdraw, "withdraw", false, "end the codes of the user")
	return cmd
}

// pendingCodes lists the codes of a user, or of all.
func (o *operator) pendingCodes(ctx context.Context, userID string) ([]api.PendingCode, error) {
	found, err := all(func(page store.Page) ([]store.PendingCode, string, error) {
		if userID == "" {
			return o.store.AllPendingCodes(ctx, page)
		}
		codes, err := o.store.PendingCodes(ctx, userID)
		return codes, "", err
	})
	codes := make([]api.PendingCode, len(found))
	for i, code := range found {
		codes[i] = api.PendingCode(code)
	}
	return codes, err
}

func printCodes(o *output, codes []api.PendingCode) error {
	if o.json() {
		return o.printJSON(codes)
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
		return o.store.Sessions().DeleteByUser(ctx, o.by, u.ID, "", "operator")
	})
}
