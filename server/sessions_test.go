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
	"patrol/server/identity"
)

// cookieOf returns the session cookie that an answer sets.
func cookieOf(t testing.TB, a *answer) *http.Cookie {
	t.Helper()
	cookies := (&http.Response{Header: a.header}).Cookies()
	require.Len(t, cookies, 1)
	return cookies[0]
}

func (w *world) signInCookie(name string) *http.Cookie {
	w.t.Helper()
	return cookieOf(w.t, w.as("").post("/api/v1/session", api.SignIn{Email: name + "@example.com", Password: password}).is(201))
}

func (c *call) cookie(cookie *http.Cookie) *call {
	return c.set("Cookie", cookie.Name+"="+cookie.Value)
}

func TestCookieSession(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		w := newWorld(t, url, nil)
		a := w.as("").post("/api/v1/session", api.SignIn{Email: " Ann@Example.com ", Password: password}).is(201)
		assert.NotContains(t, string(a.body), "session_token")
		var out api.Session
		a.into(&out)
		assert.Equal(t, api.Me{
			ID: w.users["ann"].ID, Email: "ann@example.com", Name: "ann",
			Memberships: []api.MyMembership{{Domain: "acme", Role: "member"}},
		}, out.User)
		assert.Equal(t, w.clock.Now().Add(7*24*time.Hour), *out.ExpiresAt)

		cookie := cookieOf(t, a)
		assert.Equal(t, w.cookieName("session"), cookie.Name, "the public URL is not https")
		assert.Equal(t, "/", cookie.Path)
		assert.Empty(t, cookie.Domain)
		assert.True(t, cookie.HttpOnly)
		assert.False(t, cookie.Secure)
		assert.Equal(t, http.SameSiteLaxMode, cookie.SameSite)
		assert.Equal(t, 7*24*3600, cookie.MaxAge)

		var me api.Me
		w.as("").cookie(cookie).get("/api/v1/me").is(200).into(&me)
		assert.Equal(t, out.User, me)

		again := w.as("").cookie(cookie).post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: password}).is(201)
		assert.NotEqual(t, cookie.Value, cookieOf(t, again).Value, "a sign-in begins a new session")

		w.as("").cookie(cookie).get("/api/v1/me").problem(401, models.CodeUnauthenticated) // and ends the one before
		cookie = cookieOf(t, again)
		renewed := cookieOf(t, w.as("").cookie(cookie).post("/api/v1/session/reauthenticate", api.Reauthenticate{Password: password}).is(200))
		assert.NotEqual(t, cookie.Value, renewed.Value)
		w.as("").cookie(cookie).get("/api/v1/me").problem(401, models.CodeUnauthenticated)
		w.as("").cookie(renewed).get("/api/v1/me").is(200)

		gone := cookieOf(t, w.as("").cookie(renewed).delete("/api/v1/session").is(204))
		assert.Equal(t, -1, gone.MaxAge)
		w.as("").cookie(renewed).get("/api/v1/me").problem(401, models.CodeUnauthenticated)
	})
}

func TestCookieOverHTTPS(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), func(c *server.Config, _ *server.Deps) { c.PublicURL = "https://patrol.example.com" })
	a := w.as("").post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: password}).is(201)
	cookie := cookieOf(t, a)
	assert.Equal(t, "__Host-"+w.cookieName("session"), cookie.Name)
	assert.True(t, cookie.Secure)
	assert.Equal(t, "/", cookie.Path)
	assert.Equal(t, "max-age=31536000", a.header.Get("Strict-Transport-Security"))
	w.as("").cookie(cookie).get("/api/v1/me").is(200)
	cookie.Name = w.cookieName("session")
	w.as("").cookie(cookie).get("/api/v1/me").is(401)
}

func TestBearerSession(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	a := w.as("").post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: password, Transport: "bearer"}).is(201)
	assert.Empty(t, a.header.Values("Set-Cookie"))
	assert.Equal(t, "no-store", a.header.Get("Cache-Control"))
	var out api.Session
	a.into(&out)
	require.True(t, strings.HasPrefix(out.SessionToken, "patrols_"))

	w.with(out.SessionToken).get("/api/v1/me").is(200)
	w.as("").set("Authorization", "bearer "+out.SessionToken).get("/api/v1/me").is(200)
	again := w.with(out.SessionToken).post("/api/v1/session/reauthenticate", api.Reauthenticate{Password: password}).is(200)
	assert.NotContains(t, string(again.body), "patrols_", "it is not told twice")

	d := w.ask(out.SessionToken, "acme:models:m:read")
	assert.Equal(t, models.TokenMalformed, d.Reasons[0].Code, "a session is no PAT")

	w.with(out.SessionToken).delete("/api/v1/session").is(204)
	ended := w.with(out.SessionToken).get("/api/v1/me")
	ended.problem(401, models.CodeUnauthenticated)
	assert.Contains(t, ended.header.Get("WWW-Authenticate"), `error="invalid_token"`)
}

