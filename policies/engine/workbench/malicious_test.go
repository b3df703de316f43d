//go:build !race

package workbench_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

// harm is a policy that somebody wrote to do harm, with a request by which it would.
type harm struct {
	Name   string            `json:"name"`
	File   string            `json:"file"`
	Rego   string            `json:"rego"`
	Files  map[string]string `json:"files"`
	Change map[string]any    `json:"change"`
	Gate   string            `json:"gate"`
	Answer string            `json:"answer"`
}

// TestMaliciousPolicies holds what the gate says of such policies, and what the engine answers under
// them whatever the gate let through.
func TestMaliciousPolicies(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("testdata/malicious.yaml")
	require.NoError(t, err)
	var all []harm
	require.NoError(t, yaml.UnmarshalStrict(content, &all))
	require.GreaterOrEqual(t, len(all), 40)
	for _, h := range all {
		t.Run(h.Name, func(t *testing.T) {
			t.Parallel()
			files := maps.Clone(h.Files)
			if files == nil {
				files = map[string]string{}
			}
			file := h.File
			if file == "" {
				file = "custom/rule.rego"
			}
			files[file] = h.Rego
			if strings.HasSuffix(file, ".rego") && !strings.HasPrefix(h.Rego, "package ") {
				files[file] = "package patrol.custom\n\n" + h.Rego
			}
			src := bundle(t, files)
			assert.Equal(t, h.Answer, answerUnder(t, src, h.Change))

			r, err := workbench.CheckRules(t.Context(), src)
			require.NoError(t, err)
			found := r.Findings
			if len(found) == 0 && h.Answer != "no policy" {
				r, err = workbench.CheckSafety(t.Context(), src)
				require.NoError(t, err)
				found = r.Findings
			}
			if h.Gate == "" {
				assert.Empty(t, found)
				return
			}
			assert.True(t, slices.ContainsFunc(found, func(f engine.Finding) bool { return f.Code == h.Gate }), "no %s: %v", h.Gate, found)
		})
	}
}

// answerUnder returns the answer of a policy to the usual request with changes.
func answerUnder(t *testing.T, src engine.Source, change map[string]any) string {
	t.Helper()
	s, err := engine.Load(t.Context(), src, engine.WithTimeout(10*time.Second))
	if err != nil {
		return "no policy"
	}
	input := engine.KnownInput("models", "read")
	input["membership"] = map[string]any{"role": "member"}
	for _, at := range slices.Sorted(maps.Keys(change)) {
		path := strings.Split(at, ".")
		if change[at] == nil {
			delete(input, at)
			continue
		}
		value := change[at]
		if n, ok := value.(float64); ok { // as JSON has it
			value = int64(n)
		}
		input = engine.Edited(input, path, value)
	}
	d, err := judge(t.Context(), s, input)
	switch {
	case err != nil:
		return "error"
	case d.Allowed && len(d.Waived) > 0:
		return fmt.Sprintf("%s lifted", d.Waived[0].Code)
	case d.Allowed:
		return "allowed"
	case len(d.Reasons) > 1:
		return fmt.Sprintf("%s and %d more", d.FirstReason(), len(d.Reasons)-1)
	}
	return string(d.FirstReason())
}
