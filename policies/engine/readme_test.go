//go:build !race

package engine_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

// readmeBlocks gives the treatment of each block of code in the README of the policies, by its
// first line. A block that is not here fails the test. Blocks marked sh are run by
// TestCommandsInDocuments; e2e asks the whole server about the exception and the labels.
var readmeBlocks = map[string]func(*testing.T, string){
	`"GET /buckets/*/files/**": {entity_type: datasets, operation: read, entity: {path: 1}}`: readmeRoute,
	"package patrol.custom/3": readmeOwnRule, "package patrol.custom/4": readmeIncident,
	"{": readmeInput,
	`{"allow": true,  "reasons": [], "scope": "<scope id>", "headers": {"X-Patrol-Tier": "gold"}}`:                                                 readmeAnswers,
	`{"body": {"format": "json", "fields": ["model"], "each": ["models", "tools[].model"], "absent": ["api_base", "*model*"]}, "websocket": true}`: readmeHints,
	"package patrol.log": readmeMask,
}

// TestReadme runs every block of code in the README of the policies.
func TestReadme(t *testing.T) {
	content, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	parts := strings.Split(string(content), "```")
	require.Equal(t, 1, len(parts)%2, "a block does not end")
	assert.NotRegexp(t, `(?m)^    \S`, string(content), "a block without a fence is not found")
	ran := map[string]bool{}
	for i := 1; i < len(parts); i += 2 {
		info, code, _ := strings.Cut(parts[i], "\n")
		if info == "sh" || strings.HasPrefix(info, "sh norun: ") {
			continue
		}
		first, rest, _ := strings.Cut(code, "\n")
		if first == "package patrol.custom" { // the two differ in their titles
			first += "/" + map[bool]string{true: "3", false: "4"}[strings.Contains(rest, "working days")]
		}
		run := readmeBlocks[first]
		if !assert.NotNil(t, run, "nobody says what becomes of the block that begins with %s", first) {
			continue
		}
		ran[first] = true
		t.Run(info+" "+first, func(t *testing.T) { run(t, code) })
	}
	assert.Len(t, ran, len(readmeBlocks), "a block is not there any more")
}

// readmeGate holds that a file passes the gate.
func readmeGate(t *testing.T, files map[string]string) {
	t.Helper()
	src := bundle(t, files)
	r, err := workbench.Check(t.Context(), src, workbench.CheckOptions{MinCoverage: -1, TestTimeout: 5 * time.Minute, Now: time.Unix(1790500000, 0)})
	require.NoError(t, err)
	require.NoError(t, r.Err())
}

func readmeOwnRule(t *testing.T, code string) {
	files := map[string]string{"custom/office_hours.rego": code}
	readmeGate(t, files)
	s := load(t, files)
	req, f := readModel, facts()
	req.Operation = "write"
	f.User = engine.UserValue(admin)
	all := pat
	all.ExpiresAt = now.AddDate(1, 0, 0)
	all.Scopes = []models.Scope{{ID: "s", Domain: "acme", EntityType: "models", Entity: "*", Operation: "write"}}
	f.Token = engine.TokenValue(all)
	monday := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	d, err := s.Decide(t.Context(), req, f, monday)
	require.NoError(t, err)
	assert.True(t, d.Allowed)
	d, err = s.Decide(t.Context(), req, f, monday.AddDate(0, 0, -1))
	require.NoError(t, err)
	assert.False(t, d.Allowed)
	assert.Equal(t, []models.ReasonCode{"weekend"}, codes(d))
}

func readmeIncident(t *testing.T, code string) {
	files := map[string]string{"custom/incident.rego": code}
	readmeGate(t, files)
	f := facts()
	f.Membership = as("pilot")
	d, err := load(t, files).Decide(t.Context(), readModel, f, now)
	require.NoError(t, err)
	assert.True(t, d.Allowed, "%v", d.Reasons)
	assert.Equal(t, []models.Waiver{{Code: models.RoleForbids, Because: "INC-123", Until: 1792592000}}, d.Waived)
	assert.Equal(t, map[string]string{"alert": "break-glass"}, d.Labels)
	d, err = load(t, files).Decide(t.Context(), readModel, f, time.Unix(1792592000, 0))
	require.NoError(t, err)
	assert.False(t, d.Allowed, "it is over")
}

