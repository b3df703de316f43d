package engine_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

func TestRoutesAreListed(t *testing.T) {
	src := bundle(t, map[string]string{"patrol/routes/data.yaml": `
"PUT /b/*/c/**": {entity_type: models, operation: write, entity: {path: 2}}
"GET /b": {entity_type: models, operation: read, websocket: true}
"POST /a": {entity_type: models, operation: execute, entity: {json: [model, name]}}
"PUT /a": {entity_type: models, operation: write, entity: {multipart: [model]}}
"GET /c": {entity_type: datasets, operation: read, entity: {query: set}}
"GET /d": {entity_type: datasets, operation: read, entity: golden}
`})
	in, err := workbench.Inspect(t.Context(), src)
	require.NoError(t, err)
	assert.Equal(t, 6, in.Routes)
	assert.Equal(t, []engine.RouteInfo{
		{Method: "POST", Path: "/a", EntityType: "models", Operation: "execute", Entity: engine.RouteEntity{JSON: []string{"model", "name"}}},
		{Method: "PUT", Path: "/a", EntityType: "models", Operation: "write", Entity: engine.RouteEntity{Multipart: []string{"model"}}},
		{Method: "GET", Path: "/b", EntityType: "models", Operation: "read", WebSocket: true},
		{Method: "PUT", Path: "/b/*/c/**", EntityType: "models", Operation: "write", Entity: engine.RouteEntity{Path: 2}},
		{Method: "GET", Path: "/c", EntityType: "datasets", Operation: "read", Entity: engine.RouteEntity{Query: "set"}},
		{Method: "GET", Path: "/d", EntityType: "datasets", Operation: "read", Entity: engine.RouteEntity{Name: "golden"}},
	}, in.RouteTable)
}
