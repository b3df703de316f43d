package policies_test

import (
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies"
	"patrol/policies/engine"
)

var update = flag.Bool("update", false, "write the files that are made from code")

// modules returns the names of the folder's Rego files.
func modules(t *testing.T) (names []string) {
	t.Helper()
	require.NoError(t, fs.WalkDir(policies.FS, ".", func(p string, _ fs.DirEntry, err error) error {
		if path.Ext(p) == ".rego" {
			names = append(names, p)
		}
		return err
	}))
	require.NotEmpty(t, names)
	return names
}

// readBundle reads the folder as `opa -b` does.
func readBundle(t *testing.T) bundle.Bundle {
	t.Helper()
	loader, err := bundle.NewFSLoader(policies.FS)
	require.NoError(t, err)
	b, err := bundle.NewCustomReader(loader).WithProcessAnnotations(true).WithRegoVersion(ast.RegoV1).Read()
	require.NoError(t, err)
	return b
}

func parsed(t *testing.T) map[string]*ast.Module {
	t.Helper()
	byPath := map[string]*ast.Module{}
	for _, m := range readBundle(t).Modules {
		byPath[strings.TrimPrefix(m.Path, "/")] = m.Parsed
	}
	return byPath
}

// compiler is as strict as the engine's.
func compiler(t *testing.T) *ast.Compiler {
	t.Helper()
	capabilities, err := ast.LoadCapabilitiesJSON(strings.NewReader(string(policies.Capabilities)))
	require.NoError(t, err)
	schemas := ast.NewSchemaSet()
	files, err := fs.Glob(policies.FS, "schemas/*.json")
	require.NoError(t, err)
	for _, file := range files {
		content, err := policies.FS.ReadFile(file)
		require.NoError(t, err)
		var schema any
		require.NoError(t, json.Unmarshal(content, &schema))
		name := strings.TrimSuffix(path.Base(file), ".json")
		schemas.Put(ast.SchemaRootRef.Append(ast.StringTerm(name)), schema)
	}
	return ast.NewCompiler().WithCapabilities(capabilities).WithStrict(true).
		WithSchemas(schemas).WithUseTypeCheckAnnotations(true).WithDefaultRegoVersion(ast.RegoV1)
}

func TestStrict(t *testing.T) {
	c := compiler(t)
	c.Compile(parsed(t))
	assert.Empty(t, c.Errors)
}

func TestFormatted(t *testing.T) {
	for _, name := range modules(t) {
		content, err := policies.FS.ReadFile(name)
		require.NoError(t, err)
		want, err := format.SourceWithOpts(name, content, format.Opts{RegoVersion: ast.RegoV1})
		require.NoError(t, err)
		assert.Equal(t, string(want), string(content), "run: opa fmt -w policies/%s", name)
	}
}

// TestRego runs the tests beside the rules, and holds them to covering every line.
func TestRego(t *testing.T) {
	b := readBundle(t)
	store := inmem.NewFromObject(b.Data)
	all := parsed(t)
	coverage := cover.New()
	ran := 0
	require.NoError(t, storage.Txn(t.Context(), store, storage.TransactionParams{}, func(txn storage.Transaction) error {
		results, err := tester.NewRunner().
			SetCompiler(ast.NewCompiler().WithEnablePrintStatements(true)).
			SetStore(store).
			SetModules(all).
			SetTimeout(2*time.Minute).
			SetCoverageQueryTracer(coverage).
			SetCoverageRuns(nil).
			RunTests(t.Context(), txn)
		if err != nil {
			return err
		}
		for r := range results {
			ran++
			assert.True(t, r.Pass(), "%s.%s at %s: %v\n%s", r.Package, r.Name, r.Location, r.Error, failures(r.SubResults))
		}
		return nil
	}))
	assert.Positive(t, ran)
	for name, file := range coverage.Report(all).Files {
		assert.Empty(t, file.NotCovered, "%s: lines that no test runs", name)
	}
	assert.InDelta(t, 100, coverage.Report(all).Coverage, 0)
}

func failures(sub tester.SubResultMap) string {
	var out strings.Builder
	for name, r := range sub {
		if r.Fail {
			out.WriteString(name + "\n")
		}
	}
	return out.String()
}

