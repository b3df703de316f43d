package e2e_test

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"patrol/bundles"
	"patrol/models"
	"patrol/policies/engine"
	"patrol/server/route"
)

// evasions is testdata/evasions.yaml, which explains itself.
type evasions struct {
	Paths   map[string]spellings `json:"paths"`
	Targets map[string]spellings `json:"targets"`
	Methods spellings            `json:"methods"`
	Queries spellings            `json:"queries"`
	Headers struct {
		Refused [][]string `json:"refused"`
		Ignored [][]string `json:"ignored"`
	} `json:"headers"`
	JSON        spellings `json:"json"`
	JSONHeaders struct {
		Refused [][]string `json:"refused"`
		Mapped  [][]string `json:"mapped"`
	} `json:"json headers"`
	Form struct {
		Refused []form `json:"refused"`
		Mapped  []form `json:"mapped"`
	} `json:"form"`
}

type spellings struct {
	Refused []string          `json:"refused"`
	Mapped  map[string]string `json:"mapped"`
}

type form struct {
	Parts []string `json:"parts"`
	Model string   `json:"model"`
}

func (f form) body() string {
	var b strings.Builder
	for _, part := range f.Parts {
		at := strings.LastIndexByte(part, '=')
		fmt.Fprintf(&b, "--b\r\nContent-Disposition: form-data; name=%s\r\n\r\n%s\r\n", part[:at], part[at+1:])
	}
	return b.String() + "--b--\r\n"
}

// reading is the interpretation of a request.
type reading struct {
	asks models.Request // the first question
	all  []models.Request
	http models.HTTPRequest
	body string
}

// readRequest takes a request apart as the gateway does: net/http, package route, policy.
// ok is false if one of them refuses it.
func readRequest(t *testing.T, policy *engine.Snapshot, line string, headers []string, body string) (got reading, ok bool) {
	t.Helper()
	var wire strings.Builder
	wire.WriteString(line + " HTTP/1.1\r\n")
	if !slices.ContainsFunc(headers, func(h string) bool { return strings.HasPrefix(h, "Host:") }) {
		headers = append([]string{"Host: models.example.com"}, headers...)
	}
	for _, h := range headers {
		wire.WriteString(h + "\r\n")
	}
	if body != "" {
		fmt.Fprintf(&wire, "Content-Length: %d\r\n", len(body))
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wire.String() + "\r\n" + body)))
	if err != nil || strings.ContainsAny(r.Host, ", /") { // which the server, and package question, see to
		return got, false
	}
	if got.http, err = route.Parse(r.Method, r.RequestURI, r.Header); err != nil {
		require.ErrorIs(t, err, route.ErrAmbiguous)
		return got, false
	}
	need, _, err := policy.BodyNeed(t.Context(), got.http)
	require.NoError(t, err)
	if need != nil && body != "" {
		read, err := route.ReadBody(need, r.Body, r.Header)
		if err != nil {
			require.ErrorIs(t, err, route.ErrAmbiguous)
			return got, false
		}
		got.http.Body, got.body = read, body
	}
	got.all, ok, err = policy.Route(t.Context(), got.http)
	require.NoError(t, err)
	if _, chooses := policy.Chooses(got.http, need, got.all); !ok || chooses {
		return got, false
	}
	got.asks = got.all[0]
	return got, true
}

func defaultPolicy(t *testing.T, replace map[string]string) *engine.Snapshot {
	t.Helper()
	source, err := bundles.Open(t.Context(), "")
	require.NoError(t, err)
	source.Files = maps.Clone(source.Files)
	for name, content := range replace {
		source.Files[name] = append(bytes.Clone(source.Files[name]), content...)
	}
	s, err := engine.Load(t.Context(), source)
	require.NoError(t, err)
	return s
}

