package server_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
)

// second makes another platform admin.
func (w *world) second() {
	w.t.Helper()
	hash, err := passwordHash()
	require.NoError(w.t, err)
	w.users["two"], err = w.store.CreateUser(w.t.Context(), by, models.User{Name: "two", Email: "two@example.com", PasswordHash: hash, Admin: true})
	require.NoError(w.t, err)
}

// What an admin made and nobody has used ends with what let them make it, and does not
// come back.
func TestAuthorityEndsWithItsMaker(t *testing.T) {
	yes, no := true, false
	for name, ends := range map[string]func(w *world){
		"demoted": func(w *world) {
			w.as("root").send("PATCH", "/api/v1/users/"+w.users["two"].ID, api.UserPatch{Admin: &no}).is(200)
			w.as("root").send("PATCH", "/api/v1/users/"+w.users["two"].ID, api.UserPatch{Admin: &yes}).is(200)
		},
		"disabled": func(w *world) {
			w.as("root").send("PATCH", "/api/v1/users/"+w.users["two"].ID, api.UserPatch{Disabled: &yes}).is(200)
			w.as("root").send("PATCH", "/api/v1/users/"+w.users["two"].ID, api.UserPatch{Disabled: &no}).is(200)
		},
		"a new password": func(w *world) {
			hash, err := passwordHash()
			require.NoError(t, err)
			hash += " "
			_, err = w.store.UpdateUser(t.Context(), by, w.users["two"].ID, store.UserPatch{PasswordHash: &hash})
			require.NoError(t, err)
		},
		"withdrawn": func(w *world) { w.as("root").delete("/api/v1/users/" + w.users["ann"].ID + "/codes").is(204) },
		"withdrawn on the page": func(w *world) {
			w.visit("root").post("/admin/users/"+w.users["ann"].ID+"/access/codes", url.Values{}).is(http.StatusSeeOther)
		},
	} {
		t.Run(name, func(t *testing.T) {
			testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
				w := newWorld(t, dbURL, nil)
				w.second()
				var link api.PasswordReset
				w.as("two").post("/api/v1/users/"+w.users["ann"].ID+"/password-reset", nil).is(201).into(&link)
				var list struct{ Items []api.PendingCode }
				codes := "/api/v1/users/" + w.users["ann"].ID + "/codes"
				w.as("root").get(codes).is(200).into(&list)
				require.Len(t, list.Items, 1)
				assert.Equal(t, w.users["two"].ID, list.Items[0].MadeBy)
				assert.Contains(t, w.visit("root").get("/admin/users/"+w.users["ann"].ID+"/access").is(200).text, "two@example.com")
				ends(w)
				w.as("root").get(codes).is(200).into(&list)
				assert.Empty(t, list.Items)
				w.as("").post("/api/v1/password-reset", api.ResetPassword{Code: link.Code, Password: "another long password"}).problem(403, models.CodeForbidden)
				events, _, err := w.store.AuditEvents(t.Context(), store.AuditFilter{Action: "user.code_withdraw"}, store.Page{Limit: 10})
				require.NoError(t, err)
				assert.Len(t, events, 1)
			})
		})
	}
}

func TestApprovalsEndWithTheirMaker(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		w.second()
		pat := w.pat("ann", "ci", "acme:models:*:read")
		w.limit("", true, true)
		approve := func(who string) {
			w.as(who).send("PUT", "/api/v1/domains/acme/approvals/"+pat.ID, nil).is(200)
			assert.Empty(t, w.refusal(pat.Token, "acme:models:m:read"))
		}
		waits := func(why string) {
			t.Helper()
			assert.Equal(t, models.ApprovalRequired, w.refusal(pat.Token, "acme:models:m:read"), why)
		}
		no, yes := false, true
		approve("dom")
		w.member("dom", "acme", "viewer")
		waits("the role is lost")
		w.member("dom", "acme", "admin")
		waits("it does not come back")
		approve("dom")
		require.NoError(t, w.store.RemoveMember(t.Context(), by, w.users["dom"].ID, "acme"))
		waits("the membership is lost")
		approve("two")
		w.as("root").send("PATCH", "/api/v1/users/"+w.users["two"].ID, api.UserPatch{Admin: &no}).is(200)
		waits("no platform admin any more")
		w.as("root").send("PATCH", "/api/v1/users/"+w.users["two"].ID, api.UserPatch{Admin: &yes}).is(200)
		approve("two")
		w.as("root").send("PATCH", "/api/v1/users/"+w.users["two"].ID, api.UserPatch{Disabled: &yes}).is(200)
		waits("disabled")
	})
}

