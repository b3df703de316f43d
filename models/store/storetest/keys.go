package storetest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

// reports has a server report its ring, the current key first.
func (e *env) reports(server string, keys ...string) {
	e.Helper()
	r := store.ServerKeys{Server: server, Name: "host " + server}
	for i, id := range keys {
		r.Keys = append(r.Keys, store.ServerKey{ID: id, Check: "check of " + id, Current: i == 0})
	}
	require.NoError(e, e.store.ReportKeys(e.ctx, r))
}

var keyCases = []testCase{
	{name: "a key is promoted when every server has it", test: func(e *env) {
		e.fails(models.CodeNotFound, e.store.PromoteKey(e.ctx, actor, "k2"))
		e.reports("a", "k1", "k2")
		e.reports("b", "k1")
		err := e.store.PromoteKey(e.ctx, actor, "k2")
		e.fails(models.CodeConflict, err)
		assert.ErrorContains(e, err, "the key k2 is not in the ring of host b")
		require.NoError(e, e.store.ReportKeys(e.ctx, store.ServerKeys{Server: "b", Name: "host b", Keys: []store.ServerKey{
			{ID: "k1", Check: "check of k1", Current: true}, {ID: "k2", Check: "another"},
		}}))
		err = e.store.PromoteKey(e.ctx, actor, "k2")
		e.fails(models.CodeConflict, err)
		e.reports("b", "k1", "k2")
		require.NoError(e, e.store.PromoteKey(e.ctx, actor, "k2"))
		state, err := e.store.KeyState(e.ctx)
		require.NoError(e, err)
		assert.Equal(e, "k2", state.Promoted)
		for _, odd := range odd {
			assert.Error(e, e.store.PromoteKey(e.ctx, actor, odd))
			assert.Error(e, e.store.RetireKey(e.ctx, actor, odd))
		}
	}},
	{name: "a server that ended holds nothing up", test: func(e *env) {
		e.reports("a", "k1", "k2")
		e.reports("b", "k1")
		require.NoError(e, e.store.ForgetKeys(e.ctx, "b"))
		servers, err := e.store.KeyServers(e.ctx)
		require.NoError(e, err)
		require.Len(e, servers, 1)
		assert.Equal(e, []store.ServerKey{{ID: "k1", Check: "check of k1", Current: true}, {ID: "k2", Check: "check of k2"}}, servers[0].Keys)
		require.NoError(e, e.store.PromoteKey(e.ctx, actor, "k2"))
	}},
	{name: "a key is retired when no live token is of it", test: func(e *env) {
		ann := e.user("ann").ID
		of := func(key string) func(*models.PAT) { return func(p *models.PAT) { p.KeyID = key } }
		p := e.pat(ann, "old", of("k1"))
		e.reports("a", "k1", "k2")
		e.fails(models.CodeConflict, e.store.RetireKey(e.ctx, actor, "k1")) // a server makes tokens of it
		require.NoError(e, e.store.PromoteKey(e.ctx, actor, "k2"))
		e.reports("a", "k2", "k1")
		err := e.store.RetireKey(e.ctx, actor, "k1")
		e.fails(models.CodeConflict, err)
		assert.ErrorContains(e, err, "1 live tokens are of the key k1")
		_, err = e.store.RevokePAT(e.ctx, actor, ann, p.ID)
		require.NoError(e, err)
		e.fails(models.CodeConflict, e.store.RetireKey(e.ctx, actor, "k2"))
		require.NoError(e, e.store.RetireKey(e.ctx, actor, "k1"))
		state, err := e.store.KeyState(e.ctx)
		require.NoError(e, err)
		assert.Equal(e, []string{"k1"}, state.Retired)
		used, err := e.store.KeyIDs(e.ctx)
		require.NoError(e, err)
		assert.Empty(e, used, "nobody needs it")
		uses, err := e.store.KeyUses(e.ctx)
		require.NoError(e, err)
		assert.Equal(e, []store.KeyUse{{KeyID: "k1", Dead: 1}}, uses)
		next := e.newPAT(ann, "late")
		next.KeyID = "k1"
		_, err = e.store.CreatePAT(e.ctx, actor, next)
		require.Error(e, err, "a server that was stopped in the middle makes no token of it")
		e.fails(models.CodeConflict, e.store.PromoteKey(e.ctx, actor, "k1"))
	}},
	{name: "the first report says which secret an id means, until it is reset", test: func(e *env) {
		check := func() string {
			state, err := e.store.KeyState(e.ctx)
			require.NoError(e, err)
			return state.Checks["k1"]
		}
		report := func(value string) {
			require.NoError(e, e.store.ReportKeys(e.ctx, store.ServerKeys{Server: "a", Name: "a", Keys: []store.ServerKey{{ID: "k1", Check: value, Current: true}}}))
		}
		report("one")
		report("two")
		assert.Equal(e, "two", check(), "no token was made of it yet")
		e.pat(e.user("ann").ID, "ci", func(p *models.PAT) { p.KeyID = "k1" })
		report("three")
		assert.Equal(e, "two", check())
		e.fails(models.CodeConflict, e.store.ResetKey(e.ctx, actor, "k1"))
		require.NoError(e, e.store.ForgetKeys(e.ctx, "a"))
		require.NoError(e, e.store.ResetKey(e.ctx, actor, "k1"))
		report("three")
		assert.Equal(e, "three", check())
	}},
}

