//go:build unix

package repo_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// alerts are the rules of examples/prometheus/alerts.yaml.
func alerts(t *testing.T) (names []string) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert       string            `json:"alert"`
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"rules"`
		} `json:"groups"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "examples/prometheus/alerts.yaml")), &file))
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			assert.Contains(t, []string{"page", "ticket"}, rule.Labels["severity"], rule.Alert)
			assert.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
			assert.Equal(t, "docs/runbook.md#"+strings.ToLower(rule.Alert), rule.Annotations["runbook_url"], rule.Alert)
			names = append(names, rule.Alert)
		}
	}
	require.NotEmpty(t, names)
	return names
}

// TestRunbook holds that each alert has an entry in the runbook, each entry an alert, and that
// what raises each is tested.
func TestRunbook(t *testing.T) {
	names := alerts(t)
	var entries []string
	for _, m := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(read(t, "docs/runbook.md"), -1) {
		entries = append(entries, m[1])
	}
	assert.ElementsMatch(t, names, entries)
	tested := read(t, "examples/prometheus/alerts_test.yaml")
	for _, name := range names {
		assert.Contains(t, tested, "alertname: "+name+"\n", name)
		assert.Contains(t, tested, "alertname: "+name+", exp_alerts: []", name)
	}
}

// TestDashboard holds that Prometheus understands each query of the dashboard.
func TestDashboard(t *testing.T) {
	promtool := findProgram(t, "promtool")
	var dashboard struct {
		Title  string
		Panels []struct {
			Title, Type string
			Targets     []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(read(t, "examples/prometheus/dashboard.json")), &dashboard))
	require.NotEmpty(t, dashboard.Panels)
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	rules := []rule{}
	for _, panel := range dashboard.Panels {
		if panel.Type != "row" {
			assert.NotEmpty(t, panel.Targets, panel.Title)
		}
		for _, target := range panel.Targets {
			expr := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(target.Expr)
			assert.NotContains(t, expr, "$", panel.Title)
			rules = append(rules, rule{"panel:" + strings.ToLower(regexp.MustCompile(`\W`).ReplaceAllString(panel.Title, "_")), expr})
		}
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", "--lint=none", file).CombinedOutput()
	require.NoError(t, err, string(out))
}