func TestDisableAndRevoke(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	yes, no := true, false
	kept, ended := w.pat("ann", "ci", "acme:models:*:read"), w.pat("dom", "ci", "acme:models:*:read")
	ann, dom := "/api/v1/users/"+w.users["ann"].ID, "/api/v1/users/"+w.users["dom"].ID
	w.as("root").send("PATCH", ann, api.UserPatch{RevokeTokens: &yes}).problem(422, models.CodeInvalid)
	w.as("root").send("PATCH", ann, api.UserPatch{Disabled: &no, RevokeTokens: &yes}).problem(422, models.CodeInvalid)
	w.as("root").send("PATCH", ann, api.UserPatch{Disabled: &yes}).is(200)
	w.as("root").send("PATCH", dom, api.UserPatch{Disabled: &yes, RevokeTokens: &yes}).is(200)
	for _, user := range []string{ann, dom} {
		w.as("root").send("PATCH", user, api.UserPatch{Disabled: &no}).is(200)
	}
	assert.True(t, w.ask(kept.Token, "acme:models:m:read").Allowed, "disabled alone")
	assert.Equal(t, models.TokenRevoked, w.ask(ended.Token, "acme:models:m:read").Reasons[0].Code)

	w.as("root").send("PATCH", ann, api.UserPatch{Disabled: &yes}).is(200)
	form := url.Values{"name": {"ann"}, "admin": {"0"}, "policy": {"0"}, "disabled": {"1"}, "revoke_tokens": {"1"}}
	w.visit("root").post("/admin/users/"+w.users["ann"].ID, form).is(http.StatusSeeOther)
	w.as("root").send("PATCH", ann, api.UserPatch{Disabled: &no}).is(200)
	assert.Equal(t, models.TokenRevoked, w.ask(kept.Token, "acme:models:m:read").Reasons[0].Code, "of an account that is disabled already, too")
}

func TestAdminsEndSessionsOfOthers(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	w.as("ann").get("/api/v1/me").is(200)
	eve := w.visit("eve")
	w.as("dom").delete("/api/v1/users/"+w.users["ann"].ID+"/sessions").problem(403, models.CodeForbidden)
	w.as("root").delete("/api/v1/users/"+w.users["root"].ID+"/sessions").problem(409, models.CodeConflict)
	w.as("root").delete("/api/v1/users/nobody/sessions").problem(404, models.CodeNotFound)
	w.as("root").delete("/api/v1/users/" + w.users["ann"].ID + "/sessions").is(204)
	w.as("ann").get("/api/v1/me").problem(401, models.CodeUnauthenticated)
	w.visit("root").post("/admin/users/"+w.users["eve"].ID+"/access/sessions", url.Values{}).is(http.StatusSeeOther)
	assert.Equal(t, http.StatusSeeOther, eve.get("/profile/pats").status)
	events, _, err := w.store.AuditEvents(t.Context(), store.AuditFilter{Action: "session.end"}, store.Page{Limit: 10})
	require.NoError(t, err)
	require.Len(t, events, 2)
	assert.Equal(t, "admin", events[0].Detail["by"])
	assert.Equal(t, w.users["root"].ID, events[0].Actor.UserID)
}

// A domain's admin may ask whether one address has an account, and not for all.
func TestLookingUpPeopleIsLimited(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	dom := w.visit("dom")
	ask := func(email string) *shown {
		return dom.post("/admin/domains/acme/members", url.Values{"id": {""}, "user": {email}, "role": {"viewer"}})
	}
	ask("eve@example.com").is(http.StatusSeeOther)
	for i := range 19 {
		ask(fmt.Sprintf("nobody-%d@example.com", i)).is(422)
	}
	page := ask("root@example.com").is(429)
	assert.NotEmpty(t, page.header.Get("Retry-After"))
	events, _, err := w.store.AuditEvents(t.Context(), store.AuditFilter{Action: "user.lookup"}, store.Page{Limit: 50})
	require.NoError(t, err)
	require.Len(t, events, 20)
	assert.Equal(t, "no", events[0].Detail["found"])
	assert.Equal(t, w.users["dom"].ID, events[0].Actor.UserID)
}