func TestEveryRuleHasMetadata(t *testing.T) {
	codes := map[string]string{}
	for name, m := range parsed(t) {
		if strings.HasSuffix(name, "_test.rego") {
			continue
		}
		described := map[string]bool{}
		for _, a := range m.Annotations {
			if a.Scope == "package" {
				continue
			}
			assert.NotEmpty(t, a.Title, "%s: %s has no title", name, a.Location)
			described[a.GetTargetPath().String()] = true
			if code, ok := a.Custom["code"].(string); ok {
				message, _ := a.Custom["message"].(string)
				assert.NotContains(t, codes, code, "%s: two rules for one code", name)
				assert.Len(t, a.Custom, 2, "%s: a reason is a code and a message", code)
				codes[code] = message
			}
		}
		for _, rule := range m.Rules {
			assert.True(t, described[rule.Ref().GroundPrefix().String()], "%s: %s has no metadata", rule.Location, rule.Head.Ref())
		}
	}
	want := []models.ReasonCode{
		models.TokenRevoked, models.TokenExpired, models.UserDisabled,
		models.DomainUnknown, models.DomainDisabled, models.DomainFrozen,
		models.NotAMember, models.RoleForbids, models.OutOfScope, models.UnknownOperation,
		models.LifetimeExceeded, models.WildcardForbidden, models.ApprovalRequired, models.Withdrawn, models.IPForbidden,
	}
	for code, message := range codes {
		assert.Contains(t, want, models.ReasonCode(code))
		assert.True(t, len(message) > 20 && strings.HasSuffix(message, "."), "%s: %q is no sentence", code, message)
	}
	assert.Len(t, codes, len(want))
}

// TestMisspelledInputDoesNotCompile shows that the schemas bite.
func TestMisspelledInputDoesNotCompile(t *testing.T) {
	for file, misspellings := range map[string]map[string]string{
		"authz/authz.rego": {
			"input.domain.status":   "input.domian.status",
			"input.token.revoked":   "input.token.revoke",
			"input.membership.role": "input.membership.roles",
			"catalog.entity_types":  "catalog.types",
		},
		"http/http.rego": {"input.http.segments": "input.http.segment", "input.http.query[": "input.http.queries["},
	} {
		for right, wrong := range misspellings {
			t.Run(wrong, func(t *testing.T) {
				all := parsed(t)
				content, err := policies.FS.ReadFile(file)
				require.NoError(t, err)
				require.Contains(t, string(content), right)
				all[file], err = ast.ParseModuleWithOpts(file, strings.Replace(string(content), right, wrong, 1),
					ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
				require.NoError(t, err)
				c := compiler(t)
				c.Compile(all)
				require.True(t, c.Failed())
				assert.ErrorContains(t, c.Errors, "undefined ref")
			})
		}
	}
}

// TestCapabilities holds the file against the version of OPA that is compiled in.
// After an upgrade: go test ./policies -run TestCapabilities -update
func TestCapabilities(t *testing.T) {
	want, err := engine.FormatCapabilities(engine.Capabilities())
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.WriteFile("capabilities.json", want, 0o600))
		return
	}
	require.Equal(t, string(want), string(policies.Capabilities), "OPA has changed; look at what is new, then run with -update")

	c, err := ast.LoadCapabilitiesJSON(strings.NewReader(string(policies.Capabilities)))
	require.NoError(t, err)
	assert.NotNil(t, c.AllowNet, "a missing allow_net would allow every host")
	assert.Empty(t, c.AllowNet)
	for _, name := range []string{
		"http.send", "net.lookup_ip_addr", "opa.runtime", "rego.parse_module", "time.now_ns", "rand.intn", "uuid.rfc4122",
		"json.match_schema", "json.verify_schema", "io.jwt.decode_verify", "io.jwt.encode_sign", "io.jwt.encode_sign_raw",
		"crypto.x509.parse_and_verify_certificates", "crypto.x509.parse_and_verify_certificates_with_options",
	} {
		assert.False(t, c.ContainsBuiltin(name), name)
	}
	for _, b := range ast.CapabilitiesForThisVersion().Builtins {
		assert.False(t, b.IsNondeterministic() && c.ContainsBuiltin(b.Name), b.Name)
	}
	assert.True(t, slices.IsSortedFunc(c.Builtins, func(a, b *ast.Builtin) int { return strings.Compare(a.Name, b.Name) }))
}

// The tests of the folder name every default route, so that one which is added here
// gets a test. A team that adds a route of its own need not.
func TestEveryDefaultRouteIsTested(t *testing.T) {
	b := readBundle(t)
	rs, err := rego.New(
		rego.Query("[object.keys(data.patrol.routes), data.patrol.http_test.defaults]"),
		rego.ParsedBundle("policies", &b), rego.SetRegoVersion(ast.RegoV1),
	).Eval(t.Context())
	require.NoError(t, err)
	require.Len(t, rs, 1)
	both, ok := rs[0].Expressions[0].Value.([]any)
	require.True(t, ok)
	assert.ElementsMatch(t, both[0], both[1])
}
