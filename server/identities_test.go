package server_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
)

const otherIssuer = "https://idp.example"

// identities lists who somebody is at providers, as seen by name.
func (w *world) identities(name, path string) []api.Identity {
	w.t.Helper()
	var page api.Page[api.Identity]
	w.as(name).get(path).is(200).into(&page)
	return page.Items
}

func TestIdentitiesAreSeenAndDisconnected(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		ann := w.users["ann"].ID
		link := func(subject string) {
			t.Helper()
			require.NoError(t, w.store.LinkIdentity(t.Context(), models.Actor{Kind: models.ActorUser, UserID: ann, IP: "203.0.113.9"}, ann, otherIssuer, subject))
		}
		assert.Empty(t, w.identities("ann", "/api/v1/me/identities"))
		browser := w.visit("ann")
		browser.get("/profile/pats").is(200)
		w.clock.Advance(time.Second)
		link("thief")
		page := browser.get("/profile/pats").is(200)
		assert.Contains(t, page.text, "Your account was connected with "+otherIssuer)
		assert.Contains(t, page.text, "203.0.113.9")
		assert.NotContains(t, browser.get("/profile/pats").is(200).text, "was connected with", "once")
		assert.Contains(t, w.visit("ann").get("/profile/pats").is(200).text, "was connected with", "and again in a new session")

		mine := w.identities("ann", "/api/v1/me/identities")
		require.Len(t, mine, 1)
		assert.Equal(t, []any{otherIssuer, "thief", (*time.Time)(nil)}, []any{mine[0].Issuer, mine[0].Subject, mine[0].LastUsedAt})
		theirs := "/api/v1/users/" + ann + "/identities"
		assert.Equal(t, mine, w.identities("root", theirs))
		for _, name := range []string{"ann", "dom", "pol"} {
			w.as(name).get(theirs).problem(403, models.CodeForbidden)
			w.as(name).delete(theirs+"/"+mine[0].ID).problem(403, models.CodeForbidden)
		}
		w.as("root").get("/api/v1/users/nobody/identities").problem(404, models.CodeNotFound)
		for _, id := range []string{"nothing", "%00", mine[0].ID + "x", strings.ToLower(mine[0].ID) + "-"} {
			w.as("root").delete(theirs+"/"+id).problem(404, models.CodeNotFound)
			w.as("eve").delete("/api/v1/me/identities/"+id).problem(404, models.CodeNotFound)
		}
		w.as("eve").delete("/api/v1/me/identities/"+mine[0].ID).problem(404, models.CodeNotFound)

		// A stale session may look, and no more.
		stale := w.visit("ann")
		w.clock.Advance(11 * time.Minute)
		assert.Len(t, w.identities("ann", "/api/v1/me/identities"), 1)
		w.as("ann").delete("/api/v1/me/identities/"+mine[0].ID).problem(403, models.CodeReauthentication)
		form := "/profile/identity/" + mine[0].ID + "/disconnect"
		assert.Contains(t, stale.get("/profile/identity/list").is(200).text, form)
		assert.Contains(t, stale.get(form).is(200).text, "current-password")
		stale.post(form, url.Values{}).is(422)
		stale.post(form, url.Values{"password": {"wrong"}}).is(422)
		assert.Len(t, w.identities("ann", "/api/v1/me/identities"), 1)

		// A fresh one ends it, the sessions that it may have begun too.
		stale.post(form, url.Values{"password": {password}}).leadsTo("/profile/identity/list")
		stale.get("/profile/identity/list").is(200)
		browser.get("/profile/pats").leadsTo("/login")
		w.as("ann").get("/api/v1/me").problem(401, models.CodeUnauthenticated)
		delete(w.sessions, "ann")
		assert.Empty(t, w.identities("ann", "/api/v1/me/identities"))
		assert.Contains(t, w.visit("ann").get("/profile/pats").is(200).text, "was disconnected from "+otherIssuer)

		// A program's own session goes on.
		link("again")
		w.as("ann").delete("/api/v1/me/identities/" + w.identities("ann", "/api/v1/me/identities")[0].ID).is(204)
		assert.Empty(t, w.identities("ann", "/api/v1/me/identities"))

		// An admin sees it on the user's page and may take the only way in.
		link("last")
		none := ""
		_, err := w.store.UpdateUser(t.Context(), by, ann, store.UserPatch{PasswordHash: &none})
		require.NoError(t, err)
		root := w.visit("root")
		assert.Contains(t, root.get("/admin/users/"+ann).is(200).text, "Signs in at "+otherIssuer)
		list := root.get("/admin/users/" + ann + "/identities").is(200)
		one := w.identities("root", theirs)[0]
		assert.Contains(t, list.text, one.Subject)
		form = "/admin/users/" + ann + "/identities/" + one.ID + "/disconnect"
		assert.Contains(t, root.get(form).is(200).text, "has no password")
		w.visit("dom").post(form, url.Values{}).is(403)
		root.post(form, url.Values{}).leadsTo("/admin/users/" + ann + "/identities")
		assert.Empty(t, w.identities("root", theirs))
		events, _, err := w.store.AuditEvents(t.Context(), store.AuditFilter{Action: "identity.unlink", Subject: "user:" + ann}, store.Page{})
		require.NoError(t, err)
		require.Len(t, events, 3)
		assert.Equal(t, w.users["root"].ID, events[0].Actor.UserID)

		// Its owner may not, and is told why.
		eve := w.users["eve"].ID
		require.NoError(t, w.store.LinkIdentity(t.Context(), by, eve, otherIssuer, "eve"))
		w.session("eve")
		_, err = w.store.UpdateUser(t.Context(), by, eve, store.UserPatch{PasswordHash: &none})
		require.NoError(t, err)
	})
}
