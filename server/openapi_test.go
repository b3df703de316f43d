package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"patrol/api"
	"patrol/server"
)

// document is the OpenAPI document, as far as tests look at it.
type document struct {
	Paths      map[string]map[string]json.RawMessage
	operations map[string]operation // by "GET /api/v1/pats/{id}"
	components struct {
		Responses  map[string]response
		Parameters map[string]parameterOf
	}
	schemas *jsonschema.Compiler
}

type operation struct {
	Parameters  []parameterOf
	Responses   map[string]response
	RequestBody *struct {
		Required bool
		Content  map[string]media
	}
	pointer string
}

// parameterOf is a parameter of an operation, or where it is described.
type parameterOf struct {
	Ref      string `json:"$ref"`
	Name, In string
}

type response struct {
	Ref     string `json:"$ref"`
	Content map[string]media
	pointer string
}

type media struct {
	Schema   json.RawMessage
	Example  any
	Examples map[string]struct{ Value any }
}

const documentURL = "https://patrol.example/openapi.json"

var methods = []string{"get", "head", "post", "put", "patch", "delete", "options"}

// openapi is the document, read once.
var openapi = sync.OnceValues(func() (*document, error) {
	text, err := yaml.YAMLToJSONStrict(api.OpenAPI)
	if err != nil {
		return nil, err
	}
	doc := &document{operations: map[string]operation{}, schemas: jsonschema.NewCompiler()}
	var whole struct {
		OpenAPI    string
		Paths      map[string]map[string]json.RawMessage
		Components struct {
			Responses  map[string]response
			Parameters map[string]parameterOf
		}
	}
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, err
	}
	if whole.OpenAPI != "3.1.0" {
		return nil, fmt.Errorf("openapi %q", whole.OpenAPI)
	}
	doc.Paths, doc.components.Responses, doc.components.Parameters = whole.Paths, whole.Components.Responses, whole.Components.Parameters
	for path, item := range whole.Paths {
		for _, method := range methods {
			if item[method] == nil {
				continue
			}
			var op operation
			if err := json.Unmarshal(item[method], &op); err != nil {
				return nil, fmt.Errorf("%s %s: %w", method, path, err)
			}
			op.pointer = "/paths/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(path) + "/" + method
			doc.operations[strings.ToUpper(method)+" "+path] = op
		}
	}
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	doc.schemas.DefaultDraft(jsonschema.Draft2020)
	doc.schemas.AssertFormat()
	return doc, doc.schemas.AddResource(documentURL, parsed)
})

// response returns what an operation documents for a status, nil if nothing.
func (d *document) response(op operation, status int) *response {
	key := strconv.Itoa(status)
	r, ok := op.Responses[key]
	if !ok {
		key = "default"
		if r, ok = op.Responses[key]; !ok {
			return nil
		}
	}
	r.pointer = op.pointer + "/responses/" + key
	if name, ok := strings.CutPrefix(r.Ref, "#/components/responses/"); ok {
		r = d.components.Responses[name]
		r.pointer = "/components/responses/" + name
	}
	return &r
}

