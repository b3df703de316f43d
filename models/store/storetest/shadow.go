package storetest

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

// shadow makes a revision the shadow.
func (e *env) shadow(n int) store.PolicyRevision {
	e.Helper()
	p := policy(n)
	require.NoError(e, e.store.PlaceShadow(e.ctx, actor, p, []byte(p.Revision)))
	e.clock.Advance(time.Second)
	return p
}

// newlyDenied counts decisions that a shadow denies, each an example. Ids begin with
// from.
func (e *env) newlyDenied(base string, n int, from string) models.ShadowCount {
	c := models.ShadowCount{
		Base: base, Kind: "newly_denied", Reasons: "weekend", Rules: json.RawMessage(`[{"code":"weekend"}]`), Count: int64(n),
		FirstAt: e.clock.Now(), LastAt: e.clock.Now(),
	}
	for i := range n {
		c.Examples = append(c.Examples, models.Divergence{
			ID: fmt.Sprintf("%s%03d", from, i), At: e.clock.Now(), Request: "acme:models:m:read", Before: []models.ReasonCode{}, After: []models.ReasonCode{"weekend"},
		})
	}
	return c
}

func (e *env) same(base string, n int64) models.ShadowCount {
	return models.ShadowCount{Base: base, Kind: models.ShadowSame, Rules: json.RawMessage(`[]`), Count: n, FirstAt: e.clock.Now(), LastAt: e.clock.Now()}
}

