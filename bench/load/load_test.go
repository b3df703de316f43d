package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bench"
)

func TestParseStat(t *testing.T) {
	const line = "4242 (a (b) c) S 1 4242 4242 0 -1 4194304 100 0 0 0 150 25 0 0 20 0 8 0 1000 2000000 500"
	got, err := parseStat(line)
	require.NoError(t, err)
	assert.Equal(t, 1750*time.Millisecond, got)

	for _, bad := range []string{"", "1 (x) S 1", "1 (x) S 1 1 1 0 -1 0 0 0 0 0 x y 0"} {
		_, err := parseStat(bad)
		assert.Error(t, err, bad)
	}
}

func TestListening(t *testing.T) {
	for line, want := range map[string]string{
		`{"time":"2026-01-01T00:00:00Z","level":"INFO","msg":"listening","http":"127.0.0.1:1234"}`: "127.0.0.1:1234",
		`{"msg":"listening","http":"http://127.0.0.1:1234"}`:                                       "127.0.0.1:1234",
		`{"msg":"starting","http":"127.0.0.1:1234"}`:                                               "",
		`not JSON`: "",
	} {
		assert.Equal(t, want, listening(line), line)
	}
}

func TestFireSendsEveryRequestAndChecksEveryAnswer(t *testing.T) {
	var seen atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen.Add(1)
		fmt.Fprintf(w, "%s, good", body)
	}))
	t.Cleanup(server.Close)
	addr := strings.TrimPrefix(server.URL, "http://")
	payloads := []payload{post(addr, "/", []byte("one")), post(addr, "/", []byte("two"))}

	got, err := fire(t.Context(), addr, payloads, []byte("good"), 100, 4)
	require.NoError(t, err)
	assert.EqualValues(t, 100, seen.Load())
	assert.Positive(t, got.p50)
	assert.LessOrEqual(t, got.p50, got.p99)

	_, err = fire(t.Context(), addr, payloads, []byte("one, good"), 100, 4)
	assert.ErrorContains(t, err, "unexpected answer 200: two, good")
}

func TestMedian(t *testing.T) {
	assert.Equal(t, 2, median([]int{3, 1, 2}))
	assert.Equal(t, 2, median([]int{4, 3, 1, 2}))
}

func TestBars(t *testing.T) {
	w, err := bench.NewWorld(1, time.Now())
	require.NoError(t, err)
	us := func(n int) time.Duration { return time.Duration(n) * time.Microsecond }
	of := func(change func(r *results, cpu map[string]int)) *results {
		ms := func(n int) []bench.Sample { return []bench.Sample{{CPU: us(n)}} }
		r := &results{authorize: ms(1), models: ms(500), users: ms(60_000), resident: 160e6}
		for _, c := range w.Cases() {
			r.addCase(c, bench.Sample{CPU: time.Duration(c.MaxRatio * 1e6), Allocs: c.MaxAllocs}, bench.Sample{CPU: 1e6})
		}
		cpu := map[string]int{
			patrolLogging: 60, patrolSilent: 50, constantName: 20, opaMinimal: 80, opaSame: 240, gatewayGet: 100, reverseGet: 50, gatewayPost: 110, reversePost: 50,
		}
		change(r, cpu)
		for name, n := range cpu {
			r.add(name, round{perSecond: 1, p50: us(1), p99: us(1)}, us(n))
		}
		return r
	}
	for _, c := range []struct {
		name   string
		change func(r *results, cpu map[string]int)
		missed string
	}{
		{"all met, to the letter", func(*results, map[string]int) {}, ""},
		{"allocations", func(r *results, _ map[string]int) { r.cases[0].samples[0].Allocs++ }, "evaluation, allow: 17 allocations, at most 16 allocations"},
		{"evaluation", func(r *results, _ map[string]int) { r.cases[1].samples[0].CPU += 1e4 }, "evaluation, allow_limits, CPU against the evaluation of before: 0.11 ×, at most 0.1 ×"},
		{"models", func(r *results, _ map[string]int) { r.models[0].CPU += 1e5 }, "100 models for one token, CPU: 0.6 ms, at most 0.5 ms"},
		{"constant handler", func(_ *results, cpu map[string]int) { cpu[constantName] = 15 }, "against a constant handler: 4 ×, at most 3 ×"},
		{"OPA, minimal", func(_ *results, cpu map[string]int) { cpu[opaMinimal] = 60 }, "a minimal policy: 1 ×, at most 0.75 ×"},
		{"OPA, same", func(_ *results, cpu map[string]int) { cpu[opaSame] = 120 }, "the same policy: 0.5 ×, at most 0.25 ×"},
		{"gateway", func(_ *results, cpu map[string]int) { cpu[reverseGet] = 40 }, "httputil.ReverseProxy: 2.5 ×, at most 2 ×"},
		{"memory", func(r *results, _ map[string]int) { r.resident = 170e6 }, "under this load: 170 MB, at most 160 MB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			assert.Equal(t, c.missed != "", of(c.change).report(&out))
			if c.missed == "" {
				assert.NotContains(t, out.String(), "FAIL")
				return
			}
			assert.Regexp(t, "FAIL .*"+regexp.QuoteMeta(c.missed), out.String())
			assert.Equal(t, 1, strings.Count(out.String(), "FAIL"))
		})
	}
}

func TestPage(t *testing.T) {
	r := &results{authorize: []bench.Sample{{}}, models: []bench.Sample{{}}, users: []bench.Sample{{}}}
	r.add(patrolLogging, round{perSecond: 1, p50: time.Millisecond, p99: time.Millisecond}, time.Microsecond)
	page := filepath.Join(t.TempDir(), "performance.md")
	require.NoError(t, r.write(options{write: page}))
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	assert.Contains(t, string(text), "| patrol | 1 |")
	picture, err := os.ReadFile(filepath.Join(filepath.Dir(page), "images", "performance.svg"))
	require.NoError(t, err)
	assert.NoError(t, xml.Unmarshal(picture, new(struct{})))
}
