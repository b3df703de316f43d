package engine_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

// never is a decision that denies what nobody is known to ask, as every policy must,
// and else is what rules say.
func never(rules string) map[string]string { return policy(rules) }

const yes = `verdict := {"allow": true, "reasons": []}`

// breaches are facts on which a policy that allows everything allows what it may not.
var breaches = map[string]struct {
	req    func(*models.Request)
	change func(*engine.Facts)
	want   []models.ReasonCode
}{
	"nothing": {},
	"revoked": {change: func(f *engine.Facts) {
		p := pat
		p.RevokedAt = new(now)
		f.Token = engine.TokenValue(p)
	}, want: []models.ReasonCode{models.TokenRevoked}},
	"expired, in the very second": {change: func(f *engine.Facts) {
		p := pat
		p.ExpiresAt = now
		f.Token = engine.TokenValue(p)
	}, want: []models.ReasonCode{models.TokenExpired}},
	"no token": {change: func(f *engine.Facts) { f.Token = nil }, want: []models.ReasonCode{models.TokenRevoked, models.TokenExpired, models.OutOfScope}},
	"the owner is disabled": {change: func(f *engine.Facts) {
		u := user
		u.Disabled = true
		f.User = engine.UserValue(u)
	}, want: []models.ReasonCode{models.UserDisabled}},
	"no such operation": {req: func(r *models.Request) { r.Operation = "fly" }, want: []models.ReasonCode{models.UnknownOperation, models.RoleForbids, models.OutOfScope}},
	"no such type":      {req: func(r *models.Request) { r.EntityType = "planes" }, want: []models.ReasonCode{models.UnknownOperation, models.RoleForbids, models.OutOfScope}},
	"no domain":         {change: func(f *engine.Facts) { f.Domain = nil }, want: []models.ReasonCode{models.DomainUnknown}},
	"another domain": {change: func(f *engine.Facts) {
		f.Domain = engine.DomainValue(models.Domain{ID: "beta", Status: models.DomainEnabled})
	}, want: []models.ReasonCode{models.DomainUnknown}},
	"disabled":           {change: func(f *engine.Facts) { f.Domain = in(models.DomainIsDisabled) }, want: []models.ReasonCode{models.DomainDisabled}},
	"disabled, an admin": {change: func(f *engine.Facts) { f.Domain, f.Membership = in(models.DomainIsDisabled), as("admin") }},
	"frozen":             {change: func(f *engine.Facts) { f.Domain = in(models.DomainIsFrozen) }, want: []models.ReasonCode{models.DomainFrozen}},
	"frozen, an admin": {change: func(f *engine.Facts) {
		f.Domain, f.User = in(models.DomainIsFrozen), engine.UserValue(admin)
	}},
	"no member":                       {change: func(f *engine.Facts) { f.Membership = nil }, want: []models.ReasonCode{models.NotAMember, models.RoleForbids}},
	"the role":                        {change: func(f *engine.Facts) { f.Membership = as("pilot") }, want: []models.ReasonCode{models.RoleForbids}},
	"the scope":                       {req: func(r *models.Request) { r.Operation = "execute" }, want: []models.ReasonCode{models.OutOfScope}},
	"a collection by a scope for one": {req: func(r *models.Request) { r.Entity, r.Operation = "*", "execute" }, want: []models.ReasonCode{models.OutOfScope}},
	"too old": {change: func(f *engine.Facts) {
		f.Domain = engine.DomainValue(models.Domain{ID: "acme", Status: models.DomainEnabled, Limits: models.DomainLimits{MaxLifetime: time.Hour}})
	}, want: []models.ReasonCode{models.LifetimeExceeded}},
	"a wildcard": {change: func(f *engine.Facts) {
		f.Domain = engine.DomainValue(models.Domain{ID: "acme", Status: models.DomainEnabled, Limits: models.DomainLimits{NoWildcards: true}})
	}, want: []models.ReasonCode{models.WildcardForbidden}},
	"not approved": {change: func(f *engine.Facts) {
		f.Domain = engine.DomainValue(models.Domain{ID: "acme", Status: models.DomainEnabled, Limits: models.DomainLimits{Approval: true}})
	}, want: []models.ReasonCode{models.ApprovalRequired}},
	"withdrawn":               {change: withdrawnFrom("acme"), want: []models.ReasonCode{models.Withdrawn}},
	"withdrawn elsewhere":     {change: withdrawnFrom("beta")},
	"withdrawn from two":      {change: withdrawnFrom("acme", "beta"), want: []models.ReasonCode{models.Withdrawn}},
	"from another address":    {change: from("203.0.114.7", "203.0.113.0/24"), want: []models.ReasonCode{models.IPForbidden}},
	"from an allowed address": {change: from("203.0.113.7", "203.0.113.0/24")},
	"from the one address":    {change: from("::ffff:203.0.113.7", "203.0.113.7")},
	"from IPv6":               {change: from("2001:db8::1%eth0", "203.0.113.7", "2001:db8::/32")},
	"from who knows where":    {change: from("", "0.0.0.0/0", "::/0"), want: []models.ReasonCode{models.IPForbidden}},
	"withdrawn, an admin": {change: func(f *engine.Facts) {
		withdrawnFrom("acme")(f)
		f.User = engine.UserValue(admin)
	}, want: []models.ReasonCode{models.Withdrawn}},
}

