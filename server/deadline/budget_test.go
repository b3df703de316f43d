package deadline_test

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/server/deadline"
)

func TestBudget(t *testing.T) {
	b := deadline.NewBudget(10, 6)
	require.NoError(t, b.Take("ann", 6))
	require.ErrorIs(t, b.Take("ann", 1), deadline.ErrShare)
	require.NoError(t, b.Take("ben", 4))
	require.ErrorIs(t, b.Take("ben", 1), deadline.ErrSpent)
	require.ErrorIs(t, b.Take("cid", 1), deadline.ErrSpent)
	b.Give("ann", 2)
	require.NoError(t, b.Take("cid", 2))
	b.Give("ann", 4)
	b.Give("ben", 4)
	b.Give("cid", 2)
	assert.Zero(t, b.Used())
	require.NoError(t, b.Take("ann", 6))
}

func TestBudgetUnderUse(t *testing.T) {
	b := deadline.NewBudget(100, 60)
	var all sync.WaitGroup
	for _, caller := range []string{"ann", "ann", "ben", "ben", "cid"} {
		all.Go(func() {
			for range 2000 {
				n := rand.Int64N(50)
				if b.Take(caller, n) == nil {
					assert.LessOrEqual(t, b.Used(), int64(100))
					b.Give(caller, n)
				}
			}
		})
	}
	all.Wait()
	assert.Zero(t, b.Used())
}

func TestBudgetMoves(t *testing.T) {
	b := deadline.NewBudget(4, 3)
	for range 3 {
		require.NoError(t, b.Take("", 1))
		require.NoError(t, b.Move("", "a", 1))
	}
	require.NoError(t, b.Take("", 1))
	require.ErrorIs(t, b.Move("", "a", 1), deadline.ErrShare)
	require.NoError(t, b.Move("", "", 1))
	assert.EqualValues(t, 4, b.Used())
	b.Give("", 1)
	b.Give("a", 3)
	assert.Zero(t, b.Used())
}
