package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/server/extauthz"
)

// resources returns an Envoy configuration without its opening comment.
func resources(t *testing.T, path ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(append([]string{".."}, path...)...))
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(content), "static_resources:")
	require.True(t, ok)
	return rest
}

// The example with TLS is the one without, which runs the cases, but for TLS.
func TestTheTLSExampleIsTheOther(t *testing.T) {
	plain, inTLS := resources(t, "examples", "envoy", "envoy.yaml"), resources(t, "examples", "envoy", "envoy-tls.yaml")
	var kept []string
	inside := -1 // how far a transport socket is indented
	for line := range strings.Lines(inTLS) {
		indent := len(line) - len(strings.TrimLeft(line, " -"))
		switch {
		case strings.Contains(line, "transport_socket:"):
			inside = indent
			continue
		case inside >= 0 && indent > inside:
			continue
		}
		inside = -1
		kept = append(kept, line)
	}
	got := strings.NewReplacer("          filters:", "        - filters:", "port_value: 10443", "port_value: 10000").Replace(strings.Join(kept, ""))
	assert.Equal(t, plain, got)
}

// Clients speak TLS to Envoy, and Envoy and Patrol show each other certificates.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	script, err := filepath.Abs("../examples/envoy/certs.sh")
	require.NoError(t, err)
	program(t, "openssl")
	cmd := exec.CommandContext(t.Context(), script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	certs := filepath.Join(dir, "certs")

	up := newUpstream(t)
	p := openPatrol(t, testenv.SQLite(t), up.url, options{extauthz: func(c *extauthz.Config) {
		c.TLS.CertFile, c.TLS.KeyFile = filepath.Join(certs, "patrol.pem"), filepath.Join(certs, "patrol.key")
		c.TLS.ClientCAFile = filepath.Join(certs, "ca.pem")
	}})
	ca, err := os.ReadFile(filepath.Join(certs, "ca.pem"))
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(ca))
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true, DisableKeepAlives: true,
	}, Timeout: patience}
	get := func(t *testing.T, addr, id, token string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+addr+"/proxy/acme/v1/models", nil)
		require.NoError(t, err)
		req.Header.Set(caseHeader, id)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+p.tokens[token])
		}
		res, err := client.Do(req)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res
	}
	withCerts := func(config string) string { return strings.ReplaceAll(config, "certs/", certs+"/") }
	t.Run("the example", func(t *testing.T) {
		addr := startEnvoyWith(t, "envoy-tls.yaml", "10443", p.grpc, up.addr, withCerts)
		res := get(t, addr, "tls", "reader")
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Equal(t, "HTTP/2.0", res.Proto)
		arrived := up.take("tls")
		require.Len(t, arrived, 1)
		assert.Equal(t, []string{p.users["member"]}, arrived[0].header["X-Patrol-User"])
		assert.Equal(t, http.StatusUnauthorized, get(t, addr, "tls", "").StatusCode)
		assert.Empty(t, up.take("tls"))
	})
	t.Run("an Envoy that shows no certificate", func(t *testing.T) {
		addr := startEnvoyWith(t, "envoy-tls.yaml", "10443", p.grpc, up.addr, func(config string) string {
			at := strings.LastIndex(config, "            tls_certificates:")
			end := strings.Index(config[at:], "            validation_context:") + at
			return withCerts(config[:at] + config[end:])
		})
		assert.Equal(t, http.StatusServiceUnavailable, get(t, addr, "tls", "reader").StatusCode)
		assert.Empty(t, up.take("tls"))
	})
}
