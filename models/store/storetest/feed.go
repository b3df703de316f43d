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
		assert.Zero(e, e.lastChange().Seq)
		assert.Empty(e, e.lastChange().Nonce)
		assert.Empty(e, e.changesAfter(fromStart))
		assert.Empty(e, e.changesAfter(e.lastChange()))
	}},
	{name: "the feed is read on", test: func(e *env) {
		at := e.lastChange()
		for i := range 5 {
			want := []string{"domain " + e.domain(fmt.Sprintf("d%d", i)).ID}
			if i > 2 {
				want = append(want, "domain "+e.domain(fmt.Sprintf("e%d", i)).ID)
			}
			assert.Equal(e, want, e.changesAfter(at))
			assert.Equal(e, want, e.changesAfter(at), "as often as one asks")
			page, err := e.store.Changes(e.ctx, at, len(want))
			require.NoError(e, err)
			assert.True(e, page.Complete)
			at = page.Next
		}
		assert.Empty(e, e.changesAfter(at))
		assert.Len(e, e.changesAfter(fromStart), 7)
	}},
	{name: "a reader with more before it than it wants starts over", test: func(e *env) {
		for i := range 3 {
			e.domain(fmt.Sprintf("d%d", i))
		}
		for limit, complete := range map[int]bool{1: false, 2: false, 3: true, 4: true} {
			page, err := e.store.Changes(e.ctx, fromStart, limit)
			require.NoError(e, err)
			assert.Equal(e, complete, page.Complete, "of 3 at most %d", limit)
			assert.Equal(e, complete, len(page.Changes) == 3)
		}
	}},
	{name: "other stores see the changes", test: func(e *env) {
		other := e.another()
		e.store.OnChange(func([]store.Change) { e.Error("only a store's own writes are told") })
		_, err := other.CreateDomain(e.ctx, actor, models.Domain{ID: "acme"})
		require.NoError(e, err)
		assert.Equal(e, []string{"domain acme"}, e.changesAfter(fromStart))
	}},
	{name: "a reader learns that it lags behind, and the last change stays", test: func(e *env) {
		start := e.lastChange()
		e.domain("a")
		first := e.lastChange()
		e.domain("b")
		old := e.lastChange()
		e.clock.Advance(time.Hour)
		e.domain("c")
		complete := func(p models.FeedPosition) bool {
			page, err := e.store.Changes(e.ctx, p, 10)
			require.NoError(e, err)
			assert.True(e, page.Complete || len(page.Changes) == 0)
			return page.Complete
		}
		prune := func() { require.NoError(e, e.store.PruneChanges(e.ctx, time.Minute)) }
		// What began before, be it in another database, keeps changes from being pruned.
		require.Eventually(e, func() bool { prune(); return !complete(old) }, time.Minute, 10*time.Millisecond)
		// A position that was read while such a transaction was open reaches back to before
		// what is gone now. A server reads again within 250 ms; changes are kept for longer.
		last := e.lastChange()
		for range 2 { // the second time there is nothing to do
			prune()
			assert.False(e, complete(fromStart))
			assert.False(e, complete(start))
			assert.False(e, complete(first))
			assert.True(e, complete(last))
		}
		assert.False(e, complete(old), "its last change is gone, so that it cannot know")
		e.clock.Advance(time.Hour)
		prune()
		assert.Equal(e, last.Nonce, e.lastChange().Nonce, "the last one stays however old it is")
		assert.Empty(e, e.changesAfter(last))
		e.domain("d")
		assert.Equal(e, []string{"domain d"}, e.changesAfter(last))
		e.clock.Advance(30 * time.Second)
		next := e.lastChange()
		prune()
		assert.Equal(e, next.Nonce, e.lastChange().Nonce)
		assert.Empty(e, e.changesAfter(e.lastChange()))
	}},
	{name: "a reader learns that the feed is another one", test: func(e *env) {
		e.domain("a")
		at := e.lastChange()
		for name, edit := range map[string]func(*models.FeedPosition){
			"another change has the number": func(p *models.FeedPosition) { p.Nonce = "33c3a2a0-5b1c-4b54-8f38-0d6f3c3d8f11" },
			"there is no such number":       func(p *models.FeedPosition) { p.Seq += 41 },
			"no change, and a number ahead": func(p *models.FeedPosition) { p.Seq, p.Nonce = p.Seq+41, "" },
			"another server":                func(p *models.FeedPosition) { p.World += "0" },
		} {
			other := at
			edit(&other)
			if name == "another server" && at.World == "" {
				continue // a file is on none
			}
			page, err := e.store.Changes(e.ctx, other, 10)
			require.NoError(e, err)
			assert.False(e, page.Complete, name)
			assert.Empty(e, page.Changes, name)
		}
		assert.Empty(e, e.changesAfter(at))
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
		assert.Zero(e, e.lastChange().Seq)
	}},
}
