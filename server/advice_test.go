package server_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/server"
)

// used says that a scope of a token was used for an entity of acme's models.
func (w *world) used(pat api.PAT, scope int, entity string, daysAgo int, n int64) {
	w.t.Helper()
	day := models.DayOf(w.clock.Now()).AddDate(0, 0, -daysAgo)
	s := pat.Scopes[scope]
	require.NoError(w.t, w.decided.AddCounts(w.t.Context(), models.DecisionCounts{
		Used: []models.UsedScope{{
			Day: day, TokenID: pat.ID, ScopeID: s.ID, Domain: "acme", EntityType: s.EntityType, Entity: entity, Operation: s.Operation,
			Count: n, LastAt: day.Add(time.Hour),
		}},
		Days: []models.LoggedDay{{Day: day, Recorded: n}},
	}))
}

func TestAdviceNarrowsATokenToWhatItUsed(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		pat := w.pat("ann", "ci", "acme:models:*:read", "acme:models:*:execute", "acme:datasets:*:read")
		path := "/api/v1/pats/" + pat.ID
		var advice api.Advice
		w.as("ann").get(path + "/advice").is(200).into(&advice)
		assert.True(t, advice.Unused)
		assert.False(t, advice.Enough, "nothing is known")
		assert.Nil(t, advice.Coverage.From)
		assert.Empty(t, advice.Narrowed)

		w.used(pat, 0, "*", 0, 3)
		w.used(pat, 1, "llama3:8b", 0, 5)
		w.used(pat, 2, "golden", 40, 7)
		w.as("ann").get(path + "/advice").is(200).into(&advice)
		assert.False(t, advice.Unused)
		assert.False(t, advice.Enough, "the token is younger than that")
		require.Len(t, advice.Scopes, 3)
		assert.Equal(t, []string{"keep", "narrow", "remove"}, []string{advice.Scopes[0].Do, advice.Scopes[1].Do, advice.Scopes[2].Do})
		assert.Equal(t, int64(5), advice.Scopes[1].Uses)
		assert.Equal(t, []api.NewScope{
			{Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"},
			{Domain: "acme", EntityType: "models", Entity: "llama3:8b", Operation: "execute"},
		}, advice.Narrowed)
		var longer api.Advice
		w.as("ann").get(path + "/advice?days=60").is(200).into(&longer)
		assert.Equal(t, "narrow", longer.Scopes[2].Do, "it was used within 60 days")
		w.as("ann").get(path+"/advice?days=0").problem(422, models.CodeInvalid)

		w.as("dom").get(path+"/advice").problem(404, models.CodeNotFound)
		w.as("dom").send("POST", path+"/narrow", api.Narrowing{Scopes: advice.Narrowed}).problem(404, models.CodeNotFound)
		w.as("ann").send("POST", path+"/narrow", api.Narrowing{}).problem(422, models.CodeInvalid)
		wider := append([]api.NewScope{{Domain: "*", EntityType: "models", Entity: "*", Operation: "read"}}, advice.Narrowed...)
		w.as("ann").send("POST", path+"/narrow", api.Narrowing{Scopes: wider}).problem(422, models.CodeInvalid)
		w.as("ann").send("POST", path+"/narrow", api.Narrowing{Scopes: append(advice.Narrowed, advice.Narrowed[0])}).problem(422, models.CodeInvalid)

		w.clock.Advance(time.Hour) // narrowing needs no recent sign-in
		var narrowed api.PAT
		w.as("ann").send("POST", path+"/narrow", api.Narrowing{Scopes: advice.Narrowed}).is(200).into(&narrowed)
		require.Len(t, narrowed.Scopes, 2)
		assert.Equal(t, pat.Scopes[0].ID, narrowed.Scopes[0].ID, "what stays is the same")
		ask := func(entity, operation string) bool {
			var d api.Decision
			w.as("").send("POST", "/authorize", map[string]any{
				"token": pat.Token, "domain": "acme", "entity_type": "models", "entity": entity, "operation": operation,
			}).is(200).into(&d)
			return d.Allowed
		}
		assert.True(t, ask("*", "read"))
		assert.True(t, ask("llama3:8b", "execute"))
		assert.False(t, ask("mistral", "execute"), "at once")
		w.as("ann").send("POST", path+"/revoke", nil).is(200)
		w.as("ann").send("POST", path+"/narrow", api.Narrowing{Scopes: advice.Narrowed[:1]}).problem(409, models.CodeConflict)
	})
}

