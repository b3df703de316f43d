package server_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/bundles"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/server"
)

// closedModule denies reading, which the tests of the policy do not expect.
const closedModule = `package patrol.custom

# METADATA
# title: Nobody reads
# custom:
#   code: closed
#   message: Closed.
reason := {"code": "closed", "message": "Closed."} if input.request.operation == "read"
`

func TestThePolicyTeamTriesPolicies(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		pat := w.pat("ann", "ci", "acme:models:*:read", "acme:models:*:execute")
		allowed := w.ask(pat.Token, "acme:models:llama3:read")
		require.True(t, allowed.Allowed)
		w.ask(pat.Token, "acme:models:llama3:execute")
		unknown := w.ask(strings.Replace(pat.Token, pat.ID, "0000000000000000", 1), "acme:models:llama3:read")
		for _, id := range []string{allowed.DecisionID, unknown.DecisionID} {
			require.Eventually(t, func() bool {
				d, err := w.decided.Decision(t.Context(), id)
				return err == nil && d != nil
			}, 10*time.Second, 5*time.Millisecond)
		}
		digest := w.policy.Status().Active.Digest
		try := func(who string, in any) (out api.PlaygroundResult) {
			t.Helper()
			w.as(who).post("/api/v1/policy/playground", in).is(200).into(&out)
			return out
		}

		out := try("pol", map[string]any{
			"files":    map[string]any{"custom/custom.rego": closedModule, "custom/custom_test.rego": "package patrol.custom_test\n\ntest_wrong if false\n"},
			"decision": allowed.DecisionID, "replay": 100, "check": true,
		})
		assert.Equal(t, digest, out.Digest)
		assert.Equal(t, []string{"custom/custom.rego", "custom/custom_test.rego"}, out.Changed)
		assert.Empty(t, out.Findings)
		assert.Empty(t, out.Exceeded)
		require.NotNil(t, out.Answer)
		assert.False(t, out.Answer.Allowed)
		require.Len(t, out.Answer.Reasons, 1)
		assert.Equal(t, "closed", string(out.Answer.Reasons[0].Code))
		assert.Equal(t, []api.PolicyBecause{{Code: "closed", Rule: "data.patrol.custom.reason", File: "custom/custom.rego", Line: 8}}, out.Answer.Because)
		require.NotNil(t, out.InForce)
		assert.True(t, out.InForce.Allowed)
		assert.Contains(t, string(out.Input), pat.ID)
		assert.NotContains(t, string(out.Input), strings.SplitAfter(pat.Token, "_")[2], "no secret is in the log")
		require.NotNil(t, out.Replay)
		assert.Equal(t, []int64{2, 1, 0}, []int64{out.Replay.Replayed, out.Replay.NewlyDenied, out.Replay.NewlyAllowed})
		require.NotNil(t, out.Check)
		assert.False(t, out.Check.Passed)
		require.Len(t, out.Check.Findings, 1)
		assert.Equal(t, []any{"tests", "custom/custom_test.rego", 3}, []any{out.Check.Findings[0].Stage, out.Check.Findings[0].File, out.Check.Findings[0].Line})

		// A route, a denial with a remedy, a document taken out, and what does not load.
		out = try("root", map[string]any{"input": map[string]any{"http": map[string]any{
			"method": "GET", "path": "/v1/models", "segments": []string{"v1", "models"}, "query": map[string]any{}, "headers": map[string]any{},
		}}})
		require.NotNil(t, out.Answer)
		assert.Equal(t, "route", out.Answer.Kind)
		assert.Equal(t, &api.PolicyRequest{EntityType: "models", Entity: "*", Operation: "read"}, out.Answer.Request)
		assert.Equal(t, out.Answer.Request, out.InForce.Request)
		assert.Empty(t, out.Changed)
		out = try("pol", map[string]any{"input": map[string]any{"now": 5}})
		assert.False(t, out.Answer.Allowed)
		assert.NotEmpty(t, out.Answer.Warnings)
		out = try("pol", map[string]any{"files": map[string]any{"patrol/roles/data.yaml": nil, "authz/authz.rego": "package patrol.authz\n\nx := ]\n"}, "replay": 10, "check": true})
		require.NotEmpty(t, out.Findings)
		assert.Equal(t, []any{"load", "authz/authz.rego", 3}, []any{out.Findings[0].Stage, out.Findings[0].File, out.Findings[0].Line})
		assert.Nil(t, out.Answer)
		assert.Nil(t, out.Replay)
		assert.Nil(t, out.Check)

		// A module may be larger than other bodies are.
		large := closedModule + strings.Repeat("# a long comment\n", 20_000)
		assert.Equal(t, []string{"custom/custom.rego"}, try("pol", map[string]any{"files": map[string]any{"custom/custom.rego": large}}).Changed)
		w.as("pol").post("/api/v1/policy/playground", map[string]any{"files": map[string]any{"custom/custom.rego": strings.Repeat(large, 4)}}).problem(413, models.CodeTooLarge)

		for field, in := range map[string]map[string]any{
			"replay":                  {"replay": 10_001},
			"files[\"../x.rego\"]":    {"files": map[string]any{"../x.rego": "package x"}},
			"files[\"notes.txt\"]":    {"files": map[string]any{"notes.txt": "x"}},
			"files[\"a/gone.rego\"]":  {"files": map[string]any{"a/gone.rego": nil}},
			"decision":                {"decision": unknown.DecisionID},
			"input":                   {"input": "x"},
			"files.custom/mine\\rego": {"files": map[string]any{"custom/mine\\rego": 5}},
		} {
			var p api.Problem
			w.as("pol").post("/api/v1/policy/playground", in).is(422).into(&p)
			require.NotEmpty(t, p.Errors)
			if !strings.HasPrefix(field, "files.") {
				assert.Equal(t, field, p.Errors[0].Field)
			}
		}
		w.as("pol").post("/api/v1/policy/playground", map[string]any{"decision": "no-such"}).problem(422, models.CodeInvalid)
		w.as("pol").post("/api/v1/policy/playground", map[string]any{"decision": "x", "input": map[string]any{}}).problem(422, models.CodeInvalid)
		w.as("ann").post("/api/v1/policy/playground", map[string]any{}).problem(403, models.CodeForbidden)

		// Nothing of it had any effect.
		assert.Equal(t, digest, w.policy.Status().Active.Digest)
		events, err := w.store.PolicyEvents(t.Context(), "", 10)
		require.NoError(t, err)
		for _, e := range events {
			assert.Equal(t, digest, e.Subject.Digest)
		}
		assert.True(t, w.ask(pat.Token, "acme:models:llama3:read").Allowed)
	})
}

