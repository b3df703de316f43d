//go:build !race

package engine_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies/engine"
)

// TestAllocations holds every way to be allowed, and the denials with most reasons,
// to what a decision may allocate, of which the evaluations that OPA's evaluator makes as
// well are a part. The race detector allocates for itself.
func TestAllocations(t *testing.T) {
	const allow, limited = 16, 20 // limited: to be allowed where the domain has limits
	const oneReason, reasons, unauthenticated = 32, 64, 45
	s := load(t, nil)
	require.NoError(t, s.Hasten(t.Context(), 100))
	anywhere := pat
	anywhere.Scopes = []models.Scope{{ID: "s", Domain: "*", EntityType: "models", Entity: "*", Operation: "read"}}
	many := pat
	for range 63 {
		many.Scopes = append(many.Scopes, models.Scope{ID: models.NewID(), Domain: "acme", EntityType: "models", Entity: models.NewID(), Operation: "read"})
	}
	write := models.Request{Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "write"}
	fly := models.Request{Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "fly"}
	with := func(change func(f *engine.Facts)) engine.Facts {
		f := facts()
		change(&f)
		return f
	}
	for name, c := range map[string]struct {
		req     models.Request
		facts   engine.Facts
		reasons int
	}{
		"a member":                              {readModel, facts(), 0},
		"a member, by a scope for any domain":   {readModel, with(func(f *engine.Facts) { f.Token = engine.TokenValue(anywhere) }), 0},
		"a member, with 65 scopes":              {readModel, with(func(f *engine.Facts) { f.Token = engine.TokenValue(many) }), 0},
		"a platform admin":                      {readModel, with(func(f *engine.Facts) { f.User, f.Membership = engine.UserValue(admin), nil }), 0},
		"a platform admin where it is frozen":   {readModel, with(func(f *engine.Facts) { f.User, f.Domain = engine.UserValue(admin), in(models.DomainIsFrozen) }), 0},
		"a domain's admin where it is disabled": {readModel, with(func(f *engine.Facts) { f.Membership, f.Domain = as("admin"), in(models.DomainIsDisabled) }), 0},
		"a member, within limits": {readModel, with(func(f *engine.Facts) {
			f.Domain = engine.DomainValue(models.Domain{ID: "acme", Status: models.DomainEnabled, Limits: models.DomainLimits{MaxLifetime: 2 * time.Hour}})
		}), 0},
		"nothing known":                           {readModel, engine.Facts{}, 3},
		"no such operation":                       {fly, facts(), 1},
		"no such domain":                          {readModel, with(func(f *engine.Facts) { f.Domain = nil }), 1},
		"disabled, the role, the scope":           {write, with(func(f *engine.Facts) { f.Domain = in(models.DomainIsDisabled) }), 3},
		"frozen, the role, the scope":             {write, with(func(f *engine.Facts) { f.Domain = in(models.DomainIsFrozen) }), 3},
		"disabled, not a member, the scope":       {write, with(func(f *engine.Facts) { f.Domain, f.Membership = in(models.DomainIsDisabled), nil }), 3},
		"disabled, the role, a scope to no avail": {write, with(func(f *engine.Facts) { f.Domain, f.Token = in(models.DomainIsDisabled), engine.TokenValue(many) }), 3},
	} {
		t.Run(name, func(t *testing.T) {
			var d models.Decision
			var err error
			n := testing.AllocsPerRun(200, func() { d, err = s.Decide(t.Context(), c.req, c.facts, now) })
			require.NoError(t, err)
			require.Len(t, d.Reasons, c.reasons)
			most := allow
			switch {
			case d.Status() == http.StatusUnauthorized:
				most = unauthenticated
			case len(d.Reasons) == 1:
				most = oneReason
			case !d.Allowed:
				most = reasons
			case strings.HasSuffix(name, "within limits"):
				most = limited
			}
			assert.LessOrEqual(t, n, float64(most))
			t.Logf("%.0f allocations", n)
		})
	}
}
