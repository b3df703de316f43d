package workbench

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
	"patrol/policies/engine"
)

// Remedy is the smallest change to the facts that turns a denial into an allowance.
// It was found by trying: the policy allows the request with all of Changes made, and
// denies it with any fewer of them. Changes are of single facts; there may be other
// ways that are as small, such as another role.
type Remedy struct {
	Changes []Change `json:"changes"`
	// Alternatives are other changes of the same size, at most five.
	Alternatives [][]Change `json:"alternatives,omitempty"`
}

// Change is a change of one fact.
type Change struct {
	Kind FactKind `json:"kind"`
	// Title says what would have to be, for people. Command is how the fact is
	// changed at the shell, "" if it is not.
	Title   string `json:"title"`
	Command string `json:"command,omitempty"`
	// Edits are the same for programs.
	Edits []engine.Edit `json:"edits"`
}

// FactKind is which fact a change is of.
type FactKind string

// The facts that can be changed.
const (
	FactToken      FactKind = "token"      // another token: neither revoked nor expired, and new
	FactScope      FactKind = "scope"      // a scope more
	FactApproval   FactKind = "approval"   // the domain's, of the token
	FactWithdrawal FactKind = "withdrawal" // the domain's, of the token
	FactUser       FactKind = "user"       // the owner's account
	FactDomain     FactKind = "domain"     // that it exists, and its status
	FactMembership FactKind = "membership" // that the owner is a member
	FactRole       FactKind = "role"       // of a member
	FactAdmin      FactKind = "admin"      // the owner becomes a platform admin
)

const (
	// adminCost is the cost of making somebody a platform admin: more than
	// everything else together, so that it is only advised where nothing else helps.
	adminCost = 100
	// maxRoles bounds the roles that are tried, the weakest first.
	maxRoles = 40
	// maxAlternatives bounds the alternatives that are told.
	maxAlternatives = 5
	// grantedScope is the id of the scope that a change adds.
	grantedScope = "added"
	// newTokenLives is the lifetime of the token that a change makes, in seconds.
	newTokenLives = 3600
)

// Apply returns input, a JSON object, with the changes made. Input is not changed.
func Apply(input map[string]any, changes []Change) map[string]any {
	for _, c := range changes {
		for _, e := range c.Edits {
			input = engine.Edited(input, e.Path, e.Value)
		}
	}
	return input
}

// remedy looks for the smallest change that would allow what input asks for.
func remedy(ctx context.Context, s *engine.Snapshot, input object) (*Remedy, error) {
	var found *Remedy
	best := 0
	for _, set := range changeSets(s.Catalog(), input) {
		if found != nil && (set.cost > best || len(found.Alternatives) == maxAlternatives) {
			break
		}
		v, err := ast.InterfaceToValue(Apply(input, set.changes))
		if err != nil {
			return nil, fmt.Errorf("try a change: %w", err)
		}
		d, err := s.DecideInput(ctx, ast.NewTerm(v))
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("look for a change: %w", ctx.Err())
		case err != nil || !d.Allowed:
		case found == nil:
			found, best = &Remedy{Changes: set.changes}, set.cost
		default:
			found.Alternatives = append(found.Alternatives, set.changes)
		}
	}
	return found, nil
}

// changeSet is some changes that are made together.
type changeSet struct {
	changes []Change
	cost    int
}

// changeSets are all sets of possible changes, the smallest first. At most one of
// the changes of a group is in a set.
func changeSets(catalog models.Catalog, input object) []changeSet {
	sets := []changeSet{{}}
	for _, group := range changeGroups(catalog, input) {
		for _, set := range slices.Clone(sets) {
			for _, c := range group {
				cost := 1
				if c.Kind == FactAdmin {
					cost = adminCost
				}
				sets = append(sets, changeSet{append(slices.Clone(set.changes), c), set.cost + cost})
			}
		}
	}
	slices.SortStableFunc(sets, func(a, b changeSet) int { return cmp.Compare(a.cost, b.cost) })
	return sets[1:]
}

// admission is the change by which a domain takes its withdrawal of the token back, if
// there is one.
func admission(input object, domain string) (c Change, ok bool) {
	token, _ := input["token"].(object)
	withdrawn, _ := token["withdrawn"].(object)
	if _, there := withdrawn[domain]; !there {
		return c, false
	}
	without := maps.Clone(withdrawn)
	delete(without, domain)
	return Change{
		Kind:  FactWithdrawal,
		Title: fmt.Sprintf("the domain %s takes its withdrawal of the token back", domain),
		Edits: []engine.Edit{{Path: []string{"token", "withdrawn"}, Value: without}},
	}, true
}

