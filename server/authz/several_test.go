package authz_test

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bundles"
	"patrol/models"
	"patrol/policies/engine"
	"patrol/server/authz"
)

// pair is a proxied request that asks two questions: to read acme's model, and one in beta.
var pair = models.HTTPRequest{Method: "POST", Path: "/pair", Segments: []string{"pair"}, Query: map[string][]string{}}

// pairPolicy asks these questions of pair, and has a header in each decision.
func pairPolicy(t *testing.T, questions, header string) *engine.Snapshot {
	t.Helper()
	src, err := bundles.Open(t.Context(), "")
	require.NoError(t, err)
	src.Files = maps.Clone(src.Files)
	src.Files["http/http.rego"] = []byte("package patrol.http\n\nrequests := " + questions)
	delete(src.Files, "http/http_test.rego")
	delete(src.Files, "http/own_routes_test.rego")
	decision := bytes.ReplaceAll(src.Files["authz/authz.rego"], []byte(`"reasons": [], "scope"`), []byte(`"reasons": [], "headers": {"X-Patrol-Tier": `+header+`}, "scope"`))
	src.Files["authz/authz.rego"] = decision
	s, err := engine.Load(t.Context(), src, engine.WithTimeout(time.Minute))
	require.NoError(t, err)
	return s
}

const twoDomains = `[
	{"domain": "acme", "entity_type": "models", "entity": "*", "operation": "read"},
	{"domain": "beta", "entity_type": "models", "entity": "*", "operation": "read"},
	{"domain": "acme", "entity_type": "models", "entity": "*", "operation": "read"},
]`

// inBeta makes u1 a member of beta, with a token for both.
func inBeta(t *testing.T, b *bed) {
	t.Helper()
	b.world.domains["beta"] = models.Domain{ID: "beta", Status: models.DomainEnabled}
	b.world.members[[2]string{"u1", "beta"}] = models.Membership{UserID: "u1", Domain: "beta", Role: "member"}
	b.pat.Scopes = append(b.pat.Scopes, models.Scope{ID: "s-beta", Domain: "beta", EntityType: "models", Entity: "*", Operation: "read"})
	b.world.pats[b.pat.ID] = b.pat
}

