package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMetrics runs a server with all that it measures, and holds docs/metrics.md against what
// it says of itself; -update writes the page anew. All that rules for alerts and the dashboard
// of examples/prometheus ask for is there from the start.
func TestMetrics(t *testing.T) {
	scraped := filepath.Join(t.TempDir(), "metrics")
	script := filepath.Join(t.TempDir(), "metrics.txtar")
	require.NoError(t, os.WriteFile(script, []byte(metricsScript), 0o600))
	p := params(t, testscript.Params{Files: []string{script}}, map[string]string{"SCRAPED": scraped})
	p.Cmds["scrape"] = func(ts *testscript.TestScript, _ bool, args []string) {
		resp, err := http.Get(args[0])
		ts.Check(err)
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		ts.Check(err)
		ts.Check(os.WriteFile(args[1], body, 0o600))
	}
	t.Run("scrape", func(t *testing.T) { testscript.Run(t, p) })
	text, err := os.ReadFile(scraped)
	require.NoError(t, err)
	page := filepath.Join("..", "..", "docs", "metrics.md")
	want := metricsPage(string(text))
	if *updateScripts {
		require.NoError(t, os.WriteFile(page, []byte(want), 0o600))
	}
	got, err := os.ReadFile(page)
	require.NoError(t, err)
	assert.Equal(t, want, string(got), "docs/metrics.md is not what the server says: go test ./cmd/patrol -run TestMetrics -update")

	known := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		known[m[1]] = true
		if m[2] == "histogram" {
			known[m[1]+"_bucket"], known[m[1]+"_count"], known[m[1]+"_sum"] = true, true, true
		}
	}
	for _, file := range []string{"alerts.yaml", "dashboard.json"} {
		content, err := os.ReadFile(filepath.Join("..", "..", "examples", "prometheus", file))
		require.NoError(t, err)
		names := regexp.MustCompile(`patrol_[a-z_]+`).FindAllString(string(content), -1)
		require.NotEmpty(t, names, file)
		for _, name := range names {
			assert.True(t, known[name], "%s asks for %s, which no server has", file, name)
		}
	}
}

const metricsScript = `
certificate patrol.example.com 24h
serve s --config all.yaml --policy $POLICIES --tls-cert-file patrol.example.com.pem --tls-key-file patrol.example.com.key
let METRICS s.log '"metrics":"([^"]+)"'
let PORT s.log '"http":"127.0.0.1:(\d+)"'
until ok patrol health --listen 127.0.0.1:$PORT --tls-cert-file patrol.example.com.pem --tls-key-file patrol.example.com.key
eventually 1m -match patrol_http_requests_total http 200 GET http://$METRICS/metrics
eventually 1m -match 'patrol_decision_log_reach_seconds\{class="verified"' http 200 GET http://$METRICS/metrics
scrape http://$METRICS/metrics $SCRAPED
-- all.yaml --
metrics:
  listen: 127.0.0.1:0
grpc_listen: 127.0.0.1:0
extauthz:
  cert_file: patrol.example.com.pem
  key_file: patrol.example.com.key
shadow:
  policy: nowhere
`

// closed are labels whose values are a fixed set, of which the page tells.
var closed = []string{"at", "by", "cache", "class", "code", "database", "file", "kept", "kind", "listener", "outcome", "result", "sink", "state"}

// metricsPage is docs/metrics.md for a scrape.
func metricsPage(scrape string) string {
	help, kind := map[string]string{}, map[string]string{}
	labels := map[string]map[string]map[string]bool{}
	series := regexp.MustCompile(`^(\w+)\{(.*)\} `)
	pair := regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
	for line := range strings.Lines(scrape) {
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, text, _ := strings.Cut(strings.TrimSpace(rest), " ")
			help[name] = text
		} else if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, text, _ := strings.Cut(strings.TrimSpace(rest), " ")
			kind[name] = text
		} else if m := series.FindStringSubmatch(line); m != nil {
			name := m[1]
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				if base := strings.TrimSuffix(name, suffix); kind[base] == "histogram" {
					name = base
				}
			}
			for _, l := range pair.FindAllStringSubmatch(m[2], -1) {
				if l[1] == "le" {
					continue
				}
				if labels[name] == nil {
					labels[name] = map[string]map[string]bool{}
				}
				if labels[name][l[1]] == nil {
					labels[name][l[1]] = map[string]bool{}
				}
				labels[name][l[1]][l[2]] = true
			}
		}
	}
	var b strings.Builder
	b.WriteString(`# Metrics

What a server measures, as it says itself at ` + "`/metrics`" + ` (make generate writes this page). Counters
with labels of a fixed set are there from the start, at 0. Beside these there are those of Go
(` + "`go_*`" + `) and of the process (` + "`process_*`" + `). Where they are read:
[operations](operations.md#metrics); alerts and a dashboard:
[examples/prometheus](../examples/prometheus/README.md).

| metric | kind | labels | what |
| --- | --- | --- | --- |
`)
	// It is there once a shadow is judged, which takes the check of a policy.
	const info = "patrol_policy_shadow_info"
	help[info], kind[info] = "1 for the shadow policy that is being asked.", "gauge"
	labels[info] = map[string]map[string]bool{"revision": {}, "digest": {}}
	for _, name := range slices.Sorted(maps.Keys(help)) {
		if !strings.HasPrefix(name, "patrol_") {
			continue
		}
		var told []string
		for _, label := range slices.Sorted(maps.Keys(labels[name])) {
			text := "`" + label + "`"
			values := slices.Sorted(maps.Keys(labels[name][label]))
			if name != "patrol_http_requests_total" && slices.Contains(closed, label) && len(values) <= 9 {
				text += " (" + strings.Join(values, ", ") + ")"
			}
			told = append(told, text)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, kind[name], strings.Join(told, ", "), help[name])
	}
	return b.String()
}