// changeGroups are the changes that can be made to the facts of input.
func changeGroups(catalog models.Catalog, input object) [][]Change {
	request, _ := input["request"].(object)
	text := func(field string) string { s, _ := request[field].(string); return s }
	asked := models.Request{
		Domain: text("domain"), EntityType: text("entity_type"), Entity: text("entity"), Operation: text("operation"),
	}
	user, _ := input["user"].(object)
	owner, _ := user["email"].(string)
	if owner = shellWord(owner); owner == "" {
		owner = "<owner>"
	}
	now, _ := number(input["now"])

	groups := [][]Change{tokenChanges(now), userChanges(user == nil), roleChanges(catalog, input, asked.Domain, owner)}
	if asked.Domain != "" {
		groups = append(groups, domainChanges(input, asked.Domain), []Change{{
			Kind:  FactApproval,
			Title: fmt.Sprintf("the domain %s approves of the token", asked.Domain),
			Edits: []engine.Edit{{Path: []string{"token", "approvals", asked.Domain}, Value: now}},
		}})
		if change, ok := admission(input, asked.Domain); ok {
			groups = append(groups, []Change{change})
		}
	}
	if asked.Validate() == nil {
		groups = append(groups, []Change{{
			Kind:  FactScope,
			Title: "the token has the scope " + asked.Scope(),
			Edits: []engine.Edit{{Path: []string{"token", "scopes", asked.Domain, asked.EntityType, asked.Operation, asked.Entity}, Value: grantedScope}},
		}})
	}
	return append(groups, []Change{{
		Kind: FactAdmin, Title: "the owner is a platform admin", Command: fmt.Sprintf("patrol user set %s --admin", owner),
		Edits: []engine.Edit{{Path: []string{"user", "admin"}, Value: true}},
	}})
}

func tokenChanges(now int64) []Change {
	return []Change{{
		Kind: FactToken, Title: "the token is a new one, neither revoked nor expired",
		Edits: []engine.Edit{
			{Path: []string{"token", "revoked"}, Value: false},
			{Path: []string{"token", "created_at"}, Value: now},
			{Path: []string{"token", "expires_at"}, Value: now + newTokenLives},
		},
	}}
}

func userChanges(gone bool) []Change {
	c := Change{Kind: FactUser, Title: "the owner's account is enabled", Edits: []engine.Edit{{Path: []string{"user", "disabled"}, Value: false}}}
	if gone {
		c.Title = "the owner has an account"
	}
	return []Change{c}
}

func domainChanges(input object, id string) []Change {
	c := Change{
		Kind: FactDomain, Title: fmt.Sprintf("the domain %s is enabled", id), Command: fmt.Sprintf("patrol domain set-status %s enabled", shellWord(id)),
		Edits: []engine.Edit{{Path: []string{"domain", "id"}, Value: id}, {Path: []string{"domain", "status"}, Value: string(models.DomainEnabled)}},
	}
	if input["domain"] == nil {
		c.Title, c.Command = fmt.Sprintf("the domain %s exists", id), "patrol domain create "+shellWord(id)
	}
	return []Change{c}
}

// roleChanges are the other roles that the owner could have in the domain, those
// that permit the least first.
func roleChanges(catalog models.Catalog, input object, domain, owner string) (changes []Change) {
	membership, _ := input["membership"].(object)
	has, member := membership["role"].(string)
	size := func(role string) (n int) {
		for _, operations := range catalog.Roles[role] {
			n += len(operations)
		}
		return n
	}
	roles := slices.Sorted(maps.Keys(catalog.Roles))
	slices.SortStableFunc(roles, func(a, b string) int { return cmp.Compare(size(a), size(b)) })
	for _, role := range roles[:min(len(roles), maxRoles)] {
		if role == has {
			continue
		}
		c := Change{
			Kind: FactMembership, Title: fmt.Sprintf("the owner is a member of the domain, as %s", role),
			Command: fmt.Sprintf("patrol member set %s %s %s", shellWord(domain), owner, role),
			Edits:   []engine.Edit{{Path: []string{"membership", "role"}, Value: role}},
		}
		if member {
			c.Kind, c.Title = FactRole, fmt.Sprintf("the owner's role is %s, not %s", role, has)
		}
		changes = append(changes, c)
	}
	return changes
}

// shellWord quotes what a shell would take apart.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@._+-:/", r)
	}
	if s == "" || strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// number reads a number of an input document.
func number(v any) (int64, bool) {
	switch v := v.(type) {
	case json.Number:
		n, err := v.Int64()
		return n, err == nil
	case int64:
		return v, true
	case int:
		return int64(v), true
	case float64:
		return int64(v), true
	}
	return 0, false
}
