package server_test

import (
	"net/http"
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
	"patrol/server"
	"patrol/server/ui/uitest"
)

const newPassword = "a horse of another colour"

// resetCode has root make a reset code for name.
func (w *world) resetCode(name string) api.PasswordReset {
	w.t.Helper()
	var out api.PasswordReset
	w.as("root").post("/api/v1/users/"+w.users[name].ID+"/password-reset", nil).is(201).into(&out)
	return out
}

func (w *world) reset(code, password string) *answer {
	w.t.Helper()
	return w.as("").post("/api/v1/password-reset", api.ResetPassword{Code: code, Password: password})
}

func TestResetOfAPassword(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, func(c *server.Config, _ *server.Deps) { c.PublicURL = "https://patrol.example.com" })
		ann, dom := w.session("ann"), w.session("dom")
		pat := w.pat("ann", "ci", "acme:models:*:read")
		reset := w.resetCode("ann")
		assert.Regexp(t, "^([A-Z2-7]{5}-){3}[A-Z2-7]{5}$", reset.Code)
		assert.Equal(t, "https://patrol.example.com/reset#"+reset.Code, reset.URL, "the code is in the fragment, which is sent nowhere")
		assert.Equal(t, w.clock.Now().Add(24*time.Hour), reset.ExpiresAt)
		w.with(ann).get("/api/v1/me").is(200)

		// A refused password does not use the code up.
		w.reset(reset.Code, "short").problem(422, models.CodeInvalid)
		w.reset(reset.Code, "").problem(422, models.CodeInvalid)
		w.reset("", newPassword).problem(422, models.CodeInvalid)
		w.reset(strings.ToLower(strings.ReplaceAll(reset.Code, "-", " ")), newPassword).is(204)
		w.with(ann).get("/api/v1/me").problem(401, models.CodeUnauthenticated)
		w.with(dom).get("/api/v1/me").is(200)
		assert.True(t, w.ask(pat.Token, "acme:models:m:read").Allowed, "tokens stay")
		w.as("").post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: password}).problem(401, models.CodeBadCredentials)
		w.as("").post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: newPassword}).is(201)

		used := w.reset(reset.Code, newPassword+"!").problem(403, models.CodeForbidden)
		replaced := w.resetCode("ann")
		late := w.resetCode("ann")
		w.clock.Advance(24 * time.Hour)
		for name, code := range map[string]string{"replaced": replaced.Code, "late": late.Code, "never made": "AAAAA-AAAAA-AAAAA-AAAAA", "no code": "é"} {
			assert.Equal(t, used.Detail, w.reset(code, newPassword).problem(403, models.CodeForbidden).Detail, name)
			w.clock.Advance(time.Minute)
		}

		events, _, err := w.store.AuditEvents(t.Context(), store.AuditFilter{Subject: "user:" + w.users["ann"].ID, UserID: w.users["ann"].ID}, store.Page{})
		require.NoError(t, err)
		var actions []string
		for _, e := range events {
			actions = append(actions, e.Action)
		}
		assert.Subset(t, actions, []string{"user.reset", "user.password"})
		events, _, err = w.store.AuditEvents(t.Context(), store.AuditFilter{Action: "user.reset_link"}, store.Page{})
		require.NoError(t, err)
		assert.Len(t, events, 3)
		assert.Equal(t, w.users["root"].ID, events[0].Actor.UserID)
	})
}

