package repo_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
)

// The rooms of the server, by height. A room imports only those that are lower.
var heights = map[string]int{
	"server/request": 1, "server/window": 1, "server/ui": 2, "server/manage": 2, "server/endpoint": 3, "server/identity": 3,
	"server/rest": 4, "server/pages": 4, "server": 5,
}

// maxServerFiles bounds package server, which wires the rooms and has no rules.
const maxServerFiles = 15

// TestRooms holds that no room of the server imports upward, and that package server stays
// small.
func TestRooms(t *testing.T) {
	for room, height := range heights {
		for _, f := range filesOf(t, room) {
			for _, i := range f.Imports {
				path, err := strconv.Unquote(i.Path.Value)
				require.NoError(t, err)
				other, ours := strings.CutPrefix(path, "patrol/")
				if at, isRoom := heights[other]; ours && isRoom {
					assert.Less(t, at, height, "%s imports %s", room, other)
				}
			}
		}
	}
	assert.LessOrEqual(t, len(filesOf(t, "server")), maxServerFiles, "files of package server")
}

// acts can be done by programs and by people.
var acts = []string{
	"manage.CreatePAT", "manage.RotatePAT", "manage.UpdatePAT", "manage.DeletePAT", "manage.AddScope", "manage.RemoveScope", "manage.NarrowPAT",
	"manage.RevokeFor", "manage.RevokeAll", "manage.RevokeWithin", "manage.ApprovePAT", "manage.WithdrawApproval", "manage.PurgePATs", "manage.PurgeAnyPATs",
	"manage.CreateUser", "manage.UpdateUser", "manage.CreateDomain", "manage.UpdateDomain", "manage.SetLimits", "manage.SetMember", "manage.RemoveMember",
	"manage.RollBackPolicy", "manage.ResumePolicy", "manage.PromotePolicy", "manage.TryPolicy",
	"identity.SignIn", "identity.SignOut", "identity.Reauthenticate", "identity.NewReset", "identity.ResetPassword", "identity.CreateFirstAdmin",
}

// TestOneMethodPerAct holds that the JSON handler and the page of an act call the same
// method.
func TestOneMethodPerAct(t *testing.T) {
	for _, surface := range []string{"server/rest", "server/pages"} {
		called := map[string]bool{}
		for _, f := range filesOf(t, surface) {
			eachCall(f, func(chain []string) {
				if len(chain) == 3 { // s.manage.CreatePAT
					called[strings.Join(chain[1:], ".")] = true
				}
			})
		}
		for _, act := range acts {
			assert.True(t, called[act], "%s does not call %s", surface, act)
		}
	}
}

// writes are the methods of the store that write users, domains, members and tokens.
var writes = []string{
	"CreateUser", "UpdateUser", "CreateUserWithIdentity", "CreateFirstAdmin", "CreateDomain", "UpdateDomain", "SetMember", "RemoveMember",
	"CreatePAT", "RotatePAT", "UpdatePAT", "DeletePAT", "RevokePAT", "RevokeFor", "RevokeWithin", "RevokeAwaited", "RevokeAll",
	"AddScope", "RemoveScope", "NarrowPAT", "PurgePATs", "ApprovePAT", "WithdrawApproval",
}

// TestOneWriter holds that manage alone writes users, domains, members and tokens. Identity
// writes credentials by methods of their own.
func TestOneWriter(t *testing.T) {
	found := map[string][]string{}
	for room := range heights {
		for _, f := range filesOf(t, room) {
			eachCall(f, func(chain []string) {
				if n := len(chain); n >= 2 && chain[n-2] == "store" {
					found[room] = append(found[room], chain[n-1])
				}
			})
		}
	}
	assert.Subset(t, found["server/manage"], []string{"CreatePAT", "SetMember", "CreateUser"}, "the calls are not found as they are written today")
	for room, calls := range found {
		for _, call := range calls {
			if room == "server/manage" {
				continue
			}
			assert.NotContains(t, writes, call, "%s writes with the store's %s", room, call)
		}
	}
}

// filesOf parses the files of a package that are no tests.
func filesOf(t *testing.T, dir string) (files []*ast.File) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	require.NoError(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, f)
	}
	require.NotEmpty(t, files, dir)
	return files
}

// eachCall visits the calls in a file whose function is a chain of names, such as
// s.manage.CreatePAT.
func eachCall(f *ast.File, visit func(chain []string)) {
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		var chain []string
		at := call.Fun
		for {
			sel, ok := at.(*ast.SelectorExpr)
			if !ok {
				break
			}
			chain, at = append([]string{sel.Sel.Name}, chain...), sel.X
		}
		if id, ok := at.(*ast.Ident); ok {
			visit(append([]string{id.Name}, chain...))
		}
		return true
	})
}

