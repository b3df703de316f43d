//go:build !race

package shadow_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bundles/sandbox"
	"patrol/internal/testenv"
	"patrol/policies/engine"
)

// The race detector takes time and memory for itself, of which this is about.
func TestWhatAPolicyTakesEndsNothingElse(t *testing.T) {
	if !sandbox.Enforced {
		testenv.Missing(t, "rlimits", "this platform has no limits on processes")
	}
	b := newBed(t, setup{candidate: hungry()})
	candidate := engine.Source{Files: files(t, hungry())}.Digest()
	b.judging(candidate)
	for range 5 {
		b.record("b", "read")
		b.record("d", "read")
	}
	b.record("slow", "read")
	b.record("fat", "read")
	for range 5 {
		b.record("b", "read")
	}
	got := b.await(candidate, 17)
	// What takes too long and what makes too much end as errors of the policy, which is
	// before the process that judges has taken all that it may.
	assert.Equal(t, map[string]int64{"same": 5, "newly_denied holiday": 10, "newly_denied policy_error": 2}, got)
	require.Eventually(t, func() bool { return b.Status().Failure == "" }, time.Minute, 5*time.Millisecond, "it goes on")
}
