//go:build !race

package policies_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestShippedTestsSurviveEdits holds that the tests that are shipped with the policy pass
// when a security team edits the data in a way that is theirs to choose: one entry adds a
// route, and a route, a type or a permission that is not wanted is taken out.
func TestShippedTestsSurviveEdits(t *testing.T) {
	type document = map[string]any
	add := func(line string, route document) func(document) {
		return func(d document) { d["routes"].(document)[line] = route }
	}
	without := func(name string) func(document) {
		return func(d document) {
			routes := d["routes"].(document)
			before := len(routes)
			maps.DeleteFunc(routes, func(line string, _ any) bool { return strings.Contains(line+"$", name) })
			require.Less(t, len(routes), before, name)
		}
	}
	models := document{"entity_type": "models", "operation": "execute"}
	ollama := document{"entity_type": "models", "operation": "execute", "entity": document{"json": []any{"model"}}}
	part := func(d document, path ...string) document {
		for _, key := range path {
			d = d[key].(document)
		}
		return d
	}
	more := func(d document, key string, value any) { d[key] = append(slices.Clone(d[key].([]any)), value) }
	for name, edits := range map[string][]func(document){
		"routes were added": {
			add("POST /infill", ollama),
			add("GET /v1/responses", document{"entity_type": "models", "operation": "execute", "websocket": true}), // a path that has another method
			add("POST /v1/files", document{"entity_type": "datasets", "operation": "write"}),                       // one that was left out
			add("GET /", document{"entity_type": "domains", "operation": "read"}),
			add("PUT /v1/models", models),
			add("OPTIONS /v1/models", models),
			add("GET /v1/responses/**", models),
		},
		"routes were taken out": {without("embeddings"), without("DELETE /v1/models/**"), without("chat"), without("realtime")},
		"without the list":      {without("GET /v1/models$")},
		"without Ollama":        {without("/api/")},
		"without OpenAI":        {without("/v1/")},
		"no routes":             {func(d document) { d["routes"] = document{} }},
		"more of everything": {
			func(d document) { part(d, "roles")["auditor"] = document{"models": document{"read": true}} },
			func(d document) { part(d, "roles", "admin", "models")["write"] = true },
			func(d document) {
				part(d, "catalog", "entity_types")["tools"] = document{"title": "Tools", "operations": document{"read": document{}}}
			},
			func(d document) { more(part(d, "choosers"), "headers", "x-mine-*") },
			func(d document) { more(part(d, "choosers"), "body", "mine") },
		},
		"less of everything": {
			func(d document) { delete(part(d, "roles"), "viewer") },
			func(d document) { delete(part(d, "roles", "member", "models"), "execute") },
			func(d document) { delete(part(d, "catalog", "entity_types"), "datasets") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := readBundle(t)
			for _, edit := range edits {
				edit(b.Data["patrol"].(document))
			}
			store := inmem.NewFromObject(b.Data)
			require.NoError(t, storage.Txn(t.Context(), store, storage.TransactionParams{}, func(txn storage.Transaction) error {
				results, err := tester.NewRunner().SetCompiler(ast.NewCompiler()).SetStore(store).SetModules(parsed(t)).SetTimeout(2*time.Minute).RunTests(t.Context(), txn)
				if err != nil {
					return err
				}
				ran := 0
				for r := range results {
					ran++
					assert.True(t, r.Pass(), "%s.%s at %s: %v\n%s", r.Package, r.Name, r.Location, r.Error, failures(r.SubResults))
				}
				assert.Greater(t, ran, 30)
				return nil
			}))
		})
	}
}
