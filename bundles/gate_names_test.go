package bundles

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The gate's child knows of what kinds the upstreams are: a name that no request has for
// one of them is warned of, and only where an upstream is of that kind.
func TestTheGateKnowsTheKindsOfUpstreams(t *testing.T) {
	candidate := packedFiles(t, embeddedFiles(t, map[string]string{
		"custom/custom.rego": `package patrol.custom

# METADATA
# title: The lab's model is closed
# custom:
#   code: lab_closed
#   message: The model is closed.
deny contains rego.metadata.rule().custom if input.request.entity == "LAB-1"
`,
		"custom/custom_test.rego": `package patrol.custom_test

import data.patrol.custom

test_closed if custom.deny with input as {"request": {"entity": "LAB-1"}}
`,
	}))
	for name, c := range map[string]struct {
		kinds []string
		warns bool
	}{
		"a kind without a form": {kinds: []string{"openai"}},
		"ollama":                {kinds: []string{"openai", "ollama"}, warns: true},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "policy.tar.gz")
			replace(t, file, packedFiles(t, embeddedFiles(t, nil)))
			source, err := NewSource(Options{Source: file, Interval: 5 * time.Millisecond})
			require.NoError(t, err)
			_, ledger := begin(t, source, GateConfig{Kinds: c.kinds})
			replace(t, file, candidate)
			r := ledger.next(t)
			require.True(t, r.Result.Passed, "%v", r.Result.Findings)
			warned := false
			for _, w := range r.Result.Warnings {
				warned = warned || w.File == "custom/custom.rego" && w.Line == 8
			}
			assert.Equal(t, c.warns, warned, "%v", r.Result.Warnings)
		})
	}
}