func TestSeveralQuestions(t *testing.T) {
	same := pairPolicy(t, twoDomains, `"gold"`)
	for name, c := range map[string]struct {
		policy *engine.Snapshot
		spoil  func(b *bed)
		fixed  models.Request
		want   []models.ReasonCode // nil: allowed
		status int
		asks   []string // what is on record
		of     int      // the record whose id the answer has
	}{
		"all are allowed":       {asks: []string{"acme:models:*:read", "beta:models:*:read"}},
		"the operator's domain": {fixed: models.Request{Domain: "acme"}, asks: []string{"acme:models:*:read"}},
		"the operator's all":    {fixed: models.Request{Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"}, asks: []string{"acme:models:*:read"}},
		"the second is denied":  {spoil: func(b *bed) { delete(b.world.members, [2]string{"u1", "beta"}) }, want: []models.ReasonCode{models.NotAMember}, status: http.StatusForbidden, asks: []string{"acme:models:*:read", "beta:models:*:read"}, of: 1},
		"both are denied":       {spoil: func(b *bed) { clear(b.world.members); delete(b.world.domains, "beta") }, want: []models.ReasonCode{models.DomainUnknown, models.NotAMember}, status: http.StatusForbidden, asks: []string{"acme:models:*:read", "beta:models:*:read"}},
		"for one and the same":  {spoil: func(b *bed) { clear(b.world.members) }, want: []models.ReasonCode{models.NotAMember}, status: http.StatusForbidden, asks: []string{"acme:models:*:read", "beta:models:*:read"}},
		"the token has expired": {spoil: func(b *bed) { b.clock.advance(2 * time.Hour) }, want: []models.ReasonCode{models.TokenExpired}, status: http.StatusUnauthorized, asks: []string{"acme:models:*:read", "beta:models:*:read"}},
		"headers that disagree": {policy: pairPolicy(t, twoDomains, "input.request.domain"), want: []models.ReasonCode{models.PolicyError}, status: http.StatusServiceUnavailable, asks: []string{"acme:models:*:read", "beta:models:*:read"}},
		"one that cannot be":    {policy: pairPolicy(t, `[{"domain": "acme", "entity_type": "models", "entity": "a", "operation": "read"}, {"domain": "acme", "entity_type": "models", "entity": "a b", "operation": "read"}]`, `"x"`), want: []models.ReasonCode{models.RouteUnmapped}, status: http.StatusForbidden, asks: []string{":::"}},
		"none":                  {policy: pairPolicy(t, `[]`, `"x"`), want: []models.ReasonCode{models.PolicyError}, status: http.StatusServiceUnavailable, asks: []string{":::"}},
		"undefined":             {policy: pairPolicy(t, "[] if false", `"x"`), want: []models.ReasonCode{models.RouteUnmapped}, status: http.StatusForbidden, asks: []string{":::"}},
	} {
		t.Run(name, func(t *testing.T) {
			rec := recorder{}
			b := newBed(t, func(c *authz.Config) { c.Recorder = &rec })
			if c.policy == nil {
				c.policy = same
			}
			b.policy.Swap(c.policy)
			inBeta(t, b)
			if c.spoil != nil {
				c.spoil(b)
			}
			p := b.begin(t)
			d := p.Decide(t.Context(), pair, c.fixed)
			assert.Equal(t, c.want == nil, d.Allowed)
			assert.Len(t, d.Reasons, len(c.want))
			if c.want != nil {
				assert.Equal(t, c.want, codes(d))
				assert.Equal(t, c.status, d.Status())
				assert.Empty(t, d.ScopeID)
				assert.Empty(t, d.Headers)
			} else {
				assert.Equal(t, map[string]string{"X-Patrol-Tier": "gold"}, d.Headers)
			}
			var asks []string
			ids := map[string]bool{}
			for _, r := range rec.records {
				asks = append(asks, r.Request.Scope())
				ids[r.Decision.ID] = true
				assert.Equal(t, "/pair", r.Path)
			}
			assert.Equal(t, c.asks, asks)
			assert.Len(t, ids, len(c.asks), "each has an id of its own")
			assert.Equal(t, rec.records[c.of].Decision.ID, d.ID)
			assert.Equal(t, rec.records[c.of].Request, p.Request())
		})
	}
}

// A stream of several questions is cut when any of them is no longer allowed, whatever domain
// it is about.
func TestHoldOfSeveralQuestions(t *testing.T) {
	same := pairPolicy(t, twoDomains, `"gold"`)
	for name, cut := range map[string]func(b *bed){
		"the membership in the second domain": func(b *bed) {
			b.Apply(b.world.change(func() { delete(b.world.members, [2]string{"u1", "beta"}) }, models.Change{Kind: models.ChangeMembership, Key: "u1", Key2: "beta"}))
		},
		"the second domain": func(b *bed) {
			b.Apply(b.world.change(func() { b.world.domains["beta"] = models.Domain{ID: "beta", Status: models.DomainIsDisabled} }, models.Change{Kind: models.ChangeDomain, Key: "beta"}))
		},
		"the first domain": func(b *bed) {
			b.Apply(b.world.change(func() { b.world.domains["acme"] = models.Domain{ID: "acme", Status: models.DomainIsDisabled} }, models.Change{Kind: models.ChangeDomain, Key: "acme"}))
		},
		"a policy whose headers disagree": func(b *bed) { b.policy.Swap(pairPolicy(t, twoDomains, "input.request.domain")) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, nil)
			b.policy.Swap(same)
			inBeta(t, b)
			b.start(t)
			p := b.begin(t)
			require.True(t, p.Decide(t.Context(), pair, models.Request{}).Allowed)
			ctx, stop := p.Hold(t.Context())
			defer stop()
			cut(b)
			<-ctx.Done()
			assert.ErrorIs(t, context.Cause(ctx), authz.ErrDenied)
		})
	}
}
