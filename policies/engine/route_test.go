package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies/engine"
)

// asked is a proxied request with nothing but method and path.
func asked(line string) models.HTTPRequest {
	method, path, _ := strings.Cut(line, " ")
	r := models.HTTPRequest{Method: method, Path: path}
	for segment := range strings.SplitSeq(path, "/") {
		if segment != "" {
			r.Segments = append(r.Segments, segment)
		}
	}
	return r
}

// TestRoute tries the typed API; the table of routes is tested in Rego.
func TestRoute(t *testing.T) {
	s := load(t, map[string]string{"patrol/routes/data.yaml": `
"GET /v1/models": {entity_type: models, operation: read}
"GET /v1/models/**": {entity_type: models, operation: read, entity: {path: 1}}
"POST /v1/chat/completions": {entity_type: models, operation: execute, entity: {json: [model, name]}}
"POST /v1/audio/transcriptions": {entity_type: models, operation: execute, entity: {multipart: [model]}}
"GET /v1/realtime": {entity_type: models, operation: execute, entity: {query: model}, websocket: true}
"POST /copy": {entity_type: models, operation: write, entity: {json: [to]}, also: [{operation: read, entity: {json: [from], each: [more, "parts[].model"]}}, {operation: read, entity: golden, entity_type: datasets, when: [data]}]}
`, "patrol/choosers/data.yaml": "{}"})
	jsonBody := &models.BodyNeed{Format: models.BodyJSON, Fields: []string{"model", "name"}}
	several := &models.BodyNeed{Format: models.BodyJSON, Fields: []string{"from", "to"}, Each: []string{"data", "more", "parts[].model"}}
	many := make([]string, engine.MaxQuestions)
	for i := range many {
		many[i] = fmt.Sprintf("m%d", i)
	}
	multipart := &models.BodyNeed{Format: models.BodyMultipart, Fields: []string{"model"}}
	for name, c := range map[string]struct {
		line    string
		query   map[string][]string
		body    *models.HTTPBody
		want    string // as a scope, "" if unmapped
		need    *models.BodyNeed
		upgrade bool
	}{
		"with the prefix":      {line: "GET /proxy/acme/v1/models", want: "acme:models:*:read"},
		"without":              {line: "GET /v1/models", want: ":models:*:read"},
		"HEAD":                 {line: "HEAD /v1/models", want: ":models:*:read"},
		"by path":              {line: "GET /proxy/acme/v1/models/meta/llama", want: "acme:models:meta/llama:read"},
		"by body":              {line: "POST /proxy/acme/v1/chat/completions", body: naming("model", "phi"), want: "acme:models:phi:execute", need: jsonBody},
		"by a body of no name": {line: "POST /proxy/acme/v1/chat/completions", body: &models.HTTPBody{}, want: "acme:models:*:execute", need: jsonBody},
		"without a body":       {line: "POST /proxy/acme/v1/chat/completions", want: "acme:models:*:execute", need: jsonBody},
		"by multipart":         {line: "POST /proxy/acme/v1/audio/transcriptions", body: naming("model", "whisper"), want: "acme:models:whisper:execute", need: multipart},
		"two names":            {line: "POST /v1/chat/completions", body: naming("model", "a", "name", "b"), need: jsonBody},
		"one name twice":       {line: "POST /v1/chat/completions", body: naming("model", "a", "name", "a"), want: ":models:a:execute", need: jsonBody},
		"two questions":        {line: "POST /copy", body: naming("to", "a", "from", "b"), want: ":models:a:write :models:b:read", need: several},
		"the second not asked": {line: "POST /copy", body: naming("to", "a"), want: ":models:a:write", need: several},
		"any of the second":    {line: "POST /copy", want: ":models:*:write :models:*:read :datasets:golden:read", need: several},
		"lists": {
			line: "POST /copy", need: several, want: ":models:a:write :models:b:read :models:c:read :datasets:golden:read",
			body: &models.HTTPBody{Fields: []models.HTTPField{
				{Name: "to", Value: "a"}, {Name: "more", List: true, Values: []string{"b", "c"}}, {Name: "parts[].model", List: true, Values: []string{"c"}}, {Name: "data", List: true},
			}},
		},
		"more than can be asked": {line: "POST /copy", body: &models.HTTPBody{Fields: []models.HTTPField{{Name: "more", List: true, Values: many}}}, need: several},
		"by query":               {line: "GET /v1/realtime", query: map[string][]string{"model": {"phi"}}, want: ":models:phi:execute", upgrade: true},
		"by query, twice":        {line: "GET /v1/realtime", query: map[string][]string{"model": {"phi", "phi"}}, upgrade: true},
		"by query, empty":        {line: "GET /v1/realtime", query: map[string][]string{"model": {""}}, upgrade: true},
		"a name with a blank":    {line: "POST /v1/chat/completions", body: naming("model", "a b"), need: jsonBody},
		"a name without end":     {line: "POST /v1/chat/completions", body: naming("model", strings.Repeat("x", 257)), need: jsonBody},
		"a name in Cyrillic":     {line: "POST /v1/chat/completions", body: naming("model", "мodel"), need: jsonBody},
		"a domain with blanks":   {line: "GET /proxy/a b/v1/models"},
		"no route":               {line: "GET /v2/models"},
		"no path":                {line: "GET /"},
		"a slash too many":       {line: "GET /v1/models/"},
		"a star":                 {line: "GET /v1/models/**"},
	} {
		t.Run(name, func(t *testing.T) {
			r := asked(c.line)
			r.Query, r.Body = c.query, c.body
			r.Headers = func() map[string]string { return map[string]string{"accept": "application/json"} }
			reqs, ok, err := s.Route(t.Context(), r)
			require.NoError(t, err)
			assert.Equal(t, c.want != "", ok)
			if ok {
				assert.Equal(t, c.want, asks(reqs))
			}
			need, upgrade, err := s.BodyNeed(t.Context(), r)
			require.NoError(t, err)
			if c.need != nil {
				c.need = c.need.Compiled()
			}
			assert.Equal(t, c.need, need)
			assert.Equal(t, c.upgrade, upgrade)
		})
	}
}