func TestAdviceOnEverybodysTokens(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		idle := w.pat("ann", "idle", "acme:models:*:read", "acme:datasets:*:read")
		narrow := w.pat("ann", "narrow", "acme:models:*:read", "acme:models:*:execute", "acme:datasets:*:read")
		fit := w.pat("dom", "fit", "acme:models:llama3:8b:read")
		list := func(who, query string) (page api.AdvicePage) {
			t.Helper()
			w.as(who).get("/api/v1/admin/advice" + query).is(200).into(&page)
			return page
		}
		w.as("ann").get("/api/v1/admin/advice").problem(403, models.CodeForbidden)
		for _, bad := range []string{"days=0", "days=367", "days=x", "uncertain=maybe", "limit=0", "after=x&uncertain=true"} {
			w.as("pol").get("/api/v1/admin/advice?"+bad).problem(422, models.CodeInvalid)
		}
		page := list("pol", "")
		assert.False(t, page.Enough)
		assert.Nil(t, page.Coverage.From)
		assert.Empty(t, page.Items, "nothing is known, so nothing is unused")

		w.clock.Advance(25 * 24 * time.Hour)
		clear(w.sessions)
		young := w.pat("dom", "young", "acme:models:*:read")
		w.used(fit, 0, "llama3:8b", 20, 2)
		page = list("pol", "?days=21")
		assert.False(t, page.Enough, "the log does not reach back so far")
		assert.Empty(t, page.Items)
		w.used(narrow, 0, "llama3:8b", 1, 3)
		w.used(narrow, 1, "*", 0, 1)
		for _, who := range []string{"pol", "root"} {
			page = list(who, "?days=20")
			assert.True(t, page.Enough)
			assert.Equal(t, api.AdviceTotals{Judged: 3, TooYoung: 1, Narrowable: 2, Unused: 1}, page.Tokens)
			require.Len(t, page.Items, 2)
		}
		first, second := page.Items[0], page.Items[1]
		assert.Equal(t, []any{idle.ID, "ann@example.com", w.users["ann"].ID, 2, 0, true, true}, []any{
			first.TokenID, first.Email, first.UserID, first.UnusedScopes, first.WideScopes, first.Enough, first.Unused,
		})
		assert.Equal(t, "patrol pat revoke "+idle.ID, first.Command())
		assert.Equal(t, []any{narrow.ID, 1, 1}, []any{second.TokenID, second.UnusedScopes, second.WideScopes})
		assert.Equal(t, "patrol pat narrow "+narrow.ID+" --scope 'acme:models:llama3:8b:read' --scope 'acme:models:*:execute'", second.Command())
		for _, one := range page.Items { // its owner is told the same
			var own api.Advice
			w.as("ann").get("/api/v1/pats/" + one.TokenID + "/advice?days=20").is(200).into(&own)
			own.Coverage.Until = one.Coverage.Until
			assert.Equal(t, own, one.Advice)
		}

		page = list("pol", "?days=20&limit=1")
		require.NotNil(t, page.Next)
		next := list("pol", "?days=20&limit=1&after="+*page.Next)
		assert.Equal(t, []string{idle.ID, narrow.ID}, []string{page.Items[0].TokenID, next.Items[0].TokenID})
		assert.Nil(t, next.Next)
		page = list("pol", "?days=20&uncertain=true&email=dom@")
		require.Len(t, page.Items, 1)
		assert.Equal(t, young.ID, page.Items[0].TokenID)
		assert.False(t, page.Items[0].Enough)
		assert.Empty(t, list("pol", "?days=20&user_id="+w.users["eve"].ID).Items)
		assert.Empty(t, list("pol", "?days=20&domain=beta").Items)

		pol := w.visit("pol")
		p := pol.get("/policy/advice?days=7").is(200)
		assert.Contains(t, p.text, "Of 3 live tokens, 3 could do with less", "the log reaches back so far")
		p = pol.get("/policy/advice").is(200)
		assert.Contains(t, p.text, "The log does not cover the last 30 days")
		assert.NotContains(t, p.text, idle.ID)
		p = pol.get("/policy/advice?uncertain=1").is(200)
		for _, want := range []string{"patrol pat revoke " + idle.ID, "ann@example.com", "Not sure", "/policy/decisions?token=" + idle.ID} {
			assert.Contains(t, p.text, want)
		}
		assert.NotContains(t, p.text, "/admin/pats", "of the administration they see nothing")
		assert.Contains(t, w.visit("root").get("/policy/advice?uncertain=1").is(200).text, "/admin/pats/"+idle.ID)
		pol.get("/policy/advice?uncertain=1&after=x").leadsTo("/policy/advice")
		w.visit("ann").get("/policy/advice").is(403)

		// One decision that was not logged may have used any of them.
		require.NoError(t, w.decided.AddCounts(t.Context(), models.DecisionCounts{Days: []models.LoggedDay{{Day: models.DayOf(w.clock.Now()), Dropped: 1}}}))
		page = list("pol", "?days=20")
		assert.False(t, page.Enough)
		assert.Empty(t, page.Items)
		assert.Len(t, list("pol", "?days=20&uncertain=true&email=ann").Items, 2)
	})
	off := newWorld(t, testenv.SQLite(t), func(_ *server.Config, d *server.Deps) { d.Decisions = nil })
	off.as("pol").get("/api/v1/admin/advice").problem(404, models.CodeNotFound)
	assert.Contains(t, off.visit("pol").get("/policy/advice").is(200).text, "decision_log.database")
}

