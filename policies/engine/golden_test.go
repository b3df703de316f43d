package engine_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies/engine"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden is a line of testdata/decisions.jsonl: what the default policy once
// decided, to be decided again by every later version of it and of OPA. A
// difference is either a defect or a change that users must be told of.
type golden struct {
	Input   any             `json:"input"`
	Allow   bool            `json:"allow"`
	Reasons []models.Reason `json:"reasons,omitempty"`
	Scope   string          `json:"scope,omitempty"`
}

// goldenRoute is a line of testdata/routes.jsonl.
type goldenRoute struct {
	Request string `json:"request"`         // method and path
	Model   string `json:"model,omitempty"` // in the body
	Asks    string `json:"asks,omitempty"`  // as a scope; absent if no route maps it
}

func TestGoldenDecisions(t *testing.T) {
	const file = "testdata/decisions.jsonl"
	s := load(t, nil)
	decide := func(input any) golden {
		d, err := s.DecideRaw(t.Context(), input)
		require.NoError(t, err)
		return golden{Input: input, Allow: d.Allowed, Reasons: d.Reasons, Scope: d.ScopeID}
	}
	if *update {
		lines := make([]golden, 0, 280)
		draw := func(seed uint64, n int, generate func(*rand.Rand) any, wanted func(models.Decision) bool) {
			r := rand.New(rand.NewPCG(seed, 0))
			outcomes := map[string]int{}
			for len(lines) < n {
				g := decide(generate(r))
				if !wanted(models.Decision{Allowed: g.Allow, Reasons: g.Reasons}) {
					continue
				}
				outcome, err := json.Marshal(g.Reasons)
				require.NoError(t, err)
				if outcomes[string(outcome)]++; outcomes[string(outcome)] <= 20 { // a few of each kind
					lines = append(lines, g)
				}
			}
		}
		draw(20261123, 200, generate, func(models.Decision) bool { return true })
		draw(20261125, 280, generateLimited, func(d models.Decision) bool { // those that are about limits
			return d.Allowed || d.Has(models.LifetimeExceeded) || d.Has(models.WildcardForbidden) || d.Has(models.ApprovalRequired)
		})
		writeLines(t, file, lines)
	}
	lines := readLines[golden](t, file)
	require.NotEmpty(t, lines)
	for i, want := range lines {
		assert.Equal(t, want, decide(want.Input), "%s:%d", file, i+1)
	}
}

func TestGoldenRoutes(t *testing.T) {
	const file = "testdata/routes.jsonl"
	s := load(t, nil)
	route := func(g goldenRoute) goldenRoute {
		r := asked(g.Request)
		if g.Model != "" {
			need, _, err := s.BodyNeed(t.Context(), r)
			require.NoError(t, err)
			name := "model"
			for _, other := range []string{"lora_name", "destination"} {
				if need != nil && slices.Contains(need.Fields, other) {
					name = other
				}
			}
			r.Body = naming(name, g.Model)
		}
		reqs, ok, err := s.Route(t.Context(), r)
		require.NoError(t, err)
		if g.Asks = ""; ok {
			g.Asks = asks(reqs)
		}
		return g
	}
	lines := readLines[goldenRoute](t, file)
	require.NotEmpty(t, lines)
	if *update {
		for i := range lines {
			lines[i] = route(lines[i])
		}
		writeLines(t, file, lines)
	}
	for i, want := range lines {
		assert.Equal(t, want, route(want), "%s:%d", file, i+1)
	}
}

// TestDecisionsRepeat holds that a decision depends on its input and nothing else.
func TestDecisionsRepeat(t *testing.T) {
	first, second := load(t, nil), load(t, nil)
	require.Equal(t, first.Revision(), second.Revision())
	for _, g := range readLines[golden](t, "testdata/decisions.jsonl") {
		for _, s := range []*engine.Snapshot{first, second, first} {
			d, err := s.DecideRaw(t.Context(), g.Input)
			require.NoError(t, err)
			require.Equal(t, g.Reasons, d.Reasons)
		}
	}
}

func readLines[T any](t *testing.T, file string) (lines []T) {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	scan := bufio.NewScanner(bytes.NewReader(content))
	for scan.Scan() {
		var line T
		require.NoError(t, json.Unmarshal(scan.Bytes(), &line))
		lines = append(lines, line)
	}
	require.NoError(t, scan.Err())
	return lines
}

func writeLines[T any](t *testing.T, file string, lines []T) {
	t.Helper()
	var out bytes.Buffer
	for _, line := range lines {
		text, err := json.Marshal(line)
		require.NoError(t, err)
		out.Write(append(text, '\n'))
	}
	require.NoError(t, os.WriteFile(file, out.Bytes(), 0o600))
}
