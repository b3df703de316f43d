package engine

import (
	"math"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
)

// HypotheticalToken prepares `input.token` for a question about a user, who shows no token: one
// whose only scope is the request, made now, approved of by the domain, with the given lifetime
// cut to the domain's maximum. So the answer says what the user could have a token do.
// domain may be nil.
func HypotheticalToken(req models.Request, domain *Value, now time.Time, lifetime time.Duration) *Value {
	if most := domain.maxLifetime(); most > 0 {
		lifetime = min(lifetime, most)
	}
	made := unix(now)
	id := ast.StringTerm(models.HypotheticalID)
	scopes := tree{}
	scopes.at(req.Domain).at(req.EntityType).at(req.Operation)[req.Entity] = models.HypotheticalID
	return newValue(
		ast.Item(key.id, id),
		ast.Item(key.name, id),
		ast.Item(key.revoked, ast.InternedTerm(false)),
		ast.Item(key.createdAt, made),
		ast.Item(key.expiresAt, unix(now.Add(lifetime))),
		ast.Item(key.scopes, scopes.term()),
		ast.Item(key.approvals, ast.ObjectTerm(ast.Item(sharedText(req.Domain), made))),
		ast.Item(key.hypothetical, ast.InternedTerm(true)),
	).fit(TokenFact)
}

// maxLifetime is the longest lifetime that a domain takes of a token; 0: no limit.
func (v *Value) maxLifetime() time.Duration {
	if v == nil {
		return 0
	}
	limits := child(v.term.Value.(ast.Object), key.limits)
	if limits == nil {
		return 0
	}
	t := limits.Get(key.maxLifetime)
	if t == nil {
		return 0
	}
	number, _ := t.Value.(ast.Number)
	n, ok := number.Int64()
	if !ok || n > math.MaxInt64/int64(time.Second) {
		return 0
	}
	return time.Duration(n) * time.Second
}
