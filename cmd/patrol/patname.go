package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"patrol/api"
	"patrol/models"
)

// preference says which token a name means if several have or had it: after a
// rotation with a grace, two of them are active.
type preference bool

const (
	preferAlive preference = true
	preferDead  preference = false
)

func (want preference) match(pat api.PAT) bool {
	return (pat.Status == models.StatusActive) == bool(want)
}

// find returns the token that text names: by id, or by name.
func (c *client) find(ctx context.Context, text string, prefer preference) (api.PAT, error) {
	if blank(text) {
		return api.PAT{}, usagef("which token? Name it by its id or name")
	}
	if strings.HasPrefix(text, models.TokenPrefix) {
		return api.PAT{}, usagef("name the token by its id or name, not by its text: others can see arguments")
	}
	var unknown error
	if len(text) == models.IDLength {
		pat, err := c.api.PAT(ctx, text)
		if !api.Is(err, models.CodeNotFound) {
			return pat, c.signedIn(err)
		}
		unknown = err
	}
	pats, err := c.api.PATs(ctx, api.PATFilter{Name: text})
	if err != nil {
		return api.PAT{}, c.signedIn(err)
	}
	pats = narrow(pats, prefer.match)
	if prefer == preferAlive {
		pats = narrow(pats, func(pat api.PAT) bool { return !rotated(pat) })
	}
	switch len(pats) {
	case 1:
		return pats[0], nil
	case 0:
		if unknown == nil {
			unknown = &api.Error{Problem: api.Problem{Code: string(models.CodeNotFound), Detail: "there is none", Status: 404}}
		}
		return api.PAT{}, fmt.Errorf("you have no token with the id or name %q: %w", printable(text), unknown)
	}
	ids := make([]string, len(pats))
	for i, pat := range pats {
		ids[i] = pat.ID
	}
	return api.PAT{}, fmt.Errorf("%d tokens are named %q: name one by its id: %s", len(pats), printable(text), strings.Join(ids, ", "))
}

// narrow returns those tokens that match, or all of them if none does.
func narrow(pats []api.PAT, match func(api.PAT) bool) []api.PAT {
	matching := slices.DeleteFunc(slices.Clone(pats), func(pat api.PAT) bool { return !match(pat) })
	if len(matching) == 0 {
		return pats
	}
	return matching
}

// rotated says whether another token has taken the place, and the name, of pat.
func rotated(pat api.PAT) bool { return pat.RotatedTo != nil && *pat.RotatedTo != "" }

// completePATs completes the names of tokens, for the first most arguments, or
// for all of them if most is negative.
func (c *client) completePATs(prefer preference, most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most || c.connectSignedIn() != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
		defer cancel()
		pats, err := c.api.PATs(ctx, api.PATFilter{})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []cobra.Completion
		for _, pat := range pats {
			if prefer.match(pat) && (prefer == preferDead || !rotated(pat)) && !slices.Contains(args, pat.Name) {
				names = append(names, cobra.CompletionWithDesc(printable(pat.Name), string(pat.Status)+", expires "+moment(&pat.ExpiresAt)))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeScopes offers, for each domain of the user, what the role there
// permits, on any entity.
func (c *client) completeScopes(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	const directive = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	if c.connectSignedIn() != nil {
		return nil, directive
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
	defer cancel()
	me, err := c.api.Me(ctx)
	if err != nil {
		return nil, directive
	}
	catalog, err := c.api.Catalog(ctx)
	if err != nil {
		return nil, directive
	}
	var scopes []cobra.Completion
	for _, m := range me.Memberships {
		for _, name := range slices.Sorted(maps.Keys(catalog.EntityTypes)) {
			for _, operation := range slices.Sorted(maps.Keys(catalog.EntityTypes[name].Operations)) {
				if me.Admin || catalog.Roles[m.Role].Permits(name, operation) {
					s := models.Scope{Domain: m.Domain, EntityType: name, Entity: models.Any, Operation: operation}
					scopes = append(scopes, cobra.CompletionWithDesc(s.String(), catalog.EntityTypes[name].Operations[operation].Title))
				}
			}
		}
	}
	return scopes, directive
}