// keeper is a file of tombstones in memory.
type keeper struct {
	stones []models.Tombstone
	err    error
}

func (k *keeper) Append(stones []models.Tombstone) error {
	k.stones = append(k.stones, stones...)
	return k.err
}

var restoreCases = []testCase{
	{name: "what was taken away is taken away from an earlier state, and nothing is given back", test: func(e *env) {
		// Two databases: the second is an earlier state of the first, as a restore makes
		// it. Both get the same rows; then only the first goes on.
		ann, eve := e.user("ann", admin).ID, e.user("eve", admin).ID
		e.domain("acme")
		_, err := e.store.SetMember(e.ctx, actor, models.Membership{UserID: ann, Domain: "acme", Role: "member"})
		require.NoError(e, err)
		revoked, kept, narrowed := e.pat(ann, "revoked"), e.pat(ann, "kept"), e.pat(ann, "narrowed", func(p *models.PAT) {
			p.Scopes = scopes("acme:models:*:read", "acme:models:*:execute")
		})
		rotated := e.pat(ann, "rotated")

		// The events that a later state would have buried.
		at := e.clock.Now()
		stone := func(after time.Duration, action, subject string, detail map[string]string) models.Tombstone {
			return models.Tombstone{At: at.Add(after), Action: action, Subject: subject, Detail: detail}
		}
		stones := []models.Tombstone{
			stone(time.Second, "pat.revoke", "pat:"+revoked.ID, map[string]string{"reason": "it leaked"}),
			stone(time.Second, "pat.revoke", "pat:gone", nil),
			stone(2*time.Second, "pat.remove_scope", "pat:"+narrowed.ID, map[string]string{"scope": "acme:models:*:execute"}),
			stone(2*time.Second, "pat.rotate", "pat:"+rotated.ID, map[string]string{"rotated_to": "next", "grace": "0s"}),
			stone(3*time.Second, "user.disable", "user:"+eve, nil),
			stone(4*time.Second, "user.enable", "user:"+eve, nil),
			stone(4*time.Second, "user.demote", "user:"+ann, nil),
			stone(5*time.Second, "member.remove", "membership:acme/"+ann, nil),
			stone(5*time.Second, "domain.status", "domain:acme", map[string]string{"to": "frozen"}),
		}
		e.clock.Advance(time.Minute)
		done, err := e.store.Reapply(e.ctx, actor, append(stones, stones...))
		require.NoError(e, err)
		assert.Len(e, done, 6, "%q", done)
		read := func(id string) *models.PAT {
			p, err := e.store.PAT(e.ctx, id)
			require.NoError(e, err)
			return p
		}
		assert.Equal(e, at.Add(time.Second), read(revoked.ID).RevokedAt.UTC())
		assert.Equal(e, "it leaked", read(revoked.ID).Revoked.Reason)
		assert.NotNil(e, read(rotated.ID).RevokedAt)
		assert.Nil(e, read(kept.ID).RevokedAt)
		require.Len(e, read(narrowed.ID).Scopes, 1)
		assert.Equal(e, "acme:models:*:read", read(narrowed.ID).Scopes[0].String())
		u, err := e.store.User(e.ctx, eve)
		require.NoError(e, err)
		assert.False(e, u.Disabled, "it was enabled later")
		u, err = e.store.User(e.ctx, ann)
		require.NoError(e, err)
		assert.False(e, u.Admin)
		m, err := e.store.Membership(e.ctx, ann, "acme")
		require.NoError(e, err)
		assert.Nil(e, m)
		d, err := e.store.Domain(e.ctx, "acme")
		require.NoError(e, err)
		assert.Equal(e, models.DomainIsFrozen, d.Status)

		// Keys that the database knows need no check value, whatever their state.
		status := models.DomainEnabled
		_, err = e.store.UpdateDomain(e.ctx, actor, "acme", store.DomainPatch{Status: &status})
		require.NoError(e, err)
		done, err = e.store.Reapply(e.ctx, actor, stones)
		require.NoError(e, err)
		assert.Empty(e, done)
		d, err = e.store.Domain(e.ctx, "acme")
		require.NoError(e, err)
		assert.Equal(e, models.DomainEnabled, d.Status)
	}},
	{name: "a token that was rotated is good for its grace after a restore, and without one not at all", test: func(e *env) {
		ann := e.user("ann").ID
		for _, c := range []struct {
			name, grace  string
			after        time.Duration // from the rotation to the restore, by this machine's clock
			dead         bool
			good, atMost time.Duration // from the rotation
		}{
			{"no grace, within the same second", "0s", time.Millisecond, true, 0, 0},
			{"no grace, later", "0s", time.Hour, true, 0, 0},
			{"no grace, of a machine whose clock is ahead", "0s", -2 * time.Second, true, 0, 0},
			{"a grace that cannot be read", "a while", time.Millisecond, true, 0, 0},
			{"within the grace", "1m", time.Second, false, time.Minute, time.Minute + time.Second},
			{"after the grace", "1m", time.Hour, true, 0, 0},
		} {
			p := e.pat(ann, c.name)
			stone := models.Tombstone{
				At: e.clock.Now().Add(-c.after), Action: "pat.rotate", Subject: "pat:" + p.ID,
				Detail: map[string]string{"rotated_to": "next", "grace": c.grace},
			}
			done, err := e.store.Reapply(e.ctx, actor, []models.Tombstone{stone})
			require.NoError(e, err)
			assert.Len(e, done, 1, c.name)
			p = e.reread(p.ID)
			assert.Equal(e, c.dead, p.RevokedAt != nil, c.name)
			if _, end := stone.EndedToken(); c.grace != "1m" {
				assert.Equal(e, stone.At, end, c.name)
			}
			if !c.dead {
				assert.False(e, p.ExpiresAt.Before(stone.At.Add(c.good)), c.name)
				assert.False(e, p.ExpiresAt.After(stone.At.Add(c.atMost)), c.name)
			}
		}
	}},
	{name: "limits and keys are as strict as they were, and no stricter", test: func(e *env) {
		const hour = time.Hour
		e.reports("a", "k1", "k2", "k3")
		require.NoError(e, e.store.PromoteKey(e.ctx, actor, "k1"))
		cases := []struct {
			domain       string
			backup, want models.DomainLimits
			lost         []string // what they were changed to since
		}{
			{"tightened", models.DomainLimits{}, models.DomainLimits{MaxLifetime: hour, NoWildcards: true, Approval: true}, []string{"at most 1h, no wildcards, approval"}},
			{"shortened", models.DomainLimits{MaxLifetime: 9 * hour}, models.DomainLimits{MaxLifetime: hour}, []string{"at most 1h"}},
			{"loosened", models.DomainLimits{MaxLifetime: hour, Approval: true}, models.DomainLimits{MaxLifetime: hour, Approval: true}, []string{"none"}},
			{"both", models.DomainLimits{}, models.DomainLimits{MaxLifetime: 9 * hour}, []string{"at most 1h, approval", "at most 9h"}},
			{"some of each", models.DomainLimits{NoWildcards: true}, models.DomainLimits{NoWildcards: true, Approval: true}, []string{"approval"}},
		}
		at := e.clock.Now()
		stones := []models.Tombstone{
			{At: at.Add(time.Second), Action: "key.retire", Subject: "key:k1"},
			{At: at.Add(time.Second), Action: "key.retire", Subject: "key:k9"},
			{At: at.Add(time.Second), Action: "domain.limits", Subject: "domain:gone", Detail: map[string]string{"to": "approval"}},
		}
		id := func(i int) string { return fmt.Sprint("d", i) }
		for i, c := range cases {
			e.domain(id(i))
			_, err := e.store.UpdateDomain(e.ctx, actor, id(i), store.DomainPatch{Limits: &c.backup})
			require.NoError(e, err)
			for n, to := range c.lost {
				stones = append(stones, models.Tombstone{At: at.Add(time.Duration(n+1) * time.Second), Action: "domain.limits", Subject: "domain:" + id(i), Detail: map[string]string{"to": to}})
			}
		}
		e.clock.Advance(time.Minute)
		done, err := e.store.Reapply(e.ctx, actor, stones)
		require.NoError(e, err)
		assert.Len(e, done, 2+4, "%q", done)
		for i, c := range cases {
			d, err := e.store.Domain(e.ctx, id(i))
			require.NoError(e, err)
			assert.Equal(e, c.want, d.Limits, c.domain)
		}
		state, err := e.store.KeyState(e.ctx)
		require.NoError(e, err)
		assert.ElementsMatch(e, []string{"k1", "k9"}, state.Retired)
		assert.Empty(e, state.Promoted, "no tokens are made of a key that is retired")
		done, err = e.store.Reapply(e.ctx, actor, stones)
		require.NoError(e, err)
		assert.Empty(e, done)
		_, err = e.store.Reapply(e.ctx, actor, []models.Tombstone{{At: at.Add(time.Hour), Action: "domain.limits", Subject: "domain:d0", Detail: map[string]string{"to": "no Mondays"}}})
		e.fails(models.CodeConflict, err)
	}},
	{name: "what was in force last is known, and not put in force", test: func(e *env) {
		at := e.clock.Now()
		stones := []models.Tombstone{
			{At: at.Add(2 * time.Second), Action: "policy.rollback", Subject: "policy:d2", Detail: map[string]string{"revision": "r2"}},
			{At: at.Add(time.Second), Action: "policy.activate", Subject: "policy:d1", Detail: map[string]string{"revision": "r1"}},
		}
		revision, err := e.store.LostPolicy(e.ctx, stones)
		require.NoError(e, err)
		assert.Equal(e, "r2", revision)
		done, err := e.store.Reapply(e.ctx, actor, stones)
		require.NoError(e, err)
		assert.Empty(e, done)
		events, _, err := e.store.AuditEvents(e.ctx, store.AuditFilter{Action: "policy.rollback"}, store.Page{})
		require.NoError(e, err)
		assert.Empty(e, events, "nobody did that here")
		revision, err = e.store.LostPolicy(e.ctx, nil)
		require.NoError(e, err)
		assert.Empty(e, revision)
	}},
	{name: "a tombstone goes with everything that is taken away", test: func(e *env) {
		k := &keeper{}
		e.store.KeepTombstones(k)
		ann := e.user("ann").ID
		p := e.pat(ann, "ci")
		assert.Empty(e, k.stones, "nothing was taken away")
		_, err := e.store.RevokePAT(e.ctx, actor, ann, p.ID)
		require.NoError(e, err)
		require.Len(e, k.stones, 1)
		id, at := k.stones[0].EndedToken()
		assert.Equal(e, p.ID, id)
		assert.Equal(e, e.clock.Now().UTC(), at)
		assert.Equal(e, p.ExpiresAt, *k.stones[0].Until)
		_, err = e.store.RevokePAT(e.ctx, actor, ann, p.ID)
		require.NoError(e, err)
		assert.Len(e, k.stones, 1, "a second revocation changes nothing")
		done, err := e.store.Reapply(e.ctx, actor, k.stones)
		require.NoError(e, err)
		assert.Empty(e, done)

		// A file cannot be anonymised: it names people by their ids.
		k.stones = nil
		require.NoError(e, e.store.LinkIdentity(e.ctx, actor, ann, issuer, "subject of ann"))
		require.NoError(e, e.store.UnlinkIdentity(e.ctx, actor, ann, issuer, true, ""))
		_, err = e.store.UpdateUser(e.ctx, actor, ann, store.UserPatch{PasswordHash: new("hash"), Admin: new(true)})
		require.NoError(e, err)
		require.Len(e, k.stones, 4)
		for _, stone := range k.stones {
			assert.Equal(e, "user:"+ann, stone.Subject)
			for _, said := range stone.Detail {
				assert.NotContains(e, said, "ann")
			}
		}

		// One that cannot be written is told of; what was done stays done.
		k.err = assert.AnError
		q := e.pat(ann, "two")
		var w models.Warnings
		_, err = e.store.RevokePAT(models.WithWarnings(e.ctx, &w), actor, ann, q.ID)
		require.NoError(e, err)
		require.Len(e, w.Texts(), 1)
		assert.Contains(e, w.Texts()[0], "could not be written to the file of tombstones")
		r, err := e.store.PAT(e.ctx, q.ID)
		require.NoError(e, err)
		assert.NotNil(e, r.RevokedAt)
	}},
	{name: "a restore ends sessions and codes, and knows which tombstones it needs", test: func(e *env) {
		ann := e.user("ann").ID
		require.NoError(e, e.makeReset(ann, "hash", e.clock.Now().Add(time.Hour)))
		require.NoError(e, e.store.EndAccess(e.ctx, actor))
		u, err := e.store.ResetCodeUser(e.ctx, "hash")
		require.NoError(e, err)
		assert.Nil(e, u)
		require.NoError(e, e.store.RegisterTombstones(e.ctx, store.TombstoneFile{ID: "f", Server: "a:/x"}))
		require.NoError(e, e.store.RegisterTombstones(e.ctx, store.TombstoneFile{ID: "f", Server: "b:/x"}))
		files, err := e.second().TombstoneFiles(e.ctx)
		require.NoError(e, err)
		require.Len(e, files, 1)
		assert.Equal(e, "b:/x", files[0].Server)
		one, err := e.store.Installation(e.ctx)
		require.NoError(e, err)
		other, err := e.second().Installation(e.ctx)
		require.NoError(e, err)
		assert.Len(e, one, 32)
		assert.Equal(e, one, other)
		newest, err := e.store.NewestEvent(e.ctx)
		require.NoError(e, err)
		assert.Equal(e, e.clock.Now(), newest)
	}},
}
