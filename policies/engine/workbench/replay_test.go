package workbench_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

// seededLog makes decisions of all kinds, by the policy, and logs them. The same
// seed makes the same log but for ids.
func seededLog(t testing.TB, policy *engine.Snapshot, n int) []models.LoggedDecision {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var tokens, users, domains, members []*engine.Value
	for i := range 50 {
		p := models.PAT{ID: fmt.Sprintf("token%02d", i), Name: "ci", CreatedAt: start, ExpiresAt: start.Add(time.Duration(i*20) * time.Second)}
		for j := range 10 {
			p.Scopes = append(p.Scopes, models.Scope{
				ID: fmt.Sprintf("s%d-%d", i, j), Domain: pick("acme", "beta", "*"), EntityType: pick("models", "datasets"), Entity: pick("*", "a", "b"), Operation: pick("read", "execute", "write"),
			})
		}
		tokens = append(tokens, engine.TokenValue(p))
	}
	for _, u := range []models.User{{ID: "u1", Email: "a@example.com"}, {ID: "u2", Admin: true}, {ID: "u3", Disabled: true}} {
		users = append(users, engine.UserValue(u))
	}
	for _, status := range []models.DomainStatus{models.DomainEnabled, models.DomainIsDisabled, models.DomainIsFrozen} {
		domains = append(domains, engine.DomainValue(models.Domain{ID: "acme", Status: status}))
	}
	for _, role := range []string{"viewer", "member", "admin"} {
		members = append(members, engine.MembershipValue(models.Membership{Role: role}))
	}
	logged := make([]models.LoggedDecision, n)
	for i := range logged {
		at := start.Add(time.Duration(i) * time.Millisecond)
		req := models.Request{Domain: "acme", EntityType: pick("models", "datasets", "robots"), Entity: pick("a", "b", "*"), Operation: pick("read", "execute", "write")}
		if i%10 == 0 {
			req.Context = map[string]any{"n": json.Number("12345678901234567890"), "s": "é"}
		}
		facts := engine.Facts{Token: tokens[random.IntN(len(tokens))], User: users[min(random.IntN(8)/3, 2)], Domain: domains[max(0, random.IntN(6)-3)]}
		if random.IntN(8) > 0 {
			facts.Membership = members[random.IntN(len(members))]
		}
		d, err := policy.Decide(t.Context(), req, facts, at)
		require.NoError(t, err)
		d.ID = models.NewDecisionID(at)
		l := models.LoggedDecision{Decision: d, At: at, Surface: "authorize", Request: req, Input: &models.DecisionInput{Now: at.Unix()}}
		for k, to := range map[*engine.Value]**models.Fact{
			facts.Token: &l.Input.Token, facts.User: &l.Input.User, facts.Domain: &l.Input.Domain, facts.Membership: &l.Input.Membership,
		} {
			*to, err = k.Fact()
			require.NoError(t, err)
		}
		if req.Context != nil {
			text, err := json.Marshal(req.Context)
			require.NoError(t, err)
			l.Input.Context = string(text)
		}
		l.Request.Context = nil
		logged[i] = l
	}
	return logged
}

func each(logged []models.LoggedDecision) func(func(models.LoggedDecision) error) error {
	return func(fn func(models.LoggedDecision) error) error {
		for _, l := range logged {
			if err := fn(l); err != nil {
				return err
			}
		}
		return nil
	}
}

// patient is the default policy with changed files, and time for a busy machine.
func patient(t testing.TB, files map[string]string) *engine.Snapshot {
	t.Helper()
	return load(t, files, engine.WithTimeout(time.Minute))
}

func TestReplayUnderTheSamePolicyChangesNothing(t *testing.T) {
	policy := patient(t, nil)
	logged := seededLog(t, policy, 5000)
	allowed := 0
	for i, l := range logged {
		if l.Allowed {
			allowed++
		}
		again, err := models.ParseEvent(l.AppendEvent(nil, []byte(`{}`)))
		require.NoError(t, err)
		logged[i] = again // as a file has it
	}
	assert.Greater(t, allowed, 200)
	report, err := workbench.Replay(t.Context(), policy, each(logged), workbench.ReplayOptions{})
	require.NoError(t, err)
	assert.Zero(t, report.Changes(), "%+v", report.Groups)
	assert.EqualValues(t, 5000, report.Replayed)
	assert.Zero(t, report.Skipped)
	assert.Equal(t, policy.Revision(), report.Revision)
	assert.Equal(t, logged[0].At, *report.From)
	assert.Equal(t, logged[4999].At, *report.To)
	assert.Empty(t, report.Groups)
}

