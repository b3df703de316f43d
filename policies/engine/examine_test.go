package engine_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies/engine"
)

// variableRules are rules that look at a call, each behind something that can end it before.
const variableRules = `package patrol.custom

deny contains {"code": "office_only", "message": "Contractors work in the office."} if {
	endswith(input.user.email, "@contractor.example")
	not in_office
}

in_office if net.cidr_contains("203.0.113.0/24", input.client.ip)

deny contains {"code": "ticket", "message": "Writing a dataset needs a ticket."} if {
	input.request.entity_type == "datasets"
	input.request.operation == "write"
	not startswith(object.get(input.request.context, "ticket", ""), "OPS-")
}

deny contains {"code": "no_delete", "message": "No deletions."} if {
	input.request.entity == "kept"
	input.http.method == "DELETE"
}
`

// TestExamine has what an answer depends on beside the facts.
func TestExamine(t *testing.T) {
	t.Parallel()
	contractor := user
	contractor.Email = "ann@contractor.example"
	for name, tc := range map[string]struct {
		rules     string
		req       models.Request
		user      models.User
		want      string   // the reasons
		dependsOn []string // by the plan
		topdown   []string // by OPA's evaluator, which tells only what the policy reads
	}{
		"the default policy":          {"", readModel, user, "", nil, nil},
		"nothing of it":               {variableRules, readModel, user, "", nil, []string{"client", "context", "http"}},
		"the client":                  {variableRules, readModel, contractor, "office_only", []string{"client"}, []string{"client", "context", "http"}},
		"the context":                 {variableRules, models.Request{Domain: "acme", EntityType: "datasets", Entity: "d", Operation: "write"}, user, "out_of_scope ticket", []string{"context"}, []string{"client", "context", "http"}},
		"the proxied request":         {variableRules, models.Request{Domain: "acme", EntityType: "models", Entity: "kept", Operation: "read"}, user, "", []string{"http"}, []string{"client", "context", "http"}},
		"all of the input":            {"package patrol.custom\n\ndeny contains {\"code\": \"m\", \"message\": \"M\"} if count(input) == 99\n", readModel, user, "", []string{"client", "context", "http"}, []string{"client", "context", "http"}},
		"a request that is not there": {variableRules, models.Request{Domain: "acme", EntityType: "models", Entity: "x", Operation: "fly"}, contractor, "unknown_operation", nil, []string{"client", "context", "http"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var files map[string]string
			if tc.rules != "" {
				files = map[string]string{"custom/own.rego": tc.rules}
			}
			s := load(t, files)
			f := facts()
			f.User = engine.UserValue(tc.user)
			for _, plans := range []bool{false, true} {
				want := tc.topdown
				if plans {
					want = tc.dependsOn
					require.NoError(t, s.Hasten(t.Context(), 50))
				}
				d, dependsOn, err := s.Examine(t.Context(), tc.req, f, now)
				require.NoError(t, err)
				text := ""
				for i, c := range codes(d) {
					if i > 0 {
						text += " "
					}
					text += string(c)
				}
				assert.Equal(t, tc.want, text)
				assert.Equal(t, want, dependsOn, "plans: %t", plans)
				plain, err := s.Decide(t.Context(), tc.req, f, now)
				require.NoError(t, err)
				assert.Equal(t, plain, d)
			}
		})
	}
}

