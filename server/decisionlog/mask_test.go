package decisionlog_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/server/authz"
	"patrol/server/decisionlog"
)

// logged returns a record after a mask.
func logged(t *testing.T, mask string, r authz.Record) (models.LoggedDecision, *bed) {
	t.Helper()
	files := map[string]string{}
	if mask != "" {
		files["log/mask.rego"] = "package patrol.log\n\n" + mask + "\n"
	}
	db := &database{}
	b := start(t, decisionlog.Deps{Database: db, Policy: policy(t, files)}, nil)
	require.NoError(t, b.Record(t.Context(), r))
	eventually(t, "it is logged", func() bool { return len(db.has()) == 1 })
	return db.has()[0], b
}

func withContext(r *authz.Record) {
	r.Request.Context = map[string]any{"password": "hunter2", "list": []any{"a", "b"}, "deep": map[string]any{"x": json.Number("1")}}
	r.Decision.Headers = map[string]string{"X-Key": "secret", "X-Tier": "gold"}
}

func TestMasks(t *testing.T) {
	const noise = `{"id":"t1","name":"ci","revoked":false`
	for _, c := range []struct {
		name, mask     string
		context        string // "-": as it was
		email          string
		requestedBy    string
		headers        string
		erased, masked []string
	}{
		{
			name: "the default", context: `{"deep":{"x":1},"list":["a","b"]}`, email: "ann@example.com", requestedBy: "192.0.2.7", headers: `null`,
			erased: []string{"/input/request/context/password", "/result/headers"},
		},
		{name: "nothing", mask: `mask := []`, context: "-", email: "ann@example.com", requestedBy: "192.0.2.7", headers: `{"X-Key":"secret","X-Tier":"gold"}`},
		{
			name: "a field of a fact", mask: `mask contains "/input/user/email"`, context: "-", requestedBy: "192.0.2.7",
			headers: `{"X-Key":"secret","X-Tier":"gold"}`, erased: []string{"/input/user/email"},
		},
		{
			name: "upserts", mask: `mask contains {"op": "upsert", "path": "/input/user/email", "value": "x"}
			mask contains {"op": "upsert", "path": "/requested_by", "value": "y"}
			mask contains {"op": "upsert", "path": "/result/headers/X-Key", "value": "z"}
			mask contains {"op": "upsert", "path": "/input/request/context/new/deep", "value": 1}`,
			context: `{"deep":{"x":1},"list":["a","b"],"new":{"deep":1},"password":"hunter2"}`, email: "x", requestedBy: "y",
			headers: `{"X-Key":"z","X-Tier":"gold"}`,
			masked:  []string{"/input/request/context/new/deep", "/input/user/email", "/requested_by", "/result/headers/X-Key"},
		},
		{
			name: "what is not there", mask: `mask := {"/input/user/phone", "/input/domain/id", "/input/request/context/a/b"}`, context: "-",
			email: "ann@example.com", requestedBy: "192.0.2.7", headers: `{"X-Key":"secret","X-Tier":"gold"}`,
		},
		{
			name: "in a list", mask: `mask contains "/input/request/context/list/0"`, context: `{"deep":{"x":1},"list":["b"],"password":"hunter2"}`,
			email: "ann@example.com", requestedBy: "192.0.2.7", headers: `{"X-Key":"secret","X-Tier":"gold"}`, erased: []string{"/input/request/context/list/0"},
		},
		{
			name: "by what is asked", mask: `mask contains "/requested_by" if input.input.request.domain == "acme"
			mask contains "/input/user/email" if input.input.request.domain == "beta"`, context: "-", email: "ann@example.com",
			headers: `{"X-Key":"secret","X-Tier":"gold"}`, erased: []string{"/requested_by"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, b := logged(t, c.mask, record("1", withContext))
			require.NotNil(t, got.Input)
			if c.context == "-" {
				c.context = `{"password":"hunter2","list":["a","b"],"deep":{"x":1}}`
			}
			assert.JSONEq(t, c.context, got.Input.Context)
			var user map[string]any
			require.NoError(t, json.Unmarshal([]byte(got.Input.User.JSON), &user))
			email, _ := user["email"].(string)
			assert.Equal(t, c.email, email)
			assert.Equal(t, c.requestedBy, got.RequestedBy)
			headers, err := json.Marshal(got.Headers)
			require.NoError(t, err)
			assert.JSONEq(t, c.headers, string(headers))
			assert.ElementsMatch(t, c.erased, got.Erased)
			assert.ElementsMatch(t, c.masked, got.Masked)
			assert.True(t, strings.HasPrefix(got.Input.Token.JSON, `{"created_at":`) && strings.Contains(got.Input.Token.JSON, `"id":"t1"`), noise)
			assert.Zero(t, b.metric("patrol_decision_log_mask_errors_total"))
		})
	}
}

