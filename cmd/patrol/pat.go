package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"patrol/api"
	"patrol/models"
)

func (p *process) patCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "pat",
		Aliases: []string{"pats", "token"},
		GroupID: groupClient,
		Short:   "Your personal access tokens",
		Long: `Create, look at and end your personal access tokens. A token is named by its id, or by its name if only one has it.

A scope says what a token may do: domain:type:entity:operation, with * for any domain or any entity.`,
		Example: `  patrol pat create --name ci --expires-in 30d --scope acme:models:*:read
  patrol pat list
  patrol pat rotate ci --grace 1h
  patrol pat revoke ci`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	hideSettings(cmd)
	cmd.AddCommand(p.patCreateCommand(), p.patListCommand(), p.patShowCommand(), p.patRenameCommand(), p.patAllowIPsCommand(),
		p.patRotateCommand(), p.patAdviseCommand(), p.patNarrowCommand(), p.patRevokeCommand(), p.patDeleteCommand(), p.patPurgeCommand())
	return cmd
}

func (p *process) patCreateCommand() *cobra.Command {
	c := &client{process: p}
	var in api.NewPAT
	var scopes []string
	var expiresAt string
	cmd := &cobra.Command{
		Use:   "create --name <name> --scope <domain:type:entity:operation>...",
		Short: "Create a token and show it, this once",
		Long: `Create a token. On a terminal it is shown with what it may do; otherwise it is printed alone, for a script to keep.
With --output json the whole record is printed, the token in its member "token".`,
		Example: `  patrol pat create --name ci --expires-in 30d --scope acme:models:*:read
  TOKEN=$(patrol pat create --name ci --scope acme:models:llama3:execute --scope acme:models:*:read)`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if in.Scopes, err = parseScopes(scopes); err != nil {
				return err
			}
			if in.ExpiresAt, err = parseMoment(expiresAt); err != nil {
				return err
			}
			if in.ExpiresAt != nil && !cmd.Flags().Changed("expires-in") {
				in.ExpiresIn = ""
			}
			if err := c.connectSignedIn(); err != nil {
				return err
			}
			var made api.PAT
			err = c.freshly(cmd.Context(), func() (err error) {
				made, err = c.api.CreatePAT(cmd.Context(), in)
				return err
			})
			if err != nil {
				return err
			}
			return c.reveal(cmd.Context(), made, "created")
		},
	}
	cmd.Flags().StringVar(&in.Name, "name", "", "name of the token")
	cmd.Flags().StringVar(&in.Description, "description", "", "what it is for")
	cmd.Flags().StringVar(&in.ExpiresIn, "expires-in", "30d", "how long it lives: 30d, 12h, 90s, P30D")
	cmd.Flags().StringVar(&expiresAt, "expires-at", "", "when it ends instead: 2027-01-31T12:00:00Z")
	cmd.Flags().StringArrayVar(&scopes, "scope", nil, "what it may do, as domain:type:entity:operation; repeat for more")
	cmd.Flags().StringSliceVar(&in.AllowedIPs, "allow-ip", nil, "an address or range that it works from, such as 203.0.113.0/24; repeat for more, none: from everywhere")
	_ = cmd.MarkFlagRequired("name") // these fail only for a flag that does not exist
	_ = cmd.MarkFlagRequired("scope")
	_ = cmd.RegisterFlagCompletionFunc("scope", c.completeScopes)
	c.addServer(cmd)
	addOutput(cmd, &c.output)
	return cmd
}

func parseScopes(texts []string) ([]api.NewScope, error) {
	scopes := make([]api.NewScope, 0, len(texts))
	for _, text := range texts {
		s, err := models.ParseScope(text)
		if err != nil {
			return nil, err
		}
		scopes = append(scopes, api.NewScope{Domain: s.Domain, EntityType: s.EntityType, Entity: s.Entity, Operation: s.Operation})
	}
	return scopes, nil
}

func parseMoment(text string) (*time.Time, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // absent is one of the answers
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, usagef("--expires-at must be a time such as 2027-01-31T12:00:00Z")
	}
	return &t, nil
}