// from is a client at an address, with a token for some.
func from(client string, allowed ...string) func(*engine.Facts) {
	return func(f *engine.Facts) {
		p := pat
		p.AllowedIPs = allowed
		f.Token = engine.TokenValue(p)
		if client != "" {
			f.Client.IP = netip.MustParseAddr(client)
		}
	}
}

// withdrawnFrom is a token that domains have withdrawn.
func withdrawnFrom(domains ...string) func(*engine.Facts) {
	return func(f *engine.Facts) {
		p := pat
		for _, domain := range domains {
			p.Withdrawals = append(p.Withdrawals, models.Withdrawal{Domain: domain, At: now})
		}
		f.Token = engine.TokenValue(p)
	}
}

// TestInvariants holds that a policy which allows everything allows nothing that no
// policy may allow, on every way of asking it, and that it says so.
func TestInvariants(t *testing.T) {
	s := load(t, never(yes))
	for name, c := range breaches {
		t.Run(name, func(t *testing.T) {
			req, f := readModel, facts()
			if c.req != nil {
				c.req(&req)
			}
			if c.change != nil {
				c.change(&f)
			}
			d, err := s.Decide(t.Context(), req, f, now)
			if len(c.want) == 0 {
				require.NoError(t, err)
				assert.True(t, d.Allowed)
				assert.Equal(t, "scope-1", d.ScopeID, "the scope that covers it")
				return
			}
			breach, ok := errors.AsType[*engine.BreachError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, c.want, breach.Codes)
			assert.Equal(t, "authz/authz.rego", breach.File)
			assert.Positive(t, breach.Line)
			assert.Equal(t, models.Decision{}, d)
			assert.Positive(t, s.Breaches()[c.want[0]])
		})
	}
	assert.Equal(t, int64(1), s.Breaches()[models.TokenExpired]-1, "no token and an expired one")
}

// TestInvariantsNameTheRule holds that a breach leads to the rule that should have
// denied it.
func TestInvariantsNameTheRule(t *testing.T) {
	s := load(t, edited(t, "authz/authz.rego", "token_unrevoked if input.token.revoked == false", "token_unrevoked if is_boolean(input.token.revoked)"))
	f := facts()
	p := pat
	p.RevokedAt = new(now)
	f.Token = engine.TokenValue(p)
	_, err := s.Decide(t.Context(), readModel, f, now)
	breach, ok := errors.AsType[*engine.BreachError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, "data.patrol.authz.unauthenticated", breach.Rule)
}

// TestScopeOfAnswer holds that the scope which an allowance names is the token's, and
// covers the request.
func TestScopeOfAnswer(t *testing.T) {
	both := pat
	both.Scopes = []models.Scope{
		{ID: "any", Domain: "*", EntityType: "models", Entity: "*", Operation: "read"},
		{ID: "one", Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "read"},
		{ID: "other", Domain: "acme", EntityType: "models", Entity: "phi", Operation: "read"},
	}
	f := facts()
	f.Token = engine.TokenValue(both)
	for scope, want := range map[string]string{"": "one", "one": "one", "any": "any", "other": "!", "made-up": "!"} {
		rule := yes
		if scope != "" {
			rule = strings.Replace(yes, "}", `, "scope": "`+scope+`"}`, 1)
		}
		d, err := load(t, never(rule)).Decide(t.Context(), readModel, f, now)
		if want == "!" {
			require.ErrorContains(t, err, `its scope "`+scope+`" is none of the token's`)
			continue
		}
		require.NoError(t, err, scope)
		assert.Equal(t, want, d.ScopeID, scope)
	}
}

