package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"patrol/api"
	"patrol/models"
)

func (p *process) patAdviseCommand() *cobra.Command {
	c := &client{process: p}
	var days int
	cmd := &cobra.Command{
		Use:   "advise [<id or name>]",
		Short: "Say what your tokens could do without",
		Long: `Say which scopes of a token, or of all your live ones, were not used in the last days, and which could name what they were used for instead of
"any". What is advised is printed as a command. It says how much of the period is known: decisions that were not logged may have used a scope.`,
		Example: `  patrol pat advise
  patrol pat advise ci --days 90`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.completePATs(preferAlive, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if days < 1 {
				return usagef("--days must be at least 1")
			}
			if err := c.connectSignedIn(); err != nil {
				return err
			}
			pats, err := c.advised(ctx, args)
			if err != nil {
				return c.signedIn(err)
			}
			all := make([]api.Advice, len(pats))
			for i, pat := range pats {
				if all[i], err = c.api.AdvisePAT(ctx, pat.ID, days); err != nil {
					return c.signedIn(err)
				}
			}
			if c.json() {
				if len(args) == 1 {
					return c.printJSON(all[0])
				}
				return c.printJSON(all)
			}
			for i, a := range all {
				if i > 0 {
					_ = c.printf("\n")
				}
				if err := c.printf("%s", adviceText(a)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&days, "days", 30, "how far back to look")
	c.addServer(cmd)
	addOutput(cmd, &c.output)
	return cmd
}

// advised are the tokens that advice is asked for.
func (c *client) advised(ctx context.Context, args []string) ([]api.PAT, error) {
	if len(args) == 1 {
		pat, err := c.find(ctx, args[0], preferAlive)
		return []api.PAT{pat}, err
	}
	pats, err := c.api.PATs(ctx, api.PATFilter{Status: models.StatusActive})
	if err == nil && len(pats) == 0 {
		err = errors.New("you have no live token")
	}
	return pats, err
}

// adviceText puts advice into words, with the command that follows it.
func adviceText(a api.Advice) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s\n", a.TokenID, printable(a.Name))
	for _, s := range a.Scopes {
		uses := "not used"
		if s.Uses > 0 {
			uses = fmt.Sprintf("used %d times, last %s", s.Uses, moment(s.LastUsedAt))
		}
		fmt.Fprintf(&b, "  %-7s %s  (%s)\n", s.Do, printable(scopeText(s.Scope)), uses)
		for _, to := range s.To {
			fmt.Fprintf(&b, "       -> %s\n", printable(newScopeText(to)))
		}
	}
	switch {
	case a.Coverage.From == nil:
		fmt.Fprintf(&b, "Nothing is known: no decision of the last %d days is in the log.\n", a.Days)
		return b.String()
	case !a.Enough:
		fmt.Fprintf(&b, "This rests on less than the last %d days: decisions are known since %s, and %d were not logged.\n",
			a.Days, a.Coverage.From.Format("2006-01-02"), a.Coverage.Lost)
	}
	switch {
	case a.Unused:
		fmt.Fprintf(&b, "It was not used. To end it:\n  patrol pat revoke %s\n", a.TokenID)
	case len(a.Narrowed) == 0:
		b.WriteString("Every scope is needed as it is.\n")
	default:
		fmt.Fprintf(&b, "To leave it what it used:\n  patrol pat narrow %s", a.TokenID)
		for _, s := range a.Narrowed {
			fmt.Fprintf(&b, " --scope '%s'", printable(newScopeText(s)))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func newScopeText(s api.NewScope) string {
	return models.Scope{Domain: s.Domain, EntityType: s.EntityType, Entity: s.Entity, Operation: s.Operation}.String()
}

func (p *process) patNarrowCommand() *cobra.Command {
	c := &client{}
	var scopes []string
	cmd := p.onePAT(c, "narrow <id or name> --scope <domain:type:entity:operation>...", "Leave a token some of its scopes, or narrower ones", 1,
		func(ctx context.Context, pat api.PAT, _ []string) error {
			keep, err := parseScopes(scopes)
			if err != nil {
				return err
			}
			narrowed, err := c.api.NarrowPAT(ctx, pat.ID, keep)
			if err != nil {
				return err
			}
			return c.print(narrowed)
		})
	cmd.Long = `Leave a token the given scopes, each within one that it has; the rest goes. 'patrol pat advise' says which were used.`
	cmd.Example = `  patrol pat narrow ci --scope acme:models:llama3:read`
	cmd.Flags().StringArrayVar(&scopes, "scope", nil, "what it may still do; repeat for more")
	_ = cmd.MarkFlagRequired("scope") // fails only for a flag that does not exist
	return cmd
}