func readmeInput(t *testing.T, code string) {
	var input map[string]any
	require.NoError(t, json.Unmarshal([]byte(code), &input))
	d, err := load(t, nil).DecideRaw(t.Context(), input)
	require.NoError(t, err)
	assert.True(t, d.Allowed, "%v", d.Reasons)
	assert.Equal(t, "<scope id>", d.ScopeID)
}

func readmeAnswers(t *testing.T, code string) {
	answers := strings.Split(strings.TrimSpace(code), "\n")
	require.Len(t, answers, 2)
	d, err := load(t, policy("verdict := "+strings.ReplaceAll(answers[0], "<scope id>", "scope-1"))).Decide(t.Context(), readModel, facts(), now)
	require.NoError(t, err)
	assert.Equal(t, models.Decision{Allowed: true, ScopeID: "scope-1", Headers: map[string]string{"X-Patrol-Tier": "gold"}, Revision: d.Revision}, d)
	req := readModel
	req.Operation = "execute"
	d, err = load(t, nil).Decide(t.Context(), req, facts(), now)
	require.NoError(t, err)
	var shown struct {
		Allow   bool            `json:"allow"`
		Reasons []models.Reason `json:"reasons"`
	}
	require.NoError(t, json.Unmarshal([]byte(answers[1]), &shown))
	assert.Equal(t, shown.Reasons, d.Reasons, "as the default policy gives them")
}

func readmeRoute(t *testing.T, code string) {
	routes, err := policies.FS.ReadFile("patrol/routes/data.yaml")
	require.NoError(t, err)
	at := strings.Index(string(routes), "\"GET /")
	require.Positive(t, at)
	indent := string(routes)[strings.LastIndex(string(routes)[:at], "\n")+1 : at]
	s := load(t, map[string]string{"patrol/routes/data.yaml": string(routes)[:at] + strings.TrimSpace(code) + "\n" + indent + string(routes)[at:]})
	reqs, ok, err := s.Route(t.Context(), models.HTTPRequest{Method: "GET", Path: "/proxy/acme/buckets/b/files/x/y", Segments: []string{"proxy", "acme", "buckets", "b", "files", "x", "y"}})
	require.NoError(t, err)
	require.True(t, ok)
	require.Len(t, reqs, 1)
	assert.Equal(t, "acme:datasets:b:read", reqs[0].Scope())
}

func readmeHints(t *testing.T, code string) {
	s := load(t, map[string]string{"http/http.rego": "package patrol.http\n\nrequest := {\"domain\": \"acme\", \"entity_type\": \"models\", \"entity\": \"x\", \"operation\": \"read\"} if input.http.method == \"GET\"\n\nhints := " + strings.TrimSpace(code) + " if input.http.method == \"GET\"\n"})
	need, upgrade, err := s.BodyNeed(t.Context(), models.HTTPRequest{Method: "GET", Path: "/x", Segments: []string{"x"}})
	require.NoError(t, err)
	assert.True(t, upgrade)
	require.NotNil(t, need)
	assert.Equal(t, []string{"model"}, need.Fields)
	assert.Equal(t, []string{"models", "tools[].model"}, need.Each)
	assert.Equal(t, []string{"api_base", "*model*"}, need.Absent)
}

func readmeMask(t *testing.T, code string) {
	s := load(t, map[string]string{"log/mask.rego": code})
	m, err := s.Mask(t.Context(), func() []byte { return []byte(`{}`) })
	require.NoError(t, err)
	assert.Len(t, m.Rules, 3)
}