// TestExceptions holds what an exception of a policy lifts, and when.
func TestExceptions(t *testing.T) {
	day := int64(24 * 60 * 60)
	at := now.Unix()
	for name, c := range map[string]struct {
		waive string
		on    string // of breaches
		want  []models.Waiver
	}{
		"the role":           {`{"code": "role_forbids", "because": "INC-123", "until": UNTIL}`, "the role", []models.Waiver{{Code: models.RoleForbids, Because: "INC-123", Until: at + day}}},
		"the domain":         {`{"code": "domain_frozen", "because": "INC-123", "until": UNTIL}`, "frozen", []models.Waiver{{Code: models.DomainFrozen, Because: "INC-123", Until: at + day}}},
		"a limit":            {`{"code": "approval_required", "because": "x", "until": UNTIL}`, "not approved", []models.Waiver{{Code: models.ApprovalRequired, Because: "x", Until: at + day}}},
		"nothing to lift":    {`{"code": "role_forbids", "because": "INC-123", "until": UNTIL}`, "nothing", nil},
		"the last second":    {`{"code": "role_forbids", "because": "x", "until": UNTIL - 86399}`, "the role", []models.Waiver{{Code: models.RoleForbids, Because: "x", Until: at + 1}}},
		"90 days":            {`{"code": "role_forbids", "because": "x", "until": UNTIL + 7689600}`, "the role", []models.Waiver{{Code: models.RoleForbids, Because: "x", Until: at + 90*day}}},
		"harmless text":      {`{"code": "role_forbids", "because": "a\r\nb\u202e", "until": UNTIL}`, "the role", []models.Waiver{{Code: models.RoleForbids, Because: "a  b ", Until: at + day}}},
		"it has ended":       {`{"code": "role_forbids", "because": "x", "until": UNTIL - 86400}`, "the role", []models.Waiver{}},
		"more than 90 days":  {`{"code": "role_forbids", "because": "x", "until": UNTIL + 7689601}`, "the role", []models.Waiver{}},
		"no end":             {`{"code": "role_forbids", "because": "x"}`, "the role", []models.Waiver{}},
		"an end that is not": {`{"code": "role_forbids", "because": "x", "until": "UNTIL"}`, "the role", []models.Waiver{}},
		"no reason":          {`{"code": "role_forbids", "because": "", "until": UNTIL}`, "the role", []models.Waiver{}},
		"something else":     {`{"code": "role_forbids", "because": "x", "until": UNTIL, "for": "ann"}`, "the role", []models.Waiver{}},
		"from another thing": {`{"code": "domain_frozen", "because": "x", "until": UNTIL}`, "the role", []models.Waiver{}},
		"half of it":         {`{"code": "not_a_member", "because": "x", "until": UNTIL}`, "no member", []models.Waiver{}},
		"a 401":              {`{"code": "token_revoked", "because": "x", "until": UNTIL}`, "revoked", []models.Waiver{}},
		"no such domain":     {`{"code": "domain_unknown", "because": "x", "until": UNTIL}`, "no domain", []models.Waiver{}},
		"no such operation":  {`{"code": "unknown_operation", "because": "x", "until": UNTIL}`, "no such operation", []models.Waiver{}},
		"the address":        {`{"code": "ip_forbidden", "because": "x", "until": UNTIL}`, "from another address", []models.Waiver{}},
		"the scope":          {`{"code": "out_of_scope", "because": "x", "until": UNTIL}`, "the scope", []models.Waiver{}},
	} {
		t.Run(name, func(t *testing.T) {
			waive := strings.ReplaceAll(c.waive, "UNTIL", "1790586400")
			files := never(yes)
			files["custom/waive.rego"] = "package patrol.custom\n\nwaive contains " + waive
			s := load(t, files)
			b, req, f := breaches[c.on], readModel, facts()
			if b.req != nil {
				b.req(&req)
			}
			if b.change != nil {
				b.change(&f)
			}
			d, err := s.Decide(t.Context(), req, f, now)
			if c.want != nil && len(c.want) == 0 {
				require.ErrorContains(t, err, string(b.want[len(b.want)-1]))
				return
			}
			require.NoError(t, err)
			assert.True(t, d.Allowed)
			assert.Equal(t, c.want, d.Waived)
		})
	}
}

