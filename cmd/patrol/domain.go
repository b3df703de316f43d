package main

import (
	"context"

	"github.com/spf13/cobra"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

func (p *process) domainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "domain",
		Aliases: []string{"domains"},
		GroupID: groupOperator,
		Short:   "Domains, the workspaces that tokens reach",
		Long:    "Make and change domains, straight on the database. A running server obeys within a second.",
		Example: `  patrol domain create acme --name "Acme Inc."
  patrol domain set-status acme frozen`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.domainCreateCommand(), p.domainListCommand(), p.domainStatusCommand(), p.domainLimitsCommand(), p.domainApproveCommand(), p.domainWithdrawCommand())
	return cmd
}

func (p *process) domainCreateCommand() *cobra.Command {
	o := &operator{process: p}
	var id, name string
	cmd := &cobra.Command{
		Use:   "create <id>",
		Short: "Make a domain",
		Long:  "Make a domain. Its id, 1 to 63 characters of a-z, 0-9 and -, never changes and is never used again.",
		Args:  cobra.MaximumNArgs(1),
	}
	o.command(cmd, func(ctx context.Context, args []string) error {
		var err error
		if id, err = argument(args, 0, id, "id"); err != nil {
			return err
		}
		if name == "" {
			name = id
		}
		var v models.Invalid
		models.ValidateDomainID("id", id, &v)
		models.ValidateName("name", name, &v)
		if err := v.Err(); err != nil {
			return err
		}
		d, err := o.store.CreateDomain(ctx, o.by, models.Domain{ID: id, Name: name, Status: models.DomainEnabled})
		if err != nil {
			return err
		}
		return o.printDomains(d)
	})
	cmd.Flags().StringVar(&id, "id", "", "id (in place of the argument)")
	cmd.Flags().StringVar(&name, "name", "", "name (default: the id)")
	return cmd
}

func (p *process) domainListCommand() *cobra.Command {
	o := &operator{process: p}
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List all domains", Args: cobra.NoArgs}
	return o.command(cmd, func(ctx context.Context, _ []string) error {
		domains, err := all(func(page store.Page) ([]models.Domain, string, error) {
			return o.store.Domains(ctx, store.DomainFilter{}, page)
		})
		if err != nil {
			return err
		}
		if o.json() {
			out := make([]api.Domain, len(domains))
			for i, d := range domains {
				out[i] = wireDomain(d)
			}
			return o.printJSON(out)
		}
		return o.printDomains(domains...)
	})
}

func wireDomain(d models.Domain) api.Domain {
	return api.Domain{ID: d.ID, Name: d.Name, Status: d.Status, CreatedAt: d.CreatedAt.UTC()}
}

// printDomains shows domains; in JSON it is given exactly one.
func (o *operator) printDomains(domains ...models.Domain) error {
	if o.json() {
		return o.printJSON(wireDomain(domains[0]))
	}
	rows := make([][]string, len(domains))
	for i, d := range domains {
		rows[i] = []string{d.ID, d.Name, string(d.Status), moment(&d.CreatedAt)}
	}
	return o.printTable([]column{{title: "ID", shrink: true}, {title: "NAME", shrink: true}, {title: "STATUS"}, {title: "CREATED"}}, rows)
}

func (p *process) domainStatusCommand() *cobra.Command {
	o := &operator{process: p}
	var id, status string
	cmd := &cobra.Command{
		Use:   "set-status <id> <enabled|disabled|frozen>",
		Short: "Say who gets into a domain",
		Long: `Say who gets into a domain: its members (enabled), its admins and platform admins (disabled), or platform admins
alone (frozen).`,
		Args: cobra.MaximumNArgs(2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) != 1 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return []cobra.Completion{string(models.DomainEnabled), string(models.DomainIsDisabled), string(models.DomainIsFrozen)}, cobra.ShellCompDirectiveNoFileComp
		},
	}
	o.command(cmd, func(ctx context.Context, args []string) error {
		var err error
		if id, err = argument(args, 0, id, "id"); err != nil {
			return err
		}
		if status, err = argument(args, 1, status, "status"); err != nil {
			return err
		}
		to := models.DomainStatus(status)
		var v models.Invalid
		models.ValidateDomainStatus("status", to, &v)
		if err := v.Err(); err != nil {
			return err
		}
		d, err := o.store.UpdateDomain(ctx, o.by, id, store.DomainPatch{Status: &to})
		if err != nil {
			return err
		}
		return o.printDomains(d)
	})
	cmd.Flags().StringVar(&id, "id", "", "id (in place of the argument)")
	cmd.Flags().StringVar(&status, "status", "", "enabled, disabled or frozen (in place of the argument)")
	return cmd
}
