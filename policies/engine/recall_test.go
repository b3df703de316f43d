package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"patrol/models"
	"patrol/policies/engine"
)

// TestRequestParts holds that a policy is asked again whenever anything is
// different that its rules could read.
func TestRequestParts(t *testing.T) {
	every := []string{"method", "path", "segments", "query", "headers", "body"}
	for name, c := range map[string]struct {
		rego string // of request, and what it needs
		want []string
	}{
		"nothing":              {`request := {}`, nil},
		"one":                  {`request := {"entity": input.http.method}`, []string{"method"}},
		"in a condition":       {`request := {} if input.http.query.a`, []string{"query"}},
		"below not":            {`request := {} if not input.http.headers.x`, []string{"headers"}},
		"in an else":           {"request := {} if input.http.method == \"A\"\n\nelse := {\"entity\": input.http.path}", []string{"method", "path"}},
		"in another rule":      {"request := other\n\nother := input.http.segments[0]", []string{"segments"}},
		"in a function":        {"request := f(1)\n\nf(x) := [x, input.http.body.model]", []string{"body"}},
		"as an argument":       {"request := f(input.http.path)\n\nf(x) := x", []string{"path"}},
		"in a comprehension":   {`request := [x | some x in input.http.segments]`, []string{"segments"}},
		"in a reference":       {`request := data.patrol.routes[input.http.method]`, []string{"method"}},
		"under a with":         {"request := x if x := other with input.http.method as input.http.path\n\nother := input.http.method", []string{"method", "path"}},
		"in a part of the set": {"request := parts\n\nparts.a := input.http.path\n\nparts.b := input.http.query", []string{"path", "query"}},
		"by a variable":        {"request := [v | some k in [\"method\"]; v := input.http[k]]", every},
		"all of http":          {`request := object.keys(input.http)`, every},
		"all of input":         {`request := input`, every},
		"through a variable":   {"request := h.method if h := input.http", every},
		"a part there is not":  {"# METADATA\n# schemas:\n#   - input: schema.authz_input\nrequest := input.now", every},
	} {
		t.Run(name, func(t *testing.T) {
			s := load(t, map[string]string{"http/http.rego": "package patrol.http\n\n" + c.rego + "\n"})
			assert.ElementsMatch(t, c.want, s.ReadsOfRequest())
		})
	}
	t.Run("the default policy", func(t *testing.T) {
		assert.NotContains(t, load(t, nil).ReadsOfRequest(), "headers", "or nothing would be remembered")
	})
}

// TestRecall asks about many requests that differ in little, each twice, and
// compares with what the policy says.
func TestRecall(t *testing.T) {
	for name, s := range map[string]map[string]string{
		"the default policy": nil,
		"headers": {"http/http.rego": `package patrol.http

request := {"domain": "", "entity_type": "models", "entity": input.http.headers.accept, "operation": input.http.method}

hints := {"body": {"format": "json", "fields": [input.http.headers.accept]}}
`},
		"errors": {"http/http.rego": `package patrol.http

request := {"domain": "", "entity_type": "models", "entity": "*", "operation": to_number(input.http.body.model)}
`},
	} {
		t.Run(name, func(t *testing.T) {
			policy, anew := load(t, s), load(t, s, engine.WithRecall(0))
			rapid.Check(t, func(t *rapid.T) {
				r := asked(rapid.SampledFrom([]string{
					"GET /v1/models", "HEAD /v1/models", "POST /v1/models", "GET /v1/models/a", "GET /v1/models/a/b", "GET /v1/models/",
					"POST /v1/chat/completions", "POST /proxy/acme/v1/chat/completions", "POST /proxy/other/v1/chat/completions",
					"GET /v1/realtime", "GET /v1/" + strings.Repeat("x", 2000),
				}).Draw(t, "line"))
				if rapid.Bool().Draw(t, "query") {
					names := rapid.SampledFrom([]string{"model", "m"})
					r.Query = rapid.MapOf(names, rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "aa"}), 1, 2)).Draw(t, "parameters")
				}
				if rapid.Bool().Draw(t, "body") {
					r.Body = &models.HTTPBody{}
					name, value := rapid.SampledFrom([]string{"model", "name", "models"}), rapid.SampledFrom([]string{"a", "b", "1"})
					for range rapid.IntRange(0, 2).Draw(t, "fields") {
						f := models.HTTPField{Name: name.Draw(t, "field")}
						if f.List = f.Name == "models"; f.List {
							f.Values = rapid.SliceOfN(value, 0, 2).Draw(t, "values")
						} else {
							f.Value = value.Draw(t, "value")
						}
						r.Body.Fields = append(r.Body.Fields, f)
					}
				}
				accept := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "accept")
				r.Headers = func() map[string]string { return map[string]string{"accept": accept} }

				wantReq, wantOK, wantErr := anew.Route(t.Context(), r)
				wantNeed, wantUpgrade, wantNeedErr := anew.BodyNeed(t.Context(), r)
				for range 2 {
					req, ok, err := policy.Route(t.Context(), r)
					assert.Equal(t, fmt.Sprint(wantErr), fmt.Sprint(err))
					assert.Equal(t, wantOK, ok)
					assert.Equal(t, wantReq, req)
					need, upgrade, err := policy.BodyNeed(t.Context(), r)
					assert.Equal(t, fmt.Sprint(wantNeedErr), fmt.Sprint(err))
					assert.Equal(t, wantNeed, need)
					assert.Equal(t, wantUpgrade, upgrade)
				}
			})
		})
	}
}

// TestRecallIsCheap holds that what is remembered is not evaluated.
func TestRecallIsCheap(t *testing.T) {
	s := load(t, nil)
	r := asked("POST /proxy/acme/v1/chat/completions")
	r.Body = naming("model", "llama3")
	n := testing.AllocsPerRun(100, func() {
		_, ok, err := s.Route(t.Context(), r)
		require.NoError(t, err)
		require.True(t, ok)
		need, _, err := s.BodyNeed(t.Context(), r)
		require.NoError(t, err)
		require.NotNil(t, need)
	})
	assert.LessOrEqual(t, n, 10.0)
}