// What was said goes with the making of the link; the answer and the page tell what stays.
func TestAResetRemovesWhatIsSaid(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		id := w.users["ann"].ID
		path := "/api/v1/users/" + id + "/password-reset"
		ann := w.session("ann")
		pat := w.pat("ann", "ci", "acme:models:*:read")
		require.NoError(t, w.store.LinkIdentity(t.Context(), models.Actor{}, id, "https://id.example.com", "ann"))

		w.as("root").post(path, map[string]any{"end_session": true}).problem(422, models.CodeInvalid)
		w.with(ann).get("/api/v1/me").is(200)
		var out api.PasswordReset
		w.as("root").post(path, nil).is(201).into(&out)
		assert.Equal(t, models.WaysIn{}, out.Removed)
		assert.Equal(t, models.WaysIn{Identities: 1, Sessions: 1, Tokens: 1}, out.Stays)
		w.as("root").post(path, api.NewPasswordReset{EndSessions: true}).is(201).into(&out)
		assert.Equal(t, models.WaysIn{Sessions: 1}, out.Removed)
		assert.Equal(t, models.WaysIn{Identities: 1, Tokens: 1}, out.Stays)
		w.with(ann).get("/api/v1/me").problem(401, models.CodeUnauthenticated)
		assert.True(t, w.ask(pat.Token, "acme:models:m:read").Allowed, "tokens stay")

		root := w.visit("root")
		page := "/admin/users/" + id + "/reset"
		for _, box := range []string{"disconnect_identities", "end_sessions", "withdraw_codes", "revoke_tokens"} {
			assert.Contains(t, root.get(page).is(200).text, `name="`+box+`"`)
		}
		made := root.post(page, url.Values{"disconnect_identities": {"0", "1"}, "end_sessions": {"0"}, "withdraw_codes": {"0"}, "revoke_tokens": {"0", "1"}}).shows(root)
		assert.Regexp(t, `Removed</dt><dd>1 identity, 1 token<`, made.text)
		assert.Regexp(t, `Stays</dt><dd>nothing<`, made.text)
		assert.False(t, w.ask(pat.Token, "acme:models:m:read").Allowed)
		found, err := w.store.Identities(t.Context(), id)
		require.NoError(t, err)
		assert.Empty(t, found)
	})
}

func TestWhomAResetIsMadeFor(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	path := func(id string) string { return "/api/v1/users/" + id + "/password-reset" }
	w.as("root").post(path("nobody"), nil).problem(404, models.CodeNotFound)
	w.as("root").post(path(w.users["root"].ID), nil).problem(409, models.CodeConflict)

	// A disabled account gets no code, and loses the one it has.
	reset := w.resetCode("eve")
	yes, no := true, false
	w.as("root").send("PATCH", "/api/v1/users/"+w.users["eve"].ID, api.UserPatch{Disabled: &yes}).is(200)
	w.as("root").post(path(w.users["eve"].ID), nil).problem(409, models.CodeConflict)
	w.reset(reset.Code, newPassword).problem(403, models.CodeForbidden)
	w.as("root").send("PATCH", "/api/v1/users/"+w.users["eve"].ID, api.UserPatch{Disabled: &no}).is(200)
	w.reset(reset.Code, newPassword).problem(403, models.CodeForbidden)

	// The password must not be the address, which only the code tells.
	var user api.User
	w.as("root").post("/api/v1/users", api.NewUser{Email: "a.long.address@example.com", Name: "Long"}).is(201).into(&user)
	w.as("root").post(path(user.ID), nil).is(201).into(&reset)
	p := w.reset(reset.Code, "A.long.address@example.com").problem(422, models.CodeInvalid)
	assert.Equal(t, "password", p.Errors[0].Field)
	w.reset(reset.Code, newPassword).is(204)
	w.as("").post("/api/v1/session", api.SignIn{Email: user.Email, Password: newPassword}).is(201)
}

// Wrong codes lock nobody out: their bits are what stops guessing.
func TestWrongResetCodesLockNobodyOut(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	reset := w.resetCode("eve")
	with := func(code string) *answer {
		return w.as("").post("/api/v1/password-reset", api.ResetPassword{Code: code, Password: newPassword})
	}
	for range 50 {
		with("AAAAA-AAAAA-AAAAA-AAAAA").problem(403, models.CodeForbidden)
	}
	with(reset.Code).is(204)
	with(reset.Code).problem(403, models.CodeForbidden)
}

