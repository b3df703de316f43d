package server_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
)

// Owners get what is kept about them in one piece: no secret, and nothing of others.
func TestExportOfOnesOwnData(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		id := w.users["ann"].ID
		pat := w.pat("ann", "ci", "acme:models:*:read")
		eves := w.pat("dom", "of dom", "acme:models:*:read")
		reset := w.resetCode("ann")
		require.NoError(t, w.store.LinkIdentity(t.Context(), by, id, "https://id.example.com", "ann at the provider"))
		require.NoError(t, w.store.Audit(t.Context(), models.Actor{Kind: models.ActorUser, UserID: w.users["root"].ID, IP: "192.0.2.99"}, "user.look", "user:"+id, nil))
		session := w.session("ann")

		answer := w.with(session).get("/api/v1/me/export").is(200)
		var out api.Export
		answer.into(&out)
		assert.Equal(t, "ann@example.com", out.Account.Email)
		assert.Len(t, out.Tokens, 1)
		assert.Len(t, out.Codes, 1)
		assert.Len(t, out.Identities, 1)
		assert.NotEmpty(t, out.Sessions)
		assert.NotEmpty(t, out.Members)
		assert.NotEmpty(t, out.Events)
		assert.Empty(t, out.CutShort)
		for _, secret := range []string{pat.Token, reset.Code, session, w.users["ann"].PasswordHash, eves.ID, "192.0.2.99"} {
			if secret != "" {
				assert.NotContains(t, answer.body, secret)
			}
		}
		w.with(session).get("/api/v1/me/export").problem(429, models.CodeRateLimited)

		w.clock.Advance(10e9)
		person := w.visit("ann")
		assert.Contains(t, person.get("/profile/data").is(200).text, "/profile/data/export")
		page := person.get("/profile/data/export").is(200)
		assert.Contains(t, page.header.Get("Content-Disposition"), "attachment")
		assert.True(t, json.Valid([]byte(page.text)))
		events, _, err := w.store.AuditEvents(t.Context(), store.AuditFilter{Action: "user.export"}, store.Page{})
		require.NoError(t, err)
		assert.Len(t, events, 2)
	})
}

func TestAnonymisingAnAccount(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	id := w.users["eve"].ID
	path := "/api/v1/users/" + id + "/anonymise"
	w.as("root").post("/api/v1/users/"+w.users["root"].ID+"/anonymise", nil).problem(409, models.CodeConflict)
	w.as("ann").post(path, nil).problem(403, models.CodeForbidden)
	root := w.visit("root")
	assert.Contains(t, root.get("/admin/users/"+id+"/anonymise").is(200).text, "Disable the account first")
	yes := true
	w.as("root").send("PATCH", "/api/v1/users/"+id, api.UserPatch{Disabled: &yes}).is(200)
	assert.Contains(t, root.get("/admin/users/"+id).is(200).text, "/anonymise")
	root.post("/admin/users/"+id+"/anonymise", url.Values{}).leadsTo("/admin/users/" + id)
	var out api.User
	w.as("root").post(path, nil).is(200).into(&out)
	assert.True(t, strings.HasSuffix(out.Email, models.AnonymisedDomain))
	for _, page := range []string{"/admin/users", "/admin/users/" + id, "/admin/audit"} {
		assert.NotContains(t, root.get(page).is(200).text, "eve@example.com", page)
	}
	w.as("root").post("/api/v1/users", api.NewUser{Email: "eve@example.com", Name: "Eve"}).problem(409, models.CodeTaken)
}
