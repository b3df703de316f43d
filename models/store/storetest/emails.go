package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

// emailCode stores a code with which a user confirms another address.
func (e *env) emailCode(userID, email, hash string) {
	e.Helper()
	require.NoError(e, e.makeEmailCode(userID, email, hash))
}

func (e *env) makeEmailCode(userID, email, hash string) error {
	return e.store.CreateEmailCode(e.ctx, actor, userID, email, hash, e.clock.Now().Add(time.Hour))
}

// changeEmail gives a user another address, by a code.
func (e *env) changeEmail(userID string) error {
	if err := e.makeEmailCode(userID, "other@example.org", "for an address"); err != nil {
		return err
	}
	_, err := e.store.ChangeEmail(e.ctx, actor, userID, "for an address", "")
	return err
}

func (e *env) emailOf(userID string) string {
	e.Helper()
	u, err := e.store.User(e.ctx, userID)
	require.NoError(e, err)
	return u.Email
}

// emailUse is a use of a code that is no good.
func (e *env) emailUse(userID, hash, why string) {
	e.Helper()
	before := e.emailOf(userID)
	_, err := e.store.ChangeEmail(e.ctx, actor, userID, hash, "")
	require.Equal(e, models.CodeNotFound, models.CodeOf(err), "%s: %v", why, err)
	assert.Equal(e, before, e.emailOf(userID), why)
}

func (e *env) admin(name string) (models.User, models.Actor) {
	u := e.user(name, func(u *models.User) { u.Admin = true })
	return u, models.Actor{Kind: models.ActorUser, UserID: u.ID}
}

