package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

func limits(l models.Limits) func(*store.Config) {
	return func(c *store.Config) { c.Limits = l }
}

var tokenCases = []testCase{
	{name: "a token comes back as it was written", test: func(e *env) {
		u := e.user("ann")
		want := models.PAT{
			ID: "0000000000000001", UserID: u.ID, Name: "ci ☂", Description: "two\nlines", KeyID: "k2", MAC: []byte{0, 1, 0xff},
			CreatedAt: e.clock.Now().Add(-time.Minute), ExpiresAt: e.clock.Now().Add(time.Hour).Truncate(time.Second),
			Scopes: scopes("zeta:models:*:read", "acme:models:llama3:8b:execute", `*:datasets:[a],{b}:write`),
		}
		for i := range want.Scopes {
			want.Scopes[i].ID = fmt.Sprintf("scope-%d", i)
		}
		got, err := e.store.CreatePAT(e.ctx, actor, want)
		require.NoError(e, err)
		assert.Equal(e, want, got)
		read, err := e.store.PAT(e.ctx, want.ID)
		require.NoError(e, err)
		assert.Equal(e, &want, read, "scopes in the order given")
		read, err = e.store.PATOf(e.ctx, u.ID, want.ID)
		require.NoError(e, err)
		assert.Equal(e, &want, read)
	}},
	{name: "two spellings of one name are one", test: func(e *env) {
		const composed, decomposed = "Zo\u00eb", "Zoe\u0308"
		u := e.user("ann")
		first := e.pat(u.ID, decomposed)
		assert.Equal(e, composed, first.Name)
		_, err := e.store.CreatePAT(e.ctx, actor, e.newPAT(u.ID, composed))
		e.fails(models.CodeTaken, err)
		_, err = e.store.CreatePAT(e.ctx, actor, e.newPAT(u.ID, decomposed))
		e.fails(models.CodeTaken, err)
		other, name := e.pat(u.ID, "other"), decomposed
		_, err = e.store.UpdatePAT(e.ctx, actor, u.ID, other.ID, store.PATPatch{Name: &name})
		e.fails(models.CodeTaken, err)
		for _, spelling := range []string{composed, decomposed} {
			found, _, err := e.store.PATs(e.ctx, store.PATFilter{UserID: u.ID, Name: spelling}, store.Page{})
			require.NoError(e, err)
			require.Len(e, found, 1)
			assert.Equal(e, first.ID, found[0].ID)
		}
	}},
	{name: "absent and foreign tokens are not there", test: func(e *env) {
		p := e.pat(e.user("ann").ID, "ci")
		bob := e.user("bob").ID
		name := "x"
		for _, c := range append([]string{p.ID}, odd...) {
			read, err := e.store.PATOf(e.ctx, bob, c)
			assert.NoError(e, err)
			assert.Nil(e, read)
			_, err = e.store.UpdatePAT(e.ctx, actor, bob, c, store.PATPatch{Name: &name})
			e.fails(models.CodeNotFound, err)
			e.fails(models.CodeNotFound, e.store.DeletePAT(e.ctx, actor, bob, c))
			_, err = e.store.RevokePAT(e.ctx, actor, bob, c)
			e.fails(models.CodeNotFound, err)
			_, err = e.store.RotatePAT(e.ctx, actor, bob, c, e.newPAT("", ""), 0)
			e.fails(models.CodeNotFound, err)
			_, err = e.store.AddScope(e.ctx, actor, bob, c, scopes("a:models:*:read")[0])
			e.fails(models.CodeNotFound, err)
			_, err = e.store.RemoveScope(e.ctx, actor, bob, c, p.Scopes[0].ID)
			e.fails(models.CodeNotFound, err)
		}
		for _, id := range odd {
			read, err := e.store.PAT(e.ctx, id)
			assert.NoError(e, err)
			assert.Nil(e, read)
			_, err = e.store.CreatePAT(e.ctx, actor, e.newPAT(id, "ci"))
			e.fails(models.CodeNotFound, err)
		}
		assert.Equal(e, p, e.reread(p.ID))
	}},
	{name: "names are held by live tokens", test: func(e *env) {
		ann, bob := e.user("ann").ID, e.user("bob").ID
		revoked := e.pat(ann, "ci")
		_, err := e.store.CreatePAT(e.ctx, actor, e.newPAT(ann, "ci"))
		e.fails(models.CodeTaken, err)
		e.pat(bob, "ci")
		e.pat(ann, "CI")
		_, err = e.store.RevokePAT(e.ctx, actor, ann, revoked.ID)
		require.NoError(e, err)
		e.pat(ann, "ci", lives(2*time.Second))
		_, err = e.store.CreatePAT(e.ctx, actor, e.newPAT(ann, "ci"))
		e.fails(models.CodeTaken, err)
		e.clock.Advance(2 * time.Second)
		third := e.pat(ann, "ci")
		list, _, err := e.store.PATs(e.ctx, store.PATFilter{UserID: ann, Name: "ci"}, store.Page{})
		require.NoError(e, err)
		assert.Len(e, list, 3)
		assert.Contains(e, e.live(ann), third.ID)
	}},
	{name: "an id is taken once", test: func(e *env) {
		p := e.pat(e.user("ann").ID, "ci")
		again := e.newPAT(e.user("bob").ID, "other")
		again.ID = p.ID
		_, err := e.store.CreatePAT(e.ctx, actor, again)
		e.fails(models.CodeTaken, err)
		assert.Equal(e, p, e.reread(p.ID))
	}},
	{name: "renaming takes a name", test: func(e *env) {
		ann := e.user("ann").ID
		one, two := e.pat(ann, "one"), e.pat(ann, "two", lives(5*time.Second))
		name, description := "two", "text"
		_, err := e.store.UpdatePAT(e.ctx, actor, ann, one.ID, store.PATPatch{Name: &name})
		e.fails(models.CodeTaken, err)
		e.clock.Advance(5 * time.Second)
		got, err := e.store.UpdatePAT(e.ctx, actor, ann, one.ID, store.PATPatch{Name: &name, Description: &description})
		require.NoError(e, err)
		one.Name, one.Description = name, description
		assert.Equal(e, one, got)
		assert.Equal(e, one, e.reread(one.ID))
		_, err = e.store.CreatePAT(e.ctx, actor, e.newPAT(ann, "two"))
		e.fails(models.CodeTaken, err)
		e.pat(ann, "one")

		other := "one" // dead tokens hold no name: what they are called is a mere label
		_, err = e.store.UpdatePAT(e.ctx, actor, ann, two.ID, store.PATPatch{Name: &other})
		require.NoError(e, err)
		got, err = e.store.UpdatePAT(e.ctx, actor, ann, one.ID, store.PATPatch{Name: &name})
		require.NoError(e, err, "its own name is not taken")
		assert.Equal(e, one, got)
	}},
	{name: "status counts the maximum lifetime", config: limits(models.Limits{MaxLifetime: time.Minute}), test: func(e *env) {
		ann := e.user("ann").ID
		short, long := e.pat(ann, "short", lives(10*time.Second)), e.pat(ann, "long") // an hour: permitted once
		gone := e.pat(ann, "gone")
		_, err := e.store.RevokePAT(e.ctx, actor, ann, gone.ID)
		require.NoError(e, err)
		check := func(want map[models.Status][]string) {
			e.Helper()
			for _, status := range []models.Status{models.StatusActive, models.StatusExpired, models.StatusRevoked} {
				list, _, err := e.store.PATs(e.ctx, store.PATFilter{UserID: ann, Status: status}, store.Page{})
				require.NoError(e, err)
				var ids []string
				for _, p := range list {
					ids = append(ids, p.ID)
					assert.Equal(e, status, p.WithMaxLifetime(time.Minute).Status(e.clock.Now()), "as the model says")
				}
				assert.ElementsMatch(e, want[status], ids, "%s at %s", status, e.clock.Now())
			}
		}
		check(map[models.Status][]string{"active": {short.ID, long.ID}, "revoked": {gone.ID}})
		e.clock.Advance(9 * time.Second) // created at .25, so that the expiry is 9.75 s on
		check(map[models.Status][]string{"active": {short.ID, long.ID}, "revoked": {gone.ID}})
		e.clock.Advance(750 * time.Millisecond)
		check(map[models.Status][]string{"active": {long.ID}, "expired": {short.ID}, "revoked": {gone.ID}})
		e.clock.Advance(50250*time.Millisecond + 749999*time.Microsecond)
		check(map[models.Status][]string{"active": {long.ID}, "expired": {short.ID}, "revoked": {gone.ID}})
		e.clock.Advance(time.Microsecond) // 60.75 s on: the first whole second
		check(map[models.Status][]string{"expired": {short.ID, long.ID}, "revoked": {gone.ID}})
		e.pat(ann, "long")
		require.NoError(e, e.store.DeletePAT(e.ctx, actor, ann, long.ID), "it counts as dead")
	}},
	{name: "live tokens are limited", config: limits(models.Limits{MaxLive: 2}), test: func(e *env) {
		ann := e.user("ann").ID
		one := e.pat(ann, "one", lives(5*time.Second))
		two := e.pat(ann, "two")
		e.pat(e.user("bob").ID, "one")
		_, err := e.store.CreatePAT(e.ctx, actor, e.newPAT(ann, "three"))
		e.fails(models.CodeLimitReached, err)
		_, err = e.store.RotatePAT(e.ctx, actor, ann, two.ID, e.newPAT("", ""), time.Minute)
		e.fails(models.CodeLimitReached, err)
		assert.ElementsMatch(e, []string{one.ID, two.ID}, e.live(ann), "the failed rotation left no trace")
		_, err = e.store.RotatePAT(e.ctx, actor, ann, two.ID, e.newPAT("", ""), 0)
		require.NoError(e, err, "without a grace there are not more than before")
		e.clock.Advance(5 * time.Second)
		e.pat(ann, "three")
	}},
	{name: "scopes are limited, unique and never none", config: limits(models.Limits{MaxScopes: 2}), test: func(e *env) {
		ann := e.user("ann").ID
		_, err := e.store.CreatePAT(e.ctx, actor, e.newPAT(ann, "x", func(p *models.PAT) { p.Scopes = nil }))
		e.fails(models.CodeLastScope, err)
		_, err = e.store.CreatePAT(e.ctx, actor, e.newPAT(ann, "x", func(p *models.PAT) { p.Scopes = scopes("a:m:*:r", "b:m:*:r", "c:m:*:r") }))
		e.fails(models.CodeLimitReached, err)
		_, err = e.store.CreatePAT(e.ctx, actor, e.newPAT(ann, "x", func(p *models.PAT) { p.Scopes = scopes("a:m:*:r", "a:m:*:r") }))
		e.fails(models.CodeTaken, err)

		p := e.pat(ann, "ci")
		_, err = e.store.RemoveScope(e.ctx, actor, ann, p.ID, p.Scopes[0].ID)
		e.fails(models.CodeLastScope, err)
		_, err = e.store.AddScope(e.ctx, actor, ann, p.ID, p.Scopes[0])
		e.fails(models.CodeTaken, err)
		wide, err := e.store.AddScope(e.ctx, actor, ann, p.ID, scopes("beta:models:*:read")[0])
		require.NoError(e, err)
		assert.Equal(e, []string{"acme:models:*:read", "beta:models:*:read"}, scopeTexts(wide))
		assert.Len(e, wide.Scopes[1].ID, models.IDLength)
		assert.Equal(e, wide, e.reread(p.ID))
		_, err = e.store.AddScope(e.ctx, actor, ann, p.ID, scopes("gamma:models:*:read")[0])
		e.fails(models.CodeLimitReached, err)
		_, err = e.store.RemoveScope(e.ctx, actor, ann, p.ID, "nothing")
		e.fails(models.CodeNotFound, err)
		narrow, err := e.store.RemoveScope(e.ctx, actor, ann, p.ID, p.Scopes[0].ID)
		require.NoError(e, err)
		assert.Equal(e, []string{"beta:models:*:read"}, scopeTexts(narrow))
		wide, err = e.store.AddScope(e.ctx, actor, ann, p.ID, scopes("acme:models:*:read")[0])
		require.NoError(e, err)
		assert.Equal(e, []string{"beta:models:*:read", "acme:models:*:read"}, scopeTexts(wide))
	}},
	{name: "a token is narrowed to what lies within its scopes", config: limits(models.Limits{MaxScopes: 4}), test: func(e *env) {
		ann := e.user("ann").ID
		p := e.pat(ann, "ci", func(p *models.PAT) {
			p.Scopes = scopes("acme:models:*:read", "*:datasets:*:read", "acme:models:x:execute")
		})
		for name, to := range map[string][]models.Scope{
			"nothing":           nil,
			"another operation": scopes("acme:models:*:write"),
			"another domain":    scopes("beta:models:*:read"),
			"another type":      scopes("acme:domains:*:read"),
			"any domain":        scopes("*:models:*:read"),
			"any entity":        scopes("acme:models:*:execute"),
			"another entity":    scopes("acme:models:x:execute", "acme:models:y:execute"),
			"one twice":         scopes("acme:models:x:read", "acme:models:x:read"),
			"too many":          scopes("a:datasets:x:read", "b:datasets:x:read", "c:datasets:x:read", "d:datasets:x:read", "e:datasets:x:read"),
		} {
			_, err := e.store.NarrowPAT(e.ctx, actor, ann, p.ID, to)
			e.fails(models.CodeInvalid, err)
			assert.Equal(e, p, e.reread(p.ID), name)
		}
		for _, other := range []string{e.user("bob").ID, "x"} {
			_, err := e.store.NarrowPAT(e.ctx, actor, other, p.ID, p.Scopes[:1])
			e.fails(models.CodeNotFound, err)
		}
		_, err := e.store.NarrowPAT(e.ctx, actor, ann, "no token's", p.Scopes[:1])
		e.fails(models.CodeNotFound, err)

		narrow, err := e.store.NarrowPAT(e.ctx, actor, ann, p.ID, scopes("acme:datasets:d:read", "beta:datasets:*:read", "acme:models:*:read"))
		require.NoError(e, err)
		assert.Equal(e, []string{"acme:models:*:read", "acme:datasets:d:read", "beta:datasets:*:read"}, scopeTexts(narrow), "what stays comes first")
		assert.Equal(e, p.Scopes[0], narrow.Scopes[0], "under the same id")
		assert.Len(e, narrow.Scopes[1].ID, models.IDLength)
		assert.NotEqual(e, narrow.Scopes[1].ID, narrow.Scopes[2].ID)
		assert.Equal(e, narrow, e.reread(p.ID))
		same, err := e.store.NarrowPAT(e.ctx, actor, ann, p.ID, narrow.Scopes)
		require.NoError(e, err)
		assert.Equal(e, narrow, same, "as it is already")
		_, err = e.store.NarrowPAT(e.ctx, actor, ann, p.ID, p.Scopes)
		e.fails(models.CodeInvalid, err)

		_, err = e.store.RevokePAT(e.ctx, actor, ann, p.ID)
		require.NoError(e, err)
		_, err = e.store.NarrowPAT(e.ctx, actor, ann, p.ID, narrow.Scopes[:1])
		e.fails(models.CodeConflict, err)
	}},
	{name: "dead tokens keep their scopes", test: func(e *env) {
		ann := e.user("ann").ID
		p := e.pat(ann, "ci", func(p *models.PAT) { p.Scopes = scopes("a:m:*:r", "b:m:*:r") })
		_, err := e.store.RevokePAT(e.ctx, actor, ann, p.ID)
		require.NoError(e, err)
		_, err = e.store.AddScope(e.ctx, actor, ann, p.ID, scopes("c:m:*:r")[0])
		e.fails(models.CodeConflict, err)
		_, err = e.store.RemoveScope(e.ctx, actor, ann, p.ID, p.Scopes[0].ID)
		e.fails(models.CodeConflict, err)
	}},
	{name: "only dead tokens are deleted", test: func(e *env) {
		ann := e.user("ann").ID
		p := e.pat(ann, "ci")
		e.fails(models.CodeTokenAlive, e.store.DeletePAT(e.ctx, actor, ann, p.ID))
		e.clock.Advance(2 * time.Hour)
		require.NoError(e, e.store.DeletePAT(e.ctx, actor, ann, p.ID))
		read, err := e.store.PAT(e.ctx, p.ID)
		require.NoError(e, err)
		assert.Nil(e, read)
		e.fails(models.CodeNotFound, e.store.DeletePAT(e.ctx, actor, ann, p.ID))
	}},
	{name: "tokens are listed newest first, whole and in pages", test: func(e *env) {
		ann := e.user("ann").ID
		var ids []string
		for i := range 7 {
			if i%3 == 0 { // some share a time
				e.clock.Advance(time.Microsecond)
			}
			ids = append(ids, e.pat(ann, fmt.Sprintf("t%d", i), func(p *models.PAT) {
				p.ID = fmt.Sprintf("id-%d", i)
				p.Scopes = scopes("acme:models:*:read", fmt.Sprintf("acme:models:m%d:execute", i))
			}).ID)
		}
		e.pat(e.user("bob").ID, "other")
		slices.Reverse(ids)
		for _, limit := range []int{1, 3, 7, 50} {
			var got []string
			for _, p := range all(e, limit, func(p store.Page) ([]models.PAT, string, error) {
				return e.store.PATs(e.ctx, store.PATFilter{UserID: ann}, p)
			}) {
				got = append(got, p.ID)
				assert.Equal(e, e.reread(p.ID), p, "with scopes")
			}
			assert.Equal(e, ids, got)
		}
		badCursors(e, func(p store.Page) error {
			_, _, err := e.store.PATs(e.ctx, store.PATFilter{UserID: ann}, p)
			return err
		})
		for _, name := range odd[1:] {
			none, _, err := e.store.PATs(e.ctx, store.PATFilter{UserID: ann, Name: name}, store.Page{})
			require.NoError(e, err)
			assert.Empty(e, none)
		}
	}},
	{name: "the last use only moves forward", test: func(e *env) {
		ann := e.user("ann").ID
		p, q := e.pat(ann, "p"), e.pat(ann, "q")
		at := e.clock.Now()
		seq := e.lastChange()
		record := func(uses ...store.Use) {
			e.Helper()
			require.NoError(e, e.store.RecordUses(e.ctx, uses))
		}
		check := func(id string, at time.Time, ip, agent string) {
			e.Helper()
			got := e.reread(id)
			require.NotNil(e, got.LastUsedAt)
			assert.Equal(e, []any{at, ip, agent}, []any{*got.LastUsedAt, got.LastUsedIP, got.LastUsedAgent})
		}
		record()
		record(store.Use{TokenID: p.ID, At: at.Add(2), IP: "early"}, store.Use{TokenID: "gone", At: at},
			store.Use{TokenID: p.ID, At: at.Add(time.Second + 999), IP: "192.0.2.1", UserAgent: "curl/8"}, store.Use{TokenID: p.ID, At: at, IP: "late"},
			store.Use{TokenID: "a\x00", At: at})
		check(p.ID, at.Add(time.Second), "192.0.2.1", "curl/8")
		assert.Nil(e, e.reread(q.ID).LastUsedAt)
		record(store.Use{TokenID: p.ID, At: at, IP: "old"}, store.Use{TokenID: q.ID, At: at, IP: "2001:db8::1", UserAgent: "bad \xff\x00 agent"})
		check(p.ID, at.Add(time.Second), "192.0.2.1", "curl/8")
		check(q.ID, at, "2001:db8::1", "bad \uFFFD\uFFFD agent")
		many := make([]store.Use, 1000)
		for i := range many {
			many[i] = store.Use{TokenID: fmt.Sprintf("none-%d", i), At: at}
		}
		many[777] = store.Use{TokenID: p.ID, At: at.Add(time.Hour), IP: "last"}
		record(many...)
		check(p.ID, at.Add(time.Hour), "last", "")
		assert.Empty(e, e.changesAfter(seq), "no decision depends on it")
	}},
	{name: "key ids of stored tokens", test: func(e *env) {
		ids, err := e.store.KeyIDs(e.ctx)
		require.NoError(e, err)
		assert.Empty(e, ids)
		ann := e.user("ann").ID
		for i, key := range []string{"b", "a", "b"} {
			e.pat(ann, fmt.Sprint(i), func(p *models.PAT) { p.KeyID = key })
		}
		_, err = e.store.RevokeAll(e.ctx, actor, ann)
		require.NoError(e, err)
		ids, err = e.store.KeyIDs(e.ctx)
		require.NoError(e, err)
		assert.Equal(e, []string{"a", "b"}, ids)
	}},
}
