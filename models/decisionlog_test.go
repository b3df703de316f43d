package models_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
)

func TestDecisionIDsSortByTime(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var ids []string
	for i := range 1000 {
		id := models.NewDecisionID(start.Add(time.Duration(i*i) * time.Millisecond))
		assert.Len(t, id, models.IDLength)
		ids = append(ids, id)
	}
	assert.True(t, slices.IsSorted(ids[1:]))
	assert.Less(t, models.DecisionIDsFrom(start), models.NewDecisionID(start))
	assert.Greater(t, models.DecisionIDsFrom(start.Add(time.Millisecond)), models.NewDecisionID(start))
	assert.Less(t, models.DecisionIDsFrom(time.Time{}), models.DecisionIDsFrom(start))
	assert.Less(t, models.DecisionIDsFrom(start), models.DecisionIDsFrom(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)))
}

func TestEventsAreReadAsTheyWereWritten(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	whole := models.LoggedDecision{
		Decision: models.Decision{
			ID: "d1", Allowed: true, TokenID: "t1", UserID: "u1", ScopeID: "s1", Revision: "2026.1",
			Headers: map[string]string{"X-B": `quoted "text"`, "X-A": "ü"},
		},
		At: at, Took: 1234 * time.Nanosecond, Surface: "gateway", RequestID: "request-1", RequestedBy: "2001:db8::1", Method: "POST", Path: "/v1/chat/\u2028",
		Request: models.Request{Domain: "acme", EntityType: "models", Entity: `a<b>&c`, Operation: "execute"},
		Input: &models.DecisionInput{
			Token: models.NewFact(`{"id":"t1","scopes":{}}`), User: models.NewFact(`{"id":"u1"}`), Domain: models.NewFact(`{"id":"acme"}`),
			Membership: models.NewFact(`{"role":"member"}`), Context: `{"id":12345678901234567890,"s":"\u0000"}`, Now: at.Unix(),
		},
		Erased: []string{"/input/request/context/token"}, Masked: []string{"/requested_by", "/input/user/email"},
	}
	refused := models.LoggedDecision{
		Decision: models.Decision{ID: "d2", Revision: "r", Reasons: []models.Reason{
			{Code: models.NotAMember, Message: "line\nbreak"}, {Code: models.OutOfScope, Message: "tab\t"},
		}},
		At: at, Surface: "authorize", Request: models.Request{Domain: "acme", EntityType: "m", Entity: "*", Operation: "read"},
		Input: &models.DecisionInput{Now: 5},
	}
	unknown := models.LoggedDecision{
		Decision: models.Decision{ID: "d3", Revision: "r", Reasons: []models.Reason{{Code: models.TokenUnknown, Message: "no"}}},
		At:       at, Surface: "authorize", Request: models.Request{Domain: "acme", EntityType: "m", Entity: "*", Operation: "read"},
	}
	unmapped := models.LoggedDecision{
		Decision: models.Decision{ID: "d4", Reasons: []models.Reason{{Code: models.RouteUnmapped, Message: "no"}}}, At: at, Surface: "gateway",
	}
	for _, want := range []models.LoggedDecision{whole, refused, unknown, unmapped} {
		line := want.AppendEvent(nil, []byte(`{"app":"patrol"}`))
		require.True(t, json.Valid(line), "%s", line)
		assert.NotContains(t, string(line), "\n")
		got, err := models.ParseEvent(line)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
}

// TestEventsAreOPAs names the fields that readers of OPA's decision log look for.
func TestEventsAreOPAs(t *testing.T) {
	l := models.LoggedDecision{
		Decision: models.Decision{ID: "d1", Allowed: true, ScopeID: "s1", Revision: "r7"}, At: time.Unix(1_790_000_000, 0), Took: 99,
		RequestedBy: "192.0.2.1", Input: &models.DecisionInput{Now: 1_790_000_000},
	}
	var event map[string]any
	require.NoError(t, json.Unmarshal(l.AppendEvent(nil, []byte(`{"app":"patrol","id":"n1"}`)), &event))
	custom := event["custom"]
	delete(event, "custom")
	assert.Equal(t, map[string]any{
		"labels":       map[string]any{"app": "patrol", "id": "n1"},
		"decision_id":  "d1",
		"bundles":      map[string]any{"patrol": map[string]any{"revision": "r7"}},
		"path":         "patrol/authz/decision",
		"input":        map[string]any{"request": map[string]any{"domain": "", "entity_type": "", "entity": "", "operation": "", "context": map[string]any{}}, "now": 1.79e9},
		"result":       map[string]any{"allow": true, "reasons": []any{}, "scope": "s1"},
		"requested_by": "192.0.2.1",
		"timestamp":    time.Unix(1_790_000_000, 0).UTC().Format(time.RFC3339),
		"metrics":      map[string]any{"timer_server_handler_ns": 99.0},
	}, event)
	assert.Equal(t, map[string]any{"surface": "", "outcome": "allow"}, custom)
}

func TestWhatIsNoEventIsRefused(t *testing.T) {
	for _, text := range []string{
		``, `null`, `{}`, `[]`, `{"decision_id":"d","path":"patrol/authz/decision"}`,
		`{"decision_id":"d","path":"system/main","result":{"allow":true}}`,
		`{"decision_id":"d","path":"patrol/authz/decision","result":{"allow":1}}`,
		`{"decision_id":"d","path":"patrol/authz/decision","result":{"allow":true},"input":{"now":1.5}}`,
		`{"decision_id":"d","path":"patrol/authz/decision","result":{"allow":true},"input":{}}`,
	} {
		_, err := models.ParseEvent([]byte(text))
		assert.Error(t, err, text)
	}
}