// TestWhatAnAnswerDoesNotDependOn changes what an answer is said not to depend on: it stays.
func TestWhatAnAnswerDoesNotDependOn(t *testing.T) {
	t.Parallel()
	s := load(t, map[string]string{"custom/own.rego": variableRules})
	require.NoError(t, s.Hasten(t.Context(), 50))
	r := rand.New(rand.NewPCG(16, 7))
	clients := []models.Client{{}, {IP: netip.MustParseAddr("203.0.113.9")}, {IP: netip.MustParseAddr("192.0.2.1"), UserAgent: "curl/8"}}
	contexts := []map[string]any{nil, {"ticket": "OPS-1"}, {"ticket": "x"}}
	proxied := []*models.ProxiedFacts{nil, {Method: "DELETE", Path: "/"}, {Method: "GET", Path: "/v1/models"}}
	held, depending := 0, 0
	for range 2000 {
		who := user
		who.Email = []string{"a@x.example", "b@contractor.example"}[r.IntN(2)]
		who.Disabled = r.IntN(6) == 0
		f := facts()
		f.User = engine.UserValue(who)
		if r.IntN(4) == 0 {
			f.Membership = nil
		}
		req := models.Request{
			Domain: "acme", EntityType: []string{"models", "datasets"}[r.IntN(2)], Entity: []string{"llama3", "kept", "d"}[r.IntN(3)],
			Operation: []string{"read", "write", "fly"}[r.IntN(3)],
		}
		f.Client, f.HTTP, req.Context = clients[r.IntN(3)], proxied[r.IntN(3)], contexts[r.IntN(3)]
		d, dependsOn, err := s.Examine(t.Context(), req, f, now)
		require.NoError(t, err)
		depending += len(dependsOn)
		for i := range 3 {
			other, asked := f, req
			if !slices.Contains(dependsOn, engine.DependsOnClient) {
				other.Client = clients[i]
			}
			if !slices.Contains(dependsOn, engine.DependsOnHTTP) {
				other.HTTP = proxied[i]
			}
			if !slices.Contains(dependsOn, engine.DependsOnContext) {
				asked.Context = contexts[i]
			}
			again, err := s.Decide(t.Context(), asked, other, now)
			require.NoError(t, err)
			require.Equal(t, d, again, "%+v %v", req, dependsOn)
			held++
		}
	}
	assert.Equal(t, 6000, held)
	assert.Positive(t, depending)
}

// TestHypotheticalToken has the tokens by which questions about users are judged.
func TestHypotheticalToken(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	none := []models.ReasonCode{}
	limited := func(l models.DomainLimits) *engine.Value {
		return engine.DomainValue(models.Domain{ID: "acme", Status: models.DomainEnabled, Limits: l})
	}
	s := load(t, map[string]string{"custom/own.rego": `package patrol.custom

deny contains {"code": "long_lived", "message": "Too long."} if input.token.expires_at - input.now > 86400

deny contains {"code": "supposed", "message": "Supposed."} if {
	input.token.hypothetical
	input.request.entity == "real"
}
`})
	all := models.Request{Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"}
	tuned := models.Request{Domain: "acme", EntityType: "models", Entity: "real", Operation: "read"}
	write := models.Request{Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "write"}
	for name, tc := range map[string]struct {
		req      models.Request
		domain   *engine.Value
		lifetime time.Duration
		want     []models.ReasonCode
	}{
		"allowed":                     {readModel, in(models.DomainEnabled), day, none},
		"not by the role":             {write, in(models.DomainEnabled), day, []models.ReasonCode{models.RoleForbids}},
		"no such domain":              {readModel, nil, day, []models.ReasonCode{models.DomainUnknown}},
		"frozen":                      {readModel, in(models.DomainIsFrozen), day, []models.ReasonCode{models.DomainFrozen}},
		"with the default lifetime":   {readModel, in(models.DomainEnabled), 30 * day, []models.ReasonCode{"long_lived"}},
		"cut to the domain's maximum": {readModel, limited(models.DomainLimits{MaxLifetime: time.Hour}), 30 * day, none},
		"not made longer":             {readModel, limited(models.DomainLimits{MaxLifetime: 60 * day}), day, none},
		"approved":                    {readModel, limited(models.DomainLimits{Approval: true}), day, none},
		"all of them":                 {all, in(models.DomainEnabled), day, none},
		"all where * does not count":  {all, limited(models.DomainLimits{NoWildcards: true}), day, []models.ReasonCode{models.WildcardForbidden}},
		"seen by rules":               {tuned, in(models.DomainEnabled), day, []models.ReasonCode{"supposed"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := facts()
			f.Domain = tc.domain
			f.Token = engine.HypotheticalToken(tc.req, tc.domain, now, tc.lifetime)
			d, err := s.Decide(t.Context(), tc.req, f, now)
			require.NoError(t, err)
			assert.Equal(t, tc.want, codes(d))
			if d.Allowed {
				assert.Equal(t, models.HypotheticalID, d.ScopeID)
			}
		})
	}
}
