package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
)

// liteLLM starts a real LiteLLM proxy whose models say their names, and returns its address. One
// of them, `failing`, never answers. It needs no network.
func liteLLM(t *testing.T) string {
	t.Helper()
	path := program(t, "litellm")
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(`
model_list:
  - {model_name: llama3, litellm_params: {model: openai/llama3, api_key: none, mock_response: "I am llama3"}}
  - {model_name: secret-model, litellm_params: {model: openai/secret-model, api_key: none, mock_response: "I am secret-model"}}
  - {model_name: failing, litellm_params: {model: openai/failing, api_key: none, mock_response: litellm.InternalServerError}}
router_settings: {num_retries: 0}
litellm_settings: {num_retries: 0}
general_settings: {dangerously_permit_weak_or_unset_master_key: true}
`), 0o600))
	t.Setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True") // else it is fetched
	addr := "127.0.0.1:" + freePort(t)
	// It imports much, which takes a while.
	startWithin(t, 5*time.Minute, addr, dir, path, "--config", "config.yaml", "--host", "127.0.0.1", "--port", port(addr), "--telemetry", "False")
	return addr
}

// TestLiteLLM sends what a real LiteLLM serves another model for, first to it, then
// through the gateway.
func TestLiteLLM(t *testing.T) {
	addr := liteLLM(t)
	p := openPatrol(t, testenv.SQLite(t), "http://"+addr, options{})
	token, _ := p.mint(t, "root", "litellm", "acme:models:llama3:execute", "acme:models:failing:execute")
	const messages = `"messages":[{"role":"user","content":"hi"}]`
	for name, c := range map[string]struct {
		target, media, body string
		honest              bool
		status              int // through the gateway
	}{
		"an honest request":          {target: "/v1/chat/completions", body: `{"model":"llama3",` + messages + `}`, honest: true, status: http.StatusOK},
		"as curl -d sends it":        {target: "/v1/chat/completions", media: "application/x-www-form-urlencoded", body: `{"model":"llama3",` + messages + `}`, status: http.StatusOK},
		"with metadata":              {target: "/v1/chat/completions", body: `{"model":"llama3","metadata":{"model":"secret-model"},"user":"u",` + messages + `}`, honest: true, status: http.StatusOK},
		"a model in the query":       {target: "/v1/chat/completions?model=secret-model", body: `{"model":"llama3",` + messages + `}`, status: http.StatusForbidden},
		"and for completions":        {target: "/v1/completions?model=secret-model", body: `{"model":"llama3","prompt":"x"}`, status: http.StatusForbidden},
		"a form that is JSON":        {target: "/v1/completions", media: "application/x-www-form-urlencoded", body: `{"model":"llama3","prompt":"x&model=secret-model&prompt=hello&"}`, status: http.StatusOK},
		"a fallback":                 {target: "/v1/chat/completions", body: `{"model":"failing","fallbacks":["secret-model"],` + messages + `}`, status: http.StatusForbidden},
		"a fallback that it may use": {target: "/v1/chat/completions", body: `{"model":"failing","fallbacks":["llama3"],` + messages + `}`, honest: true, status: http.StatusOK},
		"two names with a comma":     {target: "/v1/chat/completions", body: `{"model":"llama3,secret-model",` + messages + `}`, status: http.StatusBadRequest},
		"a deployment in the path":   {target: "/engines/secret-model/chat/completions", body: `{"model":"llama3",` + messages + `}`, status: http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			if c.media == "" {
				c.media = "application/json"
			}
			lines := []string{"Host: models.example.com", "Content-Type: " + c.media}
			direct := exchange(t, addr, http.MethodPost, c.target, lines, c.body)
			if c.honest {
				assert.Contains(t, direct.body, "I am llama3", "without Patrol")
			} else if name != "as curl -d sends it" {
				assert.Contains(t, direct.body, "I am secret-model", "without Patrol: what this case is about is no more")
			}
			got := exchange(t, p.http, http.MethodPost, "/proxy/acme"+c.target, append(lines, "Authorization: Bearer "+token), c.body)
			assert.Equal(t, c.status, got.status, got.body)
			assert.NotContains(t, got.body, "I am secret-model")
			if c.status == http.StatusOK {
				assert.Contains(t, got.body, "I am llama3")
			}
		})
	}
}
