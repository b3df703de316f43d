package main

import (
	"context"

	"github.com/spf13/cobra"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

func (p *process) memberCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "member",
		Aliases: []string{"members"},
		GroupID: groupOperator,
		Short:   "Who has which role in a domain",
		Long:    "Give and take roles in domains, straight on the database. A user is named by id or email address. A running server obeys within a second.",
		Example: `  patrol member set acme ada@example.com member
  patrol member remove acme ada@example.com`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.memberSetCommand(), p.memberRemoveCommand(), p.memberListCommand())
	return cmd
}

// membership holds domain, user and role of the member commands: as
// arguments in this order, or as flags.
type membership struct{ domain, user, role string }

func (m *membership) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&m.domain, "domain", "", "domain (in place of the argument)")
	cmd.Flags().StringVar(&m.user, "user", "", "id or email address (in place of the argument)")
}

func (p *process) memberSetCommand() *cobra.Command {
	o := &operator{process: p}
	var m membership
	cmd := &cobra.Command{
		Use:   "set <domain> <id or email> <role>",
		Short: "Give a user a role in a domain",
		Long:  "Give a user a role in a domain, in place of the one they had. The roles are those of the policy.",
		Args:  cobra.MaximumNArgs(3),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) != 2 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return p.completeRoles(cmd), cobra.ShellCompDirectiveNoFileComp
		},
	}
	o.command(cmd, func(ctx context.Context, args []string) error {
		var err error
		if m.domain, err = argument(args, 0, m.domain, "domain"); err != nil {
			return err
		}
		if m.user, err = argument(args, 1, m.user, "user"); err != nil {
			return err
		}
		if m.role, err = argument(args, 2, m.role, "role"); err != nil {
			return err
		}
		policy, err := loadPolicy(ctx, o.cfg, o.store)
		if err != nil {
			return err
		}
		var v models.Invalid
		policy.Catalog().ValidateRole("role", m.role, &v)
		if err := v.Err(); err != nil {
			return err
		}
		u, err := o.findUser(ctx, m.user)
		if err != nil {
			return err
		}
		if _, err := o.store.SetMember(ctx, o.by, models.Membership{UserID: u.ID, Domain: m.domain, Role: m.role}); err != nil {
			return err
		}
		member := store.Member{UserID: u.ID, Email: u.Email, Role: m.role}
		if o.json() {
			return o.printJSON(api.Member(member))
		}
		return o.printMembers(member)
	})
	m.addFlags(cmd)
	cmd.Flags().StringVar(&m.role, "role", "", "role (in place of the argument)")
	return cmd
}

// completeRoles offers the roles of the configured policy.
func (p *process) completeRoles(cmd *cobra.Command) []cobra.Completion {
	cfg, err := p.settings(cmd)
	if err != nil {
		return nil
	}
	policy, err := loadPolicy(cmd.Context(), cfg, nil)
	if err != nil {
		return nil
	}
	var roles []cobra.Completion
	for role := range policy.Catalog().Roles {
		roles = append(roles, role)
	}
	return roles
}

func (p *process) memberRemoveCommand() *cobra.Command {
	o := &operator{process: p}
	var m membership
	cmd := &cobra.Command{
		Use:     "remove <domain> <id or email>",
		Aliases: []string{"rm"},
		Short:   "Take a user's role in a domain away",
		Args:    cobra.MaximumNArgs(2),
	}
	o.command(cmd, func(ctx context.Context, args []string) error {
		var err error
		if m.domain, err = argument(args, 0, m.domain, "domain"); err != nil {
			return err
		}
		u, err := o.userArgument(ctx, args, 1, m.user)
		if err != nil {
			return err
		}
		return o.store.RemoveMember(ctx, o.by, u.ID, m.domain)
	})
	m.addFlags(cmd)
	return cmd
}

func (p *process) memberListCommand() *cobra.Command {
	o := &operator{process: p}
	var domain string
	cmd := &cobra.Command{
		Use:     "list <domain>",
		Aliases: []string{"ls"},
		Short:   "List the members of a domain",
		Args:    cobra.MaximumNArgs(1),
	}
	o.command(cmd, func(ctx context.Context, args []string) error {
		var err error
		if domain, err = argument(args, 0, domain, "domain"); err != nil {
			return err
		}
		d, err := o.store.Domain(ctx, domain)
		if err != nil {
			return err
		}
		if d == nil {
			return models.NewError(models.CodeNotFound, "there is no such domain")
		}
		members, err := all(func(page store.Page) ([]store.Member, string, error) {
			return o.store.Members(ctx, domain, store.MemberFilter{}, page)
		})
		if err != nil {
			return err
		}
		if o.json() {
			out := make([]api.Member, len(members))
			for i, m := range members {
				out[i] = api.Member(m)
			}
			return o.printJSON(out)
		}
		return o.printMembers(members...)
	})
	cmd.Flags().StringVar(&domain, "domain", "", "domain (in place of the argument)")
	return cmd
}

func (o *operator) printMembers(members ...store.Member) error {
	rows := make([][]string, len(members))
	for i, m := range members {
		rows[i] = []string{m.UserID, m.Email, m.Role}
	}
	return o.printTable([]column{{title: "USER ID"}, {title: "EMAIL", shrink: true}, {title: "ROLE"}}, rows)
}