// reveal shows a token that was just made. One that could not be shown nobody can
// use, but whoever finds its beginning; it is revoked.
func (c *client) reveal(ctx context.Context, pat api.PAT, done string) error {
	signal.Ignore(syscall.SIGPIPE) // a pipe that nobody reads is an error to tell, too
	err := c.printSecret(pat, done)
	if err == nil {
		return nil
	}
	if _, revokeErr := c.api.RevokePAT(context.WithoutCancel(ctx), pat.ID); revokeErr != nil {
		return fmt.Errorf("the token %s was %s and is live, but could not be shown (%w), nor revoked (%w): run 'patrol pat revoke %s'", pat.ID, done, err, revokeErr, pat.ID)
	}
	return fmt.Errorf("the token %s was %s, but could not be shown (%w), so it was revoked", pat.ID, done, err)
}

// printSecret shows a token: with its circumstances to people, alone to programs.
func (c *client) printSecret(pat api.PAT, done string) error {
	switch {
	case c.json():
		return c.printJSON(pat)
	case terminal(c.w) == nil:
		return c.printf("%s\n", pat.Token)
	}
	return c.printf("Token %q %s. Copy it now: it is not shown again.\n\n  %s\n\n%s", printable(pat.Name), done, pat.Token, describe(pat))
}

// describe lists a token's fields for people, one to a line.
func describe(pat api.PAT) string {
	var b strings.Builder
	line := func(name, value string) { fmt.Fprintf(&b, "%-12s %s\n", name, printable(value)) }
	line("id", pat.ID)
	line("name", pat.Name)
	if pat.Description != "" {
		for i, text := range strings.Split(pat.Description, "\n") {
			line([]string{"description", ""}[min(i, 1)], text)
		}
	}
	line("status", string(pat.Status))
	for i, s := range pat.Scopes {
		line([]string{"scopes", ""}[min(i, 1)], scopeText(s))
	}
	for i, entry := range pat.AllowedIPs {
		line([]string{"works from", ""}[min(i, 1)], entry)
	}
	line("created", moment(&pat.CreatedAt))
	line("expires", moment(&pat.ExpiresAt))
	used := moment(pat.LastUsedAt)
	if pat.LastUsedIP != nil && *pat.LastUsedIP != "" {
		used += " from " + *pat.LastUsedIP
	}
	line("last used", used)
	if pat.RevokedAt != nil {
		line("revoked", moment(pat.RevokedAt))
	}
	if by := pat.RevokedBy; by != nil && *by != models.RevokerOwner {
		who := strings.ReplaceAll(string(*by), "_", " ")
		if pat.RevokedDomain != nil {
			who += " of " + *pat.RevokedDomain
		}
		line("revoked by", who)
	}
	if pat.RevokedReason != nil {
		for i, text := range strings.Split(*pat.RevokedReason, "\n") {
			line([]string{"reason", ""}[min(i, 1)], text)
		}
	}
	if rotated(pat) {
		line("rotated to", *pat.RotatedTo)
	}
	return b.String()
}

func scopeText(s api.Scope) string {
	return models.Scope{Domain: s.Domain, EntityType: s.EntityType, Entity: s.Entity, Operation: s.Operation}.String()
}

func (p *process) patListCommand() *cobra.Command {
	c := &client{process: p}
	var filter api.PATFilter
	var status string
	cmd := &cobra.Command{
		Use:               "list",
		Aliases:           []string{"ls"},
		Short:             "List your tokens, newest first",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter.Status = models.Status(status)
			if err := c.connectSignedIn(); err != nil {
				return err
			}
			pats, err := c.api.PATs(cmd.Context(), filter)
			if err != nil {
				return c.signedIn(err)
			}
			if c.json() {
				return c.printJSON(pats)
			}
			rows := make([][]string, len(pats))
			for i, pat := range pats {
				scopes := make([]string, len(pat.Scopes))
				for j, s := range pat.Scopes {
					scopes[j] = scopeText(s)
				}
				rows[i] = []string{pat.ID, pat.Name, string(pat.Status), moment(&pat.ExpiresAt), moment(pat.LastUsedAt), strings.Join(scopes, " ")}
			}
			return c.printTable([]column{{title: "ID"}, {title: "NAME", shrink: true}, {title: "STATUS"}, {title: "EXPIRES"}, {title: "LAST USED"}, {title: "SCOPES", shrink: true}}, rows)
		},
	}
	cmd.Flags().StringVar(&status, "status", "", "only these: active, expired or revoked")
	cmd.Flags().StringVar(&filter.Name, "name", "", "only those of this name")
	_ = cmd.RegisterFlagCompletionFunc("status", fixed("active", "expired", "revoked")) // fails only for a flag that does not exist
	c.addServer(cmd)
	addOutput(cmd, &c.output)
	return cmd
}

