package repo_test

import (
	"go/ast"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// step is a function in the diagram of the request path, such as authz.Authorizer.Authorize:
// the last part of the package's path, perhaps a type, and a name.
var step = regexp.MustCompile(`\b([a-z]+)\.((?:\w+\.)?\w+)\b`)

// TestRequestPath holds that the diagram of the request path in docs/architecture.md names
// functions that exist.
func TestRequestPath(t *testing.T) {
	packages := map[string]string{
		"gateway": "server/gateway", "extauthz": "server/extauthz", "forwardauth": "server/forwardauth", "rest": "server/rest",
		"route": "server/route", "authz": "server/authz", "store": "models/store", "engine": "policies/engine", "models": "models", "decisionlog": "server/decisionlog",
	}
	declared := map[string]bool{}
	for name, dir := range packages {
		for _, f := range filesOf(t, dir) {
			for _, d := range f.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok {
					continue
				}
				of := name
				if fn.Recv != nil {
					at := fn.Recv.List[0].Type
					if star, ok := at.(*ast.StarExpr); ok {
						at = star.X
					}
					if id, ok := at.(*ast.Ident); ok {
						of += "." + id.Name
					}
				}
				declared[of+"."+fn.Name.Name] = true
			}
		}
	}
	_, rest, ok := strings.Cut(read(t, "docs/architecture.md"), "```text\n")
	require.True(t, ok, "the diagram is gone")
	diagram, _, ok := strings.Cut(rest, "```")
	require.True(t, ok)
	found := step.FindAllStringSubmatch(diagram, -1)
	require.GreaterOrEqual(t, len(found), 10, "functions in the diagram")
	for _, m := range found {
		require.Contains(t, packages, m[1], m[0])
		assert.True(t, declared[m[0]], "the diagram names %s, which does not exist", m[0])
	}
}
