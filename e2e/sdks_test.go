package e2e_test

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
)

// TestRefusalsInSDKs: what people see who call a model through an SDK.
func TestRefusalsInSDKs(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		testenv.Missing(t, "sdks", "no node in PATH")
	}
	modules := testenv.NodePackages(t, "sdks", "openai@6.49.0", "@anthropic-ai/sdk@1.14.0", "ollama@0.6.4")
	python := testenv.PythonPackages(t, "sdks", "openai==3.57.0", "ollama==0.6.3")
	testenv.EachDatabase(t, func(t *testing.T, database string) {
		up := newUpstream(t)
		p := openPatrol(t, database, up.url, options{})
		base, token := "http://"+p.http+"/proxy/acme", p.tokens["llama3 user"]
		const scope = "acme:models:mistral:execute"
		type told struct {
			Name, Error, Type, Code, Message string
			Status                           int
			OK                               bool
		}
		got := map[string]told{}
		for _, cmd := range []*exec.Cmd{
			exec.CommandContext(t.Context(), node, "testdata/sdks/client.mjs", modules, base, token),
			exec.CommandContext(t.Context(), python, "testdata/sdks/client.py", base, token),
		} {
			var complaints strings.Builder
			cmd.Stderr = &complaints
			out, err := cmd.Output()
			require.NoError(t, err, complaints.String())
			for line := range bytes.Lines(out) {
				var one told
				require.NoError(t, json.Unmarshal(line, &one), "%s", line)
				got[one.Name] = one
			}
		}
		for name, want := range map[string]struct {
			err, kind, code, says string
			status                int
		}{
			"npm openai, denied":              {"PermissionDeniedError", "permission_error", "out_of_scope", scope, 403},
			"npm openai, denied stream":       {"PermissionDeniedError", "permission_error", "out_of_scope", scope, 403},
			"npm openai, no token of ours":    {"AuthenticationError", "authentication_error", "token_malformed", "/profile/pats/new", 401},
			"npm anthropic, denied":           {"PermissionDeniedError", "permission_error", "", scope, 403},
			"npm anthropic, no token of ours": {"AuthenticationError", "authentication_error", "", "/profile/pats/new", 401},
			"npm ollama, denied":              {"ResponseError", "", "", scope, 403},
			"pip openai, denied":              {"PermissionDeniedError", "permission_error", "out_of_scope", scope, 403},
			"pip openai, no token of ours":    {"AuthenticationError", "authentication_error", "token_malformed", "/profile/pats/new", 401},
			"pip ollama, denied":              {"ResponseError", "", "", scope, 403},
		} {
			one, there := got[name]
			require.True(t, there, name)
			assert.Equal(t, want.err, one.Error, name)
			assert.Equal(t, want.status, one.Status, name)
			assert.Equal(t, want.kind, one.Type, name)
			assert.Equal(t, want.code, one.Code, name)
			assert.Contains(t, one.Message, want.says, name)
			assert.NotContains(t, one.Message, "no body", name)
			assert.NotContains(t, one.Message, token, name)
		}
		assert.True(t, got["npm openai, allowed"].OK, "%+v", got["npm openai, allowed"])
	})
}