func TestThePageOfATokenTellsWhatItDid(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("ann", "ci", "acme:models:*:read", "acme:models:*:execute")
	today := models.DayOf(w.clock.Now())
	w.used(pat, 0, "llama3:8b", 0, 5)
	require.NoError(t, w.decided.AddCounts(t.Context(), models.DecisionCounts{Outcomes: []models.CountedOutcome{
		{Day: today, TokenID: pat.ID, Outcome: models.OutcomeAllow, Count: 4711},
		{Day: today, TokenID: pat.ID, Outcome: models.OutcomeDeny, Reason: models.OutOfScope, Count: 815},
	}}))
	ann := w.visit("ann")
	page := ann.get("/profile/pats/" + pat.ID).is(200).text
	assert.Contains(t, page, "4711")
	assert.Contains(t, page, "815")
	assert.Contains(t, page, "This rests on less than the last 30 days")
	assert.Contains(t, page, "patrol pat narrow "+pat.ID+" --scope &#39;acme:models:llama3:8b:read&#39;")
	narrow := func(scopes ...string) {
		t.Helper()
		ann.post("/profile/pats/"+pat.ID+"/narrow", url.Values{"scope": scopes}).leadsTo("/profile/pats/" + pat.ID)
	}
	narrow("acme:models:*:write")
	narrow("nonsense")
	var got api.PAT
	w.as("ann").get("/api/v1/pats/" + pat.ID).is(200).into(&got)
	assert.Len(t, got.Scopes, 2, "what was not offered is not done")
	narrow("acme:models:llama3:8b:read")
	w.as("ann").get("/api/v1/pats/" + pat.ID).is(200).into(&got)
	require.Len(t, got.Scopes, 1)
	assert.Equal(t, "llama3:8b", got.Scopes[0].Entity)

	off := newWorld(t, testenv.SQLite(t), func(_ *server.Config, d *server.Deps) { d.Decisions = nil })
	pat = off.pat("ann", "ci", "acme:models:*:read")
	assert.NotContains(t, off.visit("ann").get("/profile/pats/"+pat.ID).is(200).text, "seven days")
}