func TestHashesTellEqualFromDifferent(t *testing.T) {
	mask := `mask := {{"op": "hash", "path": "/input/user/email"}, {"op": "hash", "path": "/requested_by"}}`
	one, _ := logged(t, mask, record("1"))
	two, _ := logged(t, mask, record("2"))
	assert.Equal(t, one.Input.User, two.Input.User)
	assert.Equal(t, one.RequestedBy, two.RequestedBy)
	assert.NotContains(t, one.Input.User.JSON, "ann@")
	assert.Contains(t, one.RequestedBy, "hmac-sha256:")
	assert.True(t, one.InputMasked())
}

func TestAllOfTheInputCanBeLeftOut(t *testing.T) {
	for _, mask := range []string{`mask contains "/input"`, `mask := {"/input", "/input/user/email"}`, `mask contains "/input/request"`} {
		got, _ := logged(t, mask, record("1", withContext))
		assert.Nil(t, got.Input)
		assert.Empty(t, got.Request)
		assert.Equal(t, "t1", got.TokenID)
	}
	got, _ := logged(t, `mask := {"/input/token", "/input/request/entity"}`, record("1"))
	assert.Nil(t, got.Input.Token)
	assert.Empty(t, got.Request.Entity)
	assert.Equal(t, "acme", got.Request.Domain)
}

func TestAMaskThatFailsLeavesTheInputOut(t *testing.T) {
	for name, mask := range map[string]string{
		"an error":     `mask contains "/requested_by" if to_number(input.decision_id) > 0`,
		"no mask":      `mask := x if x := input.decision_id`,
		"no shape":     `mask contains {"op": "upsert", "path": "/input/request/context", "value": 1}`,
		"out of reach": `mask contains "/decision_id" if input.decision_id`,
		"another type": `mask contains {"op": "upsert", "path": "/requested_by", "value": {}}`,
	} {
		t.Run(name, func(t *testing.T) {
			got, b := logged(t, mask, record("not a number", withContext))
			assert.Nil(t, got.Input)
			assert.Empty(t, got.RequestedBy)
			assert.Empty(t, got.Headers)
			assert.Equal(t, "not a number", got.ID, "it is logged all the same")
			assert.Contains(t, got.Erased, "/input")
			assert.InDelta(t, 1, b.metric("patrol_decision_log_mask_errors_total"), 0)
		})
	}
}

func TestTokensAreMaskedWhereverTheyStand(t *testing.T) {
	token := "patrol_0123456789ABCDEF_" + strings.Repeat("s", 38)
	got, _ := logged(t, `mask := []`, record("1", denied, func(r *authz.Record) {
		r.Request.Domain, r.Request.Entity = token, "x"+token
		r.Request.Context = map[string]any{"a": []any{"see " + token}}
		r.Method, r.Path = "GET", "/v1/"+token
		r.Decision.Reasons = []models.Reason{{Code: "own", Message: "not " + token}}
	}))
	text := string(got.AppendEvent(nil, []byte(`{}`)))
	assert.NotContains(t, text, "0123456789ABCDEF_")
	assert.NotContains(t, text, "sssss")
	assert.Equal(t, "patrol_***", got.Request.Domain)
	assert.ElementsMatch(t, []string{
		"/input/request/domain", "/input/request/entity", "/input/request/context", "/custom/http/path", "/result/reasons/0/message",
	}, got.Masked)
	plain, _ := logged(t, `mask := []`, record("1", func(r *authz.Record) { r.Request.Entity = "patrol_server" }))
	assert.Equal(t, "patrol_server", plain.Request.Entity)
}
