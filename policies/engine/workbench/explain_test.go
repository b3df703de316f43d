//go:build !race

package workbench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

// allowedInput is an input that the default policy allows; deny takes things from it.
func allowedInput() map[string]any {
	return map[string]any{
		"request": map[string]any{"domain": "acme", "entity_type": "models", "entity": "llama3", "operation": "execute", "context": map[string]any{}},
		"token": map[string]any{
			"id": "t", "name": "ci", "revoked": false, "created_at": 900, "expires_at": 2000,
			"scopes": map[string]any{"acme": map[string]any{"models": map[string]any{"execute": map[string]any{"*": "s"}}}},
		},
		"user":       map[string]any{"id": "u", "email": "ann@example.com", "admin": false, "disabled": false},
		"domain":     map[string]any{"id": "acme", "status": "enabled"},
		"membership": map[string]any{"role": "member"},
		"now":        1000,
	}
}

func explain(t testing.TB, s *engine.Snapshot, input any) *workbench.Explanation {
	t.Helper()
	content, err := json.Marshal(input)
	require.NoError(t, err)
	e, err := workbench.Explain(t.Context(), s, content)
	require.NoError(t, err)
	return e
}

func titles(changes []workbench.Change) (all []string) {
	for _, c := range changes {
		all = append(all, c.Title)
	}
	return all
}

func TestExplainNamesTheSmallestChange(t *testing.T) {
	s := load(t, nil)
	type in = map[string]any
	for name, c := range map[string]struct {
		change       func(in)
		want         []string
		command      string
		alternatives int
	}{
		"a scope": {
			func(i in) { i["token"].(in)["scopes"] = in{} },
			[]string{"the token has the scope acme:models:llama3:execute"},
			"", 0,
		},
		"a role, the least that does": {
			func(i in) { i["membership"] = in{"role": "viewer"} },
			[]string{"the owner's role is member, not viewer"},
			"patrol member set acme ann@example.com member", 1,
		},
		"a membership": {
			func(i in) { delete(i, "membership") },
			[]string{"the owner is a member of the domain, as member"},
			"patrol member set acme ann@example.com member", 1,
		},
		"the domain's status, rather than a platform admin": {
			func(i in) { i["domain"] = in{"id": "acme", "status": "frozen"} },
			[]string{"the domain acme is enabled"},
			"patrol domain set-status acme enabled", 0,
		},
		"a domain": {
			func(i in) { delete(i, "domain") },
			[]string{"the domain acme exists"},
			"patrol domain create acme", 0,
		},
		"a token": {
			func(i in) { i["token"].(in)["revoked"] = true },
			[]string{"the token is a new one, neither revoked nor expired"},
			"", 0,
		},
		"an account": {
			func(i in) { i["user"].(in)["disabled"] = true },
			[]string{"the owner's account is enabled"},
			"", 0,
		},
		"an approval": {
			func(i in) {
				i["domain"].(in)["limits"] = in{"max_lifetime": 0, "wildcards": true, "approval": true}
			},
			[]string{"the domain acme approves of the token"},
			"", 0,
		},
		"a scope without a star": {
			func(i in) {
				i["domain"].(in)["limits"] = in{"max_lifetime": 0, "wildcards": false, "approval": false}
			},
			[]string{"the token has the scope acme:models:llama3:execute"},
			"", 0,
		},
		"a platform admin, where no role would do": {
			func(i in) {
				i["request"].(in)["operation"] = "write"
				i["token"].(in)["scopes"] = in{"*": in{"models": in{"write": in{"*": "s"}}}}
			},
			[]string{"the owner is a platform admin"},
			"patrol user set ann@example.com --admin", 0,
		},
		"two at once": {
			func(i in) {
				i["token"].(in)["scopes"] = in{}
				i["user"].(in)["email"] = "o'hara@example.com"
				delete(i, "membership")
			},
			[]string{"the owner is a member of the domain, as member", "the token has the scope acme:models:llama3:execute"},
			`patrol member set acme 'o'\''hara@example.com' member`, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			input := allowedInput()
			c.change(input)
			e := explain(t, s, input)
			require.False(t, e.Allowed)
			require.NotNil(t, e.Remedy)
			assert.Equal(t, c.want, titles(e.Remedy.Changes))
			assert.Equal(t, c.command, e.Remedy.Changes[0].Command)
			assert.Len(t, e.Remedy.Alternatives, c.alternatives)
		})
	}
	t.Run("nothing helps", func(t *testing.T) {
		input := allowedInput()
		input["request"].(map[string]any)["operation"] = "fly"
		e := explain(t, s, input)
		assert.False(t, e.Allowed)
		assert.Nil(t, e.Remedy)
	})
	t.Run("nothing need be done", func(t *testing.T) {
		e := explain(t, s, allowedInput())
		assert.True(t, e.Allowed)
		assert.Nil(t, e.Remedy)
		assert.Empty(t, e.Because)
	})
}

