package server_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
)

func TestRefusalsWithoutATokenAreCountedAndSaidToBe(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		pat := w.pat("ann", "ci", "acme:models:*:read")
		allowed := w.ask(pat.Token, "acme:models:llama3:read").DecisionID
		item := map[string]any{"domain": "acme", "entity_type": "models", "entity": "llama3", "operation": "read"}
		var batch api.DecisionBatch
		w.as("").send("POST", "/authorize/batch", map[string]any{"requests": []any{item, item, item}}).is(200).into(&batch)
		require.Len(t, batch.Decisions, 3)
		w.awaitDecisions("", 2)

		root := w.as("root")
		root.get("/api/v1/decisions/" + batch.Decisions[0].DecisionID).is(200)
		for _, d := range batch.Decisions[1:] {
			problem := root.get("/api/v1/decisions/"+d.DecisionID).problem(404, models.CodeCountedOnly)
			assert.Contains(t, problem.Detail, "counted, not kept")
		}
		page := w.visit("pol").get("/policy/decisions/" + batch.Decisions[1].DecisionID).is(404)
		assert.Contains(t, page.text, "counted, not kept")
		problem := root.get("/api/v1/decisions/"+models.NewDecisionID(w.clock.Now().Add(-400*24*time.Hour))).problem(404, models.CodeNotFound)
		assert.NotContains(t, problem.Detail, "counted")

		// Counts are written every few seconds, of the world's clock.
		var refusals api.Page[api.CountedRefusals]
		require.Eventually(t, func() bool {
			w.clock.Advance(5 * time.Second)
			root.get("/api/v1/refusals?since=1h&reason=token_missing").is(200).into(&refusals)
			return len(refusals.Items) > 0
		}, 10*time.Second, 10*time.Millisecond)
		require.Len(t, refusals.Items, 1)
		got := refusals.Items[0]
		assert.Equal(t, []any{"127.0.0.1", int64(60), int64(1), int64(3), int64(1)}, []any{got.Address, got.Seconds, got.Calls, got.Decisions, got.Kept})
		var none api.Page[api.CountedRefusals]
		root.get("/api/v1/refusals?address=192.0.2.1").is(200).into(&none)
		assert.Empty(t, none.Items)
		root.get("/api/v1/refusals?since=yesterday").problem(422, models.CodeInvalid)
		page = w.visit("pol").get("/policy/refusals").is(200)
		for _, want := range []string{"Refused without a token", "127.0.0.1", "token_missing"} {
			assert.Contains(t, page.text, want)
		}
		assert.Contains(t, w.visit("pol").get("/policy/refusals?reason=unavailable").is(200).text, "Nothing fits this filter.")

		var log api.DecisionLog
		root.get("/api/v1/decision-log").is(200).into(&log)
		require.NotNil(t, log.Verified.CompleteSince)
		assert.False(t, log.Verified.CutShort)
		assert.Contains(t, w.visit("pol").get("/policy/decisions").is(200).text, "complete since")

		// A period that max_rows cuts short is reported as such.
		d, err := w.decided.Decision(t.Context(), allowed)
		require.NoError(t, err)
		require.NotNil(t, d)
		later := *d
		later.At = w.clock.Now()
		later.ID = models.NewDecisionID(later.At)
		require.NoError(t, w.decided.Add(t.Context(), []models.LoggedDecision{later}))
		_, err = w.decided.PruneDecisions(t.Context(), models.LogBounds{MaxRows: 2})
		require.NoError(t, err)
		root.get("/api/v1/decision-log").is(200).into(&log)
		assert.True(t, log.Verified.CutShort)
		assert.Equal(t, pat.ID, log.BusiestToken)
		assert.Contains(t, w.visit("pol").get("/policy/decisions").is(200).text, "there are more than decision_log.max_rows")
		problem = root.get("/api/v1/decisions/"+allowed).problem(404, models.CodeNotFound)
		assert.Contains(t, problem.Detail, "it was deleted")

		for _, path := range []string{"/api/v1/refusals", "/api/v1/decision-log"} {
			w.as("ann").get(path).problem(403, models.CodeForbidden)
			w.as("").get(path).problem(401, models.CodeUnauthenticated)
		}
		_, _, err = w.decided.Refusals(t.Context(), store.RefusalFilter{}, store.Page{})
		require.NoError(t, err)
	})
}
