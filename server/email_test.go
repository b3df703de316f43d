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

// emailLink has root make a link for another address of name.
func (w *world) emailLink(name, email string) (out api.EmailChange) {
	w.t.Helper()
	w.as("root").post("/api/v1/users/"+w.users[name].ID+"/email-change", api.NewEmailChange{Email: email}).is(201).into(&out)
	return out
}

func confirms(code string) api.ConfirmEmail { return api.ConfirmEmail{Code: code} }

func TestAnAddressIsChangedByItsOwner(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, func(c *server.Config, _ *server.Deps) { c.PublicURL = "https://patrol.example.com" })
		other := w.signIn("ann")
		pat := w.pat("ann", "ci", "acme:models:*:read")
		reset := w.resetCode("ann")
		require.NoError(t, w.store.LinkIdentity(t.Context(), by, w.users["ann"].ID, "https://id.example.com", "ann"))
		link := w.emailLink("ann", " Ann.Smith@Example.COM ")
		assert.Equal(t, "ann.smith@example.com", link.Email)
		assert.Equal(t, "https://patrol.example.com/profile/email#"+link.Code, link.URL)
		assert.Equal(t, w.clock.Now().Add(24*time.Hour), link.ExpiresAt)
		var codes struct{ Items []api.PendingCode }
		w.as("ann").get("/api/v1/me/codes").is(200).into(&codes)
		require.Len(t, codes.Items, 2)
		assert.Equal(t, []string{"change_email", "ann.smith@example.com"}, []string{codes.Items[0].Purpose, codes.Items[0].NewEmail})

		var me api.Me
		w.as("ann").get("/api/v1/me").is(200).into(&me)
		assert.Equal(t, "ann@example.com", me.Email, "nothing is changed by the link")
		w.as("").post("/api/v1/me/email", confirms(link.Code)).problem(401, models.CodeUnauthenticated)
		refused := w.as("eve").post("/api/v1/me/email", confirms(link.Code)).problem(403, models.CodeForbidden)
		w.as("ann").post("/api/v1/me/email", confirms("")).problem(422, models.CodeInvalid)
		w.as("ann").post("/api/v1/me/email", confirms(strings.ToLower(strings.ReplaceAll(link.Code, "-", " ")))).is(200).into(&me)
		assert.Equal(t, "ann.smith@example.com", me.Email)
		assert.Equal(t, refused.Detail, w.as("ann").post("/api/v1/me/email", confirms(link.Code)).problem(403, models.CodeForbidden).Detail, "used")

		w.with(other).get("/api/v1/me").problem(401, models.CodeUnauthenticated)
		w.reset(reset.Code, newPassword).problem(403, models.CodeForbidden)
		assert.True(t, w.ask(pat.Token, "acme:models:m:read").Allowed, "tokens stay")
		w.as("").post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: password}).problem(401, models.CodeBadCredentials)
		w.as("").post("/api/v1/session", api.SignIn{Email: "ANN.smith@example.com", Password: password}).is(201)
		found, err := w.store.UserByIdentity(t.Context(), "https://id.example.com", "ann")
		require.NoError(t, err)
		assert.Equal(t, w.users["ann"].ID, found.ID)

		events, _, err := w.store.AuditEvents(t.Context(), store.AuditFilter{Subject: "user:" + w.users["ann"].ID, Action: "user.email"}, store.Page{})
		require.NoError(t, err)
		require.Len(t, events, 1)
		assert.Equal(t, []string{"ann@example.com", "ann.smith@example.com"}, []string{events[0].Detail["from"], events[0].Detail["to"]})
		assert.Equal(t, w.users["ann"].ID, events[0].Actor.UserID)
		events, _, err = w.store.AuditEvents(t.Context(), store.AuditFilter{Action: "user.email_link"}, store.Page{})
		require.NoError(t, err)
		require.Len(t, events, 1)
		assert.Equal(t, w.users["root"].ID, events[0].Actor.UserID)
		assert.Equal(t, "ann.smith@example.com", events[0].Detail["to"])
	})
}

