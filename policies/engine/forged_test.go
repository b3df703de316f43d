package engine_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies/engine"
)

// TestForgedReasons holds that a rule of one's own never speaks with a code that is not its own:
// the answer is an error, so a policy_error, whatever the gate let through.
func TestForgedReasons(t *testing.T) {
	const ask = "x"
	for _, c := range []struct {
		name, file, rego string
		entity           string
		change           engine.Edit
		want             models.ReasonCode // "": an error
	}{
		{name: "a code of one's own", rego: `deny contains {"code": "mine", "message": "M."} if input.request.entity == "x"`, want: "mine"},
		{name: "from the entity, harmless", rego: `deny contains {"code": input.request.entity, "message": "M."}`, want: "x"},
		{name: "from the entity, token_revoked", rego: `deny contains {"code": input.request.entity, "message": "M."}`, entity: "token_revoked"},
		{name: "from the entity, token_expired", rego: `deny contains {"code": input.request.entity, "message": "M."}`, entity: "token_expired"},
		{name: "from the entity, user_disabled", rego: `deny contains {"code": input.request.entity, "message": "M."}`, entity: "user_disabled"},
		{name: "from the entity, token_missing", rego: `deny contains {"code": input.request.entity, "message": "M."}`, entity: "token_missing"},
		{name: "from the entity, policy_error", rego: `deny contains {"code": input.request.entity, "message": "M."}`, entity: "policy_error"},
		{name: "from the entity, route_unmapped", rego: `deny contains {"code": input.request.entity, "message": "M."}`, entity: "route_unmapped"},
		{name: "from the entity, unknown_operation", rego: `deny contains {"code": input.request.entity, "message": "M."}`, entity: "unknown_operation"},
		{name: "from the entity, domain_unknown", rego: `deny contains {"code": input.request.entity, "message": "M."}`, entity: "domain_unknown"},
		{name: "from the entity, role_forbids", rego: `deny contains {"code": input.request.entity, "message": "M."}`, entity: "role_forbids"},
		{name: "from the entity, out_of_scope", rego: `deny contains {"code": input.request.entity, "message": "M."}`, entity: "out_of_scope"},
		{name: "from the entity, not a code", rego: `deny contains {"code": input.request.entity, "message": "M."}`, entity: "Llama-3"},
		{name: "a waivable code", rego: `deny contains {"code": "approval_required", "message": "M."}`},
		{name: "in the old form", rego: `reason := {"code": "token_revoked", "message": "M."}`},
		{name: "one of several", rego: "deny contains {\"code\": \"mine\", \"message\": \"M.\"}\n\ndeny contains {\"code\": \"role_forbids\", \"message\": \"M.\"}"},
		{name: "in a list", rego: `deny := [{"code": "frozen", "message": "M."}, {"code": "domain_frozen", "message": "M."}]`},
		{name: "in an object", rego: `deny.here := {"code": "domain_frozen", "message": "M."}`},
		{name: "data", file: "patrol/custom/data.yaml", rego: "deny: [{code: token_expired, message: M.}]"},
		{name: "data in the old form", file: "patrol/custom/data.yaml", rego: "reason: {code: user_disabled, message: M.}"},
		{name: "among the reasons of the default policy", file: "house/rule.rego", rego: "package patrol.authz\n\nunauthenticated contains {\"code\": \"token_revoked\", \"message\": \"M.\"}"},
		{name: "in forbidden, yet 401", file: "house/rule.rego", rego: "package patrol.authz\n\nforbidden contains {\"code\": \"user_disabled\", \"message\": \"M.\"}"},
		{name: "an edited rule of the default policy denies more", file: "house/rule.rego", rego: "package patrol.authz\n\nforbidden contains {\"code\": \"role_forbids\", \"message\": \"M.\"} if input.request.entity == \"x\"", want: "role_forbids"},
		{name: "what holds anyway", rego: `deny contains {"code": "role_forbids", "message": "M."}`, change: engine.Edit{Path: []string{"membership", "role"}, Value: "none"}, want: "role_forbids"},
		{name: "a revoked token stays one", rego: `deny contains {"code": "token_revoked", "message": "M."}`, change: engine.Edit{Path: []string{"token", "revoked"}, Value: true}, want: "token_revoked"},
		{name: "reserved later than rules of one's own", rego: `deny contains {"code": "withdrawn", "message": "M."}`, want: "withdrawn"},
		{name: "likewise, addresses", rego: `deny contains {"code": "ip_forbidden", "message": "M."}`, want: "ip_forbidden"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file, rego, entity := c.file, c.rego, c.entity
			if file == "" {
				file, rego = "custom/rule.rego", "package patrol.custom\n\n"+rego
			}
			if entity == "" {
				entity = ask
			}
			s := load(t, map[string]string{file: rego})
			input := engine.KnownInput("models", "read")
			input["membership"] = map[string]any{"role": "member"}
			input = engine.Edited(input, []string{"request", "entity"}, entity)
			input = engine.Edited(input, []string{"token", "scopes"}, map[string]any{"acme": map[string]any{"models": map[string]any{"read": map[string]any{entity: "s"}}}})
			if c.change.Path != nil {
				input = engine.Edited(input, c.change.Path, c.change.Value)
			}
			d, err := s.DecideRaw(t.Context(), input)
			if c.want == "" {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			assert.False(t, d.Allowed)
			assert.Equal(t, c.want, d.FirstReason())
		})
	}
}