func TestTransportsDoNotMix(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	cookie := w.signInCookie("ann")
	bearer := w.signIn("ann")
	w.with("patrols_" + cookie.Value).get("/api/v1/me").is(401)
	w.as("").set("Cookie", cookie.Name+"="+strings.TrimPrefix(bearer, "patrols_")).get("/api/v1/me").is(401)
	w.as("").set("Cookie", cookie.Name+"="+bearer).get("/api/v1/me").is(401)

	// The header alone counts, whatever the cookie would have allowed.
	for header, status := range map[string]int{
		"Bearer patrols_nonsense": 401,
		"Bearer nonsense":         401,
		"Bearer":                  401,
		"Basic YW5uOnB3":          401,
		"":                        401,
		"Bearer " + bearer:        200,
	} {
		a := w.as("").cookie(cookie).set("Authorization", header).get("/api/v1/me").is(status)
		assert.Equal(t, status == 401, a.header.Get("WWW-Authenticate") != "", header)
	}
}

func TestSessionsEnd(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	t.Run("when idle", func(*testing.T) {
		token := w.signIn("ann")
		for range 5 {
			w.clock.Advance(11 * time.Hour)
			w.with(token).get("/api/v1/me").is(200)
		}
		w.clock.Advance(12 * time.Hour)
		w.with(token).get("/api/v1/me").is(401)
	})
	t.Run("at last", func(*testing.T) {
		token := w.signIn("ann")
		for range 7 * 24 / 11 {
			w.clock.Advance(11 * time.Hour)
			w.with(token).get("/api/v1/me").is(200)
		}
		w.with(token).post("/api/v1/session/reauthenticate", api.Reauthenticate{Password: password}).is(200)
		w.clock.Advance(3 * time.Hour)
		w.with(token).get("/api/v1/me").is(401)
	})
	t.Run("with the user", func(*testing.T) {
		token, cookie := w.signIn("ann"), w.signInCookie("ann")
		w.as("root").send("PATCH", "/api/v1/users/"+w.users["ann"].ID, `{"disabled":true}`).is(200)
		w.with(token).get("/api/v1/me").is(401)
		w.as("").cookie(cookie).get("/api/v1/me").is(401)
		w.as("").post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: password}).problem(401, models.CodeBadCredentials)
		w.as("root").send("PATCH", "/api/v1/users/"+w.users["ann"].ID, `{"disabled":false}`).is(200)
		w.with(token).get("/api/v1/me").is(401)
		w.signIn("ann")
	})
	t.Run("with a new password", func(t *testing.T) {
		token := w.signIn("dom")
		hash, err := identity.HashPassword("another password entirely")
		require.NoError(t, err)
		_, err = w.store.UpdateUser(t.Context(), by, w.users["dom"].ID, store.UserPatch{PasswordHash: &hash})
		require.NoError(t, err)
		w.with(token).get("/api/v1/me").is(401)
	})
}

func TestOtherSitesCannotUseTheCookie(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), func(c *server.Config, _ *server.Deps) { c.PublicURL = "http://patrol.example.com" })
	cookie := w.signInCookie("ann")
	in := api.SignIn{Email: "ann@example.com", Password: password}
	for _, tc := range []struct {
		name, site, origin string
		ok                 bool
	}{
		{"a program", "", "", true},
		{"this site", "same-origin", "http://patrol.example.com", true},
		{"typed by the user", "none", "", true},
		{"this site, old browser", "", "http://patrol.example.com", true},
		{"another site", "cross-site", "https://evil.example", false},
		{"a sister site", "same-site", "http://other.example.com", false},
		{"another site, old browser", "", "https://evil.example", false},
		{"a sandbox", "", "null", false},
	} {
		t.Run(tc.name, func(*testing.T) {
			from := func(c *call) *call {
				if tc.site != "" {
					c.set("Sec-Fetch-Site", tc.site)
				}
				if tc.origin != "" {
					c.set("Origin", tc.origin)
				}
				return c
			}
			from(w.as("").cookie(cookie)).get("/api/v1/me").is(200)
			status := map[bool]int{true: 201, false: 403}[tc.ok]
			from(w.as("")).post("/api/v1/session", in).is(status)
			status = map[bool]int{true: 204, false: 403}[tc.ok]
			from(w.as("").cookie(cookie)).delete("/api/v1/pats?all=true").is(status)
			from(w.as("ann")).delete("/api/v1/pats?all=true").is(204)
		})
	}
}

