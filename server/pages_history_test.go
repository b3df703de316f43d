package server_test

import (
	"bytes"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"patrol/api"
	"patrol/bundles"
	"patrol/internal/testenv"
	"patrol/policies/engine"
	"patrol/server"
	"patrol/server/manage"
)

// adds is a change that adds a file of ours to a policy.
func adds(name, content string) func(map[string][]byte) {
	return func(files map[string][]byte) { files[name] = []byte(content) }
}

// buttons are the links that a page shows as buttons, by their texts.
func (s *shown) buttons() map[string]string {
	out := map[string]string{}
	for _, n := range s.find(func(n *html.Node) bool { return n.Data == "a" && strings.HasPrefix(attr(n, "class"), "button") }) {
		out[inside(n)] = attr(n, "href")
	}
	return out
}

func TestThePolicysHistoryOnPages(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		pol := w.visit("pol")
		first := w.ships("v1", adds("custom/c.rego", "package patrol.custom\n\n# METADATA\n# title: <b>One</b>\none := 1\n"))
		second := w.ships("v2", func(files map[string][]byte) {
			adds("custom/c.rego", "package patrol.custom\n\n# METADATA\n# title: Two\ntwo := 2\n")(files)
			files["patrol/roles/data.yaml"] = bytes.Replace(files["patrol/roles/data.yaml"], []byte("execute: true"), []byte("execute: true, write: true"), 1)
			files["patrol/routes/data.yaml"] = bytes.Replace(files["patrol/routes/data.yaml"], []byte(`"GET /ping"`), []byte(`"GET /pong"`), 1)
		})
		require.NoError(t, manage.PolicyLedger(w.store).Refuse(t.Context(), bundles.Record{
			Digest: "sha256:bad", Revision: "v3", Source: "elsewhere",
			Result: bundles.Result{Findings: []engine.Finding{{Stage: "compile", File: "custom/c.rego", Line: 5, Code: "rego_type_error", Message: "<b>wrong"}}},
		}))

		p := pol.get("/policy/history").is(200)
		p.isOnlyText("<b>")
		for _, want := range []string{"Came into force", "Refused", "custom/c.rego:5", "&lt;b&gt;wrong", "the server", "12 tests passed, 98 % covered", "release"} {
			assert.Contains(t, p.text, want)
		}
		links := p.buttons()
		rollBack := links["Roll back… to v1"]
		require.NotEmpty(t, rollBack, "%v", links)
		assert.NotContains(t, links, "Roll back… to v2", "it is in force")

		// Later changes.
		diff := pol.get(links["Compare v1 with the one in force"]).is(200)
		diff.isOnlyText("<b>")
		for _, want := range []string{"4 files differ.", "custom/c.rego", ".manifest", "# title: &lt;b&gt;One&lt;/b&gt;", "# title: Two", "one := 1", "two := 2"} {
			assert.Contains(t, diff.text, want)
		}
		assert.NotContains(t, diff.text, "authz/authz.rego")
		words := inside(diff.byID("main"))
		for _, want := range []string{
			"Added rule custom.two: Two custom/c.rego:5", "Removed rule custom.one: <b>One</b>", "Added role may member models/write", "Added route GET /pong", "Removed route GET /ping",
			"newly allowed, denied before as role_forbids", "GET /proxy/acme/ping asked for", "asks for nothing that is known",
		} {
			assert.Contains(t, words, want)
		}
		var changed []string
		for _, n := range diff.find(func(n *html.Node) bool { return strings.Contains(attr(n, "class"), "line added") }) {
			changed = append(changed, inside(n))
		}
		assert.Contains(t, changed, "5+added: two := 2")
		assert.Contains(t, pol.get("/policy/history/diff?from="+first+"&to="+first).is(200).text, "all files are the same")
		pol.get("/policy/history/diff?from=" + first + "&to=nothing").is(404)
		pol.get("/policy/history/diff?from=" + first + "&to=candidate").is(404)

		// Back to the first, after a question.
		ask := pol.get(rollBack).is(200)
		assert.Equal(t, "Roll back to v1?", ask.heading())
		assert.Equal(t, first, ask.value("revision"))
		assert.Equal(t, second, w.policy.Status().Active.Digest, "nothing happens before one says so")
		pol.get("/policy/history/rollback?revision=nothing").is(404)
		pol.post("/policy/history/rollback", url.Values{"revision": {"nothing"}}).is(404)
		pol.post("/policy/history/rollback", url.Values{}).is(422)
		w.visit("eve").post("/policy/history/rollback", url.Values{"revision": {first}}).is(403)
		assert.Equal(t, second, w.policy.Status().Active.Digest)
		pol.post("/policy/history/rollback", url.Values{"revision": {first}}).leadsTo("/policy")
		assert.Equal(t, first, w.policy.Status().Active.Digest)
		assert.Equal(t, "v1", w.authzRevision())
		p = pol.get("/policy").is(200)
		assert.Contains(t, p.text, "v1 is in force, and pinned until the source is followed again.")
		p = pol.get("/policy/history").is(200)
		assert.Contains(t, p.text, "Rolled back to")
		assert.Contains(t, p.text, "pol@example.com")

		var events api.Page[api.AuditEvent]
		w.as("root").get("/api/v1/admin/audit?action=policy.rollback").is(200).into(&events)
		require.Len(t, events.Items, 1)
		assert.Equal(t, w.users["pol"].ID, events.Items[0].Actor.UserID)
	})
}

