package storetest

import (
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

func (e *env) rotate(p models.PAT, grace time.Duration) models.PAT {
	e.Helper()
	next, err := e.store.RotatePAT(e.ctx, actor, p.UserID, p.ID, e.newPAT("", ""), grace)
	require.NoError(e, err)
	return next
}

func (e *env) revoke(p models.PAT) models.PAT {
	e.Helper()
	revoked, err := e.store.RevokePAT(e.ctx, actor, p.UserID, p.ID)
	require.NoError(e, err)
	return revoked
}

var rotationCases = []testCase{
	{name: "the successor takes over", test: func(e *env) {
		p := e.pat(e.user("ann").ID, "ci", func(p *models.PAT) {
			p.Description = "nightly"
			p.Scopes = scopes("b:models:*:read", "a:models:x:execute")
		})
		require.NoError(e, e.store.RecordUses(e.ctx, []store.Use{{TokenID: p.ID, At: e.clock.Now()}}))
		e.clock.Advance(time.Minute)
		given := e.newPAT("ignored", "ignored")
		given.Scopes = nil
		next, err := e.store.RotatePAT(e.ctx, actor, p.UserID, p.ID, given, 0)
		require.NoError(e, err)
		assert.Equal(e, models.PAT{
			ID: given.ID, UserID: p.UserID, Name: "ci", Description: "nightly", KeyID: given.KeyID, MAC: given.MAC,
			CreatedAt: given.CreatedAt, ExpiresAt: given.ExpiresAt, Scopes: next.Scopes,
		}, next)
		assert.Equal(e, next, e.reread(next.ID))
		assert.Equal(e, scopeTexts(p), scopeTexts(next))
		assert.NotEqual(e, p.Scopes[0].ID, next.Scopes[0].ID)

		old := e.reread(p.ID)
		assert.Equal(e, next.ID, old.RotatedTo)
		assert.Equal(e, e.clock.Now(), *old.RevokedAt, "without a grace the old one ends at once")
		assert.Equal(e, []string{next.ID}, e.live(p.UserID))
		_, err = e.store.CreatePAT(e.ctx, actor, e.newPAT(p.UserID, "ci"))
		e.fails(models.CodeTaken, err)
	}},
	{name: "the old token lives for the grace and no longer than it would have", test: func(e *env) {
		ann := e.user("ann").ID
		for _, c := range []struct {
			name          string
			grace, expiry time.Duration // from now, which is at .25
		}{
			{"rounded up", 90 * time.Second, 90*time.Second + 750*time.Millisecond},
			{"short", time.Millisecond, 750 * time.Millisecond},
			{"longer than its life", 2 * time.Hour, time.Hour - 250*time.Millisecond},
		} {
			p := e.pat(ann, c.name)
			next := e.rotate(p, c.grace)
			old := e.reread(p.ID)
			assert.Nil(e, old.RevokedAt)
			assert.Equal(e, e.clock.Now().Add(c.expiry), old.ExpiresAt, c.name)
			assert.Subset(e, e.live(ann), []string{p.ID, next.ID})
		}
	}},
	{name: "the grace is limited", config: limits(models.Limits{MaxGrace: time.Hour}), test: func(e *env) {
		p := e.pat(e.user("ann").ID, "ci")
		for _, grace := range []time.Duration{-1, time.Hour + 1} {
			_, err := e.store.RotatePAT(e.ctx, actor, p.UserID, p.ID, e.newPAT("", ""), grace)
			e.fails(models.CodeInvalid, err)
			assert.ErrorContains(e, err, "grace: must be between 0 and 1h")
		}
		e.rotate(p, time.Hour)
	}},
	{name: "a token is rotated once", test: func(e *env) {
		for _, grace := range []time.Duration{0, time.Minute} {
			p := e.pat(e.user(grace.String()).ID, "ci")
			next := e.rotate(p, grace)
			for range 2 {
				_, err := e.store.RotatePAT(e.ctx, actor, p.UserID, p.ID, e.newPAT("", ""), 0)
				e.fails(models.CodeAlreadyRotated, err)
				var rotated *models.Error
				require.ErrorAs(e, err, &rotated)
				assert.Equal(e, next.ID, rotated.RotatedTo)
				e.revoke(p) // the second time it is revoked, which tells nothing new
			}
			assert.Equal(e, []string{next.ID}, e.live(p.UserID))
		}
	}},
	{name: "dead tokens are not rotated", test: func(e *env) {
		ann := e.user("ann").ID
		p, q := e.pat(ann, "p"), e.pat(ann, "q", lives(2*time.Second))
		e.revoke(p)
		e.clock.Advance(2 * time.Second)
		for _, dead := range []models.PAT{p, q} {
			_, err := e.store.RotatePAT(e.ctx, actor, ann, dead.ID, e.newPAT("", ""), time.Minute)
			e.fails(models.CodeConflict, err)
		}
		assert.Empty(e, e.live(ann))
	}},
	{name: "a retired token is not widened, but may be narrowed and relabelled", test: func(e *env) {
		p := e.pat(e.user("ann").ID, "ci", func(p *models.PAT) { p.Scopes = scopes("a:m:*:r", "b:m:*:r") })
		e.rotate(p, time.Hour)
		_, err := e.store.AddScope(e.ctx, actor, p.UserID, p.ID, scopes("c:m:*:r")[0])
		e.fails(models.CodeConflict, err)
		_, err = e.store.RemoveScope(e.ctx, actor, p.UserID, p.ID, p.Scopes[0].ID)
		require.NoError(e, err)
		name := "old ci"
		e.pat(p.UserID, name)
		_, err = e.store.UpdatePAT(e.ctx, actor, p.UserID, p.ID, store.PATPatch{Name: &name})
		require.NoError(e, err, "it holds no name")
		e.fails(models.CodeTokenAlive, e.store.DeletePAT(e.ctx, actor, p.UserID, p.ID))
	}},
	{name: "revoking is final, repeatable and open to platform admins", test: func(e *env) {
		p := e.pat(e.user("ann").ID, "ci")
		revoked, err := e.store.RevokePAT(e.ctx, actor, "", p.ID)
		require.NoError(e, err)
		at := e.clock.Now()
		p.RevokedAt, p.Revoked = &at, models.Revocation{By: models.RevokerPlatformAdmin}
		assert.Equal(e, p, revoked)
		e.clock.Advance(time.Minute)
		seq, event := e.lastChange(), e.lastEvent()
		assert.Equal(e, p, e.revoke(p))
		assert.Empty(e, e.changesAfter(seq))
		assert.Empty(e, e.auditAfter(event))
	}},
	{name: "revoking ends the grace of all predecessors", test: func(e *env) {
		for _, c := range []struct {
			name   string
			graces []time.Duration // of the rotations a→b→c→…
			delete int             // a dead link to delete first, -1 for none
			revoke int             // the link to revoke
			live   []int           // links that are live after it
		}{
			{"of one", []time.Duration{time.Hour}, -1, 1, nil},
			{"of a chain", []time.Duration{time.Hour, time.Hour, time.Hour}, -1, 3, nil},
			{"over a dead link", []time.Duration{time.Hour, 0}, -1, 2, nil},
			{"over a deleted link", []time.Duration{time.Hour, 0}, 1, 2, nil},
			{"from a link that is dead already", []time.Duration{time.Hour, 0}, -1, 1, []int{2}},
			{"but no successor", []time.Duration{time.Hour, time.Hour}, -1, 0, []int{1, 2}},
			{"up to the link", []time.Duration{time.Hour, time.Hour}, -1, 1, []int{2}},
		} {
			ann := e.user(models.NewID()).ID
			links := []models.PAT{e.pat(ann, "ci")}
			other := e.rotate(e.pat(ann, "other"), time.Hour)
			for _, grace := range c.graces {
				links = append(links, e.rotate(links[len(links)-1], grace))
			}
			if c.delete >= 0 {
				require.NoError(e, e.store.DeletePAT(e.ctx, actor, ann, links[c.delete].ID))
			}
			e.revoke(links[c.revoke])
			want := []string{}
			for _, i := range c.live {
				want = append(want, links[i].ID)
			}
			_, err := e.store.RevokePAT(e.ctx, actor, ann, other.ID)
			require.NoError(e, err)
			assert.ElementsMatch(e, want, e.live(ann), c.name)
		}
	}},
	{name: "revoke all", config: limits(models.Limits{MaxLifetime: 10 * time.Minute}), test: func(e *env) {
		ann, bob := e.user("ann").ID, e.user("bob").ID
		e.rotate(e.pat(ann, "a"), time.Minute)
		e.pat(ann, "b", lives(2*time.Second))
		e.revoke(e.pat(ann, "c"))
		kept := e.pat(bob, "a")
		e.clock.Advance(2 * time.Second)
		n, err := e.store.RevokeAll(e.ctx, actor, ann)
		require.NoError(e, err)
		assert.Equal(e, 2, n, "the retired one in its grace and its successor")
		assert.Empty(e, e.live(ann))
		assert.Equal(e, []string{kept.ID}, e.live(bob))
		n, err = e.store.RevokeAll(e.ctx, actor, ann)
		require.NoError(e, err)
		assert.Zero(e, n)
		_, err = e.store.RevokeAll(e.ctx, actor, "nobody")
		e.fails(models.CodeNotFound, err)

		over := e.pat(ann, "over") // dead under this maximum, but not under a later one
		e.clock.Advance(11 * time.Minute)
		_, err = e.store.RevokeAll(e.ctx, actor, ann)
		require.NoError(e, err)
		assert.NotNil(e, e.reread(over.ID).RevokedAt)
	}},
}