func TestSignInsThatFail(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	_, err := w.store.CreateUser(t.Context(), by, models.User{Email: "nopass@example.com", Name: "No Password"})
	require.NoError(t, err)
	disabled, err := w.store.CreateUser(t.Context(), by, models.User{Email: "off@example.com", Name: "Off", PasswordHash: w.users["ann"].PasswordHash, Disabled: true})
	require.NoError(t, err)
	require.True(t, disabled.Disabled)

	var first api.Problem
	for i, in := range []api.SignIn{
		{Email: "ann@example.com", Password: "wrong"},
		{Email: "nobody@example.com", Password: password},
		{Email: "nopass@example.com", Password: password},
		{Email: "off@example.com", Password: password},
		{Email: "'; DROP TABLE users; --", Password: password},
		{Email: strings.Repeat("x", 5000), Password: password},
	} {
		a := w.as("").post("/api/v1/session", in)
		p := a.problem(401, models.CodeBadCredentials)
		assert.Empty(t, a.header.Values("Set-Cookie"))
		p.RequestID = ""
		if i == 0 {
			first = p
		}
		assert.Equal(t, first, p, "every failure looks the same")
	}
	for _, tc := range []struct{ body, field string }{
		{`{"password":"x"}`, "email"},
		{`{"email":"ann@example.com"}`, "password"},
		{`{"email":"ann@example.com","password":"x","transport":"pigeon"}`, "transport"},
		{`{"email":"ann@example.com","password":"x","remember":true}`, "remember"},
	} {
		p := w.as("").post("/api/v1/session", tc.body).problem(422, models.CodeInvalid)
		assert.Equal(t, tc.field, p.Errors[0].Field)
	}
	w.as("").set("Content-Type", "application/x-www-form-urlencoded").
		post("/api/v1/session", "email=ann%40example.com&password=x").problem(415, models.CodeMediaType)
}

func TestSignInsAreLimited(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), func(c *server.Config, _ *server.Deps) { c.TrustedProxies = []string{"127.0.0.0/8"} })
	try := func(from, email, password string) *answer {
		return w.as("").set("X-Forwarded-For", from).post("/api/v1/session", api.SignIn{Email: email, Password: password})
	}
	for _, email := range []string{"ann@example.com", "nobody@example.com"} {
		for range 5 {
			try("203.0.113.1", email, "wrong").problem(401, models.CodeBadCredentials)
		}
		a := try("203.0.113.1", email, password)
		a.problem(429, models.CodeRateLimited)
		assert.Equal(t, "60", a.header.Get("Retry-After"))
	}
	try("203.0.113.2", "ann@example.com", password).is(201)
	w.clock.Advance(time.Minute)
	try("203.0.113.1", "ann@example.com", password).is(201)

	// Giving the password again is limited too, and by the same count.
	token := w.session("dom")
	for range 5 {
		w.with(token).set("X-Forwarded-For", "203.0.113.9").post("/api/v1/session/reauthenticate", api.Reauthenticate{Password: "wrong"}).is(401)
	}
	w.with(token).set("X-Forwarded-For", "203.0.113.9").post("/api/v1/session/reauthenticate", api.Reauthenticate{Password: password}).is(429)
	try("203.0.113.9", "dom@example.com", password).is(429)
}

func TestSignInsAreAudited(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	w.as("").post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: "my secret guess"}).is(401)
	w.as("").post("/api/v1/session", api.SignIn{Email: "nobody@example.com", Password: "my secret guess"}).is(401)
	token := w.signIn("ann")
	w.with(token).delete("/api/v1/session").is(204)

	var events []store.AuditEvent
	require.Eventually(t, func() (done bool) {
		var err error
		events, _, err = w.store.AuditEvents(t.Context(), store.AuditFilter{Subject: "user:" + w.users["ann"].ID}, store.Page{})
		return err == nil && len(events) == 4
	}, soon, 10*time.Millisecond, "a refusal is noted after its answer")
	var actions []string
	for _, e := range events {
		actions = append(actions, e.Action)
		if e.Action != "user.create" {
			assert.Equal(t, "127.0.0.1", e.Actor.IP)
			assert.NotEmpty(t, e.Actor.RequestID)
		}
	}
	assert.ElementsMatch(t, []string{"session.end", "session.create", "session.refuse", "user.create"}, actions)
}

func TestOutdatedHashesAreRenewed(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), func(c *server.Config, _ *server.Deps) { c.Login.Argon2Iterations = 3 })
	w.signIn("ann")
	user, err := w.store.User(t.Context(), w.users["ann"].ID)
	require.NoError(t, err)
	assert.Contains(t, user.PasswordHash, "t=3")
	w.signIn("ann")
}

func TestSigningOutClearsWhatTheBrowserKeeps(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	page := w.visit("ann").post("/logout", url.Values{})
	assert.Equal(t, `"cache", "storage"`, page.header.Get("Clear-Site-Data"))
}

func TestPasswordsDoNotEndByAge(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	w.clock.Advance(5 * 365 * 24 * time.Hour)
	w.as("").post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: password}).is(201)
}