var shadowCases = []testCase{
	{name: "there is no shadow", test: func(e *env) {
		p, err := e.store.PolicyShadow(e.ctx, "")
		require.NoError(e, err)
		assert.Empty(e, p.Digest)
		for _, name := range []string{"", "v1", "\x00"} {
			_, err = e.store.PromotePolicy(e.ctx, actor, name, -1)
			e.fails(models.CodeNotFound, err)
			_, err = e.store.ShadowArchive(e.ctx, name)
			e.fails(models.CodeNotFound, err)
			counts, err := e.store.ShadowCounts(e.ctx, name, "v0")
			require.NoError(e, err)
			assert.Empty(e, counts)
		}
		e.fails(models.CodeNotFound, e.store.AddShadowCounts(e.ctx, "sha256:01", []models.ShadowCount{e.same("v0", 1)}))
	}},
	{name: "the last one placed is the shadow, once", test: func(e *env) {
		at := e.clock.Now()
		e.shadow(1)
		e.shadow(1)
		p, err := e.second().PolicyShadow(e.ctx, "")
		require.NoError(e, err)
		want := policy(1)
		want.ActivatedAt = at
		assert.Equal(e, want, p)
		e.shadow(2)
		e.shadow(1)
		p, err = e.store.PolicyShadow(e.ctx, "")
		require.NoError(e, err)
		assert.Equal(e, "v1", p.Revision)
		p, err = e.store.PolicyShadow(e.ctx, policy(2).Digest)
		require.NoError(e, err)
		assert.Equal(e, "v2", p.Revision)
		assert.Equal(e, []string{"shadow v1", "shadow v2", "shadow v1"}, e.kinds())
		archive, err := e.store.ShadowArchive(e.ctx, policy(1).Digest)
		require.NoError(e, err)
		assert.Equal(e, "v1", string(archive))
		events, _, err := e.store.AuditEvents(e.ctx, store.AuditFilter{Action: "policy.shadow"}, store.Page{})
		require.NoError(e, err)
		assert.Len(e, events, 3)
	}},
	{name: "a clock that runs behind does not keep a shadow from being the last", test: func(e *env) {
		e.shadow(1)
		e.clock.Advance(-time.Hour)
		e.shadow(2)
		p, err := e.store.PolicyShadow(e.ctx, "")
		require.NoError(e, err)
		assert.Equal(e, "v2", p.Revision)
	}},
	{name: "few are kept, and what they add up to goes with them", test: func(e *env) {
		e.shadow(1)
		require.NoError(e, e.store.AddShadowCounts(e.ctx, policy(1).Digest, []models.ShadowCount{e.same("v0", 1)}))
		for n := 2; n <= 4; n++ {
			e.shadow(n)
		}
		_, err := e.store.ShadowArchive(e.ctx, policy(1).Digest)
		e.fails(models.CodeNotFound, err)
		e.fails(models.CodeNotFound, e.store.AddShadowCounts(e.ctx, policy(1).Digest, []models.ShadowCount{e.same("v0", 1)}))
		counts, err := e.store.ShadowCounts(e.ctx, policy(1).Digest, "v0")
		require.NoError(e, err)
		assert.Empty(e, counts)
	}},
	{name: "counts of several servers add up, with the latest examples", test: func(e *env) {
		d := e.shadow(1).Digest
		first := e.clock.Now()
		require.NoError(e, e.store.AddShadowCounts(e.ctx, d, []models.ShadowCount{e.same("v0", 5), e.newlyDenied("v0", 8, "a")}))
		e.clock.Advance(time.Minute)
		require.NoError(e, e.second().AddShadowCounts(e.ctx, d, []models.ShadowCount{e.same("v0", 7), e.newlyDenied("v0", 4, "b"), e.same("other", 1)}))
		counts, err := e.store.ShadowCounts(e.ctx, d, "v0")
		require.NoError(e, err)
		require.Len(e, counts, 2)
		assert.Equal(e, []int64{12, 12}, []int64{counts[0].Count, counts[1].Count})
		denied := counts[0]
		assert.Equal(e, "newly_denied", denied.Kind)
		assert.Equal(e, "weekend", denied.Reasons)
		assert.JSONEq(e, `[{"code":"weekend"}]`, string(denied.Rules))
		assert.Equal(e, []time.Time{first, first.Add(time.Minute)}, []time.Time{denied.FirstAt, denied.LastAt})
		ids := make([]string, len(denied.Examples))
		for i, x := range denied.Examples {
			ids[i] = x.ID
		}
		assert.Equal(e, []string{"b003", "b002", "b001", "b000", "a007", "a006", "a005", "a004", "a003", "a002"}, ids)
	}},
	{name: "kinds of divergence are bounded", test: func(e *env) {
		d := e.shadow(1).Digest
		for round := range 4 {
			var many []models.ShadowCount
			for i := range 100 {
				c := e.newlyDenied("v0", 1, "a")
				c.Reasons = fmt.Sprintf("code_%d_%d", round, i)
				many = append(many, c)
			}
			require.NoError(e, e.store.AddShadowCounts(e.ctx, d, many))
			e.clock.Advance(time.Second)
		}
		require.NoError(e, e.store.AddShadowCounts(e.ctx, d, []models.ShadowCount{e.same("v0", 1)}))
		counts, err := e.store.ShadowCounts(e.ctx, d, "v0")
		require.NoError(e, err)
		assert.Len(e, counts, 300)
		for _, c := range counts {
			assert.False(e, strings.HasPrefix(c.Reasons, "code_0_"), "the oldest go first")
		}
	}},
	{name: "servers that count at once lose nothing", test: func(e *env) {
		d := e.shadow(1).Digest
		var tasks sync.WaitGroup
		for _, s := range []*store.Store{e.store, e.second(), e.another()} {
			tasks.Go(func() {
				for range 10 {
					assert.NoError(e, s.AddShadowCounts(e.ctx, d, []models.ShadowCount{e.newlyDenied("v0", 2, "a"), e.same("v0", 3)}))
				}
			})
		}
		tasks.Wait()
		counts, err := e.store.ShadowCounts(e.ctx, d, "v0")
		require.NoError(e, err)
		require.Len(e, counts, 2)
		assert.Equal(e, []int64{90, 60}, []int64{counts[0].Count, counts[1].Count})
	}},
	{name: "a refusal of the shadow is none of the policy", test: func(e *env) {
		e.activate(1)
		require.NoError(e, e.store.RefuseShadow(e.ctx, actor, policy(2)))
		require.NoError(e, e.second().RefuseShadow(e.ctx, actor, policy(2)))
		assert.Equal(e, []string{"shadow_refuse v2", "activate v1"}, e.kinds())
		refused, err := e.store.PolicyEvents(e.ctx, store.PolicyRefused, 5)
		require.NoError(e, err)
		assert.Empty(e, refused)
	}},
	{name: "what was looked at is promoted, and pinned", test: func(e *env) {
		e.activate(1)
		p := e.shadow(2)
		require.NoError(e, e.store.AddShadowCounts(e.ctx, p.Digest, []models.ShadowCount{e.same("v1", 40), e.newlyDenied("v1", 2, "a"), e.newlyDenied("v0", 9, "b")}))
		_, err := e.store.PromotePolicy(e.ctx, actor, policy(3).Digest, -1)
		e.fails(models.CodeConflict, err)
		assert.ErrorContains(e, err, p.Digest)
		_, err = e.store.PromotePolicy(e.ctx, actor, p.Digest, 1)
		e.fails(models.CodeConflict, err)
		assert.ErrorContains(e, err, "2 decisions")
		state, err := e.store.PromotePolicy(e.ctx, actor, p.Digest, 2)
		require.NoError(e, err)
		assert.Equal(e, []any{"v2", true, true}, []any{state.Revision, state.Pinned, state.Promoted})
		_, err = e.second().PromotePolicy(e.ctx, actor, "v2", -1)
		e.fails(models.CodeConflict, err)
		assert.ErrorContains(e, err, "in force already")
		archive, err := e.store.PolicyArchive(e.ctx, p.Digest)
		require.NoError(e, err)
		assert.Equal(e, "v2", string(archive))
		e.fails(models.CodeConflict, e.store.ActivatePolicy(e.ctx, actor, policy(1), []byte("v1")))
		assert.Equal(e, []string{"promote v2", "shadow v2", "activate v1"}, e.kinds())
		events, _, err := e.store.AuditEvents(e.ctx, store.AuditFilter{Action: "policy.promote"}, store.Page{})
		require.NoError(e, err)
		require.Len(e, events, 1)
		assert.Equal(e, "policy:"+p.Digest, events[0].Subject)
		for key, want := range map[string]string{"before": "v1", "shadow_same": "40", "shadow_newly_denied": "2", "signed_by": "release", "tests": "3 passed"} {
			assert.Equal(e, want, events[0].Detail[key], key)
		}
		revisions, err := e.store.PolicyRevisions(e.ctx)
		require.NoError(e, err)
		assert.Len(e, revisions, 2, "it can be rolled back")
	}},
	{name: "the pin of a promotion ends when the source has the same", test: func(e *env) {
		e.activate(1)
		e.shadow(2)
		promoted, err := e.store.PromotePolicy(e.ctx, actor, "v2", -1)
		require.NoError(e, err)
		e.clock.Advance(time.Hour)
		shipped := policy(2)
		shipped.Source, shipped.ArchiveDigest = "https://bundles.example.com/p.tar.gz", "sha256:packed-otherwise"
		require.NoError(e, e.store.ActivatePolicy(e.ctx, actor, shipped, []byte("v2")))
		state, err := e.store.PolicyState(e.ctx)
		require.NoError(e, err)
		assert.Equal(e, []any{false, false, shipped.Source, shipped.ArchiveDigest}, []any{state.Pinned, state.Promoted, state.Source, state.ArchiveDigest})
		assert.Equal(e, promoted.Since, state.Since, "it was in force all the time")
		assert.Equal(e, promoted.Resumed, state.Resumed, "nobody is told to look at a source that may be behind")
		e.activate(3)
		assert.Equal(e, []string{"activate v3", "activate v2", "promote v2", "shadow v2", "activate v1"}, e.kinds())
	}},
	{name: "a roll back after a promotion stays", test: func(e *env) {
		e.activate(1)
		e.shadow(2)
		_, err := e.store.PromotePolicy(e.ctx, actor, "v2", -1)
		require.NoError(e, err)
		state, err := e.store.RollBackPolicy(e.ctx, actor, "v1")
		require.NoError(e, err)
		assert.Equal(e, []any{true, false}, []any{state.Pinned, state.Promoted})
		require.NoError(e, e.store.ActivatePolicy(e.ctx, actor, policy(1), []byte("v1")), "the source has it, and the pin stays")
		state, err = e.store.PolicyState(e.ctx)
		require.NoError(e, err)
		assert.True(e, state.Pinned)
		_, err = e.store.PromotePolicy(e.ctx, actor, "v2", -1)
		require.NoError(e, err, "a promotion is as good as a roll back")
		state, err = e.store.RollBackPolicy(e.ctx, actor, "v2")
		require.NoError(e, err)
		assert.Equal(e, []any{true, false}, []any{state.Pinned, state.Promoted}, "to what is in force: it is pinned for good now")
	}},
}
