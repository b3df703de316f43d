package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"patrol/api"
	"patrol/models"
)

func (p *process) authorizeCommand() *cobra.Command {
	c := &client{process: p}
	var in api.AuthorizeItem
	var contextJSON, consistency string
	var fromStdin bool
	cmd := &cobra.Command{
		Use:     "authorize [domain:type:entity:operation]",
		Aliases: []string{"can"},
		GroupID: groupClient,
		Short:   "Ask whether a token may do something",
		Long: `Ask the server whether the holder of a token may do something: 'domain:type:entity:operation', or the four as flags.
Entity * stands for the collection.

The token comes from PATROL_TOKEN, or from standard input with --token-stdin; never from an argument, where other users of this machine could see it.
The exit status is 0 if allowed, 1 if denied, 2 if no decision could be made.`,
		Example: `  PATROL_TOKEN=patrol_… patrol authorize acme:models:llama3:read
  pass show ci-token | patrol authorize --token-stdin --domain acme --entity-type models --entity llama3 --operation read`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := question(&in, args, contextJSON); err != nil {
				return err
			}
			if consistency != "" && consistency != api.ConsistencyFull {
				return usagef("--consistency must be %q, or left out", api.ConsistencyFull)
			}
			token := p.getenv("PATROL_TOKEN")
			if fromStdin {
				var err error
				if token, err = p.readAll("token"); err != nil {
					return err
				}
			}
			token, err := plainToken(token)
			switch {
			case err != nil:
				return err
			case token == "":
				return usagef("which token? Set PATROL_TOKEN, or give --token-stdin and the token on standard input")
			}
			if err := c.connect(); err != nil {
				return err
			}
			ask := c.api.Authorize
			if consistency == api.ConsistencyFull {
				ask = c.api.AuthorizeFull
			}
			decision, err := ask(cmd.Context(), token, in)
			if err != nil {
				return err
			}
			return c.printDecision(decision)
		},
	}
	cmd.Flags().StringVar(&in.Domain, "domain", "", "domain")
	cmd.Flags().StringVar(&in.EntityType, "entity-type", "", "entity type, such as models")
	cmd.Flags().StringVar(&in.Entity, "entity", "", "entity, or * for the collection")
	cmd.Flags().StringVar(&in.Operation, "operation", "", "operation, such as read")
	cmd.Flags().StringVar(&contextJSON, "context", "", "JSON object for the policy")
	cmd.Flags().StringVar(&consistency, "consistency", "", "full has the server read the facts from its database, whatever it has cached")
	_ = cmd.RegisterFlagCompletionFunc("consistency", fixed(api.ConsistencyFull)) // fails only for a flag that does not exist
	cmd.Flags().BoolVar(&fromStdin, "token-stdin", false, "read the token from standard input")
	c.addServer(cmd)
	addOutput(cmd, &c.output)
	return cmd
}

// question completes what is asked from the argument in scope form.
func question(in *api.AuthorizeItem, args []string, contextJSON string) error {
	if len(args) == 1 {
		if in.Domain+in.EntityType+in.Entity+in.Operation != "" {
			return usagef("give either domain:type:entity:operation or the four flags, not both")
		}
		if strings.HasPrefix(args[0], models.TokenPrefix) {
			return usagef("a token does not belong into an argument, where others can see it: set PATROL_TOKEN or use --token-stdin")
		}
		s, err := models.ParseScope(args[0])
		if err != nil {
			return usagef("%q is not of the form domain:type:entity:operation", args[0])
		}
		in.Domain, in.EntityType, in.Entity, in.Operation = s.Domain, s.EntityType, s.Entity, s.Operation
	}
	req := models.Request{Domain: in.Domain, EntityType: in.EntityType, Entity: in.Entity, Operation: in.Operation}
	if err := req.Validate(); err != nil {
		return err
	}
	if contextJSON != "" {
		if err := json.Unmarshal([]byte(contextJSON), &in.Context); err != nil {
			return usagef("--context must be a JSON object")
		}
	}
	return nil
}

// printDecision shows a decision. The error is errDenied for a denial, and some
// other if nothing could be decided.
func (c *client) printDecision(d api.Decision) error {
	if c.json() {
		if err := c.printJSON(d); err != nil {
			return err
		}
	} else {
		word := "denied"
		if d.Allowed {
			word = "allowed"
		}
		if err := c.printf("%s\n", word); err != nil {
			return err
		}
		for _, r := range d.Reasons {
			if err := c.printf("  %s: %s\n", printable(string(r.Code)), printable(r.Message)); err != nil {
				return err
			}
		}
	}
	switch {
	case d.Allowed:
		return nil
	case d.Status == http.StatusServiceUnavailable:
		return fmt.Errorf("the server could not decide; its log has the cause under decision %s", d.DecisionID)
	default:
		return errDenied
	}
}
