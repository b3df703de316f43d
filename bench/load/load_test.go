package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
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
	of := func(patrol, constant, opa, authorize int, allocs int64) *results {
		r := &results{authorize: []bench.Sample{{CPU: us(authorize)}}}
		for _, c := range w.Cases() {
			r.addCase(c, bench.Sample{CPU: us(10), Allocs: allocs})
		}
		for name, cpu := range map[string]int{"patrol": patrol, "constant": constant, "opa": opa} {
			r.add(name, round{perSecond: 1, p50: us(cpu), p99: us(cpu)}, us(cpu))
		}
		return r
	}
	most := int64(w.Cases()[0].MaxAllocs())
	for _, c := range []struct {
		name   string
		r      *results
		missed string
	}{
		{"all met, to the letter", of(48, 20, 80, 16, most), ""},
		{"allocations", of(48, 20, 80, 16, most+1), fmt.Sprintf("evaluation, allow: %d allocations, at most %d", most+1, most)},
		{"cached Authorize", of(48, 20, 80, 17, most), "cached Authorize: 17.0 µs CPU, at most 16.0 µs"},
		{"against the constant handler", of(49, 20, 100, 16, most), "POST /authorize: 49.0 µs CPU, at most 48.0 µs"},
		{"against OPA", of(48, 20, 79, 16, most), "POST /authorize: 48.0 µs CPU, at most 47.4 µs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			assert.Equal(t, c.missed != "", c.r.report(&out))
			if c.missed == "" {
				assert.NotContains(t, out.String(), "FAIL")
				return
			}
			assert.Contains(t, out.String(), "FAIL  "+c.missed)
			assert.Equal(t, 1, strings.Count(out.String(), "FAIL"))
		})
	}
}
