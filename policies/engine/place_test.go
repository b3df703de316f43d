package engine_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/policies/engine"
)

// TestDataIsPlaced holds that what is wrong with data is told with file and line, in YAML
// and in JSON, wherever a document is written.
func TestDataIsPlaced(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"a wrong value":       {map[string]string{"patrol/roles/data.yaml": "# roles\nviewer:\n  models:\n    read: yes please\n"}, "patrol/roles/data.yaml:4:5: data.patrol.roles: viewer.models.read: "},
		"no such operation":   {map[string]string{"patrol/roles/data.yaml": "viewer:\n  models: {read: true}\n  datasets: {fly: true}\n"}, "patrol/roles/data.yaml:3:14: data.patrol.roles.viewer: the catalog has no fly on datasets"},
		"a member too many":   {map[string]string{"patrol/catalog/data.yaml": "entity_types:\n  models:\n    title: M\n    color: red\n    operations: {read: {title: R}}\n"}, "patrol/catalog/data.yaml:4:5: data.patrol.catalog: entity_types.models: Additional property color"},
		"a key with dots":     {map[string]string{"patrol/routes/data.yaml": "\"GET /v1.5/a.b\":\n  entity_type: models\n  operation: 7\n"}, "patrol/routes/data.yaml:3:3: data.patrol.routes: GET /v1.5/a.b.operation: "},
		"a route's operation": {map[string]string{"patrol/routes/data.yaml": "\n\"GET /a\": {entity_type: models, operation: fly}\n"}, `patrol/routes/data.yaml:2:1: data.patrol.routes["GET /a"]: the catalog has no fly on models`},
		"a star too many":     {map[string]string{"patrol/routes/data.yaml": "\"GET /a/*\":\n  entity_type: models\n  operation: read\n  entity: {path: 2}\n"}, "patrol/routes/data.yaml:4:3: data.patrol.routes[\"GET /a/*\"]: entity is from star 2"},
		"JSON": {map[string]string{
			"patrol/roles/data.yaml": "", "patrol/roles/data.json": "{\n  \"viewer\": {\n    \"models\": {\"read\": 1}\n  }\n}\n",
		}, "patrol/roles/data.json:3:16: data.patrol.roles: viewer.models.read: "},
		"one file for all": {map[string]string{
			"patrol/roles/data.yaml": "", "data.yaml": "patrol:\n  roles:\n    viewer: &v\n      models: {fly: true}\n    guest: *v\n",
		}, "data.yaml:4:16: data.patrol.roles."},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := engine.Load(t.Context(), bundle(t, c.files))
			require.Error(t, err)
			found := engine.Findings(err)
			require.NotEmpty(t, found)
			assert.Contains(t, found[0].String(), c.want)
		})
	}
}
