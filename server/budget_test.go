//go:build unix && !race

package server_test

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
)

// The list with 100 tokens costs less than 20 ms of processor time, from the
// connection to the database and back, this test's own part included. The race
// detector would measure itself.
func TestTheListIsCheap(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	for i := range 100 {
		w.pat("ann", fmt.Sprintf("token number %d of many", i), "acme:models:*:read", "acme:models:*:execute", fmt.Sprintf("acme:datasets:set-%d:read", i))
	}
	ann := w.visit("ann")
	ann.header.Set("Accept-Encoding", "gzip")
	const rounds = 20
	before := processorTime(t)
	for range rounds {
		ann.send(http.MethodGet, "/profile/pats", nil).is(200)
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
