package engine_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies/engine"
)

func TestLoadDefault(t *testing.T) {
	s := load(t, nil)
	assert.Regexp(t, `^sha256:[0-9a-f]{32}$`, s.Revision())
	c := s.Catalog()
	assert.Equal(t, "Models", c.EntityTypes["models"].Title)
	assert.Equal(t, "List and inspect", c.EntityTypes["models"].Operations["read"].Title)
	assert.Len(t, c.EntityTypes, 4)
	assert.True(t, c.Roles["admin"].AdministersDomain())
	assert.False(t, c.Roles["member"].AdministersDomain())
	for name, role := range c.Roles {
		assert.True(t, role.Permits("models", "read"), name)
		assert.False(t, role.Permits("models", "write"), "%s: that is for platform admins", name)
	}
}

func TestRevision(t *testing.T) {
	base := load(t, nil).Revision()
	for name, c := range map[string]struct {
		replaced map[string]string
		same     bool
	}{
		"the same files":     {nil, true},
		"tests do not count": {map[string]string{"authz/authz_test.rego": "package patrol.authz_test"}, true},
		"nor do notes":       {map[string]string{"README.md": "Hello."}, true},
		"another file":       {map[string]string{"extra/extra.rego": "package patrol.extra"}, false},
		"other data":         {map[string]string{"patrol/routes/data.yaml": "{}"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.same, load(t, c.replaced).Revision() == base)
		})
	}
	s := load(t, map[string]string{".manifest": `{"roots": ["patrol"], "revision": "2026-11-23.1"}`})
	assert.Equal(t, "2026-11-23.1", s.Revision(), "the manifest's word counts")
}