// onePAT makes a command that does something to one token.
func (p *process) onePAT(c *client, use, short string, args int, do func(ctx context.Context, pat api.PAT, args []string) error) *cobra.Command {
	c.process = p
	cmd := &cobra.Command{
		Use:               use,
		Short:             short,
		Args:              cobra.ExactArgs(args),
		ValidArgsFunction: c.completePATs(preferAlive, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.connectSignedIn(); err != nil {
				return err
			}
			pat, err := c.find(cmd.Context(), args[0], preferAlive)
			if err != nil {
				return err
			}
			return c.signedIn(do(cmd.Context(), pat, args))
		},
	}
	c.addServer(cmd)
	addOutput(cmd, &c.output)
	return cmd
}

// print shows a token's record.
func (c *client) print(pat api.PAT) error {
	if c.json() {
		return c.printJSON(pat)
	}
	return c.printf("%s", describe(pat))
}

func (p *process) patShowCommand() *cobra.Command {
	c := &client{}
	return p.onePAT(c, "show <id or name>", "Show one of your tokens", 1,
		func(_ context.Context, pat api.PAT, _ []string) error { return c.print(pat) })
}

func (p *process) patRenameCommand() *cobra.Command {
	c := &client{}
	return p.onePAT(c, "rename <id or name> <new name>", "Give a token another name", 2,
		func(ctx context.Context, pat api.PAT, args []string) error {
			renamed, err := c.api.UpdatePAT(ctx, pat.ID, api.PATPatch{Name: &args[1]})
			if err != nil {
				return err
			}
			return c.print(renamed)
		})
}

func (p *process) patRotateCommand() *cobra.Command {
	c := &client{}
	var in api.Rotation
	var expiresAt string
	var cmd *cobra.Command
	cmd = p.onePAT(c, "rotate <id or name>", "Replace a token by one with a new secret", 1,
		func(ctx context.Context, pat api.PAT, _ []string) error {
			var err error
			if in.ExpiresAt, err = parseMoment(expiresAt); err != nil {
				return err
			}
			if in.ExpiresAt != nil && !cmd.Flags().Changed("expires-in") {
				in.ExpiresIn = ""
			}
			var next api.PAT
			err = c.freshly(ctx, func() (err error) {
				next, err = c.api.RotatePAT(ctx, pat.ID, in)
				return err
			})
			if err != nil {
				return err
			}
			return c.reveal(ctx, next, "rotated")
		})
	cmd.Long = `Replace a token by one with the same name and scopes and a new secret, which is printed as 'pat create' does.
The old one ends at once, or after --grace.`
	cmd.Flags().StringVar(&in.ExpiresIn, "expires-in", "30d", "how long the new one lives: 30d, 12h, 90s, P30D")
	cmd.Flags().StringVar(&expiresAt, "expires-at", "", "when the new one ends instead: 2027-01-31T12:00:00Z")
	cmd.Flags().StringVar(&in.Grace, "grace", "", "how long the old one lives on, such as 1h")
	return cmd
}

