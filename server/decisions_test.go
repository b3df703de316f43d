package server_test

import (
	"encoding/json"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/server"
)

// awaitDecisions waits until the log has that many decisions of a token.
func (w *world) awaitDecisions(token string, n int) (ids []string) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		list, _, err := w.decided.Decisions(w.t.Context(), store.DecisionFilter{TokenID: token}, store.Page{Limit: 200})
		ids = nil
		for _, d := range list {
			ids = append(ids, d.ID)
		}
		return err == nil && len(list) >= n
	}, 10*time.Second, 5*time.Millisecond)
	return ids
}

func TestDecisionsCanBeLookedUp(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		pat := w.pat("ann", "ci", "acme:models:*:read")
		ask := func(token, entity, operation string) (d api.Decision) {
			w.as("").send("POST", "/authorize", map[string]any{
				"token": token, "domain": "acme", "entity_type": "models", "entity": entity, "operation": operation, "context": map[string]any{"n": 1},
			}).is(200).into(&d)
			return d
		}
		allowed := ask(pat.Token, "llama3", "read")
		denied := ask(pat.Token, "llama3", "execute")
		unknown := ask(flip(pat.Token), "llama3", "read")
		assert.False(t, unknown.Allowed)
		w.awaitDecisions("", 3)

		list := func(query string) (found []string) {
			t.Helper()
			var page api.Page[api.LoggedDecision]
			w.as("root").get("/api/v1/decisions" + query).is(200).into(&page)
			for _, d := range page.Items {
				found = append(found, d.ID)
			}
			return found
		}
		assert.ElementsMatch(t, []string{unknown.DecisionID, denied.DecisionID, allowed.DecisionID}, list(""))
		assert.Equal(t, []string{allowed.DecisionID}, list("?outcome=allow"))
		assert.ElementsMatch(t, []string{allowed.DecisionID, denied.DecisionID}, list("?token_id="+pat.ID+"&since=1h"))
		assert.Equal(t, []string{denied.DecisionID}, list("?reason=out_of_scope&user_id="+w.users["ann"].ID+"&domain=acme"))
		assert.Empty(t, list("?until=24h"))
		assert.Empty(t, list("?since="+url.QueryEscape(w.clock.Now().Add(time.Hour).Format(time.RFC3339))))
		w.as("root").get("/api/v1/decisions?outcome=maybe&since=yesterday").problem(422, models.CodeInvalid)

		var one api.LoggedDecision
		w.as("root").get("/api/v1/decisions/" + allowed.DecisionID).is(200).into(&one)
		assert.Equal(t, models.OutcomeAllow, one.Outcome)
		assert.Equal(t, allowed.ScopeID, one.ScopeID)
		event, err := models.ParseEvent(one.Event)
		require.NoError(t, err)
		assert.JSONEq(t, `{"n":1}`, event.Input.Context)
		assert.NotContains(t, string(one.Event), pat.Token)
		assert.Contains(t, event.Input.User.JSON, "ann@example.com")
		w.as("root").get("/api/v1/decisions/" + unknown.DecisionID).is(200).into(&one)
		var raw struct{ Input json.RawMessage }
		require.NoError(t, json.Unmarshal(one.Event, &raw))
		assert.Nil(t, raw.Input, "the policy was not asked")
		w.as("root").get("/api/v1/decisions/nothing").problem(404, models.CodeNotFound)
	})
}

func TestOwnersSeeWhatTheirTokensDid(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat, other := w.pat("ann", "ci", "acme:models:*:read"), w.pat("dom", "ci", "acme:models:*:read")
	today := models.DayOf(w.clock.Now())
	count := func(token string, daysAgo int, outcome models.Outcome, reason models.ReasonCode, n int64) models.CountedOutcome {
		return models.CountedOutcome{Day: today.AddDate(0, 0, -daysAgo), TokenID: token, Outcome: outcome, Reason: reason, Count: n}
	}
	require.NoError(t, w.decided.AddCounts(t.Context(), models.DecisionCounts{
		Outcomes: []models.CountedOutcome{
			count(pat.ID, 0, models.OutcomeAllow, "", 5), count(pat.ID, 6, models.OutcomeAllow, "", 2), count(pat.ID, 7, models.OutcomeAllow, "", 100),
			count(pat.ID, 1, models.OutcomeDeny, models.OutOfScope, 3), count(pat.ID, 1, models.OutcomeError, models.Unavailable, 1),
			count(other.ID, 0, models.OutcomeAllow, "", 1000),
		},
		Days: []models.LoggedDay{{Day: today.AddDate(0, 0, -3), Recorded: 40, Dropped: 2}, {Day: today, Recorded: 10}},
	}))
	var got api.DecisionSummary
	w.as("ann").get("/api/v1/pats/" + pat.ID + "/decisions").is(200).into(&got)
	assert.Equal(t, api.OutcomeCounts{Allow: 7, Deny: 3, Error: 1}, got.OutcomeCounts)
	assert.Equal(t, map[string]int64{"out_of_scope": 3, "unavailable": 1}, got.Reasons)
	require.Len(t, got.Days, 7)
	assert.Equal(t, today.Format(time.DateOnly), got.Days[6].Date)
	assert.Equal(t, int64(5), got.Days[6].Allow)
	assert.Equal(t, int64(3), got.Days[5].Deny)
	assert.Equal(t, int64(2), got.Days[0].Allow)
	assert.Equal(t, int64(50), got.Coverage.Recorded)
	assert.Equal(t, int64(2), got.Coverage.Lost)
	require.NotNil(t, got.Coverage.From)
	assert.Equal(t, today.AddDate(0, 0, -3), *got.Coverage.From)
	w.as("ann").get("/api/v1/pats/"+other.ID+"/decisions").problem(404, models.CodeNotFound)
}

func TestWithoutADecisionLogThereIsNothingToLookUp(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), func(_ *server.Config, d *server.Deps) { d.Decisions = nil })
	pat := w.pat("ann", "ci", "acme:models:*:read")
	w.as("root").get("/api/v1/decisions").problem(404, models.CodeNotFound)
	w.as("root").get("/api/v1/decisions/x").problem(404, models.CodeNotFound)
	w.as("ann").get("/api/v1/pats/"+pat.ID+"/decisions").problem(404, models.CodeNotFound)
}
