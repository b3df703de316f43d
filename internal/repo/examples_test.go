//go:build unix

package repo_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/cmd/patrol/standin"
	"patrol/internal/testenv"
)

// needs are the programs that each example's README calls, beside those that all do.
var needs = map[string][]string{
	"envoy": {"envoy", "openssl"}, "nginx": {"nginx"}, "caddy": {"caddy"}, "haproxy": {"haproxy"}, "openai": {"envoy"}, "traefik": {}, "systemd": {}, "compose": {}, "kubernetes": {}, "prometheus": {"promtool"},
}

// examplePort matches the ports on which the examples listen and ask. In a test free
// ones stand in their place.
var examplePort = regexp.MustCompile(`\b(8000|8080|9191|11434|100\d\d|10443)\b`)

// TestExamples runs what the READMEs of examples/ say, each section under a heading of
// the second level from the beginning: the blocks marked `sh background` beside each
// other, as in terminals of their own, the blocks marked `sh` one after the other.
func TestExamples(t *testing.T) {
	folders, err := filepath.Glob(filepath.Join(root, "examples", "*", "README.md"))
	require.NoError(t, err)
	require.Len(t, folders, len(needs), "an example that no test knows")
	program := buildPatrol(t)
	for _, readme := range folders {
		name := filepath.Base(filepath.Dir(readme))
		for section := range strings.SplitSeq(read(t, filepath.Join("examples", name, "README.md")), "\n## ") {
			all := blocks(section)
			if !slices.ContainsFunc(all, runs) {
				continue
			}
			heading, _, _ := strings.Cut(section, "\n")
			t.Run(name+"/"+strings.TrimPrefix(heading, "# "), func(t *testing.T) {
				for _, p := range append([]string{"curl", "python3"}, needs[name]...) {
					findProgram(t, p)
				}
				e := newExample(t, name, program)
				for i, b := range all {
					switch want := ""; b.info {
					case "sh background":
						e.start(t, b.code)
					case "sh":
						if i+1 < len(all) && all[i+1].info == "text" {
							want = all[i+1].code
						}
						e.run(t, b.code, want)
					}
				}
			})
		}
	}
}

// buildPatrol builds the program and returns the folder that it is in.
func buildPatrol(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "patrol"), "patrol/cmd/patrol")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	return dir
}

// findProgram returns where a program is, or says that it is missing.
func findProgram(t *testing.T, name string) string {
	t.Helper()
	if path := os.Getenv("PATROL_TEST_ENVOY"); name == "envoy" && path != "" {
		return path
	}
	path, err := exec.LookPath(name)
	if err != nil {
		testenv.Missing(t, name, "it is not in PATH")
	}
	return path
}

// example is a copy of examples/ on free ports, and what runs in one folder of it.
type example struct {
	dir   string
	env   []string
	ports map[string]string // by those in the files
	state string            // file with the variables that the last block left
	logs  transcript
}

