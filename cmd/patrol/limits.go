package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

func (p *process) domainLimitsCommand() *cobra.Command {
	o := &operator{process: p}
	var lifetime string
	var wildcards, approval bool
	cmd := &cobra.Command{
		Use:   "limits <id>",
		Short: "Show or set what a domain demands of tokens",
		Long: `Show what a domain demands of tokens, or set it with flags; what is not named stays. It binds the next call, of tokens that are
in use too. Before approval is demanded, approve what is to go on working: 'patrol domain approve <id> --all'.`,
		Example: `  patrol domain limits acme --max-lifetime 30d --wildcards=false
  patrol domain limits acme --max-lifetime none`,
		Args: cobra.ExactArgs(1),
	}
	o.command(cmd, func(ctx context.Context, args []string) error {
		d, err := o.store.Domain(ctx, args[0])
		if err != nil {
			return err
		}
		if d == nil {
			return models.NewError(models.CodeNotFound, "there is no such domain")
		}
		limits, changed := d.Limits, cmd.Flags().Changed
		if changed("max-lifetime") {
			if limits.MaxLifetime, err = lifetimeLimit(lifetime); err != nil {
				return err
			}
		}
		if changed("wildcards") {
			limits.NoWildcards = !wildcards
		}
		if changed("approval") {
			limits.Approval = approval
		}
		if limits != d.Limits {
			if *d, err = o.store.UpdateDomain(ctx, o.by, d.ID, store.DomainPatch{Limits: &limits}); err != nil {
				return err
			}
		}
		return o.printLimits(d.Limits)
	})
	cmd.Flags().StringVar(&lifetime, "max-lifetime", "", "how long after its creation a token works in the domain, such as 30d, or none")
	cmd.Flags().BoolVar(&wildcards, "wildcards", true, "scopes with * for domain or entity count")
	cmd.Flags().BoolVar(&approval, "approval", false, "a token works only once the domain approved it")
	return cmd
}

// lifetimeLimit reads a limit, or none.
func lifetimeLimit(text string) (time.Duration, error) {
	if text == "none" {
		return 0, nil
	}
	d, err := models.ParseDuration(text)
	if err != nil {
		return 0, err
	}
	if d < time.Second || d%time.Second != 0 {
		var v models.Invalid
		v.Add("max-lifetime", "must be whole seconds, at least 1, or none")
		return 0, v.Err()
	}
	return d, nil
}

func (o *operator) printLimits(l models.DomainLimits) error {
	lifetime, wildcards, approval := "none", "count", "not needed"
	out := api.DomainLimits{Wildcards: !l.NoWildcards, Approval: l.Approval}
	if l.MaxLifetime > 0 {
		lifetime = models.FormatDuration(l.MaxLifetime)
		out.MaxLifetime = &lifetime
	}
	if l.NoWildcards {
		wildcards = "do not count"
	}
	if l.Approval {
		approval = "needed"
	}
	if o.json() {
		return o.printJSON(out)
	}
	return o.printTable([]column{{title: "MAX LIFETIME"}, {title: "WILDCARDS"}, {title: "APPROVAL"}}, [][]string{{lifetime, wildcards, approval}})
}

func (p *process) domainApproveCommand() *cobra.Command {
	o := &operator{process: p}
	var all, withdraw bool
	cmd := &cobra.Command{
		Use:   "approve <id> <token id>... | --all",
		Short: "Approve tokens for a domain, or withdraw that",
		Long: `Approve tokens for a domain with the scopes that they have; --all are those that are alive and reach it now. It counts where the domain
demands approval. A scope that is added later ends it.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || all == (len(args) > 1) {
				return usagef("name the domain and the tokens, or give --all")
			}
			return nil
		},
	}
	o.command(cmd, func(ctx context.Context, args []string) error {
		domain, ids := args[0], args[1:]
		if all {
			var err error
			if ids, err = o.reaching(ctx, domain); err != nil {
				return err
			}
		}
		edit := func(id string) error {
			_, err := o.store.ApprovePAT(ctx, o.by, domain, id, nil)
			return err
		}
		if withdraw {
			edit = func(id string) error {
				_, err := o.store.WithdrawApproval(ctx, o.by, domain, id)
				return err
			}
		}
		if err := each(ids, edit); err != nil {
			return err
		}
		if all {
			fmt.Fprintf(cmd.ErrOrStderr(), "%d tokens\n", len(ids))
		}
		return nil
	})
	cmd.Flags().BoolVar(&all, "all", false, "all tokens that reach the domain")
	cmd.Flags().BoolVar(&withdraw, "withdraw", false, "take the approval back")
	return cmd
}

func (p *process) domainWithdrawCommand() *cobra.Command {
	o := &operator{process: p}
	var reason string
	var undo bool
	cmd := &cobra.Command{
		Use:   "withdraw <id> <token id>...",
		Short: "Have a domain take tokens of platform admins no more, or take that back",
		Long: `Have a domain take tokens of platform admins no more. They work elsewhere as before; their owners are shown the reason. Tokens of others are
revoked instead. A rotation passes it on; --undo takes it back.`,
		Example: `  patrol domain withdraw acme Ab3dEf6hIj9kLm2n --reason "Not for production data"
  patrol domain withdraw acme Ab3dEf6hIj9kLm2n --undo`,
		Args: cobra.MinimumNArgs(2),
	}
	o.command(cmd, func(ctx context.Context, args []string) error {
		if undo == (reason != "") {
			return usagef("give the reason with --reason, or --undo")
		}
		var v models.Invalid
		models.ValidateReason("reason", reason, !undo, &v)
		if err := v.Err(); err != nil {
			return err
		}
		return each(args[1:], func(id string) error {
			if undo {
				_, err := o.store.AdmitPAT(ctx, o.by, args[0], id)
				return err
			}
			_, err := o.store.WithdrawPAT(ctx, o.by, args[0], id, reason)
			return err
		})
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the owners of the tokens")
	cmd.Flags().BoolVar(&undo, "undo", false, "take the withdrawal back")
	return cmd
}

// reaching returns the ids of the tokens that are alive and reach a domain.
func (o *operator) reaching(ctx context.Context, domain string) ([]string, error) {
	found, err := all(func(page store.Page) ([]store.OwnedPAT, string, error) {
		return o.store.SearchPATs(ctx, store.PATSearch{Within: domain, Status: models.StatusActive}, page)
	})
	ids := make([]string, len(found))
	for i, one := range found {
		ids[i] = one.ID
	}
	return ids, err
}