// validate holds a JSON value against the schema at a place of the document.
func (d *document) validate(pointer string, value any) error {
	schema, err := d.schemas.Compile(documentURL + "#" + strings.NewReplacer("{", "%7B", "}", "%7D").Replace(pointer))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// find returns the documented operation of a request: of those that match, the
// one with the fewest parameters.
func (d *document) find(method, path string) (name string, op operation, ok bool) {
	for key, candidate := range d.operations {
		m, pattern, _ := strings.Cut(key, " ")
		if m == method && matches(pattern, path) && (!ok || strings.Count(key, "{") < strings.Count(name, "{")) {
			name, op, ok = key, candidate, true
		}
	}
	return name, op, ok
}

var parameter = regexp.MustCompile(`\{[a-z]+\}`)

// matches reports whether path is one that pattern stands for.
func matches(pattern, path string) bool {
	want, have := strings.Split(pattern, "/"), strings.Split(path, "/")
	return len(want) == len(have) && !slices.ContainsFunc(want, func(w string) bool {
		h := have[0]
		have = have[1:]
		return w != h && !parameter.MatchString(w)
	})
}

var schemaMu sync.Mutex // the compiler is not safe for concurrent use

// conforms holds an answer against the document: the status and content type are
// documented and the body is of the schema. Answers outside of any documented
// operation, 404 and 405, must be problems.
func conforms(t testing.TB, method, path string, a *answer) {
	t.Helper()
	doc, err := openapi()
	require.NoError(t, err)
	schemaMu.Lock()
	defer schemaMu.Unlock()
	require.NotEmpty(t, a.header.Get("X-Request-Id"))

	mediaType, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	pointer := "/components/schemas/Problem"
	name, op, documented := doc.find(method, path)
	if documented && !strings.HasPrefix(path, "/proxy/") && !strings.HasPrefix(path, "/forward-auth/") {
		r := doc.response(op, a.status)
		require.NotNil(t, r, "%s: %d is not documented", name, a.status)
		if len(r.Content) == 0 {
			require.Empty(t, a.body, "%s: %d has no body", name, a.status)
			return
		}
		require.Contains(t, r.Content, mediaType, "%s: %d", name, a.status)
		pointer = r.pointer + "/content/" + strings.ReplaceAll(mediaType, "/", "~1") + "/schema"
	} else if method == "HEAD" || strings.HasPrefix(path, "/proxy/") && a.status < 400 {
		return
	}
	if !strings.HasSuffix(mediaType, "json") {
		require.True(t, documented, "%s %s answers %s", method, path, mediaType)
		return
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(a.body))
	require.NoError(t, err, "%s: %s", name, a.body)
	require.NoError(t, doc.validate(pointer, value), "%s: %d: %s", name, a.status, a.body)
}

// inTable turns a path of the document into the route table's notation.
func inTable(path string) string {
	return parameter.ReplaceAllStringFunc(path, func(p string) string { return ":" + p[1:len(p)-1] })
}

func TestOpenAPIAndTheRouterAgree(t *testing.T) {
	doc, err := openapi()
	require.NoError(t, err)
	documented := map[string]bool{}
	for key := range doc.operations {
		method, path, _ := strings.Cut(key, " ")
		for _, mount := range []string{"/proxy/", "/forward-auth/"} {
			if strings.HasPrefix(path, mount) {
				method, path = "*", mount+"*path"
			}
		}
		documented[method+" "+inTable(path)] = true
	}
	served := map[string]bool{}
	for _, r := range server.Routes() {
		if r.Page { // for people, with forms of their own
			continue
		}
		served[r.Method+" "+r.Path] = true
	}
	assert.Equal(t, served, documented)
}

// query are the parameters of an address that an operation documents.
func (d *document) query(op operation) []string {
	names := []string{}
	for _, p := range op.Parameters {
		if ref, ok := strings.CutPrefix(p.Ref, "#/components/parameters/"); ok {
			p = d.components.Parameters[ref]
		}
		if p.In == "query" {
			names = append(names, p.Name)
		}
	}
	return names
}

func TestOpenAPIAndTheRouterTakeTheSame(t *testing.T) {
	doc, err := openapi()
	require.NoError(t, err)
	for _, r := range server.Routes() {
		if r.Page || r.Mount {
			continue
		}
		name := r.Method + " " + pathParameter.ReplaceAllString(r.Path, "{$1}")
		op, ok := doc.operations[name]
		require.True(t, ok, name)
		assert.ElementsMatch(t, append(slices.Clone(r.Query), r.Lists...), doc.query(op), "%s: parameters of the address", name)
		body := "none"
		if op.RequestBody != nil {
			body = map[bool]string{true: "object", false: "maybe"}[op.RequestBody.Required]
		}
		assert.Equal(t, r.Body, body, "%s: its body", name)
	}
}

var pathParameter = regexp.MustCompile(`:([a-z]+)`)

func TestOpenAPIExamplesAreOfTheirSchemas(t *testing.T) {
	doc, err := openapi()
	require.NoError(t, err)
	schemaMu.Lock()
	defer schemaMu.Unlock()
	check := func(name, pointer string, contents map[string]media) {
		for mediaType, m := range contents {
			at := pointer + "/content/" + strings.ReplaceAll(mediaType, "/", "~1") + "/schema"
			values := []any{}
			if m.Example != nil {
				values = append(values, m.Example)
			}
			for _, e := range m.Examples {
				values = append(values, e.Value)
			}
			if len(values) == 0 { // compile the schema all the same
				err := doc.validate(at, nil)
				var invalid *jsonschema.ValidationError
				if err != nil {
					assert.ErrorAs(t, err, &invalid, name)
				}
				continue
			}
			for _, v := range values {
				assert.NoError(t, doc.validate(at, v), name)
			}
		}
	}
	for name, op := range doc.operations {
		if op.RequestBody != nil {
			check(name, op.pointer+"/requestBody", op.RequestBody.Content)
		}
		require.NotEmpty(t, op.Responses, name)
		for status := range op.Responses {
			n, _ := strconv.Atoi(status) // 0 for default
			r := doc.response(op, n)
			require.NotNil(t, r)
			check(name, r.pointer, r.Content)
		}
	}
}
