package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"patrol/api"
	"patrol/bundles"
	"patrol/models/store"
	"patrol/policies/engine/workbench"
	"patrol/server/manage"
)

func (p *process) policyShadowCommand() *cobra.Command {
	o := &operator{process: p}
	cmd := &cobra.Command{
		Use:   "shadow",
		Short: "Show what the policy would change that is judged beside the one in force",
		Long: `Show the shadow: the policy of shadow.policy, which servers judge decisions by beside the policy in force, and what it would have decided otherwise, by kind and
reason. The counts are of all servers on the database, and are a few seconds behind. 'patrol policy promote' puts it in force.`,
		Args: cobra.NoArgs,
	}
	return o.command(cmd, func(ctx context.Context, _ []string) error {
		s, err := manage.ReadShadow(ctx, o.store, "")
		if err != nil {
			return err
		}
		refused, err := o.refusedShadow(ctx, s)
		if err != nil {
			return err
		}
		if o.json() {
			return o.printJSON(s)
		}
		return o.printf("%s", shadowText(s, refused))
	})
}

// refusedShadow returns the refusal of what came after the shadow, "" if nothing did.
func (o *operator) refusedShadow(ctx context.Context, s api.PolicyShadow) (string, error) {
	events, err := o.store.PolicyEvents(ctx, store.PolicyShadowRefused, 1)
	if err != nil || len(events) == 0 {
		return "", err
	}
	e := events[0]
	if s.Shadow != nil && !e.At.After(s.Shadow.Since) {
		return "", nil
	}
	return fmt.Sprintf("%s %s of %s was refused: %s", moment(&e.At), e.Subject.Revision, e.Subject.Source, whatHappened(e.Subject)), nil
}

// shadowText puts a shadow into words.
func shadowText(s api.PolicyShadow, refused string) string {
	var b strings.Builder
	if refused != "" {
		fmt.Fprintf(&b, "%s\n\n", printable(refused))
	}
	if s.Shadow == nil && refused != "" {
		b.WriteString("No policy is judged beside the one in force.\n")
		return b.String()
	}
	if s.Shadow == nil {
		b.WriteString("No policy is judged beside the one in force: set shadow.policy (PATROL_SHADOW_POLICY) on the servers.\n")
		return b.String()
	}
	fmt.Fprintf(&b, "%s from %s, since %s\n  digest %s\n", printable(s.Shadow.Revision), printable(s.Shadow.Source), moment(&s.Shadow.Since), s.Shadow.Digest)
	if s.InForce {
		b.WriteString("It is in force: there is nothing to compare.\n")
		return b.String()
	}
	c := s.Counts
	if c.Judged == 0 {
		fmt.Fprintf(&b, "No decision of revision %s was judged by it yet.\n", printable(s.Base))
		return b.String()
	}
	fmt.Fprintf(&b, "%d decisions of revision %s from %s to %s, judged by it as well\n", c.Judged, printable(s.Base), moment(c.From), moment(c.To))
	for _, sum := range [...]struct {
		n    int64
		text string
	}{
		{c.Same, "the same"},
		{c.NewlyAllowed, changeNames[workbench.NewlyAllowed]},
		{c.NewlyDenied, changeNames[workbench.NewlyDenied]},
		{c.OtherReasons, changeNames[workbench.OtherReasons]},
		{c.OtherGrant, changeNames[workbench.OtherGrant]},
		{c.Errors, "could not be judged"},
		{c.Dropped, "more were passed over, for want of time or room"},
	} {
		fmt.Fprintf(&b, "  %6d %s\n", sum.n, sum.text)
	}
	for _, g := range s.Groups {
		fmt.Fprintf(&b, "\n%d %s\n", g.Count, changeNames[workbench.ChangeKind(g.Kind)])
		for _, reason := range g.Reasons {
			b.WriteString(reasonLine(workbench.ReplayReason(reason)))
		}
		for _, e := range g.Examples {
			fmt.Fprintf(&b, "    %s  %s  token %s  decision %s\n", moment(&e.At), printable(e.Request), printable(e.TokenID), printable(e.ID))
		}
	}
	fmt.Fprintf(&b, "\nTo put it in force: patrol policy promote %s\n", s.Shadow.Digest)
	return b.String()
}

func (p *process) policyPromoteCommand() *cobra.Command {
	o := &operator{process: p}
	var most int64
	cmd := &cobra.Command{
		Use:   "promote <digest or revision>",
		Short: "Put the shadow policy in force, on all servers, and pin it",
		Long: `Put the policy in force that was judged beside it, on all servers of this database within a second. Name it as 'patrol policy shadow' shows it: if the shadow is
another by now, nothing happens. It is pinned, since the policy's source holds the old one still. Ship it there too: as soon as the source has the very same, the pin
ends by itself. 'patrol policy rollback' takes it out of force again, and 'patrol policy resume' goes back to what the source holds.`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().Int64Var(&most, "max-changes", -1, "refuse if it decided more decisions otherwise than this; -1: any number")
	return o.command(cmd, func(ctx context.Context, args []string) error {
		if most < -1 {
			return usagef("--max-changes must be a number of decisions, or -1 for any")
		}
		name, err := o.usableShadow(ctx, args[0])
		if err != nil {
			return err
		}
		state, err := o.store.PromotePolicy(ctx, o.by, name, most)
		if err != nil {
			return err
		}
		if !o.json() {
			fmt.Fprintln(o.stderr, "It is pinned until the policy's source has the same: ship it there. 'patrol policy rollback' takes it back.")
		}
		return o.printPolicy(state)
	})
}

// usableShadow makes sure that the servers can load what is to be promoted, and returns its
// digest; a name that is not the shadow's is returned as it is, for the store to refuse.
func (o *operator) usableShadow(ctx context.Context, name string) (string, error) {
	s, err := o.store.PolicyShadow(ctx, "")
	if err != nil || name != s.Digest && name != s.Revision {
		return name, err
	}
	archive, err := o.store.ShadowArchive(ctx, s.Digest)
	if err != nil {
		return "", err
	}
	verifier, err := policyVerifier(o.cfg.Bundle)
	if err != nil {
		return "", fmt.Errorf("bundle.keys: %w", err)
	}
	record := bundles.Record{Digest: s.Digest, ArchiveDigest: s.ArchiveDigest, Revision: s.Revision, Source: s.Source}
	return s.Digest, bundles.Usable(ctx, record, archive, verifier)
}