func TestResetOnPages(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	root, eve := w.visit("root"), w.visit("")
	user := "/admin/users/" + w.users["eve"].ID
	assert.Contains(t, root.get(user).is(200).text, user+"/reset")
	own := "/admin/users/" + w.users["root"].ID
	assert.NotContains(t, root.get(own).is(200).text, own+"/reset")
	root.get(own + "/reset").leadsTo(own)
	root.post(own+"/reset", url.Values{}).is(409)

	assert.Equal(t, "Make a reset link for eve?", root.get(user+"/reset").is(200).heading())
	root.header.Set("Accept-Encoding", "gzip")
	made := root.post(user+"/reset", url.Values{}).shows(root)
	assert.Equal(t, "no-store", made.header.Get("Cache-Control"))
	assert.Empty(t, made.header.Get("Content-Encoding"), "its length tells nothing")
	code := attr(made.byID("code"), "value")
	assert.Equal(t, "/reset#"+code, attr(made.byID("link"), "value"))
	for _, page := range []string{user, user + "/reset", "/admin/audit"} {
		root.header.Del("Accept-Encoding")
		assert.NotContains(t, root.get(page).is(200).text, code)
	}

	assert.Contains(t, eve.get("/login").text, `href="/reset"`)
	eve.get("/reset").is(200)
	refused := eve.post("/reset", url.Values{"code": {code}, "password": {newPassword}, "repeat": {"another"}}).is(422)
	assert.Equal(t, code, refused.value("code"), "it need not be typed again")
	assert.Empty(t, refused.value("password"))
	assert.Contains(t, refused.text, "Repeated password is not the same as the new password.")
	assert.Contains(t, eve.post("/reset", url.Values{}).is(422).text, "Reset code is required.")
	eve.header.Set("Sec-Fetch-Site", "cross-site")
	eve.post("/reset", url.Values{"code": {code}, "password": {newPassword}, "repeat": {newPassword}}).is(403)
	eve.header.Del("Sec-Fetch-Site")
	form := url.Values{"code": {code}, "password": {newPassword}, "repeat": {newPassword}}
	done := eve.post("/reset", form).is(200)
	assert.Contains(t, done.text, "eve@example.com")
	assert.Contains(t, eve.post("/reset", form).is(403).text, "This code is not valid, or not any more")
	eve.post("/login", url.Values{"email": {"eve@example.com"}, "password": {newPassword}}).leadsTo("/profile/pats")
}

func TestAResetLinkInABrowser(t *testing.T) {
	browser := uitest.Start(t)
	w := newWorld(t, testenv.SQLite(t), nil)
	reset := w.resetCode("ann")
	_, fragment, _ := strings.Cut(reset.URL, "#")
	ann := w.open(browser, uitest.Options{})
	ann.goTo("/reset#" + fragment)
	ann.waitsFor("Choose a new password")
	assert.Equal(t, reset.Code, ann.value("#f-code"))
	assert.Equal(t, w.http.URL+"/reset", ann.script("location.href"), "the address does not keep it")
	assert.Equal(t, "f-password", ann.script("document.activeElement.id"))
	ann.fill("#f-password", newPassword)
	ann.fill("#f-repeat", newPassword)
	ann.click("button.primary")
	ann.waitsFor("Your password is set")
	assert.NotContains(t, w.logs.String(), reset.Code)

	// Without a script the code is typed.
	reset = w.resetCode("eve")
	eve := w.open(browser, uitest.Options{NoScript: true})
	eve.goTo("/reset#" + reset.Code)
	assert.Empty(t, eve.value("#f-code"))
	eve.fill("#f-code", reset.Code)
	eve.fill("#f-password", newPassword)
	eve.fill("#f-repeat", newPassword)
	eve.click("button.primary")
	eve.waitsFor("Your password is set")
}

// A password that is hashed anew is still the same password.
func TestANewHashEndsNoSession(t *testing.T) {
	dbURL := testenv.SQLite(t)
	w := newWorld(t, dbURL, nil)
	before, err := w.store.User(t.Context(), w.users["ann"].ID)
	require.NoError(t, err)
	other := w.session("ann")
	stronger := newEmptyWorld(t, dbURL, nil)
	require.NoError(t, stronger.server.HashMoreCostly())
	stronger.as("").post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: password}).is(http.StatusCreated)
	after, err := w.store.User(t.Context(), w.users["ann"].ID)
	require.NoError(t, err)
	assert.NotEqual(t, before.PasswordHash, after.PasswordHash)
	assert.Contains(t, after.PasswordHash, "t=3")
	w.with(other).get("/api/v1/me").is(200)
	stronger.as("").post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: password}).is(http.StatusCreated)
}