// full is a playground in which there is never a place.
type full struct{}

func (full) Try(context.Context, bundles.Trial) (*bundles.TrialResult, error) {
	return nil, fmt.Errorf("try: %w", bundles.ErrPlaygroundFull)
}

// instant answers nothing at once.
type instant struct{}

func (instant) Try(context.Context, bundles.Trial) (*bundles.TrialResult, error) {
	return &bundles.TrialResult{}, nil
}

// slow answers when it has taken that long, unless it is given up before.
type slow time.Duration

func (s slow) Try(ctx context.Context, _ bundles.Trial) (*bundles.TrialResult, error) {
	select {
	case <-time.After(time.Duration(s)):
		return &bundles.TrialResult{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// The time for reading and writing API requests does not end a trial that has more.
func TestATrialMayTakeLongerThanOtherRequests(t *testing.T) {
	const short = 100 * time.Millisecond
	w := newWorld(t, testenv.SQLite(t), func(_ *server.Config, d *server.Deps) { d.Playground = slow(3 * short) })
	session := w.session("pol")
	bounded := httptest.NewUnstartedServer(w.server.Handler())
	bounded.Config.ReadTimeout, bounded.Config.WriteTimeout = short, short
	bounded.Start()
	t.Cleanup(bounded.Close)
	w.http = bounded
	(&call{w: w, header: http.Header{}}).set("Authorization", "Bearer "+session).post("/api/v1/policy/playground", map[string]any{}).is(200)
}

func TestTrialsAreLimited(t *testing.T) {
	url := testenv.SQLite(t)
	w := newWorld(t, url, func(c *server.Config, d *server.Deps) { c.Playground.PerMinute, d.Playground = 2, instant{} })
	try := func(who string) *answer { return w.as(who).post("/api/v1/policy/playground", map[string]any{}) }
	try("pol").is(200)
	w.clock.Advance(20 * time.Second)
	w.as("pol").post("/api/v1/policy/playground", map[string]any{"replay": -1}).is(422) // does not count
	try("pol").is(200)
	a := try("pol")
	a.problem(429, models.CodeRateLimited)
	assert.Equal(t, "40", a.header.Get("Retry-After"))
	try("root").is(200)
	w.clock.Advance(40 * time.Second)
	try("pol").is(200)
	try("pol").is(429)

	w = newWorld(t, testenv.SQLite(t), func(_ *server.Config, d *server.Deps) { d.Playground = full{} })
	a = w.as("pol").post("/api/v1/policy/playground", map[string]any{})
	a.problem(429, models.CodeRateLimited)
	assert.Equal(t, "5", a.header.Get("Retry-After"))
	w = newWorld(t, testenv.SQLite(t), func(_ *server.Config, d *server.Deps) { d.Playground = nil })
	w.as("pol").post("/api/v1/policy/playground", map[string]any{}).problem(404, models.CodeNotFound)
	w = newWorld(t, testenv.SQLite(t), func(_ *server.Config, d *server.Deps) { d.Decisions = nil })
	w.as("pol").post("/api/v1/policy/playground", map[string]any{"replay": 5}).problem(422, models.CodeInvalid)
}

func TestThePlaygroundOnAPage(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("ann", "ci", "acme:models:*:read")
	decision := w.ask(pat.Token, "acme:models:llama3:read").DecisionID
	require.Eventually(t, func() bool {
		d, err := w.decided.Decision(t.Context(), decision)
		return err == nil && d != nil
	}, 10*time.Second, 5*time.Millisecond)
	pol := w.visit("pol")
	const path = "/policy/playground"
	p := pol.get(path).is(200)
	assert.Contains(t, p.text, `<option value="authz/authz.rego">`)
	assert.Contains(t, pol.get("/policy/decisions/"+decision).is(200).text, `href="/policy/playground?decision=`+decision+`"`)
	assert.Contains(t, pol.get(path+"?decision="+decision).is(200).text, pat.ID, "its input is there to be asked about")
	assert.Contains(t, pol.get(path+"?file=authz/authz.rego").is(200).text, "package patrol.authz")
	for _, wrong := range []string{"?decision=no-such", "?file=no/such.rego"} {
		pol.get(path + wrong).is(422)
	}

	// Files come and go, and what is typed stays.
	form := url.Values{"path": {"custom/custom.rego"}, "text": {strings.ReplaceAll(closedModule, "\n", "\r\n")}, "input": {"{\r\n}"}}
	do := func(what string, more url.Values) *shown {
		t.Helper()
		sent := maps.Clone(form)
		maps.Copy(sent, more)
		sent.Set("do", what)
		return pol.post(path, sent)
	}
	p = do("open", url.Values{"open": {"patrol/roles/data.yaml"}}).is(200)
	for _, want := range []string{"Nobody reads", `value="custom/custom.rego"`, `value="patrol/roles/data.yaml"`, `value="takeout:patrol/roles/data.yaml"`} {
		assert.Contains(t, p.text, want)
	}
	assert.NotContains(t, p.text, `value="takeout:custom/custom.rego"`, "the policy in force does not have it")
	assert.NotContains(t, do("close:custom/custom.rego", nil).is(200).text, "Nobody reads")
	assert.Contains(t, do("takeout:authz/authz.rego", nil).is(200).text, `name="gone" value="authz/authz.rego"`)
	assert.NotContains(t, do("putback:authz/authz.rego", url.Values{"gone": {"authz/authz.rego"}}).is(200).text, `name="gone"`)
	assert.Contains(t, do("new", url.Values{"new": {"team/team.rego"}}).is(200).text, "package patrol.team")
	assert.Contains(t, do("new", url.Values{"new": {"../x.rego"}}).is(422).text, "is not a plain path inside the bundle")
	assert.Contains(t, do("sample:route", nil).is(200).text, "chat/completions")
	assert.Contains(t, do("recorded", url.Values{"decision": {decision}}).is(200).text, pat.ID)

	// Trying.
	const input = `{"request": {"domain": "acme", "entity_type": "models", "entity": "<b>x", "operation": "read", "context": {}}}`
	p = do("try", url.Values{"input": {input}, "replay": {"100"}}).is(200)
	p.isOnlyText("<b>")
	for _, want := range []string{"Denied", "token_revoked", "authz/authz.rego:", "1 of the latest 1 would be others", "1 newly denied", "closed: Nobody reads (custom/custom.rego:8)", "/policy/decisions/" + decision} {
		assert.Contains(t, p.text, want)
	}
	p = do("try", url.Values{"text": {"package patrol.custom\r\n\r\nx := \"<b>\" y\r\n"}}).is(200)
	assert.Contains(t, p.text, "It is not a policy")
	assert.Contains(t, p.text, `data-line="3"`)
	p.isOnlyText("<b>")
	assert.Contains(t, do("try", url.Values{"input": {"{"}}).is(422).text, "must be a JSON object")
	pol.post(path, url.Values{"path": {"a.rego"}, "do": {"try"}}).is(400)
	w.visit("ann").post(path, form).is(403)
	w.visit("ann").get(path).is(403)

	w = newWorld(t, testenv.SQLite(t), func(c *server.Config, d *server.Deps) { c.Playground.PerMinute, d.Playground = 1, instant{} })
	pol = w.visit("pol")
	assert.Contains(t, do("try", nil).is(200).text, "It is a sound policy")
	p = do("try", nil).is(429)
	assert.Contains(t, p.text, "At most 1 policies can be tried in a minute. Try again in 60 seconds.")
	assert.Equal(t, "60", p.header.Get("Retry-After"))
	w = newWorld(t, testenv.SQLite(t), func(_ *server.Config, d *server.Deps) { d.Playground = nil })
	assert.Contains(t, w.visit("pol").get(path).is(200).text, "playground.enabled")
}