func TestRouteFailsClosed(t *testing.T) {
	for name, c := range map[string]struct{ request, want string }{
		"a string":       {`"models"`, "not an object"},
		"three fields":   {`{"domain": "a", "entity_type": "b", "entity": "c"}`, "not an object"},
		"another field":  {`{"domain": "a", "entity_type": "b", "entity": "c", "op": "d"}`, `it has no "operation"`},
		"one more field": {`{"domain": "a", "entity_type": "b", "entity": "c", "operation": "d", "x": 1}`, "not an object"},
		"a number":       {`{"domain": 1, "entity_type": "b", "entity": "c", "operation": "d"}`, `"domain" is not a string`},
		"an error":       {`{"domain": to_number(input.http.path), "entity_type": "b", "entity": "c", "operation": "d"}`, "eval_builtin_error"},
		"no array":       {"1\n\nrequests := {\"a\": 1}", "data.patrol.http.requests is malformed: it is object, not an array"},
		"a set":          {"1\n\nrequests := {1}", "it is set, not an array"},
		"none":           {"1\n\nrequests := []", "it has 0 requests, not 1 to 32"},
		"too many":       {"1\n\nrequests := [{\"domain\": \"a\", \"entity_type\": \"b\", \"entity\": \"c\", \"operation\": \"d\"} | some _ in numbers.range(1, 33)]", "it has 33 requests, not 1 to 32"},
		"a wrong one":    {"1\n\nrequests := [{\"domain\": \"a\", \"entity_type\": \"b\", \"entity\": \"c\", \"operation\": \"d\"}, {}]", "request 1: it is not an object"},
	} {
		t.Run(name, func(t *testing.T) {
			s := load(t, map[string]string{"http/http.rego": "package patrol.http\n\nrequest := " + c.request})
			_, ok, err := s.Route(t.Context(), asked("GET /v1/models"))
			require.ErrorContains(t, err, c.want)
			assert.False(t, ok)
			need, upgrade, err := s.BodyNeed(t.Context(), asked("GET /v1/models"))
			require.NoError(t, err, "hints may be left out")
			assert.Nil(t, need)
			assert.False(t, upgrade)
		})
	}
}

