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
	var everybody bool
	var of api.AdviceFilter
	cmd := &cobra.Command{
		Use:   "advise [<id or name>]",
		Short: "Say what your tokens could do without",
		Long: `Say which scopes of a token, or of all your live ones, were not used in the last days, and which could name what they were used for instead of
"any". What is advised is printed as a command. It says how much of the period is known: decisions that were not logged may have used a scope.

With --all it lists the tokens of all users that could do with less, those with the most unused scopes first, with the command for their owners. That is for
platform admins and the policy team. Tokens that were made within the period are left out, and so are all if the log does not cover it, unless --uncertain says otherwise.`,
		Example: `  patrol pat advise
  patrol pat advise ci --days 90
  patrol pat advise --all --domain acme`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.completePATs(preferAlive, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if days < 1 {
				return usagef("--days must be at least 1")
			}
			switch {
			case everybody && len(args) > 0:
				return usagef("--all is about all tokens: leave %s out, or --all", args[0])
			case !everybody && of != api.AdviceFilter{}:
				return usagef("--owner, --domain and --uncertain go with --all")
			}
			if err := c.connectSignedIn(); err != nil {
				return err
			}
			if everybody {
				of.Days = days
				return c.signedIn(c.adviseAll(ctx, of))
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
	cmd.Flags().BoolVar(&everybody, "all", false, "list the tokens of all users that could do with less")
	cmd.Flags().StringVar(&of.Owner, "owner", "", "with --all: part of the owner's address")
	cmd.Flags().StringVar(&of.Domain, "domain", "", "with --all: a domain that a scope reaches")
	cmd.Flags().BoolVar(&of.Uncertain, "uncertain", false, "with --all: also what the log does not suffice for")
	c.addServer(cmd)
	addOutput(cmd, &c.output)
	return cmd
}

// adviseAll prints advice on the tokens of all users.
func (c *client) adviseAll(ctx context.Context, of api.AdviceFilter) error {
	page, err := c.api.AdviseAll(ctx, of)
	if err != nil {
		return err
	}
	if c.json() {
		return c.printJSON(page)
	}
	var b strings.Builder
	for _, a := range page.Items {
		fmt.Fprintf(&b, "%s  %s  (%s)\n  of %d scopes %d were not used and %d could name what they were used for; last used %s\n", a.TokenID, printable(a.Name),
			printable(a.Email), len(a.Scopes), a.UnusedScopes, a.WideScopes, moment(a.LastUsedAt))
		if !a.Enough {
			b.WriteString("  this is not sure: the log does not cover the period, or not all of it has passed since the token was made\n")
		}
		fmt.Fprintf(&b, "  %s\n", printable(a.Command()))
	}
	if len(page.Items) > 0 {
		b.WriteString("\n")
	}
	if page.Enough || of.Uncertain {
		t := page.Tokens
		fmt.Fprintf(&b, "Live tokens: %d judged by the last %d days, of which %d could do with less, %d of them not used at all; %d too young to judge.\n",
			t.Judged, page.Days, t.Narrowable, t.Unused, t.TooYoung)
	}
	switch from := page.Coverage.From; {
	case page.Enough:
	case from == nil:
		fmt.Fprintf(&b, "Nothing is known: no decision of the last %d days is in the log.\n", page.Days)
	default:
		fmt.Fprintf(&b, "The log does not cover the last %d days: decisions are known since %s, and %d were not logged.", page.Days, from.Format("2006-01-02"), page.Coverage.Lost)
		if !of.Uncertain {
			b.WriteString(" Ask about fewer --days, or add --uncertain to go by what is known.")
		}
		b.WriteString("\n")
	}
	return c.printf("%s", b.String())
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
			fmt.Fprintf(&b, "       -> %s\n", printable(to.String()))
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
		fmt.Fprintf(&b, "It was not used. To end it:\n  %s\n", a.Command())
	case a.Command() == "":
		b.WriteString("Every scope is needed as it is.\n")
	default:
		fmt.Fprintf(&b, "To leave it what it used:\n  %s\n", printable(a.Command()))
	}
	return b.String()
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