func TestLoadRefuses(t *testing.T) {
	const (
		authz   = "package patrol.authz\n\n"
		deny    = authz + `decision := {"allow": false, "reasons": [{"code": "no", "message": "No."}]}` + "\n"
		catalog = "entity_types: {models: {title: M, operations: {read: {title: R}}}}"
	)
	for name, c := range map[string]struct {
		replaced map[string]string
		want     []string
	}{
		"no manifest":            {map[string]string{".manifest": ""}, []string{".manifest: the bundle has none"}},
		"a broken manifest":      {map[string]string{".manifest": "{"}, []string{".manifest: unexpected EOF"}},
		"a foreign root":         {map[string]string{".manifest": `{"roots": ["patrol", "system"]}`}, []string{`roots must be ["patrol"]`}},
		"all roots":              {map[string]string{".manifest": `{}`}, []string{`roots must be ["patrol"]`}},
		"WebAssembly":            {map[string]string{".manifest": `{"roots": ["patrol"], "wasm": [{}]}`}, []string{"wasm"}},
		"old Rego":               {map[string]string{".manifest": `{"roots": ["patrol"], "rego_version": 0}`}, []string{"rego_version must be 1"}},
		"a revision in lines":    {map[string]string{".manifest": `{"roots": ["patrol"], "revision": "a\nb"}`}, []string{"printable"}},
		"compiled policy":        {map[string]string{"policy.wasm": "x"}, []string{"policy.wasm", "not supported"}},
		"a delta":                {map[string]string{"patch.json": "{}"}, []string{"patch.json", "not supported"}},
		"a syntax error":         {map[string]string{"x/x.rego": "package patrol.x\n\np if {"}, []string{"x/x.rego:3", "rego_parse_error"}},
		"old syntax":             {map[string]string{"x/x.rego": "package patrol.x\n\np { true }"}, []string{"x/x.rego:3"}},
		"a foreign package":      {map[string]string{"x/x.rego": "package system.log\n\np := 1"}, []string{"x/x.rego:1", "outside of patrol"}},
		"foreign data":           {map[string]string{"system/data.json": `{"a": 1}`}, []string{"system/data.json: data.system is outside of patrol"}},
		"foreign data on top":    {map[string]string{"data.json": `{"system": {}}`}, []string{"data.json: data.system is outside of patrol"}},
		"data that is no object": {map[string]string{"data.json": `[]`}, []string{"data.json: must be an object"}},
		"broken JSON":            {map[string]string{"patrol/x/data.json": `{`}, []string{"patrol/x/data.json"}},
		"broken YAML":            {map[string]string{"patrol/x/data.yaml": "a: 1\nb: [\n"}, []string{"patrol/x/data.yaml", "line"}},
		"a key twice":            {map[string]string{"patrol/roles/data.yaml": "viewer: {}\nviewer: {}\n"}, []string{"patrol/roles/data.yaml", `"viewer" already set`}},
		"data twice":             {map[string]string{"patrol/data.json": `{"roles": {"viewer": {"models": {"read": true}}}}`}, []string{"data.patrol.roles.viewer.models.read is already defined"}},
		"all that is wrong":      {map[string]string{"x/x.rego": "package x", "y/y.rego": "package y"}, []string{"x/x.rego", "y/y.rego"}},
		"data over rules":        {map[string]string{"patrol/authz/data.json": `{"decision": {"allow": true, "reasons": []}}`}, []string{"authz/authz.rego", "conflicting"}},
		"a misspelt fact":        {map[string]string{"x/x.rego": "# METADATA\n# schemas:\n#   - input: schema.authz_input\npackage patrol.x\n\np if input.domian.id == \"x\""}, []string{"x/x.rego:6", "undefined ref: input.domian.id"}},
		"an unused variable":     {map[string]string{"x/x.rego": "package patrol.x\n\np if {\n\ty := 1\n\ttrue\n}"}, []string{"x/x.rego:4", "assigned var y unused"}},
		"recursion":              {map[string]string{"x/x.rego": "package patrol.x\n\np if q\n\nq if p"}, []string{"recursive"}},
		"no decision":            {map[string]string{"authz/authz.rego": authz}, []string{"defines no data.patrol.authz.decision"}},
		"no routes":              {map[string]string{"http/http.rego": "package patrol.http"}, []string{"defines no data.patrol.http.request"}},
		"allows everybody":       {map[string]string{"authz/authz.rego": authz + `decision := {"allow": true, "reasons": []}`}, []string{"allows a request about which nothing is known"}},
		"sometimes undefined":    {map[string]string{"authz/authz.rego": authz + `decision := {"allow": true, "reasons": []} if input.user.admin`}, []string{"does not deny", "undefined"}},
		"a malformed decision":   {map[string]string{"authz/authz.rego": authz + `decision := false`}, []string{"does not deny", "malformed"}},
		"no catalog":             {map[string]string{"patrol/catalog/data.yaml": ""}, []string{"data.patrol.catalog is missing"}},
		"no operations":          {map[string]string{"patrol/catalog/data.yaml": "entity_types: {models: {title: M}}"}, []string{"data.patrol.catalog: entity_types.models", "operations is required"}},
		"a misspelt key":         {map[string]string{"patrol/catalog/data.yaml": "entity_types: {models: {titel: M, title: M, operations: {read: {title: R}}}}"}, []string{"titel is not allowed"}},
		"a role that is a list":  {map[string]string{"patrol/roles/data.yaml": "viewer: [models]"}, []string{"data.patrol.roles: viewer"}},
		"false is no grant":      {map[string]string{"patrol/roles/data.yaml": "viewer: {models: {read: false}}"}, []string{"data.patrol.roles: viewer.models.read"}},
		"roles of nothing":       {map[string]string{"patrol/catalog/data.yaml": catalog}, []string{"data.patrol.roles.admin: the catalog has no read on datasets", `data.patrol.routes["POST /api/chat"]: the catalog has no execute on models`}},
		"roles that are none":    {map[string]string{"patrol/roles/data.yaml": "null"}, []string{"data.patrol.roles: must be an object"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := engine.Load(t.Context(), bundle(t, c.replaced))
			require.Error(t, err)
			assert.Nil(t, s)
			assert.ErrorContains(t, err, "policy test: ")
			for _, want := range c.want {
				assert.ErrorContains(t, err, want)
			}
		})
	}
	_, err := engine.Load(t.Context(), bundle(t, map[string]string{"authz/authz.rego": deny}))
	require.NoError(t, err, "as little as this is a policy")
	_, err = engine.Load(t.Context(), bundle(t, nil), engine.WithTimeout(0))
	assert.ErrorContains(t, err, "timeout must be positive")
}

func TestLoadRefusesRoutes(t *testing.T) {
	const rest = `: {entity_type: models, operation: read}`
	for entry, want := range map[string]string{
		`"GET models"` + rest:                             "GET models",
		`"get /models"` + rest:                            "get /models",
		`"HEAD /models"` + rest:                           "HEAD /models",
		`"/models"` + rest:                                "/models",
		`"GET  /models"` + rest:                           "GET  /models",
		`"GET /models/"` + rest:                           "GET /models/",
		`"GET //models"` + rest:                           "GET //models",
		`"GET /*"` + rest:                                 "GET /*",
		`"GET /**"` + rest:                                "GET /**",
		`"GET /a/**/b"` + rest:                            "GET /a/**/b",
		`"GET /a/b*"` + rest:                              "GET /a/b*",
		`"GET /a": {entity_type: models}`:                 "operation is required",
		`"GET /a": {entity_type: models, operation: fly}`: `data.patrol.routes["GET /a"]: the catalog has no fly on models`,
		`"GET /a": {entity_type: models, operation: read, entity: {path: 1}}`:             `entity is from star 1 of the path, which has 0`,
		`"GET /a/*": {entity_type: models, operation: read, entity: {path: 2}}`:           `entity is from star 2 of the path, which has 1`,
		`"GET /a/*": {entity_type: models, operation: read, entity: {path: 0}}`:           "GET /a/*.entity",
		`"GET /a": {entity_type: models, operation: read, entity: {json: []}}`:            "GET /a.entity",
		`"GET /a": {entity_type: models, operation: read, entity: {xml: [a]}}`:            "GET /a.entity",
		`"GET /a": {entity_type: models, operation: read, entity: {json: [a], query: b}}`: "GET /a.entity",
		`"GET /a": {entity_type: models, operation: read, entity: "a b"}`:                 "GET /a.entity",
		`"GET /a": {entity_type: models, operation: read, websocket: "yes"}`:              "websocket",
		`"GET /a": {entity_type: models, operation: read, body: json}`:                    "body is not allowed",
	} {
		t.Run(entry, func(t *testing.T) {
			_, err := engine.Load(t.Context(), bundle(t, map[string]string{"patrol/routes/data.yaml": entry}))
			require.Error(t, err)
			assert.ErrorContains(t, err, "data.patrol.routes")
			assert.ErrorContains(t, err, want)
		})
	}
}