// violations are imports that the linter must refuse, by package.
var violations = map[string][]string{
	"models":          {"github.com/gin-gonic/gin", "patrol/models/store"},
	"models/store":    {"github.com/gin-gonic/gin", "patrol/server", "patrol/api"},
	"policies/engine": {"patrol/models/store", "patrol/server", "patrol/bundles", "github.com/gin-gonic/gin", "patrol/policies/engine/workbench"},
	"bundles":         {"patrol/models", "patrol/server"},
	"server":          {"github.com/open-policy-agent/opa", "github.com/envoyproxy/envoy", "gorm.io/gorm"},
	"server/manage":   {"github.com/gin-gonic/gin", "net/http", "patrol/server/ui", "patrol/server/rest", "patrol/server/pages", "patrol/server/identity", "patrol/server"},
	"server/identity": {"github.com/gin-gonic/gin", "patrol/server/ui", "patrol/server/rest", "patrol/server/pages", "patrol/server"},
	"server/rest":     {"patrol/models/store", "patrol/server/ui", "patrol/server/pages", "patrol/server"},
	"server/pages":    {"patrol/models/store", "patrol/server/rest", "patrol/server"},
	"server/ui":       {"patrol/models/store", "patrol/server/manage", "patrol/server/identity", "patrol/server/pages", "github.com/gin-gonic/gin"},
	"server/endpoint": {"patrol/models/store", "patrol/server/rest", "patrol/server/pages", "patrol/server/identity"},
	"server/request":  {"github.com/gin-gonic/gin", "patrol/models/store", "patrol/server/manage", "patrol/server/identity"},
	"server/window":   {"github.com/gin-gonic/gin"},
	"server/authz":    {"github.com/gin-gonic/gin", "patrol/models/store", "patrol/server", "patrol/policies/engine/workbench"},
	"server/gateway":  {"github.com/gin-gonic/gin", "patrol/models/store", "patrol/server", "patrol/policies/engine/workbench"},
	"server/check":    {"github.com/gin-gonic/gin", "patrol/models/store", "patrol/policies/engine/workbench"},
	"server/deadline": {"github.com/gin-gonic/gin"},
	"server/drain":    {"github.com/gin-gonic/gin"},
	"internal/secret": {"patrol/models"},
	"api":             {"patrol/server", "patrol/models/store", "github.com/gin-gonic/gin"},

	"policies/engine/workbench": {"patrol/models/store", "patrol/server", "patrol/bundles"},
	"policies/engine/plan":      {"patrol/policies/engine/workbench"},
	"internal/metapolicies":     {"patrol/models", "github.com/open-policy-agent/opa"},
}

// TestLintHoldsTheRooms makes a module with a deliberate violation of each line of the import
// table and requires the linter to report all of them, with reasons.
func TestLintHoldsTheRooms(t *testing.T) {
	linter, err := filepath.Abs(filepath.Join(root, "bin", "golangci-lint"))
	require.NoError(t, err)
	if _, err := os.Stat(linter); err != nil {
		testenv.Missing(t, "golangci-lint", "make lint builds it into bin")
	}
	settings, err := os.ReadFile(filepath.Join(root, ".golangci.yaml"))
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name, text string) {
		name = filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	}
	write(".golangci.yaml", string(settings))
	module := "module patrol\n\ngo 1.26\n"
	for _, name := range []string{"github.com/gin-gonic/gin", "github.com/open-policy-agent/opa", "github.com/envoyproxy/envoy", "gorm.io/gorm"} {
		stub := filepath.ToSlash(filepath.Join(t.TempDir(), "stub"))
		require.NoError(t, os.MkdirAll(stub, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(stub, "go.mod"), []byte("module "+name+"\n"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(stub, "stub.go"), []byte("package stub\n"), 0o600))
		module += fmt.Sprintf("\nrequire %s v0.0.0\n\nreplace %s => %s\n", name, name, stub)
	}
	write("go.mod", module)
	for from, imports := range violations {
		write(from+"/doc.go", "package "+filepath.Base(from)+"\n")
		for _, path := range imports {
			if own, ours := strings.CutPrefix(path, "patrol/"); ours {
				write(own+"/doc.go", "package "+filepath.Base(own)+"\n")
			}
		}
	}
	for from, imports := range violations { // one at a time: together they would import in circles
		for i, path := range imports {
			write(fmt.Sprintf("%s/violation%d.go", from, i), fmt.Sprintf("package %s\n\nimport _ %q\n", filepath.Base(from), path))
		}
		cmd := exec.CommandContext(t.Context(), linter, "run", "--allow-parallel-runners", "--enable-only", "depguard", "--output.text.print-issued-lines=false", "./"+from)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOPROXY=off", "GOWORK=off", "GOLANGCI_LINT_CACHE="+filepath.Join(dir, ".cache"))
		out, _ := cmd.CombinedOutput() // it fails: that is what is wanted
		for i, path := range imports {
			name, found := fmt.Sprintf("%s/violation%d.go", from, i), false
			for line := range strings.SplitSeq(string(out), "\n") {
				found = found || strings.HasPrefix(line, name+":") && strings.Contains(line, "import '"+path+"' is not allowed")
			}
			assert.True(t, found, "the linter lets %s import %s: %s", from, path, out)
			require.NoError(t, os.Remove(filepath.Join(dir, name)))
		}
	}
}