func TestReplayCountsWhatWouldBeDecidedOtherwise(t *testing.T) {
	policy := patient(t, nil)
	logged := seededLog(t, policy, 5000)
	var unasked models.LoggedDecision
	unasked.Decision, unasked.ID = models.Deny(models.TokenUnknown), "0"
	logged = append(logged, unasked)

	// Newly denied: a rule of one's own against all that reads a.
	stricter := patient(t, map[string]string{"custom/no_a.rego": `# METADATA
# title: Nothing of one's own
package patrol.custom

# METADATA
# title: Nobody reads a
# custom:
#   code: not_a
#   message: Nobody may read a any more.
reason := {"code": "not_a", "message": "Nobody may read a any more."} if {
	input.request.entity == "a"
	input.request.operation == "read"
}
`})
	var newlyDenied, otherReasons int64
	for _, l := range logged {
		if l.Input == nil || l.Request.Entity != "a" || l.Request.Operation != "read" {
			continue
		}
		switch {
		case l.Allowed:
			newlyDenied++
		case l.Status() == 403 && !l.Has(models.UnknownOperation) && !l.Has(models.DomainUnknown):
			otherReasons++
		}
	}
	require.Positive(t, newlyDenied)
	report, err := workbench.Replay(t.Context(), stricter, each(logged), workbench.ReplayOptions{Examples: 3})
	require.NoError(t, err)
	assert.EqualValues(t, 5000, report.Replayed)
	assert.EqualValues(t, 1, report.Skipped)
	assert.Equal(t, newlyDenied, report.NewlyDenied)
	assert.Equal(t, otherReasons, report.OtherReasons)
	assert.Zero(t, report.NewlyAllowed)
	found := false
	for _, g := range report.Groups {
		assert.LessOrEqual(t, len(g.Examples), 3)
		if g.Kind != workbench.NewlyDenied {
			continue
		}
		found = true
		assert.Equal(t, newlyDenied, g.Count, "one group: they are denied for one reason")
		require.Len(t, g.Reasons, 1)
		assert.Equal(t, workbench.ReplayReason{Code: "not_a", Title: "Nobody reads a", File: "custom/no_a.rego", Line: 10}, g.Reasons[0])
		assert.Contains(t, g.Examples[0].Request, ":a:read")
		assert.Empty(t, g.Examples[0].Before)
		assert.Equal(t, []models.ReasonCode{"not_a"}, g.Examples[0].After)
	}
	assert.True(t, found)
	again, err := workbench.Replay(t.Context(), stricter, each(logged), workbench.ReplayOptions{Examples: 3})
	require.NoError(t, err)
	assert.Equal(t, report, again, "whoever does the work")

	// Newly allowed: back under the policy that has no such rule.
	var relogged []models.LoggedDecision
	var cache workbench.FactCache
	for _, l := range logged[:5000] {
		d, err := workbench.ReplayDecision(t.Context(), stricter, &l, &cache)
		require.NoError(t, err)
		d.ID = l.ID
		l.Decision = d
		relogged = append(relogged, l)
	}
	report, err = workbench.Replay(t.Context(), policy, each(relogged), workbench.ReplayOptions{})
	require.NoError(t, err)
	assert.Equal(t, newlyDenied, report.NewlyAllowed)
	assert.Equal(t, otherReasons, report.OtherReasons)

	// Two policies on the same inputs.
	report, err = workbench.Replay(t.Context(), policy, each(logged), workbench.ReplayOptions{Base: stricter})
	require.NoError(t, err)
	assert.Equal(t, newlyDenied, report.NewlyAllowed)
}

func TestReplayKnowsWhatIsMasked(t *testing.T) {
	policy := patient(t, nil)
	logged := seededLog(t, policy, 40)
	logged[0].Erased = []string{"/input/user/email"}
	logged[1].Input = nil
	logged[2].Request.Entity = ""
	report, err := workbench.Replay(t.Context(), policy, each(logged), workbench.ReplayOptions{})
	require.NoError(t, err)
	assert.Equal(t, []int64{38, 2, 1, 0}, []int64{report.Replayed, report.Skipped, report.Masked, report.Changes()})
}