func TestBodyNeedFailsClosed(t *testing.T) {
	for hints, want := range map[string]string{
		`true`:                  "not an object",
		`{"bodies": 1}`:         "a field \"bodies\"",
		`{"websocket": "true"}`: "websocket is not true or false",
		`{"body": "json"}`:      "body is not an object",
		`{"body": {"format": "xml", "fields": ["a"]}}`:              `body.format is "xml"`,
		`{"body": {"format": 1, "fields": ["a"]}}`:                  "body.format is not a text",
		`{"body": {"format": "json", "fields": []}}`:                "body.fields is not an array of names",
		`{"body": {"format": "json", "fields": "model"}}`:           "body.fields is not an array of names",
		`{"body": {"format": "json", "names": ["model"]}}`:          "body has other fields than format, fields, each and absent",
		`{"body": {"format": "json"}}`:                              "body.fields is not an array of names",
		`{"body": {"format": "json", "each": "models"}}`:            "body.each is not an array of names",
		`{"body": {"format": "json", "each": [{}]}}`:                "a name in body.each is not a text",
		`{"body": {"format": "multipart", "each": ["models"]}}`:     "body.each is for json",
		`{"body": {"format": "json", "absent": [""]}}`:              "a name in body.absent is not a text",
		`{"body": {"format": "json", "fields": ["model", 1]}}`:      "a name in body.fields is not a text",
		`{"body": {"format": "json", "fields": ["a"], "extra": 1}}`: "body has other fields than format, fields, each and absent",
	} {
		t.Run(hints, func(t *testing.T) {
			s := load(t, map[string]string{"http/http.rego": "package patrol.http\n\nrequest := 1\n\nhints := " + hints})
			need, upgrade, err := s.BodyNeed(t.Context(), asked("GET /v1/models"))
			require.ErrorContains(t, err, want)
			assert.ErrorContains(t, err, "data.patrol.http.hints")
			assert.Nil(t, need)
			assert.False(t, upgrade)
		})
	}
}

// withRoutes returns a policy of n routes of one's own, a third of them with stars,
// all under one first segment.
func withRoutes(t testing.TB, n int) *engine.Snapshot {
	var routes strings.Builder
	for i := range n {
		pattern := [...]string{"GET /svc/r%d", "GET /svc/r%d/*", "GET /svc/*/r%d/**"}[i%3]
		fmt.Fprintf(&routes, "%q: {entity_type: models, operation: read}\n", fmt.Sprintf(pattern, i))
	}
	return load(t, map[string]string{"patrol/routes/data.yaml": routes.String()}, engine.WithRecall(0))
}

var routedPaths = []string{"GET /proxy/acme/svc/r0", "GET /proxy/acme/svc/r1/x", "GET /proxy/acme/svc/x/r2/y/z", "GET /proxy/acme/svc/none/of/them"}

// TestRoutesScale holds that it does not matter how many routes there are.
func TestRoutesScale(t *testing.T) {
	few, many := withRoutes(t, 50), withRoutes(t, 1000)
	for _, line := range routedPaths {
		r := asked(line)
		cost := func(s *engine.Snapshot) float64 {
			return testing.AllocsPerRun(20, func() {
				_, ok, err := s.Route(t.Context(), r)
				require.NoError(t, err)
				require.Equal(t, !strings.Contains(line, "none"), ok)
			})
		}
		assert.LessOrEqual(t, cost(many), 1.2*cost(few), line) // the same but for the race detector's noise
	}
}
