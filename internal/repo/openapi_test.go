//go:build unix

package repo_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"patrol/internal/testenv"
	"patrol/models"
)

// openapiTools is the component that checks the OpenAPI document and makes clients of it.
const openapiTools = "openapi-tools"

// TestOpenAPIDocumentHasNoFindings: three checkers find nothing, neither errors nor
// warnings nor hints. Their configurations say what is left out, and why.
func TestOpenAPIDocumentHasNoFindings(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		testenv.Missing(t, openapiTools, "no node in PATH")
	}
	node := testenv.NodePackages(t, openapiTools, "@redocly/cli@2.77.0", "@stoplight/spectral-cli@6.16.3")
	python := testenv.PythonPackages(t, openapiTools, "openapi-spec-validator==0.9.0")
	check := func(program string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Dir = filepath.Join(root, "api")
		cmd.Env = append(os.Environ(), "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true", "NO_COLOR=1")
		var complaints strings.Builder
		cmd.Stderr = &complaints
		out, err := cmd.Output()
		assert.NoError(t, err, "%s\n%s", out, complaints.String())
		return string(out)
	}
	bin := filepath.Join(node, "node_modules", ".bin")
	check(python, "-m", "openapi_spec_validator", "--schema", "3.1", "--validation-errors", "all", "openapi.yaml")
	check(filepath.Join(bin, "spectral"), "lint", "--ruleset", "spectral.yaml", "--fail-severity", "hint", "openapi.yaml")

	var found struct {
		Totals   map[string]int
		Problems []struct{ RuleID, Message, Severity string }
	}
	out := check(filepath.Join(bin, "redocly"), "lint", "--config", "redocly.yaml", "--format", "json", "openapi.yaml")
	require.NoError(t, json.Unmarshal([]byte(out), &found), out)
	assert.Contains(t, found.Totals, "errors")
	assert.Empty(t, found.Problems)
}

// TestGeneratedClients makes clients as docs/api.md says, and runs the programs that are
// shown there against a server.
func TestGeneratedClients(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		testenv.Missing(t, openapiTools, "no node in PATH")
	}
	_, section, found := strings.Cut(read(t, "docs/api.md"), "## Generate a client\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	all := blocks(section)

	s := newSession(t)
	t.Cleanup(func() { s.onEnd(t, func() {}) })
	s.run(t, block{code: `
		make build
		export EMAIL=ada@example.com PASSWORD='correct horse battery staple'
		echo "$PASSWORD" | bin/patrol user create "$EMAIL" --admin --password-stdin
		bin/patrol domain create acme --name "Acme Inc."`}, "")
	s.start(t, "set -aeuo pipefail; . "+s.state+"\nbin/patrol serve", "")

	var installed []string
	for line := range strings.Lines(section) {
		if fields := strings.Fields(line); strings.HasPrefix(line, "npm install ") {
			installed = append(installed, slices.DeleteFunc(fields[2:], func(f string) bool { return strings.HasPrefix(f, "-") })...)
		}
	}
	node := testenv.NodePackages(t, openapiTools, installed...)
	require.NoError(t, os.Symlink(filepath.Join(node, "node_modules"), filepath.Join(s.dir, "node_modules")))
	pip := regexp.MustCompile(`(?m)^pip install (.*)$`).FindStringSubmatch(section)
	require.NotNil(t, pip)
	python := testenv.PythonPackages(t, openapiTools, strings.Fields(pip[1])...)
	path := "PATH=" + filepath.Dir(python) + ":" + filepath.Join(node, "node_modules", ".bin") + ":$PATH\n"

	install := regexp.MustCompile(`(?m)^(npm|pip) install .*\n`)
	ran := 0
	for i, b := range all {
		if strings.HasPrefix(b.info, "sh ") {
			s.run(t, block{code: path + install.ReplaceAllString(b.code, "")}, "")
			continue
		}
		var file, command string
		switch b.info {
		case "ts":
			// Its own folder's types and module system, as in a project.
			require.NoError(t, os.WriteFile(filepath.Join(s.dir, "package.json"), []byte(`{"type": "module"}`), 0o600))
			file, command = "client.ts", "tsc --strict --noUncheckedIndexedAccess false --module nodenext --target es2022 --types node client.ts; node client.js"
		case "python":
			file, command = "client.py", "python3 client.py"
		default:
			continue
		}
		require.NoError(t, os.WriteFile(filepath.Join(s.dir, file), []byte(b.code), 0o600))
		require.Equal(t, "text", all[i+1].info, "what it prints")
		s.run(t, block{code: path + command}, all[i+1].code)
		ran++
	}
	assert.Equal(t, 2, ran)
}

// TestReasonsAreListedWithTheirStatus holds the codes of decisions in docs/api.md and in the
// OpenAPI document against those that there are.
func TestReasonsAreListedWithTheirStatus(t *testing.T) {
	want := map[string]int{}
	source, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "models", "decision.go"), nil, 0)
	require.NoError(t, err)
	ast.Inspect(source, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		literal, isText := spec.Values[0].(*ast.BasicLit)
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "ReasonCode" && isText {
			code, err := strconv.Unquote(literal.Value)
			require.NoError(t, err)
			want[code] = models.ReasonCode(code).Status()
		}
		return true
	})
	require.NotEmpty(t, want)
	listed := func(status, codes string, into map[string]int) {
		n, err := strconv.Atoi(status)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(codes, -1) {
			assert.Zero(t, into[m[1]], "%s is there again", m[1])
			into[m[1]] = n
		}
	}

	inDocs := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^\| (\d{3}) \| (.*) \|$`).FindAllStringSubmatch(read(t, "docs/api.md"), -1) {
		listed(m[1], m[2], inDocs)
	}
	assert.Equal(t, want, inDocs, "docs/api.md")

	var document struct {
		Components struct {
			Schemas struct {
				Reason struct {
					Properties struct{ Code struct{ Description string } }
				}
				Decision, LoggedDecision struct {
					Properties struct{ Status struct{ Enum []int } }
				}
			}
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "api/openapi.yaml")), &document))
	inDocument := map[string]int{}
	for _, m := range regexp.MustCompile(`(?:^| )(\d{3}): ([^.]*)\.`).FindAllStringSubmatch(document.Components.Schemas.Reason.Properties.Code.Description, -1) {
		listed(m[1], m[2], inDocument)
	}
	assert.Equal(t, want, inDocument, "api/openapi.yaml")

	statuses := []int{200}
	for _, status := range want {
		statuses = append(statuses, status)
	}
	slices.Sort(statuses)
	assert.Equal(t, slices.Compact(statuses), document.Components.Schemas.LoggedDecision.Properties.Status.Enum)
	assert.Subset(t, statuses, document.Components.Schemas.Decision.Properties.Status.Enum)
}

// TestTheAPIPageNamesEveryPart: docs/api.md leads to each group of routes of the document.
func TestTheAPIPageNamesEveryPart(t *testing.T) {
	var document struct{ Paths map[string]any }
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "api/openapi.yaml")), &document))
	page := read(t, "docs/api.md")
	part := regexp.MustCompile(`^(/api/v1/(?:admin/)?[a-z-]+|/[a-z-]+)`)
	for path := range document.Paths {
		assert.Regexp(t, "[` ]"+regexp.QuoteMeta(part.FindString(path))+`\b`, page, path)
	}
}
