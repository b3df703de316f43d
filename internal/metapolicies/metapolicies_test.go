package metapolicies_test

import (
	"os"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/metapolicies"
)

// TestRego runs the tests beside the rules, and holds them to covering every line.
func TestRego(t *testing.T) {
	tests, err := os.ReadFile("metapolicies_test.rego")
	require.NoError(t, err)
	modules := map[string]*ast.Module{}
	for name, content := range map[string]string{"metapolicies.rego": metapolicies.Module, "metapolicies_test.rego": string(tests)} {
		modules[name], err = ast.ParseModuleWithOpts(name, content, ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
		require.NoError(t, err)
		formatted, err := format.SourceWithOpts(name, []byte(content), format.Opts{RegoVersion: ast.RegoV1})
		require.NoError(t, err)
		assert.Equal(t, string(formatted), content, "run: opa fmt -w metapolicies")
	}
	strict := ast.NewCompiler().WithStrict(true)
	strict.Compile(modules)
	require.Empty(t, strict.Errors)

	coverage := cover.New()
	results, err := tester.NewRunner().SetCoverageQueryTracer(coverage).SetCoverageRuns(nil).SetModules(modules).RunTests(t.Context(), nil)
	require.NoError(t, err)
	ran := 0
	for r := range results {
		ran++
		assert.True(t, r.Pass(), "%s: %v\n%s", r.Name, r.Error, r.SubResults)
	}
	assert.Positive(t, ran)
	assert.Empty(t, coverage.Report(modules).Files["metapolicies.rego"].NotCovered, "lines that no test runs")
}
