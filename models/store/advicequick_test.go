//go:build !race

package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
)

// TestAdviceOnAFleetIsQuick has a thousand tokens with a hundred uses each.
func TestAdviceOnAFleetIsQuick(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		f := newFleet(t, url)
		const tokens, days = 1000, 25
		var c models.DecisionCounts
		for i := range tokens {
			name := fmt.Sprint("t", i)
			p := f.pat("ann", name, 40, "acme:models:*:read", "acme:models:a:execute", "acme:datasets:*:read", "acme:datasets:*:write")
			for d := range days {
				day := models.DayOf(f.clock.Now().AddDate(0, 0, -d))
				for e := range 4 {
					c.Used = append(c.Used, models.UsedScope{
						Day: day, TokenID: p.ID, ScopeID: p.Scopes[e%2].ID, Domain: "acme", EntityType: "models", Entity: fmt.Sprint("m", e),
						Operation: p.Scopes[e%2].Operation, Count: int64(d + 1), LastAt: day,
					})
				}
			}
		}
		require.Len(t, c.Used, 100_000)
		for part := range slices.Chunk(c.Used, 10_000) {
			require.NoError(t, f.log.AddCounts(t.Context(), models.DecisionCounts{Used: part}))
		}
		best := time.Hour
		for range 3 {
			begin := time.Now()
			found, _, totals, err := f.store.AdvisePATs(t.Context(), f.log, store.AdviceSearch{Since: f.clock.Now().AddDate(0, 0, -30)}, store.Page{Limit: 50})
			require.NoError(t, err)
			best = min(best, time.Since(begin))
			assert.Len(t, found, 50)
			assert.Equal(t, tokens, totals.Narrowable)
		}
		t.Logf("advice on %d tokens with %d counts: %s", tokens, len(c.Used), best)
		assert.Less(t, best, time.Second)
	})
}
