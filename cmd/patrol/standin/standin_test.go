package standin_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/cmd/patrol/standin"
)

func TestAnswers(t *testing.T) {
	server := httptest.NewServer(standin.Handler(0))
	defer server.Close()
	for name, tc := range map[string]struct {
		method, path, body string
		status             int
		want               string
	}{
		"list":          {"GET", "/v1/models", "", 200, `"id":"llama3"`},
		"one":           {"GET", "/v1/models/mistral", "", 200, `"id":"mistral"`},
		"unknown model": {"GET", "/v1/models/gpt", "", 404, "no such model"},
		"chat":          {"POST", "/v1/chat/completions", `{"model":"llama3","messages":[{"role":"user","content":"hi"}]}`, 200, "I stand in for llama3 and have read 1 message(s)."},
		"stream":        {"POST", "/v1/chat/completions", `{"model":"llama3","stream":true}`, 200, "data: [DONE]"},
		"chat nobody":   {"POST", "/v1/chat/completions", `{"model":"gpt"}`, 404, "no such model"},
		"not JSON":      {"POST", "/v1/chat/completions", `{`, 400, "must be a JSON object"},
		"elsewhere":     {"GET", "/v2", "", 404, "/v1/models"},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tc.method, server.URL+tc.path, strings.NewReader(tc.body))
			require.NoError(t, err)
			req.Header.Set("X-Patrol-User", "ada")
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			defer func() { require.NoError(t, resp.Body.Close()) }()
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			assert.Equal(t, tc.status, resp.StatusCode)
			assert.Contains(t, string(body), tc.want)
			assert.Contains(t, string(body), `"stand_in":true`)
			assert.NotEmpty(t, resp.Header.Get(standin.Header))
			assert.Equal(t, "ada", resp.Header.Get("X-Echo-User"))
		})
	}
}
