package server_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/server"
)

// decisions are the ids of the decisions that a page lists.
func (s *shown) decisions() (ids []string) {
	for _, n := range s.find(func(n *html.Node) bool { return n.Data == "a" && attr(n, "class") == "name" }) {
		ids = append(ids, strings.TrimPrefix(attr(n, "href"), "/policy/decisions/"))
	}
	return ids
}

func TestExploringDecisions(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		pol := w.visit("pol")
		assert.Contains(t, pol.get("/policy/decisions").is(200).text, "There are no decisions yet.")

		ci, other := w.pat("ann", "ci <b>", "acme:models:*:read"), w.pat("dom", "other", "acme:models:*:read")
		allowed := w.ask(ci.Token, "acme:models:llama3:read").DecisionID
		w.clock.Advance(2 * time.Hour)
		denied := w.ask(ci.Token, "acme:models:llama3:execute").DecisionID
		w.clock.Advance(time.Second)
		doms := w.ask(other.Token, "acme:models:llama3:read").DecisionID
		w.clock.Advance(time.Second)
		unknown := w.ask(flip(ci.Token), "acme:models:llama3:read").DecisionID
		w.awaitDecisions("", 4)

		p := pol.get("/policy/decisions").is(200)
		assert.Equal(t, []string{unknown, doms, denied, allowed}, p.decisions())
		p.isOnlyText("<b>")
		for _, want := range []string{"ann@example.com", "dom@example.com", "ci &lt;b&gt;", "acme:models:llama3:execute", "out_of_scope", "token_unknown", ci.ID} {
			assert.Contains(t, p.text, want)
		}
		for _, n := range p.find(func(n *html.Node) bool { return n.Data == "a" }) {
			assert.NotContains(t, attr(n, "href"), "example.com", "addresses of people are in no address of a page")
		}

		ann := w.users["ann"].ID
		an := url.QueryEscape(w.clock.Now().Add(-time.Hour).UTC().Format(time.RFC3339))
		for query, want := range map[string][]string{
			"user=" + ann:                 {denied, allowed},
			"token=" + other.ID:           {doms},
			"domain=acme&outcome=deny":    {unknown, denied},
			"domain=beta":                 nil,
			"outcome=allow":               {doms, allowed},
			"reason=out_of_scope":         {denied},
			"since=1h":                    {unknown, doms, denied},
			"since=" + an:                 {unknown, doms, denied},
			"until=" + an:                 {allowed},
			"surface=gateway":             nil,
			"revision=nothing":            nil,
			"user=" + ann + "&since=1h":   {denied},
			"after=garbage&outcome=allow": nil, // leads to the first page
		} {
			p := pol.get("/policy/decisions?" + query)
			if strings.HasPrefix(query, "after") {
				p.leadsTo("/policy/decisions?outcome=allow")
				continue
			}
			assert.Equal(t, want, p.is(200).decisions(), query)
		}
		assert.Equal(t, "ann@example.com", pol.get("/policy/decisions?user="+ann).value("user"))
		pol.get("/policy/decisions?since=yesterday&outcome=maybe").is(422)

		// The form puts ids into the address, whatever was pasted into it.
		pol.post("/policy/decisions", url.Values{
			"user": {" Ann@Example.com "}, "token": {` "Bearer ` + ci.Token + `" `}, "outcome": {"deny"}, "period": {"24h"}, "domain": {"acme"},
		}).leadsTo("/policy/decisions?domain=acme&outcome=deny&since=24h&token=" + ci.ID + "&user=" + ann)
		pol.post("/policy/decisions", url.Values{"token": {other.ID}, "period": {"1h"}, "from": {"2026-01-02T03:04"}, "to": {"2026-01-02T03:05:06"}}).
			leadsTo("/policy/decisions?since=2026-01-02T03%3A04%3A00Z&token=" + other.ID + "&until=2026-01-02T03%3A05%3A06Z")
		pol.post("/policy/decisions", url.Values{}).leadsTo("/policy/decisions")
		p = pol.post("/policy/decisions", url.Values{"user": {"nobody@example.com"}, "token": {flip(ci.Token)[:40]}, "domain": {ci.Token}, "from": {"soon"}}).is(422)
		for _, want := range []string{"User has no account with this address.", "Token is neither", "Domain is no place for a token.", "From is not a time"} {
			assert.Contains(t, p.text, want)
		}
		assert.NotContains(t, p.text, ci.Token[:30])
		assert.NotContains(t, w.logs.String(), ci.Token)

		// Other people's doings are for the policy team alone.
		for _, who := range []string{"ann", "dom", "eve"} {
			w.visit(who).get("/policy/decisions").is(403)
		}
		assert.Len(t, w.visit("root").get("/policy/decisions").is(200).decisions(), 4)
	})
}

