package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"patrol/api"
	"patrol/models"
)

func (p *process) userIdentitiesCommand() *cobra.Command {
	o := &operator{process: p}
	var named string
	cmd := &cobra.Command{
		Use:     "identities <id or email>",
		Short:   "Show who an account is at identity providers, each a way into it",
		Example: `  patrol user identities ada@example.com`,
		Args:    cobra.MaximumNArgs(1),
	}
	o.command(cmd, func(ctx context.Context, args []string) error {
		_, found, err := o.identitiesOf(ctx, args, named)
		if err != nil {
			return err
		}
		return o.printIdentities(found)
	})
	cmd.Flags().StringVar(&named, "user", "", "id or email address (in place of the argument)")
	return cmd
}

// identitiesOf returns the user that a command names, and the identities of the user.
func (o *operator) identitiesOf(ctx context.Context, args []string, named string) (models.User, []models.Identity, error) {
	u, err := o.userArgument(ctx, args, 0, named)
	if err != nil {
		return u, nil, err
	}
	found, err := o.store.Identities(ctx, u.ID)
	return u, found, err
}

func (o *operator) printIdentities(found []models.Identity) error {
	if o.json() {
		out := make([]api.Identity, len(found))
		for i, one := range found {
			out[i] = api.IdentityOf(one)
		}
		return o.printJSON(out)
	}
	rows := make([][]string, len(found))
	for i, one := range found {
		rows[i] = []string{one.ID(), one.Issuer, printable(one.Subject), moment(&one.CreatedAt), moment(one.LastUsedAt)}
	}
	return o.printTable([]column{{title: "ID"}, {title: "ISSUER", shrink: true}, {title: "SUBJECT", shrink: true}, {title: "SINCE"}, {title: "LAST USED"}}, rows)
}

func (p *process) userDisconnectCommand() *cobra.Command {
	o := &operator{process: p}
	var named, identity string
	cmd := &cobra.Command{
		Use:   "disconnect <id or email> --identity <id>",
		Short: "Disconnect an account from an identity provider and end its sessions",
		Long: `Disconnect an account from an identity provider and end its sessions. Its tokens stay. An account without a password cannot be signed in to
then; see 'patrol user reset-link'.`,
		Example: `  patrol user disconnect ada@example.com --identity 2bmtA0cQbCHVTLkH`,
		Args:    cobra.MaximumNArgs(1),
	}
	o.command(cmd, func(ctx context.Context, args []string) error {
		if identity == "" {
			return usagef("say which: --identity with an id of 'patrol user identities'")
		}
		u, found, err := o.identitiesOf(ctx, args, named)
		if err != nil {
			return err
		}
		for _, one := range found {
			if one.ID() == identity {
				if err := o.store.UnlinkIdentity(ctx, o.by, u.ID, one.Issuer, true, ""); err != nil {
					return err
				}
				return o.printIdentities([]models.Identity{one})
			}
		}
		return models.NewError(models.CodeNotFound, fmt.Sprintf("%s has no identity %q", u.Email, printable(identity)))
	})
	cmd.Flags().StringVar(&named, "user", "", "id or email address (in place of the argument)")
	cmd.Flags().StringVar(&identity, "identity", "", "id of the identity, of 'patrol user identities'")
	return cmd
}