// TestPoliciesCannotReachOut holds that what is not a function of input and policy
// does not compile.
func TestPoliciesCannotReachOut(t *testing.T) {
	for _, call := range []string{
		`http.send({"method": "GET", "url": "http://127.0.0.1/"})`, `net.lookup_ip_addr("localhost")`, `opa.runtime()`,
		`rego.parse_module("x", "package x")`, `time.now_ns()`, `rand.intn("x", 9)`, `uuid.rfc4122("x")`,
		`json.match_schema({}, {})`, `json.verify_schema({})`, `io.jwt.decode_verify("", {})`,
		`io.jwt.encode_sign({}, {}, {})`, `io.jwt.encode_sign_raw("", "", "")`,
		`crypto.x509.parse_and_verify_certificates("")`, `providers.aws.sign_req({}, {}, 0)`,
	} {
		t.Run(call, func(t *testing.T) {
			_, err := engine.Load(t.Context(), bundle(t, map[string]string{"x/x.rego": "package patrol.x\n\np := " + call}))
			require.ErrorContains(t, err, "x/x.rego:3")
			assert.ErrorContains(t, err, "undefined function")
		})
	}
}

func TestBundleCapabilitiesOnlyNarrow(t *testing.T) {
	module := map[string]string{"x/x.rego": "package patrol.x\n\np := upper(\"a\")"}
	load(t, module)

	without := engine.Capabilities()
	kept := without.Builtins[:0]
	for _, b := range without.Builtins {
		if b.Name != "upper" {
			kept = append(kept, b)
		}
	}
	without.Builtins = kept
	narrowed, err := engine.FormatCapabilities(without)
	require.NoError(t, err)
	module["capabilities.json"] = string(narrowed)
	_, err = engine.Load(t.Context(), bundle(t, module))
	require.ErrorContains(t, err, "undefined function upper")

	module["capabilities.json"] = `{"builtins": [{"name": "http.send"}]}`
	_, err = engine.Load(t.Context(), bundle(t, module))
	require.ErrorContains(t, err, "capabilities.json: http.send is not available to policies here")

	module["capabilities.json"] = `[`
	_, err = engine.Load(t.Context(), bundle(t, module))
	require.ErrorContains(t, err, "capabilities.json: ")
}

func TestOnce(t *testing.T) {
	const meta = "# METADATA\n# custom:\n#   once: true\n"
	for name, c := range map[string]struct{ module, want string }{
		"input":           {meta + "p := input.x", "depends on input"},
		"input, afar":     {meta + "p := q\n\nq := r\n\nr if not input.x", "depends on input"},
		"a function":      {meta + "p(x) := x", "not for functions"},
		"undefined":       {meta + "p if 1 == 2", "undefined"},
		"a whole package": {"", "for single rules"},
		"data alone":      {meta + "p := data.patrol.roles", ""},
		"data, by a set":  {meta + "p contains x if some x, _ in data.patrol.roles", ""},
	} {
		t.Run(name, func(t *testing.T) {
			module := "package patrol.x\n\n" + c.module
			if c.module == "" {
				module = "# METADATA\n# custom:\n#   once: true\n" + module
			}
			_, err := engine.Load(t.Context(), bundle(t, map[string]string{"x/x.rego": module}))
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
			assert.ErrorContains(t, err, "x/x.rego:")
		})
	}
}

func TestSwap(t *testing.T) {
	first, second := load(t, nil), load(t, map[string]string{".manifest": `{"roots": ["patrol"], "revision": "two"}`})
	e := engine.New(first)
	assert.Same(t, first, e.Current())
	calls := 0
	e.OnSwap(func() {
		calls++
		assert.Same(t, second, e.Current(), "the new one is in force when told")
	})
	assert.Same(t, first, e.Swap(second))
	assert.Equal(t, 1, calls)
	d, err := e.Current().Decide(t.Context(), readModel, facts(), now)
	require.NoError(t, err)
	assert.Equal(t, models.Decision{Allowed: true, ScopeID: "scope-1", Revision: "two"}, d)
}