func TestDecisionsArePaged(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	all := make([]models.LoggedDecision, 120)
	for i := range all {
		at := w.clock.Now().Add(time.Duration(i) * time.Second)
		all[i] = models.LoggedDecision{Decision: models.Decision{ID: models.NewDecisionID(at), Allowed: true}, At: at, Surface: "authorize"}
	}
	require.NoError(t, w.decided.Add(t.Context(), all))
	pol := w.visit("pol")
	seen := map[string]bool{}
	pages := 0
	for next := "/policy/decisions?outcome=allow"; next != ""; pages++ {
		p := pol.get(next).is(200)
		for _, id := range p.decisions() {
			assert.False(t, seen[id])
			seen[id] = true
		}
		next = ""
		for _, n := range p.find(func(n *html.Node) bool { return n.Data == "a" && inside(n) == "Next page" }) {
			next = attr(n, "href")
			assert.Contains(t, next, "outcome=allow")
		}
	}
	assert.Equal(t, 3, pages)
	assert.Len(t, seen, len(all))
}

func TestWithoutADecisionLogThePageSaysSo(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), func(_ *server.Config, d *server.Deps) { d.Decisions = nil })
	assert.Contains(t, w.visit("pol").get("/policy/decisions").is(200).text, "decision_log.database")
}

// logged asks for a decision and waits until it is in the log.
func (w *world) logged(token, scope string) string {
	w.t.Helper()
	id := w.ask(token, scope).DecisionID
	require.Eventually(w.t, func() bool {
		d, err := w.decided.Decision(w.t.Context(), id)
		return err == nil && d != nil
	}, soon, 5*time.Millisecond)
	return id
}

