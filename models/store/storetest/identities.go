package storetest

import (
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

const issuer = "https://idp.example.org"

func withPassword(u *models.User) { u.PasswordHash = "hash" }

// who returns the id of the user who is a subject, "" for nobody.
func (e *env) who(issuer, subject string) string {
	e.Helper()
	u, err := e.store.UserByIdentity(e.ctx, issuer, subject)
	require.NoError(e, err)
	if u == nil {
		return ""
	}
	return u.ID
}

var identityCases = []testCase{
	{name: "a user is found by an identity", test: func(e *env) {
		ann, bob := e.user("ann"), e.user("bob")
		require.NoError(e, e.store.LinkIdentity(e.ctx, actor, ann.ID, issuer, "Sub-1"))
		require.NoError(e, e.store.LinkIdentity(e.ctx, actor, bob.ID, "https://a.example.org", "Sub-1"), "the same subject elsewhere is somebody else")
		e.clock.Advance(time.Second)
		require.NoError(e, e.store.LinkIdentity(e.ctx, actor, bob.ID, issuer, "sub-1"), "subjects are told apart by case")
		u, err := e.store.UserByIdentity(e.ctx, issuer, "Sub-1")
		require.NoError(e, err)
		assert.Equal(e, &ann, u)
		assert.Equal(e, bob.ID, e.who(issuer, "sub-1"))
		list, err := e.store.Identities(e.ctx, bob.ID)
		require.NoError(e, err)
		assert.Equal(e, []models.Identity{
			{Issuer: "https://a.example.org", Subject: "Sub-1", UserID: bob.ID, CreatedAt: e.clock.Now().Add(-time.Second)},
			{Issuer: issuer, Subject: "sub-1", UserID: bob.ID, CreatedAt: e.clock.Now()},
		}, list)
		for _, key := range odd {
			assert.Empty(e, e.who(issuer, key))
			assert.Empty(e, e.who(key, "Sub-1"))
			list, err := e.store.Identities(e.ctx, key)
			require.NoError(e, err)
			assert.Empty(e, list)
			e.fails(models.CodeNotFound, e.store.LinkIdentity(e.ctx, actor, key, issuer, "new"))
			e.fails(models.CodeNotFound, e.store.UnlinkIdentity(e.ctx, actor, key, issuer, false, ""))
			e.fails(models.CodeNotFound, e.store.UnlinkIdentity(e.ctx, actor, ann.ID, key, false, ""))
		}
	}},
	{name: "one person at a provider is one user, and the other way round", test: func(e *env) {
		ann, bob := e.user("ann").ID, e.user("bob").ID
		require.NoError(e, e.store.LinkIdentity(e.ctx, actor, ann, issuer, "a"))
		require.NoError(e, e.store.LinkIdentity(e.ctx, actor, ann, issuer, "a"), "again")
		e.fails(models.CodeTaken, e.store.LinkIdentity(e.ctx, actor, bob, issuer, "a"))
		e.fails(models.CodeTaken, e.store.LinkIdentity(e.ctx, actor, ann, issuer, "another"))
		assert.Equal(e, ann, e.who(issuer, "a"))
	}},
	{name: "a user comes with an identity or not at all", test: func(e *env) {
		_, err := e.store.CreateUserWithIdentity(e.ctx, actor, models.User{Email: "first@example.org"}, issuer, "first")
		e.fails(models.CodeConflict, err)
		first, err := e.store.CreateUserWithIdentity(e.ctx, actor, models.User{Email: "First@example.org", Admin: true}, issuer, "first")
		require.NoError(e, err)
		assert.Equal(e, "first@example.org", first.Email)
		assert.Equal(e, first.ID, e.who(issuer, "first"))
		second, err := e.store.CreateUserWithIdentity(e.ctx, actor, models.User{Email: "second@example.org"}, issuer, "second")
		require.NoError(e, err)
		assert.Len(e, second.ID, models.IDLength)
		_, err = e.store.CreateUserWithIdentity(e.ctx, actor, models.User{Email: "third@example.org"}, issuer, "second")
		e.fails(models.CodeTaken, err)
		third, err := e.store.UserByEmail(e.ctx, "third@example.org")
		require.NoError(e, err)
		assert.Nil(e, third)
	}},
	{name: "an identity ends with its sessions, if a password is left", test: func(e *env) {
		ann := e.user("ann").ID
		require.NoError(e, e.store.LinkIdentity(e.ctx, actor, ann, issuer, "a"))
		e.session("s", ann, time.Hour)
		e.fails(models.CodeConflict, e.store.UnlinkIdentity(e.ctx, actor, ann, issuer, false, ""))
		assert.Equal(e, ann, e.who(issuer, "a"))
		e.resetCode(ann, "h", time.Hour)
		_, err := e.store.ResetPassword(e.ctx, actor, "h", "hash")
		require.NoError(e, err)
		e.session("t", ann, time.Hour)
		require.NoError(e, e.store.UnlinkIdentity(e.ctx, actor, ann, issuer, false, ""))
		assert.Empty(e, e.who(issuer, "a"))
		assert.False(e, e.hasSession("t"))
		require.NoError(e, e.store.LinkIdentity(e.ctx, actor, e.user("bob").ID, issuer, "a"))
	}},
	{name: "an identity is linked once, however many try", test: func(e *env) {
		var ids []string
		for _, name := range []string{"a", "b", "c", "d"} {
			ids = append(ids, e.user(name).ID)
		}
		e.wins(1, models.CodeTaken, e.race(len(ids), func(s *store.Store, i int) error {
			return s.LinkIdentity(e.ctx, actor, ids[i], issuer, "one")
		}))
	}},
}