// Who may make a link for whom, and what the address may be.
func TestWhomAnEmailLinkIsMadeFor(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	w.second()
	path := func(name string) string { return "/api/v1/users/" + w.users[name].ID + "/email-change" }
	for name, c := range map[string]struct {
		who, of, email string
		status         int
		code           models.Code
	}{
		"of an admin of a domain":       {"dom", "ann", "x@example.com", 403, models.CodeForbidden},
		"of oneself":                    {"ann", "ann", "x@example.com", 403, models.CodeForbidden},
		"of oneself, as an admin":       {"root", "root", "x@example.com", 409, models.CodeConflict},
		"for nobody":                    {"root", "nobody", "x@example.com", 404, models.CodeNotFound},
		"an address that is there":      {"root", "ann", "EVE@example.com", 409, models.CodeTaken},
		"the address of the account":    {"root", "ann", "Ann@example.com", 409, models.CodeConflict},
		"no address":                    {"root", "ann", "", 422, models.CodeInvalid},
		"an address with a name":        {"root", "ann", "Ann <a@example.com>", 422, models.CodeInvalid},
		"two addresses":                 {"root", "ann", "a@example.com, b@example.com", 422, models.CodeInvalid},
		"a text of several lines":       {"root", "ann", "a@example.com\nb@example.com", 422, models.CodeInvalid},
		"an address with NUL":           {"root", "ann", "a\x00@example.com", 422, models.CodeInvalid},
		"an address without end":        {"root", "ann", strings.Repeat("a", 250) + "@example.com", 422, models.CodeInvalid},
		"an address of the anonymised":  {"root", "ann", "x" + models.AnonymisedDomain, 409, models.CodeTaken},
		"of another platform admin":     {"root", "two", "two.two@example.com", 201, ""},
		"letters that fold into ASCII":  {"root", "ann", "\u212aelvin@example.com", 201, ""}, // no kelvin@
		"of somebody, by another admin": {"two", "ann", "ann.ann@example.com", 201, ""},
	} {
		t.Run(name, func(*testing.T) {
			target := path(c.of)
			if c.of == "nobody" {
				target = "/api/v1/users/nobody/email-change"
			}
			got := w.as(c.who).post(target, api.NewEmailChange{Email: c.email})
			if c.code == "" {
				got.is(c.status)
			} else {
				got.problem(c.status, c.code)
			}
		})
	}
}

// What ends a link that nobody has confirmed; its owner is told one thing for all of it.
func TestWhatEndsAnEmailLink(t *testing.T) {
	yes, no := true, false
	for name, ends := range map[string]func(w *world){
		"time":      func(w *world) { w.clock.Advance(24 * time.Hour) },
		"another":   func(w *world) { w.emailLink("ann", "third@example.com") },
		"withdrawn": func(w *world) { w.as("root").delete("/api/v1/users/" + w.users["ann"].ID + "/codes").is(204) },
		"withdrawn by its owner": func(w *world) {
			w.as("ann").delete("/api/v1/me/codes").is(204)
		},
		"its maker is disabled": func(w *world) {
			w.second()
			w.as("two").send("PATCH", "/api/v1/users/"+w.users["root"].ID, api.UserPatch{Disabled: &yes}).is(200)
			w.as("two").send("PATCH", "/api/v1/users/"+w.users["root"].ID, api.UserPatch{Disabled: &no}).is(200)
		},
		"its maker is demoted": func(w *world) {
			w.second()
			w.as("two").send("PATCH", "/api/v1/users/"+w.users["root"].ID, api.UserPatch{Admin: &no}).is(200)
		},
		"somebody is made with the address": func(w *world) {
			w.as("root").post("/api/v1/users", api.NewUser{Email: "New@example.com", Name: "New"}).is(201)
		},
		"somebody else confirmed it": func(w *world) {
			link := w.emailLink("eve", "new@example.com")
			w.as("eve").post("/api/v1/me/email", confirms(link.Code)).is(200)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testenv.SQLite(t), nil)
			link := w.emailLink("ann", "new@example.com")
			ends(w)
			w.session("ann")
			w.freshen("ann")
			p := w.as("ann").post("/api/v1/me/email", confirms(link.Code)).problem(403, models.CodeForbidden)
			assert.Equal(t, "this code is not valid, or not any more; ask an administrator for a new one", p.Detail)
			var me api.Me
			w.as("ann").get("/api/v1/me").is(200).into(&me)
			assert.Equal(t, "ann@example.com", me.Email)
		})
	}
}