// TestRemedyIsSmallest holds over many denials that what a remedy names allows the
// request, that nothing can be left out of it, and that no set of changes which
// counts less would do.
func TestRemedyIsSmallest(t *testing.T) {
	s := load(t, nil)
	r := rand.New(rand.NewPCG(20261125, 5))
	allows := func(input map[string]any, changes []workbench.Change) bool {
		d, err := judge(context.Background(), s, workbench.Apply(input, changes))
		return err == nil && d.Allowed
	}
	sizes := map[int]int{}
	for range 400 {
		input, ok := generate(r).(map[string]any)
		if !ok {
			continue
		}
		before, err := json.Marshal(input)
		require.NoError(t, err)
		e := explain(t, s, input)
		if e.Allowed {
			continue
		}
		sets, costs := workbench.ChangeSets(s.Catalog(), input)
		if e.Remedy == nil {
			sizes[0]++
			assert.False(t, slices.ContainsFunc(sets, func(set []workbench.Change) bool { return allows(input, set) }), "%s", before)
			continue
		}
		sizes[len(e.Remedy.Changes)]++
		for _, way := range append([][]workbench.Change{e.Remedy.Changes}, e.Remedy.Alternatives...) {
			assert.True(t, allows(input, way), "%v does not allow %s", titles(way), before)
			for i := range way {
				fewer := slices.Delete(slices.Clone(way), i, i+1)
				assert.False(t, allows(input, fewer), "%v is enough for %s", titles(fewer), before)
			}
		}
		cost := costs[slices.IndexFunc(sets, func(set []workbench.Change) bool {
			return slices.Equal(titles(set), titles(e.Remedy.Changes))
		})]
		for i, set := range sets {
			if costs[i] < cost {
				require.False(t, allows(input, set), "%v is less than %v for %s", titles(set), titles(e.Remedy.Changes), before)
			}
		}
		after, err := json.Marshal(input)
		require.NoError(t, err)
		require.JSONEq(t, string(before), string(after), "to look for a remedy changes nothing")
	}
	for size := range 4 {
		assert.GreaterOrEqual(t, sizes[size], 5, "remedies of %d changes: %v", size, sizes)
	}
}

func TestExplainTellsWhatRan(t *testing.T) {
	s := load(t, nil)
	input := allowedInput()
	input["membership"] = map[string]any{"role": "viewer"}
	e := explain(t, s, input)
	require.Equal(t, []models.ReasonCode{models.RoleForbids}, reasonCodes(e.Reasons))
	require.Len(t, e.Because, 1)
	assert.Equal(t, "data.patrol.authz.forbidden", e.Because[0].Rule)
	assert.Equal(t, "authz/authz.rego", e.Because[0].File)
	lines := strings.Split(string(bundle(t, nil).Files["authz/authz.rego"]), "\n")
	assert.Contains(t, lines[e.Because[0].Line-1], "forbidden contains")

	held := map[string]bool{}
	for _, rule := range e.Rules {
		held[rule.Rule] = held[rule.Rule] || rule.Held
		assert.NotEmpty(t, rule.Title, rule.Rule)
		for _, line := range rule.Lines {
			text := lines[line.Line-1]
			if rule.File == "authz/authz.rego" {
				assert.Contains(t, text, strings.TrimSuffix(line.Text, " …"), "%s:%d:%d", rule.File, line.Line, line.Column)
			}
			assert.GreaterOrEqual(t, line.Line, rule.Line)
		}
	}
	assert.True(t, held["data.patrol.authz.decision"])
	assert.True(t, held["data.patrol.authz.belongs_to_domain"])
	assert.False(t, held["data.patrol.authz.operation_permitted"])
	titled := slices.IndexFunc(e.Rules, func(r workbench.RuleTrace) bool { return r.Line == e.Because[0].Line })
	require.GreaterOrEqual(t, titled, 0)
	gives := e.Rules[titled]
	assert.Equal(t, "The owner's role does not permit it", gives.Title)
	assert.Equal(t, "role_forbids", gives.Code)
	assert.Equal(t, strings.Join(lines[gives.Line-1:gives.Line+3], "\n"), gives.Text)
	for _, line := range gives.Lines {
		assert.True(t, line.Held, "the rule held, so %q did, whatever did not within its not", line.Text)
	}
	assert.True(t, held["data.patrol.authz.forbidden"])
}

