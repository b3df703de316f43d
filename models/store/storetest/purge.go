package storetest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

var purgeCases = []testCase{
	{name: "dead tokens go by their age, live ones stay", config: limits(models.Limits{MaxLifetime: 10 * time.Hour}), test: func(e *env) {
		ann, bob := e.user("ann").ID, e.user("bob").ID
		lives := func(d time.Duration) func(*models.PAT) {
			return func(p *models.PAT) { p.ExpiresAt = e.clock.Now().Add(d).Truncate(time.Second) }
		}
		expired := e.pat(ann, "expired", lives(time.Hour))
		tooLong := e.pat(ann, "over the maximum", lives(100*time.Hour)) // dead after 10 h
		revoked := e.pat(ann, "revoked", lives(100*time.Hour))
		others := e.pat(bob, "others", lives(time.Hour))
		_, err := e.store.RevokePAT(e.ctx, actor, ann, revoked.ID)
		require.NoError(e, err)
		e.clock.Advance(5 * time.Hour)
		alive := e.pat(ann, "alive", lives(8*time.Hour))

		left := func(user string) (ids []string) {
			pats, _, err := e.store.PATs(e.ctx, store.PATFilter{UserID: user}, store.Page{})
			require.NoError(e, err)
			for _, p := range pats {
				ids = append(ids, p.ID)
			}
			return ids
		}
		purge := func(p store.Purge) int {
			n, more, err := e.store.PurgePATs(e.ctx, actor, p)
			require.NoError(e, err)
			assert.False(e, more)
			return n
		}
		assert.Zero(e, purge(store.Purge{UserID: ann, Age: 6 * time.Hour}), "none is dead for so long")
		assert.Equal(e, 1, purge(store.Purge{UserID: ann, Age: 5 * time.Hour}))
		assert.ElementsMatch(e, []string{expired.ID, tooLong.ID, alive.ID}, left(ann))
		seq := e.lastChange()
		assert.Equal(e, 1, purge(store.Purge{UserID: ann}))
		assert.ElementsMatch(e, []string{tooLong.ID, alive.ID}, left(ann))
		assert.NotEmpty(e, e.changesAfter(seq))
		assert.Equal(e, []string{others.ID}, left(bob))
		e.clock.Advance(6 * time.Hour)
		assert.Equal(e, 2, purge(store.Purge{}), "everybody's")
		assert.Equal(e, []string{alive.ID}, left(ann))
		events, _, err := e.store.AuditEvents(e.ctx, store.AuditFilter{Action: "pat.purge"}, store.Page{})
		require.NoError(e, err)
		assert.Len(e, events, 4)
		_, _, err = e.store.PurgePATs(e.ctx, actor, store.Purge{UserID: "nobody"})
		e.fails(models.CodeNotFound, err)
	}},
	{name: "a purge is bounded, and goes on", test: func(e *env) {
		ann := e.user("ann").ID
		for i := range 7 {
			e.pat(ann, fmt.Sprint(i))
		}
		_, err := e.store.RevokeAll(e.ctx, actor, ann)
		require.NoError(e, err)
		n, more, err := e.store.PurgePATs(e.ctx, actor, store.Purge{Limit: 5})
		require.NoError(e, err)
		assert.Equal(e, 5, n)
		assert.True(e, more)
		n, more, err = e.store.PurgePATs(e.ctx, actor, store.Purge{Limit: 5})
		require.NoError(e, err)
		assert.Equal(e, 2, n)
		assert.False(e, more)
	}},
	{name: "a chain of rotations stays one when a link is purged", test: func(e *env) {
		ann := e.user("ann").ID
		first := e.pat(ann, "ci")
		second, err := e.store.RotatePAT(e.ctx, actor, ann, first.ID, e.newPAT("", ""), time.Hour)
		require.NoError(e, err)
		third, err := e.store.RotatePAT(e.ctx, actor, ann, second.ID, e.newPAT("", ""), 0)
		require.NoError(e, err)
		n, _, err := e.store.PurgePATs(e.ctx, actor, store.Purge{UserID: ann})
		require.NoError(e, err)
		assert.Equal(e, 1, n, "the second")
		_, err = e.store.RevokePAT(e.ctx, actor, ann, third.ID)
		require.NoError(e, err)
		p, err := e.store.PAT(e.ctx, first.ID)
		require.NoError(e, err)
		assert.NotNil(e, p.RevokedAt, "revoking the third ends the grace of the first")
	}},
}