// TestEvasions holds that a request is refused, or stands for what its upstream
// takes it for.
func TestEvasions(t *testing.T) {
	content, err := os.ReadFile("testdata/evasions.yaml")
	require.NoError(t, err)
	var all evasions
	require.NoError(t, yaml.UnmarshalStrict(content, &all))
	policy := defaultPolicy(t, nil)
	refused := func(line string, headers []string, body string) {
		t.Helper()
		got, ok := readRequest(t, policy, line, headers, body)
		assert.False(t, ok, "%s %q %q is taken for %s", line, headers, body, got.asks.Scope())
	}
	mapped := func(want, line string, headers []string, body string) reading {
		t.Helper()
		got, ok := readRequest(t, policy, line, headers, body)
		if assert.True(t, ok, "%s %q %q is refused", line, headers, body) {
			assert.Equal(t, want, got.asks.Scope(), line)
			asForwarded(t, got)
		}
		return got
	}

	for _, paths := range all.Paths {
		for _, path := range paths.Refused {
			for _, method := range []string{"GET", "HEAD", "POST", "DELETE", "PUT"} {
				refused(method+" "+path, nil, "")
				refused(method+" /proxy/acme"+path, nil, "")
			}
		}
		for path, want := range paths.Mapped {
			mapped(":"+want, "GET "+path, nil, "")
			mapped("acme:"+want, "GET /proxy/acme"+path, nil, "")
		}
	}
	for _, targets := range all.Targets {
		for _, target := range targets.Refused {
			refused("GET "+target, nil, "")
		}
		for target, want := range targets.Mapped {
			mapped(want, "GET "+target, nil, "")
		}
	}
	const path = " /proxy/acme/v1/models/llama3"
	for _, method := range all.Methods.Refused {
		refused(method+path, nil, "")
	}
	for method, operation := range all.Methods.Mapped {
		mapped("acme:models:llama3:"+operation, method+path, nil, "")
	}
	for _, query := range all.Queries.Refused {
		refused("GET /v1/models?"+query, nil, "")
	}
	for query, forwarded := range all.Queries.Mapped {
		got := mapped(":models:*:read", "GET /v1/models?"+query, nil, "")
		assert.Equal(t, forwarded, route.EncodedQuery(got.http))
	}
	for _, headers := range all.Headers.Refused {
		refused("GET"+path, headers, "")
	}
	for _, headers := range all.Headers.Ignored {
		mapped("acme:models:llama3:read", "GET"+path, headers, "")
	}

	const show, transcribe, formType = "POST /proxy/acme/api/show", "POST /proxy/acme/v1/audio/transcriptions", "Content-Type: multipart/form-data; boundary=b"
	for _, body := range all.JSON.Refused {
		refused(show, nil, body)
	}
	for body, model := range all.JSON.Mapped {
		mapped("acme:models:"+model+":read", show, nil, body)
	}
	for _, headers := range all.JSONHeaders.Refused {
		refused(show, headers, `{"model":"llama3"}`)
	}
	for _, headers := range all.JSONHeaders.Mapped {
		mapped("acme:models:llama3:read", show, headers, `{"model":"llama3"}`)
	}
	for _, f := range all.Form.Refused {
		refused(transcribe, []string{formType}, f.body())
	}
	for _, f := range all.Form.Mapped {
		mapped("acme:models:"+f.Model+":execute", transcribe, []string{formType}, f.body())
	}
}

// asForwarded reads what would be forwarded in the ways in which upstreams do, and
// compares: the path as net/url has it, which gin goes by, a JSON body as Go takes
// it and as those do whose last key wins, or whose first does.
func asForwarded(t *testing.T, got reading) {
	t.Helper()
	skip := 0
	if got.asks.Domain != "" {
		skip = 2
	}
	u, err := url.ParseRequestURI(route.EscapedPath(got.http, skip) + "?" + route.EncodedQuery(got.http))
	require.NoError(t, err)
	assert.Equal(t, "/"+strings.Join(got.http.Segments[skip:], "/"), u.Path)
	query, err := url.ParseQuery(u.RawQuery)
	require.NoError(t, err)
	assert.Equal(t, url.Values(got.http.Query), query)
	if model, ok := strings.CutPrefix(u.Path, "/v1/models/"); ok {
		assert.Equal(t, got.asks.Entity, model)
	}

	if !strings.HasPrefix(strings.TrimSpace(got.body), "{") {
		return
	}
	same := func(first, second string) { // "" where the upstream has to choose: any
		t.Helper()
		assert.Equal(t, got.asks.Entity, cmp.Or(first, second, models.Any), got.body)
	}
	var folding struct{ Model, Name string }
	require.NoError(t, json.Unmarshal([]byte(got.body), &folding))
	same(folding.Model, folding.Name)
	for _, firstWins := range []bool{false, true} {
		seen := map[string]string{}
		members(t, got.body, func(key string, value any) {
			text, _ := value.(string)
			if _, again := seen[key]; !again || !firstWins {
				seen[key] = text
			}
		})
		same(seen["model"], seen["name"])
		same(seen["name"], seen["model"])
	}
}

