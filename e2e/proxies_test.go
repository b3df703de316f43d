package e2e_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
)

// program finds a proxy, or says that it is missing.
func program(t *testing.T, name string) string {
	t.Helper()
	variable := "PATROL_TEST_" + strings.ToUpper(name)
	given := name == "envoy" || name == "litellm" // which come from PyPI, into places of their own
	if path := os.Getenv(variable); given && path != "" {
		return path
	}
	path, err := exec.LookPath(name)
	if err != nil {
		detail := "it is not in PATH"
		if given {
			detail = "neither " + variable + " nor PATH has it"
		}
		testenv.Missing(t, name, detail)
	}
	return path
}

// example returns a configuration file of examples/ with what is replaced, as
// pairs of old and new. Every old text must be there.
func example(t *testing.T, name string, replace ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "examples", name))
	require.NoError(t, err)
	for i := 0; i < len(replace); i += 2 {
		require.Contains(t, string(content), replace[i], "%s no longer has this", name)
	}
	return strings.NewReplacer(replace...).Replace(string(content))
}

// start runs a program until the test ends and waits until it listens on addr.
func start(t *testing.T, addr, dir, path string, args ...string) {
	t.Helper()
	startWithin(t, patience, addr, dir, path, args...)
}

// startWithin does the same for a program that takes its time.
func startWithin(t *testing.T, most time.Duration, addr, dir, path string, args ...string) {
	t.Helper()
	var out logBuffer
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	require.NoError(t, cmd.Start())
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-exited
		}
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(path), tail(out.String(), 4000))
		}
	})
	require.Eventually(t, func() bool {
		select {
		case <-exited:
			t.Fatalf("%s ended at once: %s", path, tail(out.String(), 4000))
		default:
		}
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, most, 5*time.Millisecond)
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}

// startEnvoy runs one of Envoy's example configurations, with what is replaced in it,
// as pairs of old and new, and returns its address.
func startEnvoy(t *testing.T, name, own, patrol, upstream string, replace ...string) string {
	t.Helper()
	return startEnvoyWith(t, name, own, patrol, upstream, func(config string) string { return config }, replace...)
}

// startEnvoyWith does the same after a change.
func startEnvoyWith(t *testing.T, name, own, patrol, upstream string, change func(config string) string, replace ...string) string {
	t.Helper()
	path := program(t, "envoy")
	dir, listen := t.TempDir(), freePort(t)
	old := map[string]string{"envoy.yaml": "9191", "envoy-tls.yaml": "9191", "envoy-http.yaml": "8080"}[name]
	config := change(example(t, "envoy/"+name, append([]string{
		"port_value: " + own, "port_value: " + listen,
		"port_value: " + old, "port_value: " + port(patrol),
		"port_value: 8000", "port_value: " + port(upstream),
		// A machine that runs everything at once.
		"timeout: 0.25s", "timeout: 10s",
	}, replace...)...))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(config), 0o600))
	start(t, "127.0.0.1:"+listen, dir, path, "-c", name, "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning")
	return "127.0.0.1:" + listen
}

func startNginx(t *testing.T, patrol, upstream string) string {
	t.Helper()
	path := program(t, "nginx")
	// Its workers are another user's where it is started by root.
	dir, err := os.MkdirTemp("", "patrol-nginx-") //nolint:usetesting // nobody else can enter what is above t.TempDir
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o755))
	listen := freePort(t)
	config := example(t, "nginx/nginx.conf", ":10002", ":"+listen, "127.0.0.1:8080", patrol, "127.0.0.1:8000", upstream)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(config), 0o600))
	start(t, "127.0.0.1:"+listen, dir, path, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-e", "stderr")
	return "127.0.0.1:" + listen
}

func startCaddy(t *testing.T, patrol, upstream string) string {
	t.Helper()
	path := program(t, "caddy")
	dir, listen := t.TempDir(), freePort(t)
	config := example(t, "caddy/Caddyfile", ":10003", ":"+listen, "127.0.0.1:8080", patrol, "127.0.0.1:8000", upstream)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(config), 0o600))
	start(t, "127.0.0.1:"+listen, dir, path, "run", "--adapter", "caddyfile", "--config", "Caddyfile")
	return "127.0.0.1:" + listen
}

func startHAProxy(t *testing.T, patrol, upstream string) string {
	t.Helper()
	path := program(t, "haproxy")
	dir, listen := t.TempDir(), freePort(t)
	config := example(t, "haproxy/haproxy.cfg", ":10005", ":"+listen, "127.0.0.1:8080", patrol, "127.0.0.1:8000", upstream)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "haproxy.cfg"), []byte(config), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "patrol.lua"), []byte(example(t, "haproxy/patrol.lua")), 0o600))
	start(t, "127.0.0.1:"+listen, dir, path, "-f", "haproxy.cfg")
	return "127.0.0.1:" + listen
}
