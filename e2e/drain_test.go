package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
)

// Two Patrols are replaced under load, one after the other, with the settings that they
// come with and the configuration of the examples; none of the requests behind Envoy
// notices.
func TestTermUnderLoad(t *testing.T) {
	up := newUpstream(t)
	database := testenv.SQLite(t)
	p := openPatrol(t, database, up.url, options{})
	binary := buildProgram(t)
	for _, c := range []struct {
		surface, config, own, port string
		addr                       func(running) string
	}{
		{onEnvoyGRPC, "envoy.yaml", "10000", "9191", func(p running) string { return p.grpc }},
		{onEnvoyHTTP, "envoy-http.yaml", "10001", "8080", func(p running) string { return p.http }},
	} {
		t.Run(c.surface, func(t *testing.T) {
			first, second := startProgram(t, binary, database), startProgram(t, binary, database)
			endpoint := func(p string) string {
				return "              - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: " + p + " } } }"
			}
			addr := startEnvoy(t, c.config, c.own, c.addr(first), up.addr,
				endpoint(c.port), endpoint(port(c.addr(first)))+"\n"+endpoint(port(c.addr(second))))

			var asked, refused atomic.Int64
			var load sync.WaitGroup
			stop := make(chan struct{})
			for worker := range 8 {
				load.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						default:
						}
						id := c.surface + "-term-" + strconv.Itoa(worker) + "-" + strconv.Itoa(i)
						res := exchange(t, addr, "GET", "/proxy/acme/v1/models", []string{"Host: x", caseHeader + ": " + id, "Authorization: Bearer " + p.tokens["reader"]}, "")
						if asked.Add(1); res.status != 200 {
							refused.Add(1)
						}
					}
				})
			}
			progress := func(n int64) {
				begin := asked.Load()
				require.Eventually(t, func() bool { return asked.Load() >= begin+n }, patience, patience/10_000)
			}
			progress(200)
			for _, leaving := range []running{first, second} {
				require.NoError(t, leaving.cmd.Process.Signal(syscall.SIGTERM))
				require.NoError(t, leaving.cmd.Wait(), "it ends well")
				progress(200)
				next := startProgram(t, binary, database, "PATROL_LISTEN="+leaving.http, "PATROL_GRPC_LISTEN="+leaving.grpc)
				require.Eventually(t, func() bool {
					res := exchange(t, next.http, "GET", "/metrics", []string{"Host: x"}, "")
					return strings.Contains(res.body, `patrol_decisions_total{outcome="allow"`)
				}, patience, patience/1000, "Envoy asks the new one")
			}
			close(stop)
			load.Wait()
			assert.Zero(t, refused.Load(), "of %d requests", asked.Load())
		})
	}
}

// A Patrol that nobody asks, or whose clients have gone, does not keep its operator
// waiting for them.
func TestTermWithoutLoad(t *testing.T) {
	database := testenv.SQLite(t)
	p := openPatrol(t, database, newUpstream(t).url, options{})
	left := startProgram(t, buildProgram(t), database, "PATROL_HTTP_DRAIN_DELAY=1h", "PATROL_EXTAUTHZ_DRAIN_DELAY=1h")
	res := exchange(t, left.http, "GET", "/api/v1/pats/self", []string{"Host: x", "Authorization: Bearer " + p.tokens["reader"]}, "")
	require.Equal(t, 200, res.status)
	require.NoError(t, left.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, left.cmd.Wait())
}

func buildProgram(t *testing.T) (binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "patrol")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", binary, "patrol/cmd/patrol")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	return binary
}

// running is a patrol serve that runs, and where it answers.
type running struct {
	cmd        *exec.Cmd
	http, grpc string
}

// startProgram runs patrol serve on a database that is there, until the test ends.
// It has the default settings but for addresses, keys and, because the machine runs
// everything at once, the time for an answer.
func startProgram(t *testing.T, binary, database string, environment ...string) (p running) {
	t.Helper()
	p.cmd = exec.Command(binary, "serve")
	p.cmd.Env = append(os.Environ(),
		"PATROL_LISTEN=127.0.0.1:0", "PATROL_GRPC_LISTEN=127.0.0.1:0", "PATROL_DATA_DIR="+t.TempDir(), "PATROL_DATABASE_URL="+database,
		"PATROL_TOKEN_KEYS=e2e:"+base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32)),
		"PATROL_FORWARD_AUTH_ENVOY=127.0.0.1", "PATROL_EXTAUTHZ_TIMEOUT=5s", "PATROL_FORWARD_AUTH_TIMEOUT=5s",
	)
	p.cmd.Env = append(p.cmd.Env, environment...)
	log, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		_ = p.cmd.Wait()
	})
	lines := bufio.NewScanner(log)
	for (p.http == "" || p.grpc == "") && lines.Scan() {
		var entry struct{ Msg, HTTP, GRPC string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "listening" {
			p.http, p.grpc = p.http+entry.HTTP, p.grpc+entry.GRPC
		}
	}
	require.NotEmpty(t, p.grpc, "patrol did not start")
	go func() { // the pipe must not fill up
		for lines.Scan() {
		}
	}()
	return p
}