// members calls f with each member of a JSON object, in order.
func members(t *testing.T, object string, f func(key string, value any)) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(object))
	_, err := dec.Token()
	require.NoError(t, err)
	for dec.More() {
		key, err := dec.Token()
		require.NoError(t, err)
		var value any
		require.NoError(t, dec.Decode(&value))
		f(key.(string), value)
	}
	_, err = dec.Token()
	require.NoError(t, err)
	_, err = dec.Token()
	require.ErrorIs(t, err, io.EOF)
}

// TestARouteOfOnesOwn adds routes as a security team would: one entry of data each,
// behind those that are there, and no Rego.
func TestARouteOfOnesOwn(t *testing.T) {
	policy := defaultPolicy(t, map[string]string{"patrol/routes/data.yaml": `
"GET /buckets/*/files/**": {entity_type: datasets, operation: read, entity: {path: 1}}
"GET /buckets/*/files/*/rows": {entity_type: datasets, operation: read, entity: {path: 2}}
"GET /search": {entity_type: datasets, operation: read, entity: {query: set}}
"POST /train": {entity_type: datasets, operation: read, entity: {json: [dataset, data]}}
"PUT /upload": {entity_type: datasets, operation: write, entity: {multipart: [set]}}
"POST /audit": {entity_type: domains, operation: read, entity: acme}
`})
	const formType = "Content-Type: multipart/form-data; boundary=b"
	for _, c := range []struct {
		line, body string
		headers    []string
		want       string // "" if refused
	}{
		{line: "GET /proxy/acme/buckets/b1/files/a/b.txt", want: "acme:datasets:b1:read"},
		{line: "GET /buckets/b1/files/a", want: ":datasets:b1:read"},
		{line: "GET /proxy/acme/buckets/b1/files/f1/rows", want: "acme:datasets:f1:read"},
		{line: "GET /proxy/acme/buckets/b1/files"},
		{line: "POST /proxy/acme/buckets/b1/files/a"},
		{line: "GET /proxy/acme/buckets/../files/a"},
		{line: "GET /proxy/acme/buckets/b1%2ffiles/a"},
		{line: "GET /proxy/acme/search?set=s1&q=x", want: "acme:datasets:s1:read"},
		{line: "GET /proxy/acme/search?q=x", want: "acme:datasets:*:read"},
		{line: "GET /proxy/acme/search?set=s1&set=s2"},
		{line: "GET /proxy/acme/search?set=s1&%73et=s2"},
		{line: "GET /proxy/acme/search?set="},
		{line: "GET /proxy/acme/search?Set=s1", want: "acme:datasets:*:read"},
		{line: "POST /proxy/acme/train", body: `{"dataset":"s1"}`, want: "acme:datasets:s1:read"},
		{line: "POST /proxy/acme/train", body: `{"data":"s1","model":"m"}`, want: "acme:datasets:s1:read"},
		{line: "POST /proxy/acme/train", body: `{"dataset":"s1","data":"s2"}`},
		{line: "POST /proxy/acme/train", body: `{"dataset":"s1","DataSet":"s2"}`},
		{line: "POST /proxy/acme/train", want: "acme:datasets:*:read"},
		{line: "PUT /proxy/acme/upload", headers: []string{formType}, body: form{Parts: []string{`"set"=s1`, `"file"; filename="x"=y`}}.body(), want: "acme:datasets:s1:write"},
		{line: "PUT /proxy/acme/upload", headers: []string{formType}, body: form{Parts: []string{`"set"=s1`, `"set"=s2`}}.body()},
		{line: "POST /proxy/acme/audit", want: "acme:domains:acme:read"},
		{line: "GET /proxy/acme/v1/models", want: "acme:models:*:read"},
	} {
		got, ok := readRequest(t, policy, c.line, c.headers, c.body)
		assert.Equal(t, c.want != "", ok, "%s %s", c.line, c.body)
		if ok {
			assert.Equal(t, c.want, got.asks.Scope(), c.line)
		}
	}
}
