package storetest

import (
	"fmt"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

// odd are keys that no record can have; PostgreSQL could not even compare some.
var odd = []string{"", "nobody", "a\x00b", "\xff\xfe", "a' OR '1'='1", "%", "ü"}

var peopleCases = []testCase{
	{name: "a user comes back as it was written", test: func(e *env) {
		want := models.User{ID: "u1", Email: "  Ann@Example.ORG ", Name: "Ann Ünïcode 🦉", PasswordHash: "$argon2id$…", Admin: true, CreatedAt: e.clock.Now().Add(123456)}
		got, err := e.store.CreateUser(e.ctx, actor, want)
		require.NoError(e, err)
		want.Email, want.CreatedAt = "ann@example.org", e.clock.Now().Add(123000)
		assert.Equal(e, want, got, "normalized, in microseconds")
		read, err := e.store.User(e.ctx, "u1")
		require.NoError(e, err)
		assert.Equal(e, &want, read)
		read, err = e.store.UserByEmail(e.ctx, "ANN@example.org")
		require.NoError(e, err)
		assert.Equal(e, &want, read)
	}},
	{name: "addresses that Unicode folds together are two people's", test: func(e *env) {
		create := func(email string) models.User {
			u, err := e.store.CreateUser(e.ctx, actor, models.User{Email: email, Name: "x"})
			require.NoError(e, err, email)
			return u
		}
		for ascii, other := range map[string]string{"k@x.example": "\u212a@x.example", "i@x.example": "\u0130@x.example", "a@sales.example": "a@\u017fales.example"} {
			first, second := create(ascii), create(other)
			for email, want := range map[string]models.User{ascii: first, other: second} {
				got, err := e.store.UserByEmail(e.ctx, email)
				require.NoError(e, err)
				assert.Equal(e, &want, got, email)
			}
		}
	}},
	{name: "ids and times are set where they are missing", test: func(e *env) {
		u := e.user("ann")
		assert.Len(e, u.ID, models.IDLength)
		assert.Equal(e, e.clock.Now(), u.CreatedAt)
		assert.Equal(e, e.clock.Now(), e.domain("acme").CreatedAt)
		assert.Equal(e, models.DomainEnabled, e.domain("beta").Status)
	}},
	{name: "absent facts are no errors", test: func(e *env) {
		for _, key := range odd {
			u, err := e.store.User(e.ctx, key)
			assert.NoError(e, err)
			assert.Nil(e, u, "%q", key)
			u, err = e.store.UserByEmail(e.ctx, key)
			assert.NoError(e, err)
			assert.Nil(e, u)
			d, err := e.store.Domain(e.ctx, key)
			assert.NoError(e, err)
			assert.Nil(e, d)
			m, err := e.store.Membership(e.ctx, key, key)
			assert.NoError(e, err)
			assert.Nil(e, m)
			ms, err := e.store.Memberships(e.ctx, key)
			assert.NoError(e, err)
			assert.Empty(e, ms)
			list, _, err := e.store.Members(e.ctx, key, store.MemberFilter{}, store.Page{})
			assert.NoError(e, err)
			assert.Empty(e, list)
		}
	}},
	{name: "changing what is not there is not found", test: func(e *env) {
		name := "x"
		for _, key := range odd {
			_, err := e.store.UpdateUser(e.ctx, actor, key, store.UserPatch{Name: &name})
			e.fails(models.CodeNotFound, err)
			_, err = e.store.UpdateDomain(e.ctx, actor, key, store.DomainPatch{Name: &name})
			e.fails(models.CodeNotFound, err)
			_, err = e.store.SetMember(e.ctx, actor, models.Membership{UserID: key, Domain: key, Role: "member"})
			e.fails(models.CodeNotFound, err)
			e.fails(models.CodeNotFound, e.store.RemoveMember(e.ctx, actor, key, key))
		}
	}},
	{name: "addresses and ids are taken once, in any spelling", test: func(e *env) {
		u := e.user("ann")
		_, err := e.store.CreateUser(e.ctx, actor, models.User{Email: "ANN@example.org"})
		e.fails(models.CodeTaken, err)
		_, err = e.store.CreateUser(e.ctx, actor, models.User{ID: u.ID, Email: "other@example.org"})
		e.fails(models.CodeTaken, err)
		e.domain("acme")
		_, err = e.store.CreateDomain(e.ctx, actor, models.Domain{ID: "acme", Name: "Again"})
		e.fails(models.CodeTaken, err)
	}},
	{name: "a patch changes what it names", test: func(e *env) {
		u := e.user("ann", func(u *models.User) { u.PasswordHash = "h" })
		e.user("root", admin)
		yes, no, name, hash, none := true, false, "Ann B.", "h2", ""
		for _, c := range []struct {
			patch store.UserPatch
			apply func()
		}{
			{store.UserPatch{}, func() {}},
			{store.UserPatch{Name: &name}, func() { u.Name = name }},
			{store.UserPatch{Admin: &yes}, func() { u.Admin = true }},
			{store.UserPatch{Policy: &yes}, func() { u.Policy = true }},
			{store.UserPatch{Admin: &no, Disabled: &yes}, func() { u.Admin, u.Disabled = false, true }},
			{store.UserPatch{Policy: &no, Disabled: &no, PasswordHash: &hash}, func() { u.Policy, u.Disabled, u.PasswordHash = false, false, hash }},
			{store.UserPatch{PasswordHash: &none}, func() { u.PasswordHash = "" }},
		} {
			c.apply()
			got, err := e.store.UpdateUser(e.ctx, actor, u.ID, c.patch)
			require.NoError(e, err)
			assert.Equal(e, u, got)
			read, err := e.store.User(e.ctx, u.ID)
			require.NoError(e, err)
			assert.Equal(e, &u, read)
		}
		d, status := e.domain("acme"), models.DomainIsFrozen
		d.Name, d.Status = "New", status
		got, err := e.store.UpdateDomain(e.ctx, actor, "acme", store.DomainPatch{Name: &d.Name, Status: &status})
		require.NoError(e, err)
		assert.Equal(e, d, got)
		read, err := e.store.Domain(e.ctx, "acme")
		require.NoError(e, err)
		assert.Equal(e, &d, read)
	}},
	{name: "the last enabled admin stays", test: func(e *env) {
		yes, no := true, false
		root := e.user("root", admin)
		e.user("off", admin, func(u *models.User) { u.Disabled = true })
		for _, patch := range []store.UserPatch{{Admin: &no}, {Disabled: &yes}, {Admin: &no, Disabled: &yes}} {
			_, err := e.store.UpdateUser(e.ctx, actor, root.ID, patch)
			e.fails(models.CodeConflict, err)
		}
		e.user("second", admin)
		_, err := e.store.UpdateUser(e.ctx, actor, root.ID, store.UserPatch{Disabled: &yes})
		require.NoError(e, err)
	}},
	{name: "the first admin is made once", test: func(e *env) {
		n, err := e.store.CountUsers(e.ctx)
		require.NoError(e, err)
		require.Zero(e, n)
		u, err := e.store.CreateFirstAdmin(e.ctx, actor, models.User{Email: "root@example.org", Disabled: true})
		require.NoError(e, err)
		assert.True(e, u.Admin)
		assert.False(e, u.Disabled)
		_, err = e.store.CreateFirstAdmin(e.ctx, actor, models.User{Email: "second@example.org"})
		e.fails(models.CodeConflict, err)
		n, err = e.store.CountUsers(e.ctx)
		require.NoError(e, err)
		assert.EqualValues(e, 1, n)
	}},
	{name: "standings", test: func(e *env) {
		ann, bob, eve := e.user("ann"), e.user("bob"), e.user("eve")
		e.domain("acme")
		e.domain("beta")
		e.member(ann.ID, "acme", "viewer")
		e.member(ann.ID, "beta", "admin")
		e.member(eve.ID, "acme", "member")
		var got []models.Standing
		page := store.Page{Limit: 2}
		for range 2 {
			list, next, err := e.store.Standings(e.ctx, "acme", page)
			require.NoError(e, err)
			got = append(got, list...)
			page.After = next
		}
		assert.Empty(e, page.After)
		assert.Equal(e, []models.Standing{
			{User: &ann, Membership: &models.Membership{UserID: ann.ID, Domain: "acme", Role: "viewer"}},
			{User: &bob},
			{User: &eve, Membership: &models.Membership{UserID: eve.ID, Domain: "acme", Role: "member"}},
		}, got)
		list, _, err := e.store.Standings(e.ctx, "gone\x00", store.Page{})
		require.NoError(e, err)
		require.Len(e, list, 3)
		assert.Nil(e, list[0].Membership)
	}},
	{name: "members", test: func(e *env) {
		ann, bob := e.user("ann"), e.user("bob")
		e.domain("acme")
		e.domain("beta")
		for _, c := range []struct {
			role    string
			created bool
		}{{"viewer", true}, {"viewer", false}, {"admin", false}} {
			created, err := e.store.SetMember(e.ctx, actor, models.Membership{UserID: ann.ID, Domain: "acme", Role: c.role})
			require.NoError(e, err)
			assert.Equal(e, c.created, created)
			m, err := e.store.Membership(e.ctx, ann.ID, "acme")
			require.NoError(e, err)
			assert.Equal(e, &models.Membership{UserID: ann.ID, Domain: "acme", Role: c.role}, m)
		}
		e.member(bob.ID, "acme", "member")
		e.member(ann.ID, "beta", "viewer")
		list, next, err := e.store.Members(e.ctx, "acme", store.MemberFilter{}, store.Page{})
		require.NoError(e, err)
		assert.Empty(e, next)
		assert.Equal(e, []store.Member{{UserID: ann.ID, Email: ann.Email, Role: "admin"}, {UserID: bob.ID, Email: bob.Email, Role: "member"}}, list)
		mine, err := e.store.Memberships(e.ctx, ann.ID)
		require.NoError(e, err)
		assert.Equal(e, []models.Membership{{UserID: ann.ID, Domain: "acme", Role: "admin"}, {UserID: ann.ID, Domain: "beta", Role: "viewer"}}, mine)
		domains, _, err := e.store.Domains(e.ctx, store.DomainFilter{UserID: bob.ID}, store.Page{})
		require.NoError(e, err)
		require.Len(e, domains, 1)
		assert.Equal(e, "acme", domains[0].ID)

		require.NoError(e, e.store.RemoveMember(e.ctx, actor, ann.ID, "acme"))
		e.fails(models.CodeNotFound, e.store.RemoveMember(e.ctx, actor, ann.ID, "acme"))
		m, err := e.store.Membership(e.ctx, ann.ID, "acme")
		require.NoError(e, err)
		assert.Nil(e, m)
	}},
	{name: "lists come whole in pages", test: func(e *env) {
		var emails, ids []string
		for i := range 7 {
			u := e.user(fmt.Sprintf("u%d", i), func(u *models.User) { u.Disabled = i%2 == 1 })
			emails = append(emails, u.Email)
			id := fmt.Sprintf("d-%d", i)
			ids = append(ids, e.domain(id).ID)
			e.member(u.ID, "d-0", "member")
		}
		for _, limit := range []int{1, 3, 7, 50} {
			var got []string
			for _, u := range all(e, limit, func(p store.Page) ([]models.User, string, error) {
				return e.store.Users(e.ctx, store.UserFilter{}, p)
			}) {
				got = append(got, u.Email)
			}
			assert.Equal(e, emails, got)
			got = nil
			for _, d := range all(e, limit, func(p store.Page) ([]models.Domain, string, error) {
				return e.store.Domains(e.ctx, store.DomainFilter{}, p)
			}) {
				got = append(got, d.ID)
			}
			assert.Equal(e, ids, got)
			got = nil
			for _, m := range all(e, limit, func(p store.Page) ([]store.Member, string, error) {
				return e.store.Members(e.ctx, "d-0", store.MemberFilter{}, p)
			}) {
				got = append(got, m.Email)
			}
			assert.Equal(e, emails, got)
		}
		yes := true
		disabled, _, err := e.store.Users(e.ctx, store.UserFilter{Disabled: &yes}, store.Page{})
		require.NoError(e, err)
		assert.Len(e, disabled, 3)
		admins, _, err := e.store.Users(e.ctx, store.UserFilter{Admin: &yes}, store.Page{})
		require.NoError(e, err)
		assert.Empty(e, admins)
		badCursors(e, func(p store.Page) error { _, _, err := e.store.Users(e.ctx, store.UserFilter{}, p); return err })
		badCursors(e, func(p store.Page) error { _, _, err := e.store.Domains(e.ctx, store.DomainFilter{}, p); return err })
		badCursors(e, func(p store.Page) error {
			_, _, err := e.store.Members(e.ctx, "d-0", store.MemberFilter{}, p)
			return err
		})
	}},
}
