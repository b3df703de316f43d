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
