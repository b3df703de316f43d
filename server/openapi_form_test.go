package server_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"patrol/api"
)

// TestTheDocumentIsFitForGenerators holds what generators of clients stumble over:
// each operation has a name of its own, lists say what is in them, what is required is
// described, and no text with a comma became a key without a value.
func TestTheDocumentIsFitForGenerators(t *testing.T) {
	text, err := yaml.YAMLToJSONStrict(api.OpenAPI)
	require.NoError(t, err)
	var whole map[string]any
	require.NoError(t, json.Unmarshal(text, &whole))
	doc, err := openapi()
	require.NoError(t, err)

	names := map[string]string{}
	for name := range doc.operations {
		method, path, _ := strings.Cut(name, " ")
		var op struct{ OperationID string }
		require.NoError(t, json.Unmarshal(doc.Paths[path][strings.ToLower(method)], &op))
		assert.Regexp(t, `^[a-z][A-Za-z0-9]*$`, op.OperationID, name)
		assert.Empty(t, names[op.OperationID], "%s has the operationId of", name)
		names[op.OperationID] = name
	}

	titles := map[string]string{}
	walk("", whole, func(at string, object map[string]any) {
		for key, value := range object {
			if value == nil && !slices.Contains([]string{"default", "const", "example"}, key) && !strings.Contains(at, "/example") {
				assert.Fail(t, "a key without a value", "%s: %q", at, key)
			}
		}
		if strings.Contains(at, "/example") {
			return
		}
		if title, ok := object["title"].(string); ok && strings.HasPrefix(at, "/components/schemas/") && object["type"] != nil {
			assert.Empty(t, titles[title], "%s has the title of", at)
			titles[title] = at
		}
		if object["type"] == "array" {
			assert.Contains(t, object, "items", at)
		}
		required, _ := object["required"].([]any)
		properties, isSchema := object["properties"].(map[string]any)
		for _, name := range required {
			if isSchema && object["allOf"] == nil {
				assert.Contains(t, properties, fmt.Sprint(name), at)
			}
		}
	})
}

// walk calls visit with every object in a document.
func walk(at string, value any, visit func(at string, object map[string]any)) {
	switch value := value.(type) {
	case map[string]any:
		visit(at, value)
		for key, child := range value {
			walk(at+"/"+key, child, visit)
		}
	case []any:
		for i, child := range value {
			walk(fmt.Sprintf("%s/%d", at, i), child, visit)
		}
	}
}
