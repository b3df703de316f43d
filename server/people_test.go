package server_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
)

func TestUsers(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	a := w.as("root").post("/api/v1/users", api.NewUser{Email: "Zoe@Example.com", Name: "Zoë", Password: "a password of hers"}).is(201)
	var zoe api.User
	a.into(&zoe)
	assert.Equal(t, api.User{ID: zoe.ID, Email: "zoe@example.com", Name: "Zoë", CreatedAt: w.clock.Now()}, zoe)
	assert.Equal(t, "/api/v1/users/"+zoe.ID, a.header.Get("Location"))
	assert.NotContains(t, string(a.body), "argon2")
	w.as("").post("/api/v1/session", api.SignIn{Email: "zoe@example.com", Password: "a password of hers"}).is(201)

	w.as("root").post("/api/v1/users", api.NewUser{Email: "ZOE@example.com", Name: "Other"}).problem(409, models.CodeTaken)
	w.as("root").post("/api/v1/users", api.NewUser{Email: "bot@example.com", Name: "Bot"}).is(201)
	w.as("").post("/api/v1/session", api.SignIn{Email: "bot@example.com", Password: "x"}).is(401)

	p := w.as("root").post("/api/v1/users", api.NewUser{Email: "nonsense", Password: "short"}).problem(422, models.CodeInvalid)
	assert.Len(t, p.Errors, 3)

	var got api.User
	w.as("root").get("/api/v1/users/" + zoe.ID).is(200).into(&got)
	assert.Equal(t, zoe, got)
	w.as("root").get("/api/v1/users/nobody").problem(404, models.CodeNotFound)
	w.as("root").send("PATCH", "/api/v1/users/nobody", `{"name":"x"}`).problem(404, models.CodeNotFound)
	w.as("root").send("PATCH", "/api/v1/users/"+zoe.ID, `{"name":"Zoe","admin":true}`).is(200).into(&got)
	assert.True(t, got.Admin)
	assert.Equal(t, "Zoe", got.Name)
	assert.False(t, got.Policy)
	w.as("root").send("PATCH", "/api/v1/users/"+zoe.ID, `{"policy":true}`).is(200).into(&got)
	assert.True(t, got.Policy)
	assert.True(t, got.Admin, "one role says nothing of the other")
	w.as("root").send("PATCH", "/api/v1/users/"+zoe.ID, `{"name":""}`).problem(422, models.CodeInvalid)
	w.as("root").send("PATCH", "/api/v1/users/"+zoe.ID, `{"email":"new@example.com"}`).problem(422, models.CodeInvalid)

	var page api.Page[api.User]
	w.as("root").get("/api/v1/users?limit=2").is(200).into(&page)
	require.Len(t, page.Items, 2)
	require.NotNil(t, page.Next)
	first := page.Items[0].Email
	w.as("root").get("/api/v1/users?after=" + *page.Next).is(200).into(&page)
	assert.Len(t, page.Items, 5)
	assert.Nil(t, page.Next)
	assert.Less(t, first, page.Items[0].Email)
}

func TestAdminsCannotShutThemselvesOut(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	self := "/api/v1/users/" + w.users["root"].ID
	w.as("root").send("PATCH", self, `{"disabled":true}`).problem(409, models.CodeConflict)
	w.as("root").send("PATCH", self, `{"admin":false}`).problem(409, models.CodeConflict)
	w.as("root").send("PATCH", self, `{"name":"Root","admin":true,"disabled":false}`).is(200)

	w.as("root").send("PATCH", "/api/v1/users/"+w.users["dom"].ID, `{"admin":true}`).is(200)
	w.as("dom").send("PATCH", self, `{"admin":false}`).is(200)
	w.as("root").get("/api/v1/users").problem(403, models.CodeForbidden)
}

