//go:build unix && !race

package ui

import (
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The budget of the list with 100 tokens: under 60 KiB on the wire, and under
// 20 ms of processor time, compression and garbage collection included. The race
// detector would measure itself.
func TestTheListKeepsToItsBudget(t *testing.T) {
	u, err := New()
	require.NoError(t, err)
	s := samples()["list-long"]
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	const rounds = 20
	before := processorTime(t)
	for range rounds {
		w := httptest.NewRecorder()
		require.NoError(t, u.Write(w, r, http.StatusOK, s.frame, s.page))
		assert.Less(t, w.Body.Len(), 60<<10)
	}
	each := (processorTime(t) - before) / rounds
	t.Logf("%s of processor time for each page", each)
	assert.Less(t, each, 20*time.Millisecond)
}

// processorTime returns the processor time that this process used so far, in user and system mode.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var use syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &use))
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
