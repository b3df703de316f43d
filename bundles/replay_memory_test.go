//go:build !race

package bundles

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bundles/sandbox"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/policies/engine"
)

// TestReplayOfManyTakesLittle replays more tokens than fit into the child's memory.
func TestReplayOfManyTakesLittle(t *testing.T) {
	if !sandbox.Enforced {
		testenv.Missing(t, "rlimits", "this platform has no limits on processes")
	}
	event := seededEvents(t, 1, models.DefaultLimits().MaxScopes)[0]
	const count = 20_000
	report, err := Replay(t.Context(), engine.Source{Name: "own", Files: lightFiles(t, nil)},
		func(_ context.Context, yield func([]byte) error) error {
			for i := range count {
				if err := yield(bytes.ReplaceAll(event, []byte("token00000000000"), fmt.Appendf(nil, "token%011d", i))); err != nil {
					return err
				}
			}
			return nil
		}, ReplayOptions{Limits: sandbox.Limits{Memory: 192 << 20}})
	require.NoError(t, err)
	assert.EqualValues(t, count, report.Replayed)
	assert.Zero(t, report.Changes())
}
