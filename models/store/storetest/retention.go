package storetest

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

var retentionCases = []testCase{
	{name: "old events go, and the log says so", test: func(e *env) {
		require.NoError(e, e.store.Audit(e.ctx, actor, "old", "user:x", nil))
		for i := range 20 {
			require.NoError(e, e.store.Audit(e.ctx, actor, "old", "user:"+strconv.Itoa(i), nil))
		}
		e.clock.Advance(time.Hour)
		require.NoError(e, e.store.Audit(e.ctx, actor, "new", "user:x", nil))
		e.clock.Advance(24*time.Hour - time.Minute)
		n, err := e.store.PruneAudit(e.ctx, models.Actor{Kind: models.ActorSystem}, 24*time.Hour)
		require.NoError(e, err)
		assert.Positive(e, n)
		events, _, err := e.store.AuditEvents(e.ctx, store.AuditFilter{}, store.Page{Limit: 200})
		require.NoError(e, err)
		var actions []string
		for _, event := range events {
			if event.Action != "audit.prune" {
				actions = append(actions, event.Action)
			} else {
				assert.NotEmpty(e, event.Detail["count"])
			}
		}
		assert.Equal(e, []string{"new"}, actions)
		n, err = e.store.PruneAudit(e.ctx, models.Actor{Kind: models.ActorSystem}, 24*time.Hour)
		require.NoError(e, err)
		assert.Zero(e, n)
	}},
	{name: "an old last use is forgotten, a later one is not", test: func(e *env) {
		ann := e.user("ann")
		old, later := e.pat(ann.ID, "old"), e.pat(ann.ID, "later")
		at := e.clock.Now()
		require.NoError(e, e.store.RecordUses(e.ctx, []store.Use{{TokenID: old.ID, At: at, IP: "192.0.2.1", UserAgent: "curl"}, {TokenID: later.ID, At: at.Add(time.Hour), IP: "192.0.2.1"}}))
		e.clock.Advance(24 * time.Hour)
		n, err := e.store.ForgetUses(e.ctx, 24*time.Hour)
		require.NoError(e, err)
		assert.Equal(e, 1, n)
		got, err := e.store.PAT(e.ctx, old.ID)
		require.NoError(e, err)
		assert.Nil(e, got.LastUsedAt)
		assert.Empty(e, got.LastUsedIP+got.LastUsedAgent)
		got, err = e.store.PAT(e.ctx, later.ID)
		require.NoError(e, err)
		assert.Equal(e, "192.0.2.1", got.LastUsedIP)
	}},
	{name: "an anonymised user is named nowhere, and the address stays taken", test: func(e *env) {
		root := e.user("root", func(u *models.User) { u.Admin = true })
		const email, name = "ada.lovelace@example.com", "Ada Lovelace"
		ada, err := e.store.CreateUser(e.ctx, actor, models.User{Email: email, Name: name, PasswordHash: "hash", CreatedAt: e.clock.Now()})
		require.NoError(e, err)
		bob := e.user("bob")
		by := models.Actor{Kind: models.ActorUser, UserID: ada.ID, IP: "198.51.100.5", UserAgent: "Adas browser"}
		e.domain("acme")
		_, err = e.store.SetMember(e.ctx, actor, models.Membership{UserID: ada.ID, Domain: "acme", Role: "member"})
		require.NoError(e, err)
		require.NoError(e, e.store.LinkIdentity(e.ctx, by, ada.ID, issuer, "adas-subject"))
		pat := e.pat(ada.ID, "adas-token")
		require.NoError(e, e.store.RecordUses(e.ctx, []store.Use{{TokenID: pat.ID, At: e.clock.Now(), IP: "198.51.100.5", UserAgent: "Adas browser"}}))
		require.NoError(e, e.store.Audit(e.ctx, models.Actor{Kind: models.ActorUser, UserID: root.ID, IP: "192.0.2.1"}, "user.lookup", "domain:acme", map[string]string{"email": "Ada.Lovelace@example.com"}))
		renamed := "Countess"
		_, err = e.store.UpdateUser(e.ctx, by, ada.ID, store.UserPatch{Name: &renamed})
		require.NoError(e, err)
		e.session("adas-session", ada.ID, time.Hour)
		e.resetCode(ada.ID, "h", time.Minute)

		_, err = e.store.AnonymiseUser(e.ctx, actor, ada.ID)
		e.fails(models.CodeConflict, err)
		yes, no := true, false
		_, err = e.store.UpdateUser(e.ctx, actor, ada.ID, store.UserPatch{Disabled: &yes})
		require.NoError(e, err)
		got, err := e.store.AnonymiseUser(e.ctx, actor, ada.ID)
		require.NoError(e, err)
		assert.True(e, got.Anonymised())
		again, err := e.store.AnonymiseUser(e.ctx, actor, ada.ID)
		require.NoError(e, err)
		assert.Equal(e, got, again)

		for _, text := range []string{email, name, "Countess", "adas-subject", "adas-token", "Adas browser", "198.51.100.5"} {
			assert.Empty(e, e.holding(text), text)
		}
		assert.NotEmpty(e, e.holding("192.0.2.1"), "others are still named")
		assert.NotEmpty(e, e.holding("bob"))
		for _, taken := range []string{email, "ADA.lovelace@example.com", got.Email} {
			_, err = e.store.CreateUser(e.ctx, actor, models.User{Email: taken, Name: "x"})
			e.fails(models.CodeTaken, err)
		}
		_, err = e.store.UpdateUser(e.ctx, actor, ada.ID, store.UserPatch{Disabled: &no})
		e.fails(models.CodeConflict, err)
		e.fails(models.CodeConflict, e.makeReset(ada.ID, "h2", e.clock.Now().Add(time.Minute)))
		left, err := e.store.PAT(e.ctx, pat.ID)
		require.NoError(e, err)
		assert.NotNil(e, left.RevokedAt)
		memberships, err := e.store.Memberships(e.ctx, ada.ID)
		require.NoError(e, err)
		assert.Empty(e, memberships)
		_, err = e.store.User(e.ctx, bob.ID)
		require.NoError(e, err)
	}},
}

// holding returns where in users, tokens, identities and the audit log a text stands.
func (e *env) holding(text string) (found []string) {
	e.Helper()
	events, _, err := e.store.AuditEvents(e.ctx, store.AuditFilter{}, store.Page{Limit: 200})
	require.NoError(e, err)
	users, _, err := e.store.Users(e.ctx, store.UserFilter{}, store.Page{Limit: 200})
	require.NoError(e, err)
	pats, _, err := e.store.SearchPATs(e.ctx, store.PATSearch{}, store.Page{Limit: 200})
	require.NoError(e, err)
	things := []any{users, pats}
	for _, u := range users {
		identities, err := e.store.Identities(e.ctx, u.ID)
		require.NoError(e, err)
		things = append(things, identities)
	}
	for _, event := range events {
		things = append(things, event)
	}
	for _, thing := range things {
		if plain := fmt.Sprintf("%+v", thing); strings.Contains(strings.ToLower(plain), strings.ToLower(text)) {
			found = append(found, plain)
		}
	}
	return found
}