// TestReplayOfTokensForSomeAddresses has decisions made again from where they were made, and
// none where a mask keeps that.
func TestReplayOfTokensForSomeAddresses(t *testing.T) {
	policy := patient(t, nil)
	p := models.PAT{ID: "t", Name: "ci", CreatedAt: time.Unix(1790000000, 0), ExpiresAt: time.Unix(1792592000, 0), AllowedIPs: []string{"203.0.113.0/24"}}
	p.Scopes = []models.Scope{{ID: "s", Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"}}
	token, err := engine.TokenValue(p).Fact()
	require.NoError(t, err)
	all := seededLog(t, policy, 1)
	for _, c := range []struct {
		name, client   string
		erased, masked []string
		want           models.ReasonCode
		skipped        bool
	}{
		{name: "from an allowed address", client: `{"ip":"203.0.113.7"}`},
		{name: "from another", client: `{"ip":"203.0.114.7"}`, want: models.IPForbidden},
		{name: "from who knows where", want: models.IPForbidden},
		{name: "erased", erased: []string{"/input/client"}, skipped: true},
		{name: "hashed", client: `{"ip":"hmac-sha256:AAAA"}`, masked: []string{"/input/client/ip"}, skipped: true},
		{name: "something else is masked", client: `{"ip":"203.0.113.7"}`, masked: []string{"/input/user/email"}},
	} {
		l := all[0]
		in := *l.Input
		l.Input, l.Erased, l.Masked = &in, c.erased, c.masked
		l.Request = models.Request{Domain: "acme", EntityType: "models", Entity: "a", Operation: "read"}
		in.Token, in.Client, in.Now = token, c.client, 1790500000
		for kind, value := range map[**models.Fact]*engine.Value{
			&in.User:   engine.UserValue(models.User{ID: "u", Email: "u@example.com"}),
			&in.Domain: engine.DomainValue(models.Domain{ID: "acme", Status: models.DomainEnabled}), &in.Membership: engine.MembershipValue(models.Membership{Role: "member"}),
		} {
			*kind, err = value.Fact()
			require.NoError(t, err)
		}
		d, err := workbench.ReplayDecision(t.Context(), policy, &l, new(workbench.FactCache))
		if c.skipped {
			require.ErrorIs(t, err, workbench.ErrNotReplayable, c.name)
			continue
		}
		require.NoError(t, err, c.name)
		assert.Equal(t, c.want, d.FirstReason(), c.name)
		assert.Equal(t, c.want == "", d.Allowed, c.name)
	}
}

func TestReplayEndsWithAnError(t *testing.T) {
	policy := patient(t, nil)
	logged := seededLog(t, policy, 300)
	broken := errors.New("broken")
	_, err := workbench.Replay(t.Context(), policy, func(fn func(models.LoggedDecision) error) error {
		if err := fn(logged[0]); err != nil {
			return err
		}
		return broken
	}, workbench.ReplayOptions{})
	require.ErrorIs(t, err, broken)
	logged[7].Input.Token = models.NewFact(`{`)
	_, err = workbench.Replay(t.Context(), policy, each(logged), workbench.ReplayOptions{})
	require.ErrorContains(t, err, "logged fact")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = workbench.Replay(ctx, policy, each(logged[:5]), workbench.ReplayOptions{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestCompare(t *testing.T) {
	allow := func(scope string, headers map[string]string) models.Decision {
		return models.Decision{Allowed: true, ScopeID: scope, Headers: headers}
	}
	deny := func(codes ...models.ReasonCode) (d models.Decision) {
		for _, c := range codes {
			d.Reasons = append(d.Reasons, models.Reason{Code: c, Message: "said " + string(c)})
		}
		return d
	}
	for _, c := range []struct {
		before, after models.Decision
		headers       bool
		want          workbench.ChangeKind
	}{
		{allow("s", nil), allow("s", nil), true, ""},
		{allow("s", nil), allow("t", nil), true, workbench.OtherGrant},
		{allow("s", nil), allow("s", map[string]string{"a": "b"}), true, workbench.OtherGrant},
		{allow("s", map[string]string{"a": "c"}), allow("s", map[string]string{"a": "b"}), true, workbench.OtherGrant},
		{allow("s", nil), allow("s", map[string]string{"a": "b"}), false, ""},
		{allow("s", nil), deny("x"), true, workbench.NewlyDenied},
		{deny("x"), allow("s", nil), true, workbench.NewlyAllowed},
		{deny("x", "y"), deny("y", "x"), true, ""},
		{deny("x"), deny("x", "y"), true, workbench.OtherReasons},
	} {
		assert.Equal(t, c.want, workbench.Compare(c.before, c.after, c.headers), "%+v", c)
	}
}

// BenchmarkReplay replays decisions as they come from a database; the bar is
// 10,000 a second.
func BenchmarkReplay(b *testing.B) {
	policy := patient(b, nil)
	logged := seededLog(b, policy, 100_000)
	for b.Loop() {
		report, err := workbench.Replay(b.Context(), policy, each(logged), workbench.ReplayOptions{})
		require.NoError(b, err)
		require.Zero(b, report.Changes())
	}
	rate := float64(len(logged)) * float64(b.N) / b.Elapsed().Seconds()
	b.ReportMetric(rate, "decisions/s")
	if rate < 10_000 {
		b.Errorf("%.0f decisions/s, at least 10,000", rate)
	}
}
