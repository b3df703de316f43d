package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"patrol/bench"
	"patrol/internal/testenv"
)

// logged is a way of keeping decisions, and how much of the throughput without
// keeping any it may cost.
type logged struct {
	name string
	sink string // in metrics; "": there is none
	most float64
	env  []string
}

const (
	loggedRequests    = 20_000 // per round and server
	loggedRounds      = 3
	loggedConnections = 16
	// minRecorded is the share of decisions that must be on record.
	minRecorded = 0.999
)

// anyAnswer is in every answer, allowed or not: on a busy machine an evaluation may
// take too long, which is not what is measured here.
var anyAnswer = []byte(`"decision_id":`)

// BenchmarkDecisionLog holds what logging costs against its bars: the throughput
// of `POST /authorize` of the built program, with everything that was decided
// written, compared with the same program that logs nothing, in turns.
func BenchmarkDecisionLog(b *testing.B) {
	dir := b.TempDir()
	program := filepath.Join(dir, "patrol")
	build := exec.CommandContext(b.Context(), "go", "build", "-o", program, "../../cmd/patrol")
	out, err := build.CombinedOutput()
	require.NoError(b, err, "%s", out)

	ways := []logged{
		{name: "nothing", env: []string{"PATROL_DECISION_LOG_DATABASE=false"}},
		{name: "file", sink: "file", most: 0.15, env: []string{
			"PATROL_DECISION_LOG_DATABASE=false", "PATROL_DECISION_LOG_FILE=" + filepath.Join(dir, "decisions.jsonl"),
		}},
		{name: "postgres", sink: "database", most: 0.25, env: []string{"PATROL_DECISION_LOG_DATABASE_URL=" + testenv.Postgres(b)}},
		{name: "sqlite", sink: "database", most: 0.40, env: []string{"PATROL_DECISION_LOG_DATABASE_URL=" + testenv.SQLite(b)}},
	}
	w, err := bench.NewWorld(1000, time.Now())
	require.NoError(b, err)
	url := "sqlite://" + filepath.Join(dir, "patrol.db")
	store, err := bench.OpenStore(b.Context(), url, w)
	require.NoError(b, err)
	require.NoError(b, store.Close())

	servers := make([]*process, len(ways))
	payloads := make([][]payload, len(ways))
	for i, way := range ways {
		cmd := exec.CommandContext(b.Context(), program, "serve")
		cmd.Env = append(os.Environ(), append([]string{
			"PATROL_LISTEN=127.0.0.1:0", "PATROL_GRPC_LISTEN=127.0.0.1:0", "PATROL_DATA_DIR=" + dir, "PATROL_DATABASE_URL=" + url, "PATROL_TOKEN_KEYS=" + w.KeysText,
		}, way.env...)...)
		p, err := start(b.Context(), way.name, cmd, "", listening)
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, p.stop()) })
		servers[i] = p
		for _, h := range w.Holders {
			payloads[i] = append(payloads[i], post(p.addr, "/authorize", authorizeBody(h)))
		}
		_, err = fire(b.Context(), p.addr, payloads[i], anyAnswer, 10_000, loggedConnections)
		require.NoError(b, err)
	}
	perSecond, cpu := make([][]float64, len(ways)), make([][]time.Duration, len(ways))
	for range loggedRounds {
		for i, way := range ways {
			before := written(b, servers[i].addr, way.sink)
			used, err := servers[i].cpu()
			require.NoError(b, err)
			begin := time.Now()
			_, err = fire(b.Context(), servers[i].addr, payloads[i], anyAnswer, loggedRequests, loggedConnections)
			require.NoError(b, err)
			// Decisions that are still to be written count, too.
			if way.sink != "" {
				require.Eventually(b, func() bool { return written(b, servers[i].addr, way.sink) >= before+loggedRequests },
					time.Minute, 5*time.Millisecond, "%s: decisions are not written", way.name)
			}
			now, err := servers[i].cpu()
			require.NoError(b, err)
			cpu[i] = append(cpu[i], (now-used)/loggedRequests)
			perSecond[i] = append(perSecond[i], loggedRequests/time.Since(begin).Seconds())
		}
	}
	base := median(perSecond[0])
	b.ReportMetric(base, "nothing/s")
	for i, way := range ways[1:] {
		rate := median(perSecond[i+1])
		cost := 1 - rate/base
		lost := dropped(b, servers[i+1].addr)
		share := 1 - lost/float64(loggedRounds*loggedRequests+10_000)
		verdict := "PASS"
		if cost > way.most || share < minRecorded {
			verdict = "FAIL"
			b.Fail()
		}
		b.Logf("%s  decision log, %s: %.0f/s against %.0f/s, %.1f%% less, at most %.0f%%; %.3f%% recorded, at least %.1f%%; %s CPU per request against %s",
			verdict, way.name, rate, base, 100*cost, 100*way.most, 100*share, 100*minRecorded, micros(median(cpu[i+1])), micros(median(cpu[0])))
		b.ReportMetric(100*cost, way.name+"-cost-%")
	}
}

// written counts the decisions that a sink has, or lost.
func written(b *testing.B, addr, sink string) float64 {
	if sink == "" {
		return 0
	}
	return metric(b, addr, `patrol_decision_log_recorded_total{sink="`+sink+`"}`) + dropped(b, addr)
}

func dropped(b *testing.B, addr string) float64 {
	return metric(b, addr, "patrol_decision_log_dropped_total{")
}

// metric sums up the series that begin so.
func metric(b *testing.B, addr, prefix string) (sum float64) {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, fmt.Sprintf("http://%s/metrics", addr), nil)
	require.NoError(b, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(b, err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(io.LimitReader(resp.Body, 8<<20))
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), prefix) {
			n, err := strconv.ParseFloat(lines.Text()[strings.LastIndexByte(lines.Text(), ' ')+1:], 64)
			require.NoError(b, err)
			sum += n
		}
	}
	require.NoError(b, lines.Err())
	return sum
}