func TestDomains(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	a := w.as("root").post("/api/v1/domains", api.NewDomain{ID: "gamma-1", Name: "Gamma"}).is(201)
	var domain api.Domain
	a.into(&domain)
	assert.Equal(t, api.Domain{ID: "gamma-1", Name: "Gamma", Status: models.DomainEnabled, CreatedAt: w.clock.Now()}, domain)
	assert.Equal(t, "/api/v1/domains/gamma-1", a.header.Get("Location"))
	w.as("root").post("/api/v1/domains", api.NewDomain{ID: "gamma-1", Name: "Other"}).problem(409, models.CodeTaken)
	for _, id := range []string{"", "-x", "Gamma", "a b", "*", "a/b"} {
		p := w.as("root").post("/api/v1/domains", api.NewDomain{ID: id, Name: "x"}).problem(422, models.CodeInvalid)
		assert.Equal(t, "id", p.Errors[0].Field)
	}
	w.as("root").send("PATCH", "/api/v1/domains/gamma-1", `{"name":"Γ","status":"frozen"}`).is(200).into(&domain)
	assert.Equal(t, models.DomainIsFrozen, domain.Status)
	w.as("root").send("PATCH", "/api/v1/domains/gamma-1", `{"status":"melted"}`).problem(422, models.CodeInvalid)
	w.as("root").send("PATCH", "/api/v1/domains/nowhere", `{"name":"x"}`).problem(404, models.CodeNotFound)

	ids := func(who string) (ids []string) {
		var page api.Page[api.Domain]
		w.as(who).get("/api/v1/domains").is(200).into(&page)
		for _, d := range page.Items {
			ids = append(ids, d.ID)
		}
		return ids
	}
	assert.Equal(t, []string{"acme", "beta", "gamma-1"}, ids("root"))
	assert.Equal(t, []string{"acme"}, ids("ann"))
	assert.Empty(t, ids("eve"))

	w.as("ann").get("/api/v1/domains/acme").is(200)
	for _, id := range []string{"beta", "nowhere"} {
		assert.Equal(t, "there is no such domain", w.as("ann").get("/api/v1/domains/"+id).problem(404, models.CodeNotFound).Detail)
		w.as("ann").get("/api/v1/domains/" + id + "/members").is(404)
	}
}

func TestMembers(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		w := newWorld(t, url, nil)
		eve := "/api/v1/domains/acme/members/" + w.users["eve"].ID
		var member api.Member
		w.as("dom").send("PUT", eve, `{"role":"viewer"}`).is(201).into(&member)
		assert.Equal(t, api.Member{UserID: w.users["eve"].ID, Email: "eve@example.com", Role: "viewer"}, member)
		w.as("dom").send("PUT", eve, `{"role":"member"}`).is(200)
		w.as("dom").send("PUT", eve, `{"role":"member"}`).is(200)
		for body, field := range map[string]string{`{"role":"emperor"}`: "role", `{}`: "role", `{"role":"admin","email":"x"}`: "email"} {
			p := w.as("dom").send("PUT", eve, body).problem(422, models.CodeInvalid)
			assert.Equal(t, field, p.Errors[0].Field)
		}
		w.as("dom").send("PUT", "/api/v1/domains/acme/members/nobody", `{"role":"viewer"}`).problem(404, models.CodeNotFound)
		w.as("root").send("PUT", "/api/v1/domains/nowhere/members/"+w.users["eve"].ID, `{"role":"viewer"}`).problem(404, models.CodeNotFound)

		var page api.Page[api.Member]
		w.as("eve").get("/api/v1/domains/acme/members").is(200).into(&page)
		assert.Len(t, page.Items, 3)
		w.as("eve").send("PUT", eve, `{"role":"admin"}`).problem(403, models.CodeForbidden)

		w.as("root").send("PATCH", "/api/v1/domains/acme", `{"status":"disabled"}`).is(200)
		w.as("dom").send("PUT", eve, `{"role":"viewer"}`).is(200)
		w.as("root").send("PATCH", "/api/v1/domains/acme", `{"status":"frozen"}`).is(200)
		w.as("dom").send("PUT", eve, `{"role":"member"}`).problem(403, models.CodeForbidden)
		w.as("dom").delete(eve).problem(403, models.CodeForbidden)
		w.as("root").delete(eve).is(204)
		w.as("root").delete(eve).problem(404, models.CodeNotFound)
		w.as("eve").get("/api/v1/domains/acme/members").is(404)
	})
}

func TestCatalog(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	var catalog models.Catalog
	first := w.as("eve").get("/api/v1/catalog").is(200).into(&catalog)
	for _, entityType := range []string{"models", "datasets", "domains"} {
		assert.Contains(t, catalog.EntityTypes, entityType)
	}
	assert.True(t, catalog.Roles["admin"].AdministersDomain())
	assert.Equal(t, first.body, w.as("eve").get("/api/v1/catalog").body, "equal answers are equal bytes")
}