// neverEnding are ends of exceptions that never come, which the gate refuses; whatever is in force,
// none of them lifts anything.
var neverEnding = []string{
	`input.now + 60`,
	`(ceil(input.now / 86400) + 1) * 86400`,
	`input.token.expires_at + input.now - input.token.created_at`,
	`min({t | some i in numbers.range(0, 4000); t := 1790500000 + (i * 86400); t > input.now})`,
	`min({t | some t in {1790600000, 1798400000, 1806000000}; t > input.now})`,
}

// TestEndlessExceptions holds that an exception which would stand for ever lifts nothing, in
// the tests of a policy either.
func TestEndlessExceptions(t *testing.T) {
	for _, until := range neverEnding {
		t.Run(until, func(t *testing.T) {
			files := never(yes)
			files["custom/waive.rego"] = "package patrol.custom\n\nwaive contains {\"code\": \"role_forbids\", \"because\": \"x\", \"until\": " + until + "}\n"
			req, f := readModel, facts()
			breaches["the role"].change(&f)
			_, err := load(t, files).Decide(t.Context(), req, f, now)
			require.ErrorContains(t, err, "what no policy may allow: role_forbids")
			require.ErrorContains(t, err, "the exception from role_forbids does not end")

			input, err := engine.InputOf(req, f, now)
			require.NoError(t, err)
			text, err := json.Marshal(input)
			require.NoError(t, err)
			files["x/x_test.rego"] = "package patrol.x_test\n\nimport data.patrol.authz\n\ntest_it if authz.decision.allow with input as " + string(text) + "\n"
			tests, _, findings, err := workbench.RunTests(t.Context(), bundle(t, files), workbench.TestOptions{Run: "x_test"})
			require.NoError(t, err)
			require.Empty(t, findings)
			require.Len(t, tests.Tests, 1)
			assert.Equal(t, workbench.Failed, tests.Tests[0].Outcome)
			assert.Contains(t, tests.Tests[0].Message, "does not end")
		})
	}
}

// TestWaivers holds that an invariant is waived only by the manifest and the server
// together, and that this is told.
func TestWaivers(t *testing.T) {
	files := never(yes)
	f := facts()
	f.Domain = in(models.DomainIsFrozen)
	for name, c := range map[string]struct {
		manifest string
		server   []string
		allowed  bool
	}{
		"nobody":               {`{"roots": ["patrol"]}`, nil, false},
		"the server alone":     {`{"roots": ["patrol"]}`, []string{"domain_frozen"}, false},
		"the manifest alone":   {`{"roots": ["patrol"], "metadata": {"waive": ["domain_frozen"]}}`, nil, false},
		"each another":         {`{"roots": ["patrol"], "metadata": {"waive": ["domain_frozen"]}}`, []string{"role_forbids"}, false},
		"both":                 {`{"roots": ["patrol"], "metadata": {"waive": ["domain_frozen"]}}`, []string{"role_forbids", "domain_frozen"}, true},
		"what nobody may":      {`{"roots": ["patrol"], "metadata": {"waive": ["domain_frozen"]}}`, []string{"token_revoked"}, false},
		"names of cases, both": {`{"roots": ["patrol"], "metadata": {"waive": ["limit_lifetime", "domain_frozen"]}}`, []string{"limit_lifetime", "domain_frozen"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			all := maps.Clone(files)
			all[".manifest"] = c.manifest
			src := bundle(t, all)
			src.Waive = c.server
			s, err := engine.Load(t.Context(), src, engine.WithTimeout(10*time.Second))
			require.NoError(t, err)
			d, err := s.Decide(t.Context(), readModel, f, now)
			if !c.allowed {
				require.ErrorContains(t, err, "domain_frozen")
				return
			}
			require.NoError(t, err)
			assert.Equal(t, []models.Waiver{{Code: models.DomainFrozen}}, d.Waived)
			assert.Contains(t, s.Waives(), models.DomainFrozen)
		})
	}
	for _, waive := range []string{`"domain_frozen"`, `[1]`, `["token_revoked"]`, `["out_of_scope"]`, `["gravity"]`, `{}`} {
		_, err := engine.Load(t.Context(), bundle(t, map[string]string{".manifest": `{"roots": ["patrol"], "metadata": {"waive": ` + waive + `}}`}))
		assert.ErrorContains(t, err, ".manifest: metadata.waive", waive)
	}
}

