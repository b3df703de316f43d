package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The compose file's Envoy is the example's, which is run, but for the
// addresses.
func TestComposeUsesTheExample(t *testing.T) {
	body := func(path ...string) string {
		content, err := os.ReadFile(filepath.Join(append([]string{".."}, path...)...))
		require.NoError(t, err)
		_, rest, ok := strings.Cut(string(content), "static_resources:")
		require.True(t, ok)
		return rest
	}
	want := strings.NewReplacer(
		"address: 127.0.0.1, port_value: 10000", "address: 0.0.0.0, port_value: 10000",
		"address: 127.0.0.1, port_value: 9191", "address: patrol, port_value: 9191",
		"address: 127.0.0.1, port_value: 8000", "address: ollama, port_value: 11434",
	).Replace(body("examples", "envoy", "envoy.yaml"))
	assert.Equal(t, want, body("deploy", "compose", "envoy.yaml"))
}