// Owners see what would let somebody into their account, and end it; admins see that of all.
func TestCodesAreSeenByTheirOwnersAndByAdmins(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		list := func(who, path string) (out api.Page[api.PendingCode]) {
			t.Helper()
			w.as(who).get(path).is(200).into(&out)
			return out
		}
		assert.Empty(t, list("ann", "/api/v1/me/codes").Items)
		link := w.resetCode("ann")
		other := w.resetCode("eve")
		own := list("ann", "/api/v1/me/codes").Items
		if assert.Len(t, own, 1) {
			assert.Equal(t, []string{w.users["ann"].ID, "reset_password", w.users["root"].ID}, []string{own[0].UserID, own[0].Purpose, own[0].MadeBy})
		}
		w.as("ann").get("/api/v1/admin/codes").problem(403, models.CodeForbidden)
		first := list("root", "/api/v1/admin/codes?limit=1")
		if assert.Len(t, first.Items, 1) && assert.NotNil(t, first.Next) {
			rest := list("root", "/api/v1/admin/codes?limit=1&after="+*first.Next)
			assert.Len(t, rest.Items, 1)
			assert.Nil(t, rest.Next)
			assert.ElementsMatch(t, []string{"ann@example.com", "eve@example.com"}, []string{first.Items[0].Email, rest.Items[0].Email})
		}
		w.as("root").get("/api/v1/admin/codes?after=x").problem(422, models.CodeInvalid)
		page := w.visit("root").get("/admin/codes").is(200).text
		assert.Contains(t, page, "ann@example.com")
		assert.Contains(t, page, "eve@example.com")

		person := w.visit("ann")
		assert.Contains(t, person.get("/profile/sessions").is(200).text, "Links and codes that nobody has used")
		person.post("/profile/sessions/codes", url.Values{}).is(http.StatusSeeOther)
		assert.NotContains(t, person.get("/profile/sessions").is(200).text, "Links and codes that nobody has used")
		w.reset(link.Code, newPassword).problem(403, models.CodeForbidden)
		w.as("eve").delete("/api/v1/me/codes").is(204)
		w.reset(other.Code, newPassword).problem(403, models.CodeForbidden)
		assert.Empty(t, list("root", "/api/v1/admin/codes").Items)
	})
}

// Who approved could do so no more under another policy: the approval does not count there, and
// counts again where the policy gives the power back.
func TestApprovalsCountUnderThePolicyThatJudges(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		byDom, byRoot := w.pat("ann", "one", "acme:models:*:read"), w.pat("ann", "two", "acme:models:*:read")
		w.limit("", true, true)
		w.as("dom").send("PUT", "/api/v1/domains/acme/approvals/"+byDom.ID, nil).is(200)
		w.as("root").send("PUT", "/api/v1/domains/acme/approvals/"+byRoot.ID, nil).is(200)
		const read = "acme:models:m:read"
		assert.Empty(t, w.refusal(byDom.Token, read))
		assert.Empty(t, w.refusal(byRoot.Token, read))

		w.ships("less", func(files map[string][]byte) {
			files["patrol/roles/data.yaml"] = bytes.Replace(files["patrol/roles/data.yaml"], []byte("domains: {read: true, write: true}"), []byte("domains: {read: true}"), 1)
		})
		assert.Equal(t, models.ApprovalRequired, w.refusal(byDom.Token, read))
		assert.Empty(t, w.refusal(byRoot.Token, read), "a platform admin still may")
		var out api.PAT
		w.as("ann").get("/api/v1/pats/" + byDom.ID).is(200).into(&out)
		assert.Empty(t, out.Approvals, "it is shown as it is judged")
		var waiting api.Page[api.DomainPAT]
		w.as("root").get("/api/v1/domains/acme/pats?approved=false").is(200).into(&waiting)
		if assert.Len(t, waiting.Items, 1) {
			assert.Equal(t, byDom.ID, waiting.Items[0].ID)
		}
		w.as("root").send("PUT", "/api/v1/domains/acme/approvals/"+byDom.ID, nil).is(200)
		assert.Empty(t, w.refusal(byDom.Token, read), "somebody who may approves again")
	})
}