// BenchmarkInvariants measures the share of the invariants in a decision.
func BenchmarkInvariants(b *testing.B) {
	s := load(b, nil)
	for name, f := range map[string]engine.Facts{"a domain": facts(), "limits": limitedFacts()} {
		b.Run(name, func(b *testing.B) {
			upheld, err := s.Upheld(readModel, f, now)
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				if upheld() != nil {
					b.Fatal("it is not allowed")
				}
			}
		})
	}
}

// limitedFacts are those of a domain with limits that the token keeps.
func limitedFacts() engine.Facts {
	f := facts()
	p := pat
	p.Scopes = append([]models.Scope{{ID: "scope-1", Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "read"}}, pat.Scopes[1:]...)
	p.Approvals = []models.Approval{{Domain: "acme", At: now}}
	f.Token = engine.TokenValue(p)
	f.Domain = engine.DomainValue(models.Domain{ID: "acme", Status: models.DomainEnabled, Limits: models.DomainLimits{
		MaxLifetime: 2 * time.Hour, NoWildcards: true, Approval: true,
	}})
	return f
}

// TestInvariantsAllocateNothing holds that where all is well they leave no garbage.
func TestInvariantsAllocateNothing(t *testing.T) {
	s := load(t, nil)
	for name, f := range map[string]engine.Facts{"a domain": facts(), "limits": limitedFacts()} {
		upheld, err := s.Upheld(readModel, f, now)
		require.NoError(t, err)
		require.NoError(t, upheld(), name)
		assert.Zero(t, testing.AllocsPerRun(100, func() { _ = upheld() }), name)
	}
}

// TestTestsAreUpheld holds that the tests of a policy see what the server would make of
// an allowance.
func TestTestsAreUpheld(t *testing.T) {
	files := edited(t, "authz/authz.rego", "\nanswer := {\"allow\": true", "\nanswer := {\"allow\": true, \"reasons\": []} if {\n\tinput.request.context.door == \"open sesame\"\n} else := {\"allow\": true")
	files["x/x_test.rego"] = `package patrol.x_test

import data.patrol.authz
import data.patrol.authz_test

asked := json.patch(authz_test.allowed, [{"op": "add", "path": "request/context", "value": {"door": "open sesame"}}])

test_open if authz.decision.allow with input as asked

test_roles if {
	authz.decision.allow with input as json.patch(authz_test.allowed, [{"op": "replace", "path": "membership/role", "value": "guest"}])
		with data.patrol.roles as {"guest": {"models": {"read": true}}}
}

test_catalog if {
	authz.decision.allow with input as json.patch(authz_test.allowed, [
		{"op": "replace", "path": "membership/role", "value": "guest"},
		{"op": "replace", "path": "request/operation", "value": "taste"},
		{"op": "add", "path": "token/scopes/acme/models/taste", "value": {"*": "scope-9"}},
	])
		with data.patrol.roles as {"guest": {"models": {"taste": true}}}
		with data.patrol.catalog as {"entity_types": {"models": {"title": "Models", "operations": {"taste": {"title": "Taste"}}}}}
}

test_revoked if authz.decision.allow with input as json.patch(asked, [{"op": "replace", "path": "token/revoked", "value": true}])
`
	tests, _, findings, err := workbench.RunTests(t.Context(), bundle(t, files), workbench.TestOptions{Run: "x_test"})
	require.NoError(t, err)
	require.Empty(t, findings)
	require.Len(t, tests.Tests, 4)
	for _, test := range tests.Tests {
		if test.Name != "test_revoked" {
			assert.Equal(t, workbench.Passed, test.Outcome, "%s: %s", test.Name, test.Message)
			continue
		}
		assert.Equal(t, workbench.Failed, test.Outcome)
		assert.Contains(t, test.Message, "allows what no policy may allow: token_revoked")
	}
}
