package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/bundles"
	"patrol/bundles/sandbox"
	"patrol/internal/testenv"
	"patrol/models"
)

// TestDeparturesOnPages holds that what a policy waives, which exceptions it makes, which
// labels it gives and what it allowed against the invariants is on each page that shows the
// policy or the decision, and in the API.
func TestDeparturesOnPages(t *testing.T) {
	gate, err := bundles.NewGate(bundles.GateConfig{
		Waive: []string{"domain_frozen"}, Limits: sandbox.Limits{Memory: 1 << 30, CPU: time.Minute, Wall: 2 * time.Minute},
	})
	require.NoError(t, err)
	w := &world{t: t, gate: gate}
	w.start(t, testenv.SQLite(t), nil)
	w.populate()
	until := w.clock.Now().Add(24 * time.Hour).Unix()
	w.ships("v2", func(files map[string][]byte) {
		files[".manifest"] = []byte(`{"revision": "v2", "roots": ["patrol"], "metadata": {"waive": ["domain_frozen", "wildcard_forbidden"]}}`)
		files["authz/authz.rego"] = append(files["authz/authz.rego"], []byte("\noperation_permitted if input.request.entity == \"backdoor\"\n")...)
		files["custom/incident.rego"] = fmt.Appendf(nil, `package patrol.custom

# METADATA
# title: Eve helps <b>out</b>
waive contains {"code": "not_a_member", "because": "INC-<b>7</b>", "until": %d} if input.user.email == "eve@example.com"

waive contains {"code": "role_forbids", "because": "INC-7", "until": %d} if input.user.email == "eve@example.com"

# METADATA
# title: What alerts look at
labels := {"alert": "break-<b>glass</b>"} if input.user.email == "eve@example.com"
`, until, until)
	})
	pol := w.visit("pol")
	token := func(who string) api.PAT {
		return w.pat(who, "of "+who, "acme:models:llama3:write", "acme:models:llama3:read", "acme:models:backdoor:write")
	}
	eve := token("eve")
	allowed := w.ask(eve.Token, "acme:models:llama3:read")
	require.True(t, allowed.Allowed, allowed)
	ann := token("ann")
	breached := w.ask(ann.Token, "acme:models:backdoor:write")
	require.Equal(t, models.PolicyError, breached.Reasons[0].Code)
	w.awaitDecisions("", 2)

	p := pol.get("/policy").is(200)
	p.isOnlyText("<b>")
	for _, want := range []string{
		"Waived for good", "domain_frozen", "Makes exceptions", "Eve helps &lt;b&gt;out&lt;/b&gt; (custom/incident.rego:5)", "custom/incident.rego:7",
		"Gives labels", "What alerts look at (custom/incident.rego:11)", "It allowed what no policy may allow", "role_forbids", "1 time",
	} {
		assert.Contains(t, p.text, want)
	}
	assert.NotContains(t, p.text, "wildcard_forbidden", "which the server does not let it waive")
	assert.Contains(t, pol.get("/policy/rules").is(200).text, "wildcard_forbidden</code> where a server’s setting")

	var policy api.Policy
	w.as("pol").get("/api/v1/policy").is(http.StatusOK).into(&policy)
	assert.Equal(t, []models.ReasonCode{models.DomainFrozen}, policy.Departures.Waives)
	assert.Equal(t, []api.PolicyRule{{Title: "Eve helps <b>out</b>", File: "custom/incident.rego", Line: 5}, {File: "custom/incident.rego", Line: 7}}, policy.Departures.Exceptions)
	assert.Equal(t, []api.PolicyBreach{{Code: models.RoleForbids, Count: 1}}, policy.Breaches)

	at := time.Unix(until, 0).UTC().Format("2006-01-02 15:04")
	spite := []string{"not_a_member", "by an exception until " + at + " UTC: INC-&lt;b&gt;7&lt;/b&gt;", "alert: break-&lt;b&gt;glass&lt;/b&gt;"}
	p = pol.get("/policy/decisions").is(200)
	p.isOnlyText("<b>")
	for _, want := range []string{"in spite of not_a_member", spite[2]} {
		assert.Contains(t, p.text, want)
	}
	p = pol.get("/policy/decisions/" + allowed.DecisionID).is(200)
	p.isOnlyText("<b>")
	for _, want := range spite {
		assert.Contains(t, p.text, want)
	}
	assert.Contains(t, pol.get("/policy/decisions/"+breached.DecisionID).is(200).text, "what no policy may allow: role_forbids")

	// The playground judges the same, and takes what its gate finds for the history.
	p = pol.get("/policy/playground?decision=" + allowed.DecisionID).is(200)
	p = pol.post("/policy/playground", url.Values{"input": {p.value("input")}, "check": {"1"}, "do": {"try"}}).is(200)
	p.isOnlyText("<b>")
	for _, want := range append(spite, "Makes exceptions", "custom/incident.rego:7") {
		assert.Contains(t, p.text, want)
	}
}