// authzRevision is the policy that decides.
func (w *world) authzRevision() string {
	w.t.Helper()
	pat := w.pat("ann", "ci", "acme:models:*:read")
	return w.ask(pat.Token, "acme:models:llama3:read").Revision
}

// Who was signed out meanwhile is asked again, and nothing is rolled back by signing in.
func TestARollBackAfterTheSessionEnded(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	first, second := w.ships("v1", nil), w.ships("v2", nil)
	pol := w.visit("pol")
	w.clock.Advance(13 * time.Hour)
	p := pol.post("/policy/history/rollback", url.Values{"revision": {first}}).is(401)
	assert.Equal(t, "/policy/history/rollback?revision="+url.QueryEscape(first), p.value("next"))
	assert.Equal(t, "/policy", pol.post("/policy/resume", url.Values{}).is(401).value("next"))
	assert.Equal(t, second, w.policy.Status().Active.Digest)
}

// holding is a policy whose source holds another.
type holding struct {
	*bundles.Delivery
	candidate []byte
}

func (h *holding) Candidate() []byte { return h.candidate }

func TestWhatTheSourceHoldsIsCompared(t *testing.T) {
	held := &holding{}
	w := newWorld(t, testenv.SQLite(t), func(_ *server.Config, d *server.Deps) {
		held.Delivery = d.Policy.(*bundles.Delivery)
		d.Policy = held
	})
	pol := w.visit("pol")
	assert.NotContains(t, pol.get("/policy/history").is(200).text, "What the source holds")
	v2 := w.ships("v2", nil)
	archive, _, _ := w.policy.Archive()
	w.ships("v1", adds("custom/c.rego", "package patrol.custom\n\n# METADATA\n# title: One\none := 1\n"))
	held.candidate = archive
	assert.Contains(t, pol.get("/policy/history").is(200).text, "What the source holds")
	p := pol.get("/policy/history/diff?from=" + w.policy.Status().Active.Digest + "&to=candidate").is(200)
	assert.NotContains(t, p.text, "In words", "what passed no gate is not run")
	assert.Contains(t, p.text, "2 files differ.")
	assert.Contains(t, p.text, "removed: </span>one := 1")
	assert.Contains(t, pol.get("/policy/history/diff?from=candidate&to="+v2).is(200).text, "all files are the same")
	held.candidate = []byte("no archive")
	assert.Contains(t, pol.get("/policy/history/diff?from=candidate&to="+v2).is(409).text, "What the policy’s source holds cannot be read")
	w.visit("ann").get("/policy/history/diff?from=candidate&to=" + v2).is(403)
}
