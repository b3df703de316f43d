package server_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"patrol/bundles"
	"patrol/internal/testenv"
	"patrol/policies/engine"
	"patrol/server/manage"
)

// ships puts the default policy under another revision in force, changed by change if
// that is not nil, as the policy's source would, and returns its digest.
func (w *world) ships(revision string, change func(files map[string][]byte)) string {
	w.t.Helper()
	own, err := bundles.Read(w.t.Context(), "", nil)
	require.NoError(w.t, err)
	own.Files[".manifest"] = []byte(`{"revision": "` + revision + `", "roots": ["patrol"]}`)
	if change != nil {
		change(own.Files)
	}
	dir := w.t.TempDir()
	for name, content := range own.Files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(w.t, os.MkdirAll(filepath.Dir(file), 0o700))
		require.NoError(w.t, os.WriteFile(file, content, 0o600))
	}
	b, err := bundles.Read(w.t.Context(), dir, nil)
	require.NoError(w.t, err)
	coverage := 97.5
	require.NoError(w.t, manage.PolicyLedger(w.store).Activate(w.t.Context(), bundles.Record{
		Digest: b.Digest(), ArchiveDigest: bundles.ArchiveDigest(b.Archive), Revision: revision, Source: "https://bundles.example.com/p.tar.gz", SignedBy: "release",
		Result: bundles.Result{Passed: true, Tests: &bundles.Tests{Passed: 12, Skipped: 1}, Coverage: &coverage},
	}, b.Archive))
	require.NoError(w.t, w.policy.Sync(w.t.Context()))
	return b.Digest()
}

func TestThePolicyInForceOnAPage(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		pol := w.visit("pol")
		p := pol.get("/policy").is(200)
		assert.Contains(t, p.text, "It is the policy in the program")
		assert.NotContains(t, p.text, `action="/policy/resume"`)
		assert.NotContains(t, p.text, "/admin/", "of the administration they see nothing")
		for who, sees := range map[string]bool{"root": true, "ann": false} {
			assert.Equal(t, sees, strings.Contains(w.visit(who).get("/profile/pats").text, `href="/policy"`), who)
		}

		w.ships("v2", nil)
		p = pol.get("/policy").is(200)
		for _, want := range []string{"v2", "https://bundles.example.com/p.tar.gz", "<code>release</code>", "12 passed, 1 skipped", "97.5 %", "Nothing was refused lately."} {
			assert.Contains(t, p.text, want)
		}

		require.NoError(t, manage.PolicyLedger(w.store).Refuse(t.Context(), bundles.Record{
			Digest: "sha256:bad", Revision: "v3", Source: "https://bundles.example.com/p.tar.gz",
			Result: bundles.Result{Findings: []engine.Finding{{Stage: "compile", File: "authz/authz.rego", Line: 7, Column: 3, Code: "rego_type_error", Message: `undefined ref: <b>input</b>`}}},
		}))
		p = pol.get("/policy").is(200)
		assert.Contains(t, p.text, "authz/authz.rego:7:3")
		assert.Contains(t, p.text, "undefined ref: &lt;b&gt;input&lt;/b&gt;")
		p.isOnlyText("<b>")

		w.as("pol").post("/api/v1/policy/rollback", map[string]string{"revision": "v2"}).is(200)
		p = pol.get("/policy").is(200)
		assert.Contains(t, p.heading(), "Pinned")
		assert.Contains(t, p.text, "Follow the source again")
		w.visit("eve").post("/policy/resume", url.Values{}).is(403)
		assert.True(t, w.policy.Status().Active.Pinned)
		pol.post("/policy/resume", url.Values{}).leadsTo("/policy")
		p = pol.get("/policy").is(200)
		assert.Contains(t, p.text, "The source is followed again.")
		assert.Contains(t, p.heading(), "In force")
		assert.False(t, w.policy.Status().Active.Pinned)
	})
}

func TestTheRulesOnAPage(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pol := w.visit("pol")
	p := pol.get("/policy/rules").is(200)
	for _, want := range []string{"models/execute", "out_of_scope", "authz/authz.rego:", "POST /v1/chat/completions", "token_malformed"} {
		assert.Contains(t, p.text, want)
	}
	w.ships("v2", func(files map[string][]byte) {
		files["custom/weekend.rego"] = []byte("package patrol.custom\n\n# METADATA\n# title: A rule <b>of ours</b>\n# description: |\n#   Looks at `input.now`\n#   and no more.\n# custom:\n#   code: weekend\n#   message: Come back on Monday.\nreason := {\"code\": \"weekend\", \"message\": \"Come back on Monday.\"} if {\n\tinput.now < 5\n}\n")
		files["patrol/routes/data.yaml"] = []byte(`"PUT /x/*/y/**": {entity_type: models, operation: write, entity: {path: 2}}`)
		files["patrol/roles/data.yaml"] = []byte("viewer: {models: {read: true}}\nauditor: {datasets: {read: true}}\n")
	})
	p = pol.get("/policy/rules").is(200)
	p.isOnlyText("<b>")
	for _, want := range []string{
		"v2", "A rule &lt;b&gt;of ours&lt;/b&gt;", "Looks at <code>input.now</code> and no more.", "Come back on Monday.", "custom/weekend.rego:11", "input.now &lt; 5",
		"PUT /x/*/y/**", "star 2 of the path", "auditor",
	} {
		assert.Contains(t, p.text, want)
	}
	assert.NotContains(t, p.text, "/v1/chat/completions", "what is shown is what is in force")
	rule := p.find(func(n *html.Node) bool { return n.Data == "a" && inside(n) == "custom/weekend.rego:11" })
	require.Len(t, rule, 1)
	assert.NotNil(t, p.byID(strings.TrimPrefix(attr(rule[0], "href"), "#")))
	w.visit("dom").get("/policy/rules").is(403)
}