var emailCases = []testCase{
	{name: "an address is changed once, and what rode on the old one ends", test: func(e *env) {
		ann, bob := e.user("ann"), e.user("bob")
		old := ann.Email
		for _, token := range []string{"this", "other"} {
			e.session(token, ann.ID, time.Hour)
		}
		e.session("bob's", bob.ID, time.Hour)
		require.NoError(e, e.store.LinkIdentity(e.ctx, actor, ann.ID, issuer, "ann's"))
		pat := e.pat(ann.ID, "ci")
		e.resetCode(ann.ID, "sent to the old address", time.Hour)
		require.NoError(e, e.store.CreateSessionCode(e.ctx, actor, ann.ID, "program", e.clock.Now(), e.clock.Now().Add(time.Hour), store.AtProvider{}))
		e.emailCode(ann.ID, " Ann.Other@Example.ORG ", "h1")
		pending, err := e.store.PendingCodes(e.ctx, ann.ID)
		require.NoError(e, err)
		require.Len(e, pending, 3)
		assert.Equal(e, "ann.other@example.org", pending[1].NewEmail)
		assert.Equal(e, old, e.emailOf(ann.ID), "a code alone changes nothing")

		after := e.lastEvent()
		ann, err = e.store.ChangeEmail(e.ctx, models.Actor{Kind: models.ActorUser, IP: "192.0.2.1"}, ann.ID, "h1", "this")
		require.NoError(e, err)
		assert.Equal(e, "ann.other@example.org", ann.Email)
		assert.Equal(e, ann.Email, e.emailOf(ann.ID))
		assert.Contains(e, e.auditAfter(after), "user.email user:"+ann.ID)
		events, _, err := e.store.AuditEvents(e.ctx, store.AuditFilter{Action: "user.email"}, store.Page{})
		require.NoError(e, err)
		require.Len(e, events, 1)
		assert.Equal(e, map[string]string{"from": old, "to": ann.Email, "email": ann.Email}, events[0].Detail)
		assert.Equal(e, ann.ID, events[0].Actor.UserID)

		assert.True(e, e.hasSession("bob's"))
		assert.True(e, e.hasSession("this"), "the one of the change")
		assert.False(e, e.hasSession("other"))
		assert.Empty(e, e.resets("sent to the old address"))
		pending, err = e.store.PendingCodes(e.ctx, ann.ID)
		require.NoError(e, err)
		assert.Empty(e, pending)
		assert.Equal(e, ann.ID, e.who(issuer, "ann's"), "an identity is a subject, no address")
		assert.Nil(e, e.reread(pat.ID).RevokedAt)
		e.emailUse(ann.ID, "h1", "used")
		found, err := e.store.UserByEmail(e.ctx, old)
		require.NoError(e, err)
		assert.Nil(e, found)

		// The old address stays the owner's, who may come back to it, and is nobody else's.
		for _, taken := range []string{old, strings.ToUpper(old)} {
			_, err = e.store.CreateUser(e.ctx, actor, models.User{Email: taken, Name: "x"})
			e.fails(models.CodeTaken, err)
			e.fails(models.CodeTaken, e.makeEmailCode(bob.ID, taken, "h2"))
		}
		e.emailCode(ann.ID, old, "back")
		_, err = e.store.ChangeEmail(e.ctx, actor, ann.ID, "back", "")
		require.NoError(e, err)
		e.fails(models.CodeTaken, e.makeEmailCode(bob.ID, "ann.other@example.org", "h2"))
	}},
	{name: "a code for an address is good for its user, while its maker may make it and nobody has the address", test: func(e *env) {
		yes, no, hash := true, false, "another"
		for name, end := range map[string]func(ann, maker models.User, as models.Actor){
			"time":     func(_, _ models.User, _ models.Actor) { e.clock.Advance(time.Hour) },
			"replaced": func(ann, _ models.User, _ models.Actor) { e.emailCode(ann.ID, "newer@example.org", models.NewID()) },
			"withdrawn": func(ann, _ models.User, _ models.Actor) {
				n, err := e.store.WithdrawCodes(e.ctx, actor, ann.ID)
				require.NoError(e, err)
				assert.Equal(e, 1, n)
			},
			"a new password": func(ann, _ models.User, _ models.Actor) {
				_, err := e.store.SetPassword(e.ctx, actor, ann.ID, hash)
				require.NoError(e, err)
			},
			"a reset that withdraws codes": func(ann, _ models.User, _ models.Actor) {
				_, _, err := e.store.CreateResetCode(e.ctx, actor, ann.ID, models.NewID(), e.clock.Now().Add(time.Hour), models.Removal{Codes: true})
				require.NoError(e, err)
			},
			"disabled and enabled": func(ann, _ models.User, _ models.Actor) {
				for _, disabled := range []*bool{&yes, &no} {
					_, err := e.store.UpdateUser(e.ctx, actor, ann.ID, store.UserPatch{Disabled: disabled})
					require.NoError(e, err)
				}
			},
			"the maker is demoted and promoted": func(_, maker models.User, _ models.Actor) {
				for _, admin := range []*bool{&no, &yes} {
					_, err := e.store.UpdateUser(e.ctx, actor, maker.ID, store.UserPatch{Admin: admin})
					require.NoError(e, err)
				}
			},
			"the maker is disabled and enabled": func(_, maker models.User, _ models.Actor) {
				for _, disabled := range []*bool{&yes, &no} {
					_, err := e.store.UpdateUser(e.ctx, actor, maker.ID, store.UserPatch{Disabled: disabled})
					require.NoError(e, err)
				}
			},
			"the maker has a new password": func(_, maker models.User, _ models.Actor) {
				_, err := e.store.SetPassword(e.ctx, actor, maker.ID, hash)
				require.NoError(e, err)
			},
			"somebody is made with the address": func(ann, _ models.User, _ models.Actor) {
				_, err := e.store.CreateUser(e.ctx, actor, models.User{Email: "New-" + ann.Email, Name: "x"})
				require.NoError(e, err)
			},
			"somebody else confirmed the address": func(ann, _ models.User, _ models.Actor) {
				bob := e.user(models.NewID())
				e.emailCode(bob.ID, "new-"+ann.Email, "of "+bob.ID)
				_, err := e.store.ChangeEmail(e.ctx, actor, bob.ID, "of "+bob.ID, "")
				require.NoError(e, err)
			},
		} {
			e.user("root"+models.NewID(), func(u *models.User) { u.Admin = true })
			ann := e.user(models.NewID())
			maker, as := e.admin(models.NewID())
			code := "of " + name
			require.NoError(e, e.store.CreateEmailCode(e.ctx, as, ann.ID, "new-"+ann.Email, code, e.clock.Now().Add(time.Hour)))
			end(ann, maker, as)
			e.emailUse(ann.ID, code, name)
		}

		ann, bob := e.user("ann"), e.user("bob")
		e.emailCode(ann.ID, "other@example.org", "ann's")
		e.emailUse(bob.ID, "ann's", "another's")
		e.resetCode(ann.ID, "reset", time.Hour)
		e.emailUse(ann.ID, "reset", "a code for something else")
		assert.Empty(e, e.resets("ann's"), "nor the other way round")
		for _, key := range odd {
			e.emailUse(ann.ID, key, "odd")
			assert.NotEmpty(e, models.CodeOf(e.makeEmailCode(key, "x@example.org", "h")))
		}
		_, err := e.store.ChangeEmail(e.ctx, actor, ann.ID, "ann's", "")
		require.NoError(e, err, "none of that used it up")
	}},
	{name: "an address that is or was somebody else's cannot be had", test: func(e *env) {
		ann, bob := e.user("ann"), e.user("bob")
		e.fails(models.CodeConflict, e.makeEmailCode(ann.ID, "ANN@example.org", "h"))
		e.fails(models.CodeTaken, e.makeEmailCode(ann.ID, "BOB@example.org", "h"))
		// Letters outside of ASCII are none of ASCII's.
		e.emailCode(ann.ID, "bo\u0042\u0301@example.org", "h")
		_, err := e.store.UpdateUser(e.ctx, actor, bob.ID, store.UserPatch{Disabled: new(true)})
		require.NoError(e, err)
		e.fails(models.CodeTaken, e.makeEmailCode(ann.ID, "bob@example.org", "h2"))
		gone, err := e.store.AnonymiseUser(e.ctx, actor, bob.ID)
		require.NoError(e, err)
		for _, taken := range []string{"bob@example.org", gone.Email, "x" + models.AnonymisedDomain} {
			e.fails(models.CodeTaken, e.makeEmailCode(ann.ID, taken, "h2"))
		}
		_, err = e.store.UpdateUser(e.ctx, actor, ann.ID, store.UserPatch{Disabled: new(true)})
		require.NoError(e, err)
		e.fails(models.CodeConflict, e.makeEmailCode(ann.ID, "free@example.org", "h2"))
	}},
	{name: "an anonymised user's former addresses are named nowhere, and stay taken", test: func(e *env) {
		const first, second, longer = "n&n@example.org", "nan@example.org", "Ann&n@example.org"
		ada, err := e.store.CreateUser(e.ctx, actor, models.User{Email: first, Name: "Ada"})
		require.NoError(e, err)
		_, err = e.store.CreateUser(e.ctx, actor, models.User{Email: longer, Name: "Another"})
		require.NoError(e, err)
		for _, address := range []string{"looked up " + strings.ToUpper(first) + ".", second, longer} {
			require.NoError(e, e.store.Audit(e.ctx, actor, "user.lookup", "domain:acme", map[string]string{"email": address}))
		}
		e.emailCode(ada.ID, second, "h")
		_, err = e.store.ChangeEmail(e.ctx, actor, ada.ID, "h", "")
		require.NoError(e, err)
		_, err = e.store.UpdateUser(e.ctx, actor, ada.ID, store.UserPatch{Disabled: new(true)})
		require.NoError(e, err)
		_, err = e.store.AnonymiseUser(e.ctx, actor, ada.ID)
		require.NoError(e, err)
		for _, text := range []string{":" + first, " " + first, second} {
			assert.Empty(e, e.holding(text), text)
		}
		assert.NotEmpty(e, e.holding("email:"+longer), "a longer address is another person's")
		for _, taken := range []string{first, second} {
			_, err = e.store.CreateUser(e.ctx, actor, models.User{Email: taken, Name: "x"})
			e.fails(models.CodeTaken, err)
		}
	}},
	{name: "two who confirm one address at once do not both have it", test: func(e *env) {
		for round := range rounds {
			var users []models.User
			for i := range 4 {
				u := e.user(fmt.Sprintf("u%d-%d", round, i))
				e.emailCode(u.ID, fmt.Sprintf("wanted-%d@example.org", round), "of "+u.ID)
				users = append(users, u)
			}
			e.wins(1, models.CodeNotFound, e.race(4, func(s *store.Store, i int) error {
				_, err := s.ChangeEmail(e.ctx, actor, users[i].ID, "of "+users[i].ID, "")
				return err
			}))
		}
	}},
	{name: "whoever is made while an address is left does not get it", test: func(e *env) {
		for round := range rounds {
			u := e.user(fmt.Sprint("leaving", round))
			e.emailCode(u.ID, fmt.Sprintf("new-%d@example.org", round), "of "+u.ID)
			errs := e.race(4, func(s *store.Store, i int) error {
				if i == 0 {
					_, err := s.ChangeEmail(e.ctx, actor, u.ID, "of "+u.ID, "")
					return err
				}
				_, err := s.CreateUser(e.ctx, actor, models.User{Email: u.Email, Name: "x"})
				return err
			})
			require.NoError(e, errs[0])
			for _, err := range errs[1:] {
				e.fails(models.CodeTaken, err)
			}
		}
	}},
}