func TestAnAddressIsChangedOnPages(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	root, eve, other := w.visit("root"), w.visit("eve"), w.visit("eve")
	user := "/admin/users/" + w.users["eve"].ID
	assert.Contains(t, root.get(user).is(200).text, user+"/email")
	own := "/admin/users/" + w.users["root"].ID
	root.get(own + "/email").leadsTo(own)
	root.post(own+"/email", url.Values{"email": {"x@example.com"}}).is(409)
	taken := root.post(user+"/email", url.Values{"email": {"ann@example.com"}}).is(409)
	assert.Contains(t, taken.text, "There is a user with this email address already")
	assert.Equal(t, "ann@example.com", taken.value("email"))
	assert.Contains(t, root.post(user+"/email", url.Values{"email": {"x"}}).is(422).text, "is not an email address")

	made := root.post(user+"/email", url.Values{"email": {"eve.smith@example.com"}}).shows(root)
	assert.Equal(t, "no-store", made.header.Get("Cache-Control"))
	assert.Contains(t, made.text, "eve.smith@example.com")
	code := attr(made.byID("code"), "value")
	assert.Equal(t, "/profile/email#"+code, attr(made.byID("link"), "value"))
	assert.Contains(t, root.get(user+"/access").is(200).text, "A link to confirm the address eve.smith@example.com")
	assert.Contains(t, root.get("/admin/codes").is(200).text, "A link to confirm the address eve.smith@example.com")
	assert.Contains(t, eve.get("/profile/sessions").is(200).text, "A link to confirm the address eve.smith@example.com")

	w.visit("").get("/profile/email").leadsTo("/login?next=%2Fprofile%2Femail")
	eve.get("/profile/email").is(200)
	wrong := eve.post("/profile/email", url.Values{"code": {"AAAAA-AAAAA-AAAAA-AAAAA"}}).is(403)
	assert.Contains(t, wrong.text, "This code is not valid, or not any more")
	eve.header.Set("Sec-Fetch-Site", "cross-site")
	eve.post("/profile/email", url.Values{"code": {code}}).is(403)
	eve.header.Del("Sec-Fetch-Site")
	root.post("/profile/email", url.Values{"code": {code}}).is(403)
	before := eve.cookies(w.cookieName("session"))
	eve.post("/profile/email", url.Values{"code": {code}}).leadsTo("/profile/sessions")
	assert.NotEmpty(t, before)
	assert.Contains(t, eve.get("/profile/sessions").is(200).text, "Your address is eve.smith@example.com from now on.")
	assert.Equal(t, http.StatusSeeOther, other.get("/profile/pats").status, "another session has ended")
	w.visit("").post("/login", url.Values{"email": {"eve.smith@example.com"}, "password": {password}}).leadsTo("/profile/pats")
}

func TestAnEmailLinkInABrowser(t *testing.T) {
	browser := uitest.Start(t)
	w := newWorld(t, testenv.SQLite(t), nil)
	link := w.emailLink("ann", "ann.smith@example.com")
	_, fragment, _ := strings.Cut(link.URL, "#")
	ann := w.open(browser, uitest.Options{})
	ann.goTo("/login")
	ann.signsInAs("ann", "Personal access tokens")
	ann.goTo("/profile/email#" + fragment)
	ann.waitsFor("Confirm your new address")
	assert.Equal(t, link.Code, ann.value("#f-code"))
	assert.Equal(t, w.http.URL+"/profile/email", ann.script("location.href"), "the address does not keep it")
	ann.click("form[data-guard] button.primary")
	ann.waitsFor("Sessions")
	assert.Contains(t, ann.sees(".notice"), "Your address is ann.smith@example.com from now on.")
	assert.NotContains(t, w.logs.String(), link.Code)
}