// TestExplainLogged holds that a logged decision is explained on the input that it was
// made on, and that what cannot be explained is said to be so.
func TestExplainLogged(t *testing.T) {
	s := patient(t, nil)
	denied := models.LoggedDecision{}
	for _, l := range seededLog(t, s, 200) {
		e, err := workbench.ExplainLogged(t.Context(), s, &l)
		require.NoError(t, err)
		assert.Empty(t, e.Change)
		assert.Empty(t, e.Masked)
		assert.Equal(t, l.Allowed, e.Allowed)
		assert.Equal(t, l.ScopeID, e.ScopeID)
		assert.ElementsMatch(t, l.Reasons, e.Reasons)
		assert.Empty(t, e.Warnings, "the input is as the server makes it")
		assert.NotEmpty(t, e.Rules)
		if l.Has(models.OutOfScope) && e.Remedy != nil {
			denied = l
		}
	}
	require.NotEmpty(t, denied.ID)

	closed := patient(t, map[string]string{"custom/custom.rego": "package patrol.custom\n\n# METADATA\n# title: Closed\nreason := {\"code\": \"closed\", \"message\": \"Closed.\"}\n"})
	for name, c := range map[string]struct {
		policy *engine.Snapshot
		change func(*models.LoggedDecision)
		kind   workbench.ChangeKind
		masked []string
		err    string
	}{
		"another policy": {policy: closed, change: func(l *models.LoggedDecision) {
			l.Decision = models.Decision{Allowed: true, ScopeID: "s"}
		}, kind: workbench.NewlyDenied},
		"a masked part": {policy: s, change: func(l *models.LoggedDecision) {
			l.Erased, l.Masked = []string{"/input/user/email", "/requested_by"}, []string{"/input/token/name"}
		}, masked: []string{"/input/user/email", "/input/token/name"}},
		"headers that a mask took away": {policy: s, change: func(l *models.LoggedDecision) {
			l.Erased = []string{"/result/headers"}
		}},
		"no input": {policy: s, change: func(l *models.LoggedDecision) {
			l.Input = nil
		}, err: "the decision cannot be made again: the policy was not asked for it"},
		"a masked input": {policy: s, change: func(l *models.LoggedDecision) {
			l.Input, l.Erased = nil, []string{"/input", "/requested_by"}
		}, err: "the decision cannot be made again: its input is masked"},
		"a masked request": {policy: s, change: func(l *models.LoggedDecision) {
			l.Request.Entity, l.Erased = "", []string{"/input/request/entity"}
		}, err: "the decision cannot be made again: what was asked for is masked"},
	} {
		t.Run(name, func(t *testing.T) {
			l := denied
			c.change(&l)
			e, err := workbench.ExplainLogged(t.Context(), c.policy, &l)
			if c.err != "" {
				require.ErrorIs(t, err, workbench.ErrNotReplayable)
				require.EqualError(t, err, c.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.kind, e.Change)
			assert.Equal(t, c.masked, e.Masked)
			assert.Equal(t, c.policy.Revision(), e.Revision)
		})
	}
}

func TestEvaluate(t *testing.T) {
	s := load(t, nil)
	for name, c := range map[string]struct {
		input    string
		want     string // of the answer as JSON
		warnings string
	}{
		"a decision":     {`{"request": {"domain": "acme", "entity_type": "models", "entity": "x", "operation": "read", "context": {}}, "now": 1}`, `"kind":"decision"`, ""},
		"an event":       {`{"decision_id": "1", "input": {"request": {"domain": "acme", "entity_type": "x", "entity": "x", "operation": "read", "context": {}}, "now": 1}}`, `"code":"token_expired"`, ""},
		"a route":        {`{"http": {"method": "GET", "path": "/proxy/acme/v1/models", "segments": ["proxy", "acme", "v1", "models"], "query": {}, "headers": {}}}`, `"request":{"domain":"acme","entity_type":"models","entity":"*","operation":"read"}`, ""},
		"no route":       {`{"http": {"method": "GET", "path": "/x", "segments": ["x"], "query": {}, "headers": {}}}`, `"kind":"route"`, ""},
		"a misspelling":  {`{"request": {"domain": "acme", "entity_type": "models", "entity": "x", "operation": "read", "context": {}}, "domian": {}, "now": 1}`, `"allowed":false`, "domian"},
		"another type":   {`{"request": {"domain": "acme", "entity_type": "models", "entity": "x", "operation": "read", "context": {}}, "now": "1"}`, `"allowed":false`, "now"},
		"nothing at all": {`{}`, `"allowed":false`, "request"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := s.Evaluate(t.Context(), []byte(c.input))
			require.NoError(t, err)
			content, err := json.Marshal(a)
			require.NoError(t, err)
			assert.Contains(t, string(content), c.want)
			if c.warnings == "" {
				assert.Empty(t, a.Warnings)
			} else {
				assert.Contains(t, fmt.Sprint(a.Warnings), c.warnings)
			}
			assert.Equal(t, name == "a route", a.Positive())
			e, err := workbench.Explain(t.Context(), s, []byte(c.input))
			require.NoError(t, err)
			assert.Equal(t, *a, e.Answer)
			assert.NotEmpty(t, e.Rules)
		})
	}
	for _, input := range []string{``, `[`, `[]`, `"x"`, `{} {}`} {
		_, err := s.Evaluate(t.Context(), []byte(input))
		require.Error(t, err, input)
	}
}

func reasonCodes(reasons []models.Reason) (codes []models.ReasonCode) {
	for _, r := range reasons {
		codes = append(codes, r.Code)
	}
	return codes
}
