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

// policy is a revision named for its number.
func policy(n int) store.PolicyRevision {
	return store.PolicyRevision{
		Digest: fmt.Sprintf("sha256:%02d", n), ArchiveDigest: fmt.Sprintf("sha256:a%02d", n), Revision: fmt.Sprintf("v%d", n), Source: "/etc/policy",
		SignedBy: "release", Result: json.RawMessage(`{"passed":true}`), Summary: map[string]string{"tests": "3 passed"},
	}
}

func (e *env) activate(n int) store.PolicyRevision {
	e.Helper()
	p := policy(n)
	require.NoError(e, e.store.ActivatePolicy(e.ctx, actor, p, []byte(p.Revision)))
	e.clock.Advance(time.Second)
	return p
}

func (e *env) kinds() (kinds []string) {
	e.Helper()
	events, err := e.store.PolicyEvents(e.ctx, "", 100)
	require.NoError(e, err)
	for _, event := range events {
		kinds = append(kinds, string(event.Kind)+" "+event.Subject.Revision)
	}
	return kinds
}

var policyCases = []testCase{
	{name: "no policy was ever in force", test: func(e *env) {
		state, err := e.store.PolicyState(e.ctx)
		require.NoError(e, err)
		assert.Empty(e, state.Digest)
		assert.False(e, state.Pinned)
		revisions, err := e.store.PolicyRevisions(e.ctx)
		require.NoError(e, err)
		assert.Empty(e, revisions)
		for _, name := range []string{"", "v1", "\x00", "\xff"} {
			_, err = e.store.PolicyArchive(e.ctx, name)
			e.fails(models.CodeNotFound, err)
			_, err = e.store.KeptPolicy(e.ctx, name)
			e.fails(models.CodeNotFound, err)
			_, err = e.store.RollBackPolicy(e.ctx, actor, name)
			e.fails(models.CodeNotFound, err)
		}
	}},
	{name: "what is activated is in force, once, with its archive", test: func(e *env) {
		at := e.clock.Now()
		p := e.activate(1)
		e.activate(1)
		state, err := e.second().PolicyState(e.ctx)
		require.NoError(e, err)
		assert.Equal(e, store.PolicyState{Digest: p.Digest, ArchiveDigest: p.ArchiveDigest, Revision: "v1", Source: p.Source, Since: at}, state)
		archive, err := e.store.PolicyArchive(e.ctx, p.Digest)
		require.NoError(e, err)
		assert.Equal(e, "v1", string(archive))
		revisions, err := e.store.PolicyRevisions(e.ctx)
		require.NoError(e, err)
		p.ActivatedAt = at
		assert.Equal(e, []store.PolicyRevision{p}, revisions)
		for _, name := range []string{p.Revision, p.Digest} {
			kept, err := e.store.KeptPolicy(e.ctx, name)
			require.NoError(e, err)
			assert.Equal(e, p, kept)
		}
		assert.Equal(e, []string{"activate v1"}, e.kinds())

		tests := policy(1) // the same policy with other tests
		tests.ArchiveDigest = "sha256:other"
		require.NoError(e, e.store.ActivatePolicy(e.ctx, actor, tests, []byte("other")))
		archive, err = e.store.PolicyArchive(e.ctx, p.Digest)
		require.NoError(e, err)
		assert.Equal(e, "other", string(archive))
	}},
	{name: "the last revisions are kept, and the one in force whatever its age", test: func(e *env) {
		for n := range store.KeptPolicies + 3 {
			e.activate(n)
		}
		_, err := e.store.RollBackPolicy(e.ctx, actor, "v2")
		e.fails(models.CodeNotFound, err)
		state, err := e.store.RollBackPolicy(e.ctx, actor, "v3")
		require.NoError(e, err)
		assert.Equal(e, "v3", state.Revision)
		revisions, err := e.store.PolicyRevisions(e.ctx)
		require.NoError(e, err)
		require.Len(e, revisions, store.KeptPolicies)
		assert.Equal(e, "v3", revisions[0].Revision)
	}},
	{name: "a roll back pins until the source is followed again", test: func(e *env) {
		e.activate(1)
		e.activate(2)
		state, err := e.store.RollBackPolicy(e.ctx, actor, policy(1).Digest)
		require.NoError(e, err)
		assert.True(e, state.Pinned)
		assert.Equal(e, "v1", state.Revision)
		_, err = e.store.RollBackPolicy(e.ctx, actor, "v1")
		require.NoError(e, err, "again, which changes nothing")
		e.fails(models.CodeConflict, e.store.ActivatePolicy(e.ctx, actor, policy(3), []byte("v3")))
		require.NoError(e, e.store.ActivatePolicy(e.ctx, actor, policy(1), []byte("v1")), "it is in force")
		after, err := e.store.ResumePolicy(e.ctx, actor)
		require.NoError(e, err)
		assert.False(e, after.Pinned)
		assert.Equal(e, state.Resumed+1, after.Resumed)
		e.activate(3)
		assert.Equal(e, []string{"activate v3", "resume v1", "rollback v1", "activate v2", "activate v1"}, e.kinds())
	}},
	{name: "names that several revisions have", test: func(e *env) {
		for n := range 2 {
			p := policy(n)
			p.Revision = "main"
			require.NoError(e, e.store.ActivatePolicy(e.ctx, actor, p, []byte("archive")))
		}
		_, err := e.store.RollBackPolicy(e.ctx, actor, "main")
		e.fails(models.CodeConflict, err)
		assert.ErrorContains(e, err, policy(0).Digest)
		_, err = e.store.RollBackPolicy(e.ctx, actor, policy(0).Digest)
		require.NoError(e, err)
	}},
	{name: "a refusal is told once, until something else happens", test: func(e *env) {
		bad := policy(9)
		bad.Result = json.RawMessage(`{"passed":false}`)
		require.NoError(e, e.store.RefusePolicy(e.ctx, actor, bad))
		require.NoError(e, e.second().RefusePolicy(e.ctx, actor, bad))
		other := bad
		other.Result = json.RawMessage(`{"passed":false,"why":"other"}`)
		require.NoError(e, e.store.RefusePolicy(e.ctx, actor, other))
		e.activate(1)
		require.NoError(e, e.store.RefusePolicy(e.ctx, actor, other))
		assert.Equal(e, []string{"refuse v9", "activate v1", "refuse v9", "refuse v9"}, e.kinds())
		refused, err := e.store.PolicyEvents(e.ctx, store.PolicyRefused, 2)
		require.NoError(e, err)
		require.Len(e, refused, 2)
		assert.JSONEq(e, string(other.Result), string(refused[0].Subject.Result))
		assert.Equal(e, actor.UserID, refused[0].ByUser)
		state, err := e.store.PolicyState(e.ctx)
		require.NoError(e, err)
		assert.Equal(e, "v1", state.Revision)
	}},
	{name: "what happened is in the audit log, however long it is", test: func(e *env) {
		p := policy(1)
		p.Summary["findings"] = strings.Repeat("é", 2000)
		p.Result = json.RawMessage(`"` + strings.Repeat("x", 100_000) + `"`)
		require.NoError(e, e.store.RefusePolicy(e.ctx, actor, p))
		events, _, err := e.store.AuditEvents(e.ctx, store.AuditFilter{Action: "policy.refuse"}, store.Page{})
		require.NoError(e, err)
		require.Len(e, events, 1)
		assert.Equal(e, "policy:"+p.Digest, events[0].Subject)
		assert.Equal(e, "v1", events[0].Detail["revision"])
		assert.Equal(e, "/etc/policy", events[0].Detail["source"])
		assert.Equal(e, "3 passed", events[0].Detail["tests"])
		assert.LessOrEqual(e, len(events[0].Detail["findings"]), 520)
		refused, err := e.store.PolicyEvents(e.ctx, store.PolicyRefused, 1)
		require.NoError(e, err)
		assert.Equal(e, string(p.Result), string(refused[0].Subject.Result))
	}},
	{name: "servers that put different policies in force agree in the end", test: func(e *env) {
		var tasks sync.WaitGroup
		for i, s := range []*store.Store{e.store, e.second(), e.another()} {
			tasks.Go(func() {
				for n := range 10 {
					p := policy(10*i + n)
					assert.NoError(e, s.ActivatePolicy(e.ctx, actor, p, []byte(p.Revision)))
				}
			})
		}
		tasks.Wait()
		first, err := e.store.PolicyState(e.ctx)
		require.NoError(e, err)
		second, err := e.second().PolicyState(e.ctx)
		require.NoError(e, err)
		assert.Equal(e, first, second)
		archive, err := e.store.PolicyArchive(e.ctx, first.Digest)
		require.NoError(e, err)
		assert.Equal(e, first.Revision, string(archive))
		events, err := e.store.PolicyEvents(e.ctx, "", 100)
		require.NoError(e, err)
		assert.Len(e, events, 30)
		assert.Equal(e, first.Digest, events[0].Subject.Digest)
	}},
}
