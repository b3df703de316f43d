package server_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"patrol/internal/testenv"
)

// Where as much is under way as may be, more is refused at once, with the time to come
// again; tokens that have verified here have places of their own, and health is
// always answered.
func TestMoreThanThereArePlacesFor(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	known, unknown := w.pat("ann", "known", "acme:models:*:read"), w.pat("ann", "unknown", "acme:models:*:read")
	assert.True(t, w.ask(known.Token, "acme:models:m:read").Allowed)
	// A change of the token drops what is cached of it, not that it verified.
	w.as("ann").send("PATCH", "/api/v1/pats/"+known.ID, `{"description":"another"}`).is(200)
	free := w.server.Fill()
	ask := func(token string) map[string]any {
		return map[string]any{"token": token, "domain": "acme", "entity_type": "models", "entity": "m", "operation": "read"}
	}
	item := map[string]any{"domain": "acme", "entity_type": "models", "entity": "m", "operation": "read"}
	for name, refused := range map[string]*answer{
		"a token that was not seen": w.as("").post("/authorize", ask(unknown.Token)),
		"its batch":                 w.as("").post("/authorize/batch", map[string]any{"token": unknown.Token, "requests": []any{item}}),
		"none":                      w.as("").post("/authorize", item),
		"a call without a body":     w.as("").get("/api/v1/me"),
		"a call with one":           w.as("").post("/api/v1/session", map[string]any{"email": "ann@example.com", "password": "x"}),
	} {
		refused.problem(503, "unavailable")
		assert.Equal(t, "1", refused.header.Get("Retry-After"), name)
	}
	assert.True(t, w.ask(known.Token, "acme:models:m:read").Allowed)
	w.as("").get("/healthz").is(200)
	w.as("").get("/readyz").is(200)
	free()
	for range 2000 { // every request gives its place back
		if !assert.True(t, w.ask(unknown.Token, "acme:models:m:read").Allowed) {
			break
		}
	}
	w.as("").get("/api/v1/me").is(401)
}
