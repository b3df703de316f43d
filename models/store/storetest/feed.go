package storetest

import (
	"context"
	"fmt"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

var feedCases = []testCase{
	{name: "an empty feed", test: func(e *env) {
		assert.Zero(e, e.lastChange())
		assert.Empty(e, e.changesAfter(0))
	}},
	{name: "the feed is read in parts", test: func(e *env) {
		var want []string
		for i := range 7 {
			want = append(want, "domain "+e.domain(fmt.Sprintf("d%d", i)).ID)
		}
		var got []string
		last := int64(0)
		for range 4 {
			changes, complete, err := e.store.Changes(e.ctx, last, 2)
			require.NoError(e, err)
			assert.True(e, complete)
			for _, c := range changes {
				assert.Greater(e, c.Seq, last)
				last = c.Seq
				got = append(got, string(c.Kind)+" "+c.Key)
			}
		}
		assert.Equal(e, want, got)
		assert.Equal(e, e.lastChange(), last)
	}},
	{name: "other stores see the changes", test: func(e *env) {
		other := e.another()
		e.store.OnChange(func([]store.Change) { e.Error("only a store's own writes are told") })
		_, err := other.CreateDomain(e.ctx, actor, models.Domain{ID: "acme"})
		require.NoError(e, err)
		assert.Equal(e, []string{"domain acme"}, e.changesAfter(0))
	}},
	{name: "a reader learns that it lags behind", test: func(e *env) {
		e.domain("a")
		e.domain("b")
		old := e.lastChange()
		e.clock.Advance(time.Hour)
		e.domain("c")
		require.NoError(e, e.store.PruneChanges(e.ctx, time.Minute))
		for _, c := range []struct {
			after    int64
			complete bool
			seen     int
		}{{0, false, 1}, {old - 1, false, 1}, {old, true, 1}, {old + 1, true, 0}, {old + 2, false, 0}} {
			changes, complete, err := e.store.Changes(e.ctx, c.after, 10)
			require.NoError(e, err)
			assert.Equal(e, c.complete, complete, "after %d of %d", c.after, old+1)
			assert.Len(e, changes, c.seen)
		}
		e.clock.Advance(time.Hour)
		require.NoError(e, e.store.PruneChanges(e.ctx, time.Minute))
		assert.Equal(e, old+1, e.lastChange(), "numbers go on when all is pruned")
		assert.Empty(e, e.changesAfter(old+1))
		e.domain("d")
		assert.Equal(e, []string{"domain d"}, e.changesAfter(old+1))
		require.NoError(e, e.store.PruneChanges(e.ctx, time.Minute), "nothing is old enough")
		assert.Equal(e, []string{"domain d"}, e.changesAfter(old+1))
	}},
	{name: "the data version, where there is one, tells of every commit", test: func(e *env) {
		stores := []*store.Store{e.store, e.another()}
		read := func() (versions []int64, all bool) {
			for _, s := range stores {
				v, ok, err := s.DataVersion(e.ctx)
				require.NoError(e, err)
				if !ok {
					return nil, false
				}
				versions = append(versions, v)
			}
			return versions, true
		}
		before, ok := read()
		if !ok {
			return // PostgreSQL has none
		}
		again, _ := read()
		assert.Equal(e, before, again)
		for i := range 5 {
			e.domain(fmt.Sprintf("d%d", i))
			after, _ := read()
			for s := range stores {
				assert.NotEqual(e, before[s], after[s])
			}
			before = after
		}
	}},
	{name: "a cancelled write leaves nothing, and its error says so", test: func(e *env) {
		ctx, cancel := context.WithCancel(e.ctx)
		cancel()
		_, err := e.store.CreateDomain(ctx, actor, models.Domain{ID: "acme"})
		e.fails(models.CodeUnavailable, err)
		require.ErrorIs(e, err, context.Canceled)
		ctx, cancel = context.WithDeadline(e.ctx, time.Now().Add(-time.Second))
		defer cancel()
		_, err = e.store.Domain(ctx, "acme")
		e.fails(models.CodeUnavailable, err)
		require.ErrorIs(e, err, context.DeadlineExceeded)
		assert.Zero(e, e.lastChange())
	}},
}