func newExample(t *testing.T, name, program string) *example {
	t.Helper()
	// Not t.TempDir: the workers of an nginx that root starts are somebody else's.
	top, err := os.MkdirTemp("", "patrol-example-") //nolint:usetesting // as the line above says
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(top)) })
	require.NoError(t, os.Chmod(top, 0o755))
	e := &example{dir: filepath.Join(top, "examples", name), state: filepath.Join(top, "state"), ports: map[string]string{}}
	require.NoError(t, os.WriteFile(e.state, nil, 0o600))
	for _, port := range []string{"8000", "8080", "9191", "11434", "10000", "10001", "10002", "10003", "10005", "10006", "10443"} {
		e.ports[port] = freePort(t)
	}
	e.copyFiles(t, filepath.Join(root, "examples"), filepath.Join(top, "examples"))

	bin := filepath.Join(top, "bin")
	require.NoError(t, os.Mkdir(bin, 0o755))
	require.NoError(t, os.Symlink(filepath.Join(program, "patrol"), filepath.Join(bin, "patrol")))
	if envoy := os.Getenv("PATROL_TEST_ENVOY"); envoy != "" {
		require.NoError(t, os.Symlink(envoy, filepath.Join(bin, "envoy")))
	}
	// A person waits until what they have started is there.
	require.NoError(t, os.WriteFile(filepath.Join(top, ".curlrc"), []byte("retry = 60\nretry-delay = 1\nretry-connrefused\n"), 0o600))
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PATROL_") && !strings.HasPrefix(v, "PATH=") && !strings.HasPrefix(v, "HOME=") {
			e.env = append(e.env, v)
		}
	}
	patrol := "127.0.0.1:" + e.ports["8080"]
	e.env = append(e.env,
		"PATH="+bin+":"+os.Getenv("PATH")+":/usr/sbin:/sbin", "HOME="+top, "XDG_DATA_HOME="+top, "XDG_CONFIG_HOME="+top,
		"PATROL_LISTEN="+patrol, "PATROL_GRPC_LISTEN=127.0.0.1:"+e.ports["9191"], "PATROL_SERVER=http://"+patrol, "PATROL_CREDENTIALS="+filepath.Join(top, "credentials"),
		// Of a machine that runs everything at once.
		"PATROL_EXTAUTHZ_TIMEOUT=5s", "PATROL_FORWARD_AUTH_TIMEOUT=5s",
	)
	if name == "openai" { // in the place of Ollama and vLLM
		for _, port := range []string{"11434", "8000"} {
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:"+e.ports[port])
			require.NoError(t, err)
			s := &http.Server{Handler: standin.Handler(time.Millisecond), ReadHeaderTimeout: time.Minute}
			go func() { _ = s.Serve(l) }() // it ends with Close
			t.Cleanup(func() { _ = s.Close() })
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(e.logs.String())
		}
	})
	return e
}

// onFreePorts replaces the ports in a text.
func (e *example) onFreePorts(text string) string {
	return examplePort.ReplaceAllStringFunc(text, func(port string) string {
		if free := e.ports[port]; free != "" {
			return free
		}
		return port
	})
}

func (e *example) copyFiles(t *testing.T, from, to string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(to, 0o755))
	entries, err := os.ReadDir(from)
	require.NoError(t, err)
	for _, entry := range entries {
		source, target := filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())
		if entry.IsDir() {
			if entry.Name() != "data" && entry.Name() != "certs" && entry.Name() != "tmp" { // what somebody's try has left
				e.copyFiles(t, source, target)
			}
			continue
		}
		text, err := os.ReadFile(source)
		require.NoError(t, err)
		info, err := entry.Info()
		require.NoError(t, err)
		content := e.onFreePorts(string(text))
		// Envoy gives up on a Patrol that has to wait for a processor.
		content = strings.ReplaceAll(content, "timeout: 0.25s", "timeout: 10s")
		require.NoError(t, os.WriteFile(target, []byte(content), info.Mode().Perm()))
	}
}

func (e *example) command(ctx context.Context, code string) *exec.Cmd {
	script := fmt.Sprintf("set -aeuo pipefail; . %[1]s\n%[2]s", e.state, e.onFreePorts(code))
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir, cmd.Env = e.dir, e.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	return cmd
}

// start runs a block until the test ends. If it is Patrol, somebody will talk to it
// who does not try twice, so it is waited for.
func (e *example) start(t *testing.T, code string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	cmd := e.command(ctx, code)
	cmd.Stdout, cmd.Stderr = &e.logs, &e.logs
	require.NoError(t, cmd.Start())
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	t.Cleanup(func() { stop(); <-done })
	if !strings.Contains(code, "patrol serve") {
		return
	}
	require.Eventually(t, func() bool {
		select {
		case <-done:
			t.Fatal("it ended at once: " + code)
		default:
		}
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", "127.0.0.1:"+e.ports["8080"])
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, time.Minute, 20*time.Millisecond)
}

// run runs a block and checks what it prints.
func (e *example) run(t *testing.T, code, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := e.command(ctx, code+"\nexport -p > "+e.state).CombinedOutput()
	require.NoError(t, err, "%s\n%s", code, out)
	assertPrints(t, e.onFreePorts(want), string(out), "")
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { assert.NoError(t, l.Close()) }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}