func (p *process) patRevokeCommand() *cobra.Command {
	c := &client{process: p}
	var all, yes, wait bool
	var reason string
	cmd := &cobra.Command{
		Use:   "revoke <id or name>... | --all",
		Short: "End tokens for good",
		Long: `End tokens for good. The next call with one of them is refused. A platform admin may name anybody's token by its id.

Other servers on the same database follow within moments, and within decisions.max_staleness at worst. With --wait the command ends when no server
can allow anything by the tokens any more; servers that did not say so, and trust nothing that they have cached, are named.`,
		Args: func(_ *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usagef("name the tokens to revoke, or give --all")
			}
			if all && (reason != "" || wait) {
				return usagef("--reason and --wait are for tokens that are named")
			}
			return nil
		},
		ValidArgsFunction: c.completePATs(preferAlive, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if err := c.connectSignedIn(); err != nil {
				return err
			}
			if all {
				if err := c.confirm(ctx, yes, "Revoke all of your tokens?"); err != nil {
					return err
				}
				return c.signedIn(c.api.RevokeAllPATs(ctx))
			}
			return each(args, func(name string) error {
				id := name
				switch pat, err := c.find(ctx, name, preferAlive); {
				case err == nil:
					id = pat.ID
				case !api.Is(err, models.CodeNotFound):
					return err // an id that is not ours may still be an admin's to revoke
				}
				if !wait {
					_, err := c.api.RevokePATFor(ctx, id, reason)
					return c.signedIn(err)
				}
				pat, err := c.api.RevokePATEverywhere(ctx, id, reason)
				if err != nil {
					return c.signedIn(err)
				}
				return c.printReached(name, pat.Servers)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "revoke all of your tokens")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the owner of the token to read")
	cmd.Flags().BoolVar(&wait, "wait", false, "end when no server can allow anything by the tokens")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask whether --all is meant")
	c.addServer(cmd)
	return cmd
}

func (p *process) patPurgeCommand() *cobra.Command {
	c := &client{process: p}
	var yes, all bool
	var olderThan, userID string
	cmd := &cobra.Command{
		Use:   "purge",
		Short: "Remove the records of dead tokens",
		Long: `Remove the records of your tokens that are revoked or expired. Until then they stay listed, and the key that they were hashed with is needed.
Platform admins may do the same for another user, or for everybody.`,
		Example: `  patrol pat purge --older-than 30d
  patrol pat purge --all --older-than 1y --yes`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if all && userID != "" {
				return usagef("--all and --user exclude each other")
			}
			if err := c.connectSignedIn(); err != nil {
				return err
			}
			whose := map[bool]string{true: "everybody's", false: "your"}[all]
			if userID != "" {
				whose = "the user's"
			}
			if err := c.confirm(ctx, yes, "Remove the records of "+whose+" dead tokens?"); err != nil {
				return err
			}
			var out api.Purged
			var err error
			if all || userID != "" {
				err = c.freshly(ctx, func() (err error) {
					out, err = c.api.PurgeOthersPATs(ctx, api.Purge{UserID: userID, All: all, OlderThan: olderThan})
					return err
				})
			} else {
				out, err = c.api.PurgePATs(ctx, olderThan)
			}
			if err := c.signedIn(err); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d removed.\n", out.Purged)
			return err
		},
	}
	cmd.Flags().StringVar(&olderThan, "older-than", "", "only those that are dead for so long, such as 30d")
	cmd.Flags().StringVar(&userID, "user", "", "id of another user, for platform admins")
	cmd.Flags().BoolVar(&all, "all", false, "everybody's, for platform admins")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask whether it is meant")
	c.addServer(cmd)
	return cmd
}

// printReached says which servers know that a token is revoked.
func (c *client) printReached(name string, servers *api.Reached) error {
	if servers == nil {
		return fmt.Errorf("%s is revoked; whether all servers know of it the server did not say: it is of an older version", name)
	}
	c.w = c.stdout // the command has no other form of output
	if err := c.printf("%s is revoked; servers that know it: %d\n", printable(name), servers.Acknowledged); err != nil {
		return err
	}
	for _, v := range servers.Lapsed {
		if err := c.printf("  %s did not say so, last seen %s; it trusts nothing that it has cached\n", printable(v.Name), v.LastSeen.UTC().Format(time.RFC3339)); err != nil {
			return err
		}
	}
	return nil
}

func (p *process) patDeleteCommand() *cobra.Command {
	c := &client{process: p}
	cmd := &cobra.Command{
		Use:               "delete <id or name>...",
		Aliases:           []string{"rm"},
		Short:             "Remove the records of dead tokens",
		Long:              "Remove the records of tokens that are expired or revoked. A live token must be revoked first.",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: c.completePATs(preferDead, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.connectSignedIn(); err != nil {
				return err
			}
			return each(args, func(name string) error {
				pat, err := c.find(cmd.Context(), name, preferDead)
				if err != nil {
					return err
				}
				return c.signedIn(c.api.DeletePAT(cmd.Context(), pat.ID))
			})
		},
	}
	c.addServer(cmd)
	return cmd
}

// each does something to every name, and reports each failure under its name.
func each(names []string, do func(name string) error) error {
	var errs []error
	for _, name := range names {
		err := do(name)
		if err != nil && len(names) > 1 {
			err = fmt.Errorf("%s: %w", name, err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// confirm asks whether something sweeping is meant.
func (c *client) confirm(ctx context.Context, yes bool, question string) error {
	if yes {
		return nil
	}
	answer, err := c.ask(ctx, question+" [y/N] ")
	switch {
	case errors.Is(err, errNoTerminal):
		return usagef("there is no terminal to ask on whether this is meant: give --yes")
	case err != nil:
		return err
	case strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes"):
		return nil
	default:
		return errors.New("nothing was done")
	}
}