func TestADecisionIsExplained(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		pat := w.pat("ann", "ci <b>", "acme:models:*:read")
		denied := w.logged(pat.Token, "acme:models:llama3:execute")
		allowed := w.logged(pat.Token, "acme:models:llama3:read")
		unknown := w.logged(flip(pat.Token), "acme:models:llama3:read")
		first := w.policy.Status().Active.Revision
		pol := w.visit("pol")

		p := pol.get("/policy/decisions/" + denied).is(200)
		p.isOnlyText("<b>")
		assert.Equal(t, "Decision Denied", p.heading())
		for _, want := range []string{
			"None of the access token&#39;s scopes covers this.", "The token has the scope acme:models:llama3:execute", "given by <code>authz.forbidden</code> at <code>authz/authz.rego:",
			"which decided", "It would be decided the same.", "No scope of the token covers it", "not granting_scope", "ann@example.com", "ci &lt;b&gt;", `&#34;operation&#34;: &#34;execute&#34;`,
		} {
			assert.Contains(t, p.text, want)
		}
		assert.NotContains(t, p.text, pat.Token)
		p = pol.get("/policy/decisions/" + allowed).is(200)
		assert.Equal(t, "Decision Allowed", p.heading())
		assert.NotContains(t, p.text, "smallest change")
		p = pol.get("/policy/decisions/" + unknown).is(200)
		assert.Contains(t, p.text, "The decision cannot be made again: the policy was not asked for it.")

		// Another policy comes into force: what was decided is explained by what decided.
		w.ships("v2", func(files map[string][]byte) {
			files["custom/closed.rego"] = []byte("package patrol.custom\n\n# METADATA\n# title: Closed\n# custom:\n#   code: closed\n#   message: Closed.\nreason := {\"code\": \"closed\", \"message\": \"Closed.\"}\n")
		})
		p = pol.get("/policy/decisions/" + allowed).is(200)
		assert.Contains(t, p.text, "Under revision <code>"+first+"</code>, which decided")
		assert.Contains(t, p.text, "It would be denied: closed.")
		assert.Contains(t, p.text, "Revision <code>v2</code>, on the same facts.")
		assert.NotContains(t, p.text, "custom/closed.rego", "that is not what decided")

		// One that is not kept cannot explain; the one in force does, and it says so.
		l, err := w.decided.Decision(t.Context(), allowed)
		require.NoError(t, err)
		l.ID, l.Revision = models.NewDecisionID(w.clock.Now()), "forgotten"
		l.Erased, l.Masked = []string{"/input/user/email"}, []string{"/input/token/name"}
		require.NoError(t, w.decided.Add(t.Context(), []models.LoggedDecision{*l}))
		p = pol.get("/policy/decisions/" + l.ID).is(200)
		assert.Contains(t, p.text, "The one that decided is not kept any more.")
		assert.Contains(t, p.text, "It would be denied: closed.")
		assert.Contains(t, p.text, "A mask has changed the input")
		assert.Len(t, p.find(func(n *html.Node) bool { return attr(n, "class") == "note-mark" }), 2)

		pol.get("/policy/decisions/nothing").is(404)
		for _, who := range []string{"ann", "dom", "eve"} {
			w.visit(who).get("/policy/decisions/" + denied).is(403)
		}
	})
}

func TestExplainingIsBounded(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pol := w.visit("pol")
	pat := w.pat("ann", "ci", "acme:models:*:read")
	var ids []string
	for _, revision := range []string{"v1", "v2", "v3", "v4", "v5"} {
		w.ships(revision, nil)
		ids = append(ids, w.logged(pat.Token, "acme:models:llama3:read"))
	}
	for range 2 {
		for i, id := range ids {
			assert.Contains(t, pol.get("/policy/decisions/"+id).is(200).text, "Under revision <code>v"+string(rune('1'+i))+"</code>, which decided")
		}
	}
	assert.Equal(t, 3, w.server.LoadedPolicies(), "of the four that are not in force")

	// A policy that takes for ever is given up on, and the page says so.
	w.ships("slow", func(files map[string][]byte) {
		files["custom/slow.rego"] = []byte("package patrol.custom\n\n# METADATA\n# title: Slow\nreason := {\"code\": \"slow\", \"message\": \"Slow.\"} if {\n\tinput.request.operation == \"execute\"\n\tcount([1 | some i in numbers.range(1, 5000); some j in numbers.range(1, 5000); i + j == input.now]) > 0\n}\n")
	})
	slow := w.logged(pat.Token, "acme:models:llama3:execute")
	d, err := w.decided.Decision(t.Context(), slow)
	require.NoError(t, err)
	require.Equal(t, models.OutcomeError, d.Outcome())
	assert.Contains(t, pol.get("/policy/decisions/"+slow).is(200).text, "Revision slow cannot judge it")

	// More than a few at a time are sent away.
	release := w.server.OccupyExplaining()
	p := pol.get("/policy/decisions/" + ids[0]).is(429)
	assert.Equal(t, "1", p.header.Get("Retry-After"))
	assert.Contains(t, p.text, "Too many decisions are being explained at the moment")
	release()
	pol.get("/policy/decisions/" + ids[0]).is(200)
}
