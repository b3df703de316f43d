package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
)

// One of two Patrols ends under load; none of the requests behind Envoy notices.
func TestTermUnderLoad(t *testing.T) {
	up := newUpstream(t)
	database := testenv.SQLite(t)
	p := openPatrol(t, database, up.url, options{})
	binary := filepath.Join(t.TempDir(), "patrol")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "patrol/cmd/patrol")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	first, leaving := startProgram(t, binary, database)
	second, _ := startProgram(t, binary, database)

	endpoint := func(addr string) string {
		return "- endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: " + port(addr) + " } } }"
	}
	addr := startEnvoy(t, "envoy.yaml", "10000", first, up.addr,
		"              - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 9191 } } }",
		"              "+endpoint(first)+"\n              "+endpoint(second),
	)
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
				id := "term-" + strconv.Itoa(worker) + "-" + strconv.Itoa(i)
				res := exchange(t, addr, "GET", "/proxy/acme/v1/models", []string{"Host: x", caseHeader + ": " + id, "Authorization: Bearer " + p.tokens["reader"]}, "")
				if asked.Add(1); res.status != 200 {
					refused.Add(1)
				}
			}
		})
	}
	progress := func(n int64) {
		begin := asked.Load()
		require.Eventually(t, func() bool { return asked.Load() >= begin+n }, patience, time.Millisecond)
	}
	progress(200)
	require.NoError(t, leaving.Process.Signal(syscall.SIGTERM))
	require.NoError(t, leaving.Wait(), "it ends well")
	progress(200)
	close(stop)
	load.Wait()
	assert.Zero(t, refused.Load(), "of %d requests", asked.Load())
}

// startProgram runs patrol serve on a database that is there, until the test ends,
// and returns where it answers Envoy.
func startProgram(t *testing.T, binary, database string) (grpc string, cmd *exec.Cmd) {
	t.Helper()
	dir := t.TempDir()
	cmd = exec.Command(binary, "serve")
	cmd.Env = append(os.Environ(),
		"PATROL_LISTEN=127.0.0.1:0", "PATROL_GRPC_LISTEN=127.0.0.1:0", "PATROL_DATA_DIR="+dir, "PATROL_DATABASE_URL="+database,
		"PATROL_TOKEN_KEYS=e2e:"+base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32)), "PATROL_EXTAUTHZ_TIMEOUT=1s", "PATROL_EXTAUTHZ_DRAIN_DELAY=4s",
	)
	log, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var entry struct{ Msg, GRPC string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "listening" && entry.GRPC != "" {
			go func() { // the pipe must not fill up
				for lines.Scan() {
				}
			}()
			_, _, err := net.SplitHostPort(entry.GRPC)
			require.NoError(t, err)
			return entry.GRPC, cmd
		}
	}
	t.Fatal("patrol did not start")
	return "", nil
}
