package storetest

import (
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

// thereSession begins a session that is tied to one at a provider, with a code of it.
func (e *env) thereSession(token, userID string, there store.AtProvider) {
	e.Helper()
	e.commitSession(token, map[string]any{
		store.SessionUserKey: userID, store.SessionSubjectKey: there.Subject, store.SessionProviderKey: there.Session,
	}, time.Hour)
}

var logoutCases = []testCase{
	{name: "a provider ends the sessions that it means, and the codes", test: func(e *env) {
		for _, c := range []struct {
			name string
			end  store.AtProvider
			left []string
		}{
			{"a person", store.AtProvider{Subject: "ann"}, []string{"password", "bob's", "bob's of the same name"}},
			{"a session", store.AtProvider{Session: "s1"}, []string{"password", "other", "unnamed", "bob's"}},
			{"a person in a session", store.AtProvider{Subject: "ann", Session: "s1"}, []string{"password", "other", "bob's", "bob's of the same name"}},
			{"nobody", store.AtProvider{Subject: "eve"}, []string{"password", "one", "other", "unnamed", "bob's", "bob's of the same name"}},
			{"a session that is not there", store.AtProvider{Subject: "ann", Session: "s9"}, []string{"password", "one", "other", "bob's", "bob's of the same name"}},
			{"nothing", store.AtProvider{}, []string{"password", "one", "other", "unnamed", "bob's", "bob's of the same name"}},
		} {
			ann, bob := e.user(models.NewID()), e.user(models.NewID())
			all := map[string]store.AtProvider{
				"password": {}, "one": {Subject: "ann", Session: "s1"}, "other": {Subject: "ann", Session: "s2"}, "unnamed": {Subject: "ann"},
				"bob's": {Subject: "bob", Session: "s3"}, "bob's of the same name": {Subject: "bob", Session: "s1"},
			}
			for name, there := range all {
				owner := ann.ID
				if there.Subject == "bob" {
					owner = bob.ID
				}
				e.thereSession(name+" "+c.name, owner, there)
			}
			require.NoError(e, e.store.CreateSessionCode(e.ctx, actor, ann.ID, "code "+c.name, e.clock.Now(), e.clock.Now().Add(time.Minute), all["one"]))
			ended, err := e.store.EndAtProvider(e.ctx, actor, store.Logout{AtProvider: c.end, Token: "token " + c.name, Expires: e.clock.Now().Add(time.Minute)})
			require.NoError(e, err)
			var left []string
			for name := range all {
				if e.hasSession(name + " " + c.name) {
					left = append(left, name)
				}
			}
			assert.ElementsMatch(e, c.left, left, c.name)
			assert.Equal(e, len(all)-len(left), ended, c.name)

			_, _, there, err := e.store.SessionCode(e.ctx, "code "+c.name)
			if left := e.hasSession("one " + c.name); left {
				require.NoError(e, err)
				assert.Equal(e, all["one"], there, "the session that it begins ends with that one")
			} else {
				e.fails(models.CodeNotFound, err)
			}
			// So that the next case begins anew.
			for _, u := range []models.User{ann, bob} {
				require.NoError(e, e.store.Sessions().DeleteByUser(e.ctx, actor, u.ID, "", "test"))
			}
		}
	}},
	{name: "a logout token counts once, and is forgotten when it counts for nothing any more", test: func(e *env) {
		ann := e.user("ann")
		in := store.Logout{AtProvider: store.AtProvider{Subject: "ann"}, Token: "t", Expires: e.clock.Now().Add(time.Minute)}
		_, err := e.store.EndAtProvider(e.ctx, actor, in)
		require.NoError(e, err)
		e.thereSession("s", ann.ID, store.AtProvider{Subject: "ann"})
		_, err = e.store.EndAtProvider(e.ctx, actor, in)
		e.fails(models.CodeTaken, err)
		assert.True(e, e.hasSession("s"))
		e.clock.Advance(time.Minute)
		in.Expires = e.clock.Now().Add(time.Minute)
		_, err = e.store.EndAtProvider(e.ctx, actor, in)
		require.NoError(e, err)
		assert.False(e, e.hasSession("s"))
	}},
}
