package storetest

import (
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

// resetCode stores a code for a user that lives for a while.
func (e *env) resetCode(userID, hash string, life time.Duration) {
	e.Helper()
	require.NoError(e, e.makeReset(userID, hash, e.clock.Now().Add(life)))
}

func (e *env) makeReset(userID, hash string, expires time.Time) error {
	_, _, err := e.store.CreateResetCode(e.ctx, actor, userID, hash, expires, models.Removal{})
	return err
}

// resets returns the id of the user whom a code resets, "" for nobody's.
func (e *env) resets(hash string) string {
	e.Helper()
	u, err := e.store.ResetCodeUser(e.ctx, hash)
	require.NoError(e, err)
	if u == nil {
		return ""
	}
	return u.ID
}

var codeCases = []testCase{
	{name: "a code gives a new password once", test: func(e *env) {
		ann, bob := e.user("ann", func(u *models.User) { u.PasswordHash = "old" }), e.user("bob")
		e.session("ann's", ann.ID, time.Hour)
		e.session("bob's", bob.ID, time.Hour)
		e.resetCode(ann.ID, "h1", time.Minute)
		u, err := e.store.ResetCodeUser(e.ctx, "h1")
		require.NoError(e, err)
		assert.Equal(e, &ann, u)
		assert.True(e, e.hasSession("ann's"), "a code alone changes nothing")

		got, err := e.store.ResetPassword(e.ctx, actor, "h1", "new")
		require.NoError(e, err)
		ann.PasswordHash = "new"
		assert.Equal(e, ann, got)
		u, err = e.store.User(e.ctx, ann.ID)
		require.NoError(e, err)
		assert.Equal(e, &ann, u)
		assert.False(e, e.hasSession("ann's"))
		assert.True(e, e.hasSession("bob's"))

		assert.Empty(e, e.resets("h1"))
		_, err = e.store.ResetPassword(e.ctx, actor, "h1", "newer")
		e.fails(models.CodeNotFound, err)
	}},
	{name: "a reset removes what is named and nothing else", test: func(e *env) {
		for _, c := range []struct {
			what  models.Removal
			stays models.WaysIn
		}{
			{models.Removal{}, models.WaysIn{Identities: 1, Sessions: 1, Codes: 2, Tokens: 1}},
			{models.Removal{Sessions: true}, models.WaysIn{Identities: 1, Codes: 2, Tokens: 1}},
			{models.Removal{Codes: true}, models.WaysIn{Identities: 1, Sessions: 1, Tokens: 1}},
			{models.Removal{Tokens: true}, models.WaysIn{Identities: 1, Sessions: 1, Codes: 2}},
			// Who came by an identity is out with it.
			{models.Removal{Identities: true}, models.WaysIn{Codes: 1, Tokens: 1}},
			{models.Removal{Identities: true, Sessions: true, Codes: true, Tokens: true}, models.WaysIn{}},
		} {
			ann, bob := e.user(models.NewID()), e.user(models.NewID())
			for _, u := range []models.User{ann, bob} {
				e.session("session of "+u.ID, u.ID, time.Hour)
				require.NoError(e, e.store.LinkIdentity(e.ctx, actor, u.ID, issuer, u.ID))
				require.NoError(e, e.store.CreateSessionCode(e.ctx, actor, u.ID, "code of "+u.ID, e.clock.Now(), e.clock.Now().Add(time.Minute), store.AtProvider{}))
				e.pat(u.ID, "ci")
			}
			byAnn := models.Actor{Kind: models.ActorUser, UserID: ann.ID}
			other := e.user(models.NewID())
			_, _, err := e.store.CreateResetCode(e.ctx, byAnn, other.ID, "by "+ann.ID, e.clock.Now().Add(time.Hour), models.Removal{})
			require.NoError(e, err)

			all := models.WaysIn{Identities: 1, Sessions: 1, Codes: 2, Tokens: 1}
			removed, stays, err := e.store.CreateResetCode(e.ctx, actor, ann.ID, "reset of "+ann.ID, e.clock.Now().Add(time.Hour), c.what)
			require.NoError(e, err)
			assert.Equal(e, c.stays, stays, "%+v", c.what)
			assert.Equal(e, all.Less(c.stays), removed, "%+v", c.what)
			assert.Equal(e, ann.ID, e.resets("reset of "+ann.ID), "the link itself is there")
			assert.Equal(e, stays.Sessions == 1, e.hasSession("session of "+ann.ID))
			_, stays, err = e.store.CreateResetCode(e.ctx, actor, bob.ID, "reset of "+bob.ID, e.clock.Now().Add(time.Hour), models.Removal{})
			require.NoError(e, err)
			assert.Equal(e, models.WaysIn{Identities: 1, Sessions: 1, Codes: 1, Tokens: 1}, stays, "another's stay")
		}
	}},
	{name: "a reset that cannot be made removes nothing", test: func(e *env) {
		ann, bob := e.user("ann"), e.user("bob")
		e.session("ann's", ann.ID, time.Hour)
		require.NoError(e, e.makeReset(bob.ID, "taken", e.clock.Now().Add(time.Hour)))
		_, _, err := e.store.CreateResetCode(e.ctx, actor, ann.ID, "taken", e.clock.Now().Add(time.Hour), models.Removal{Sessions: true})
		e.fails(models.CodeTaken, err)
		assert.True(e, e.hasSession("ann's"))
	}},
	{name: "whoever holds a code acts as its user", test: func(e *env) {
		ann := e.user("ann")
		e.resetCode(ann.ID, "h1", time.Minute)
		_, err := e.store.ResetPassword(e.ctx, models.Actor{Kind: models.ActorUser, IP: "192.0.2.1"}, "h1", "new")
		require.NoError(e, err)
		events, _, err := e.store.AuditEvents(e.ctx, store.AuditFilter{UserID: ann.ID}, store.Page{})
		require.NoError(e, err)
		var actions []string
		for _, event := range events {
			actions = append(actions, event.Action)
			assert.Equal(e, "192.0.2.1", event.Actor.IP)
		}
		assert.ElementsMatch(e, []string{"user.reset", "user.password"}, actions)
	}},
	{name: "a code ends with its time, with the next one, and with what it was for", test: func(e *env) {
		yes, hash := true, "by another way"
		for _, c := range []struct {
			name string
			end  func(userID string)
		}{
			{"time", func(string) { e.clock.Advance(time.Minute) }},
			{"another", func(id string) { e.resetCode(id, "another", time.Minute) }},
			{"password", func(id string) {
				_, err := e.store.UpdateUser(e.ctx, actor, id, store.UserPatch{PasswordHash: &hash})
				require.NoError(e, err)
			}},
			{"disabled", func(id string) {
				_, err := e.store.UpdateUser(e.ctx, actor, id, store.UserPatch{Disabled: &yes})
				require.NoError(e, err)
			}},
		} {
			u := e.user(c.name)
			e.resetCode(u.ID, "of "+c.name, time.Minute)
			require.Equal(e, u.ID, e.resets("of "+c.name))
			c.end(u.ID)
			assert.Empty(e, e.resets("of "+c.name), c.name)
			_, err := e.store.ResetPassword(e.ctx, actor, "of "+c.name, "new")
			e.fails(models.CodeNotFound, err)
		}
		no := false
		disabled, err := e.store.UserByEmail(e.ctx, "disabled@example.org")
		require.NoError(e, err)
		e.fails(models.CodeConflict, e.makeReset(disabled.ID, "x", e.clock.Now().Add(time.Minute)))
		_, err = e.store.UpdateUser(e.ctx, actor, disabled.ID, store.UserPatch{Disabled: &no})
		require.NoError(e, err)
		assert.Empty(e, e.resets("of disabled"), "nor does it come back")
	}},
	{name: "a code begins one session, as recent as the sign-in behind it", test: func(e *env) {
		ann, bob := e.user("ann"), e.user("bob")
		at := e.clock.Now().Add(-3 * time.Minute)
		begin := func(userID, hash string) {
			e.Helper()
			require.NoError(e, e.store.CreateSessionCode(e.ctx, actor, userID, hash, at, e.clock.Now().Add(time.Minute), store.AtProvider{}))
		}
		gone := func(hash string) {
			e.Helper()
			_, _, _, err := e.store.SessionCode(e.ctx, hash)
			e.fails(models.CodeNotFound, err)
			if hash != "" {
				e.fails(models.CodeNotFound, e.begin(e.store, "with "+hash, ann.ID, store.Beginning{By: actor, Code: hash}))
			}
			assert.False(e, e.hasSession("with "+hash))
		}
		begin(ann.ID, "h1")
		got, signedIn, there, err := e.store.SessionCode(e.ctx, "h1")
		require.NoError(e, err)
		e.fails(models.CodeNotFound, e.begin(e.store, "of another", bob.ID, store.Beginning{By: actor, Code: "h1"}))
		require.NoError(e, e.begin(e.store, "of h1", ann.ID, store.Beginning{By: actor, Code: "h1"}))
		assert.True(e, e.hasSession("of h1"))
		assert.Equal(e, ann, got)
		assert.Equal(e, at, signedIn)
		assert.Zero(e, there)
		gone("h1")

		begin(ann.ID, "replaced")
		begin(ann.ID, "late")
		gone("replaced")
		e.clock.Advance(time.Minute)
		gone("late")

		begin(ann.ID, "ended")
		begin(bob.ID, "bob's")
		require.NoError(e, e.store.Sessions().DeleteByUser(e.ctx, actor, ann.ID, "", "test"))
		gone("ended")
		yes := true
		_, err = e.store.UpdateUser(e.ctx, actor, bob.ID, store.UserPatch{Disabled: &yes})
		require.NoError(e, err)
		gone("bob's")
		e.fails(models.CodeConflict, e.store.CreateSessionCode(e.ctx, actor, bob.ID, "x", at, e.clock.Now().Add(time.Minute), store.AtProvider{}))

		// A code does what it is for, and nothing else.
		begin(ann.ID, "session")
		e.resetCode(ann.ID, "reset", time.Minute)
		gone("reset")
		assert.Empty(e, e.resets("session"))
		_, err = e.store.ResetPassword(e.ctx, actor, "session", "hash")
		e.fails(models.CodeNotFound, err)
		for _, key := range odd {
			gone(key)
			e.fails(models.CodeNotFound, e.store.CreateSessionCode(e.ctx, actor, key, "h", at, e.clock.Now().Add(time.Minute), store.AtProvider{}))
		}
	}},
	{name: "one of many uses of a session's code succeeds", test: func(e *env) {
		ann := e.user("ann").ID
		require.NoError(e, e.store.CreateSessionCode(e.ctx, actor, ann, "h", e.clock.Now(), e.clock.Now().Add(time.Minute), store.AtProvider{}))
		e.wins(1, models.CodeNotFound, e.race(6, func(s *store.Store, i int) error {
			return e.begin(s, "s"+string(rune('0'+i)), ann, store.Beginning{By: actor, Code: "h"})
		}))
		sessions, err := e.store.Sessions().ByUser(e.ctx, ann)
		require.NoError(e, err)
		assert.Len(e, sessions, 1)
	}},
	{name: "a session does not begin for who was shut out meanwhile", test: func(e *env) {
		yes, no, other := true, false, "other"
		for name, patch := range map[string]store.UserPatch{"disabled": {Disabled: &yes}, "password": {PasswordHash: &other}} {
			u := e.user(name, func(u *models.User) { u.PasswordHash = "hash" })
			for way, with := range map[string]store.Beginning{"password": {PasswordHash: "hash"}, "code": {Code: "of " + name}} {
				with.By = actor
				require.NoError(e, e.store.CreateSessionCode(e.ctx, actor, u.ID, "of "+name, e.clock.Now(), e.clock.Now().Add(time.Minute), store.AtProvider{}))
				_, err := e.store.UpdateUser(e.ctx, actor, u.ID, patch)
				require.NoError(e, err)
				assert.NotEmpty(e, models.CodeOf(e.begin(e.store, name+way, u.ID, with)), "%s, by %s", name, way)
				hash := "hash"
				_, err = e.store.UpdateUser(e.ctx, actor, u.ID, store.UserPatch{Disabled: &no, PasswordHash: &hash})
				require.NoError(e, err)
				assert.False(e, e.hasSession(name+way), "%s, by %s", name, way)
			}
		}
		gone := e.user("gone")
		_, err := e.store.UpdateUser(e.ctx, actor, gone.ID, store.UserPatch{Disabled: &yes})
		require.NoError(e, err)
		e.fails(models.CodeConflict, e.begin(e.store, "at the provider", gone.ID, store.Beginning{By: actor}))
	}},
	{name: "of a beginning session and what shuts its user out, none comes between the other's halves", test: func(e *env) {
		for round := range rounds {
			name, yes := "u"+string(rune('a'+round)), true
			u := e.user(name)
			require.NoError(e, e.store.CreateSessionCode(e.ctx, actor, u.ID, name, e.clock.Now(), e.clock.Now().Add(time.Minute), store.AtProvider{}))
			e.race(3, func(s *store.Store, i int) error {
				switch i {
				case 0:
					_, err := s.UpdateUser(e.ctx, actor, u.ID, store.UserPatch{Disabled: &yes})
					return err
				case 1:
					return e.begin(s, name+" by code", u.ID, store.Beginning{By: actor, Code: name})
				}
				return e.begin(s, name+" by itself", u.ID, store.Beginning{By: actor})
			})
			assert.False(e, e.hasSession(name+" by code"))
			assert.False(e, e.hasSession(name+" by itself"))
		}
	}},
	{name: "codes of nobody", test: func(e *env) {
		for _, key := range odd {
			e.fails(models.CodeNotFound, e.makeReset(key, "h", e.clock.Now().Add(time.Minute)))
			assert.Empty(e, e.resets(key))
			_, err := e.store.ResetPassword(e.ctx, actor, key, "new")
			e.fails(models.CodeNotFound, err)
			e.fails(models.CodeNotFound, e.store.RenewPasswordHash(e.ctx, actor, key, "a", "b"))
		}
	}},
	{name: "one of many uses of a code succeeds", test: func(e *env) {
		ann := e.user("ann").ID
		for range rounds {
			e.resetCode(ann, "h", time.Minute)
			e.wins(1, models.CodeNotFound, e.race(6, func(s *store.Store, i int) error {
				_, err := s.ResetPassword(e.ctx, actor, "h", "new "+string(rune('0'+i))+e.clock.Now().String())
				return err
			}))
			e.clock.Advance(time.Second)
		}
	}},
	{name: "a new hash of the same password ends nothing", test: func(e *env) {
		ann := e.user("ann", func(u *models.User) { u.PasswordHash = "old" })
		e.session("s", ann.ID, time.Hour)
		e.resetCode(ann.ID, "h", time.Minute)
		require.NoError(e, e.store.RenewPasswordHash(e.ctx, actor, ann.ID, "old", "renewed"))
		require.NoError(e, e.store.RenewPasswordHash(e.ctx, actor, ann.ID, "old", "too late"))
		u, err := e.store.User(e.ctx, ann.ID)
		require.NoError(e, err)
		assert.Equal(e, "renewed", u.PasswordHash, "what the password was changed to meanwhile stays")
		assert.True(e, e.hasSession("s"))
		assert.Equal(e, ann.ID, e.resets("h"))
	}},
}
