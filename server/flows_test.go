package server_test

import (
	"database/sql"
	"fmt"
	"maps"
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
	"patrol/server"
)

// cookies are the names of the cookies that a browser has for Patrol.
func (v *visitor) cookies(prefix string) (names []string) {
	v.w.t.Helper()
	for _, cookie := range v.client.Jar.Cookies(mustURL(v.w.t, v.w.http.URL)) {
		if strings.HasPrefix(cookie.Name, prefix) {
			names = append(names, cookie.Name)
		}
	}
	return names
}

func TestSignInInTwoTabs(t *testing.T) {
	w, idp := withProvider(t, testenv.SQLite(t), nil)
	idp.Person("mallory", person("mallory"))
	zoe := w.visit("")
	one, two := zoe.leaves("/login/oidc?next=/help"), zoe.leaves("/login/oidc?next=/profile/sessions")
	back := zoe.atProvider(one, "zoe")
	zoe.get("/login/oidc/callback?state=another&code=x").is(403)
	zoe.get("/login/oidc/callback").is(403)
	assert.Len(t, zoe.cookies(w.cookieName("flow")), 2, "what no visit asked for ends none")

	// Looking at the headers does nothing, for whoever does.
	before := w.records()
	head := zoe.send(http.MethodHead, back, nil).is(http.StatusOK)
	assert.Empty(t, head.header.Values("Set-Cookie"))
	assert.Equal(t, before, w.records())
	zoe.get(back).leadsTo("/help")
	zoe.get(zoe.atProvider(two, "zoe")).leadsTo("/profile/sessions")
	assert.Empty(t, zoe.cookies(w.cookieName("flow")))
	zoe.get("/profile/pats").is(200)

	// A browser keeps a few, the latest.
	busy := w.visit("")
	var away []string
	for range 12 {
		away = append(away, busy.leaves("/login/oidc?next=/help"))
		w.clock.Advance(time.Second)
		idp.At(w.clock.Now())
	}
	assert.Len(t, busy.cookies(w.cookieName("flow")), 5)
	busy.get(busy.atProvider(away[0], "zoe")).is(403)
	busy.get(busy.atProvider(away[11], "zoe")).leadsTo("/help")
	long := w.visit("")
	for range 5 {
		long.leaves("/login/oidc?next=" + url.QueryEscape("/profile/pats/new?description="+random(2000)))
	}
	assert.Less(t, len(long.cookies(w.cookieName("flow"))), 5, "those that hold much are fewer")

	// One that takes too long is over, whatever the browser keeps.
	slow := w.visit("")
	late := slow.leaves("/login/oidc")
	flow := slow.flow()
	w.clock.Advance(16 * time.Minute)
	idp.At(w.clock.Now())
	back = slow.atProvider(late, "zoe")
	slow.setFlow(flow.Name, flow.Value)
	slow.get(back).is(403)
}

// random is a text that does not compress.
func random(n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(models.NewID())
	}
	return b.String()[:n]
}

func TestAnotherSiteDoesNotSwapTheAccount(t *testing.T) {
	w, idp := withProvider(t, testenv.SQLite(t), nil)
	idp.Person("mallory", person("mallory"))
	for name, led := range map[string]http.Header{
		"another site":      {"Sec-Fetch-Site": {"cross-site"}},
		"a neighbour":       {"Sec-Fetch-Site": {"same-site"}},
		"nonsense":          {"Sec-Fetch-Site": {"sideways"}},
		"a referrer":        {"Referer": {"https://evil.example/"}},
		"a broken referrer": {"Referer": {"https://%zz/"}},
	} {
		t.Run(name, func(t *testing.T) {
			ann := w.visit("ann")
			maps.Copy(ann.header, led)
			ann.get("/login/oidc?next=/help").leadsTo("/login?next=%2Fhelp")
			assert.Empty(t, ann.cookies(w.cookieName("flow")))
		})
	}
	for name, led := range map[string]http.Header{
		"a button here":       {"Sec-Fetch-Site": {"same-origin"}},
		"a typed address":     {"Sec-Fetch-Site": {"none"}},
		"a referrer of ours":  {"Referer": {w.http.URL + "/login"}},
		"a browser that says": {},
	} {
		t.Run(name, func(t *testing.T) {
			ann := w.visit("")
			maps.Copy(ann.header, led)
			ann.leaves("/login/oidc?next=/help")
			assert.Len(t, ann.cookies(w.cookieName("flow")), 1)
		})
	}

	// Every form that signs somebody in, or could, refuses what another site sends.
	code := w.visit("ann").code()
	for _, form := range []struct {
		path   string
		fields url.Values
	}{
		{"/login", url.Values{"email": {"dom@example.com"}, "password": {password}}},
		{"/reset", url.Values{"code": {"AAAAA-AAAAA-AAAAA-AAAAA"}, "password": {password}, "repeat": {password}}},
		{"/setup", url.Values{"code": {"x"}, "email": {"x@example.com"}, "name": {"x"}, "password": {password}}},
		{"/logout", url.Values{}},
		{"/profile/sessions/code", url.Values{}},
		{"/profile/identity", url.Values{"action": {"connect"}}},
		{"/profile/password", url.Values{"current": {password}, "password": {"another good password"}, "repeat": {"another good password"}}},
	} {
		for _, led := range []http.Header{{"Sec-Fetch-Site": {"cross-site"}}, {"Origin": {"https://evil.example"}}, {"Origin": {"null"}}, {"Sec-Fetch-Site": {"same-site"}}} {
			ann := w.visit("ann")
			maps.Copy(ann.header, led)
			page := ann.post(form.path, form.fields)
			assert.Equal(t, 403, page.status, "%s %v", form.path, led)
			assert.Empty(t, page.header.Values("Set-Cookie"))
		}
	}
	for _, in := range []api.SignIn{{Email: "dom@example.com", Password: password}, {Code: code, Transport: "bearer"}} {
		w.as("").set("Sec-Fetch-Site", "cross-site").post("/api/v1/session", in).problem(403, models.CodeForbidden)
		w.as("").set("Origin", "null").post("/api/v1/session", in).problem(403, models.CodeForbidden)
	}
}

func TestASignInEndsWhatItReplaces(t *testing.T) {
	w, idp := withProvider(t, testenv.SQLite(t), nil)
	idp.Person("mallory", person("mallory"))
	session := func(v *visitor) *http.Cookie {
		for _, c := range v.client.Jar.Cookies(mustURL(t, w.http.URL)) {
			if c.Name == w.cookieName("session") {
				return c
			}
		}
		return &http.Cookie{Name: "none"}
	}
	ends := map[string]func(v *visitor){
		"a password": func(v *visitor) {
			v.post("/login", url.Values{"email": {"dom@example.com"}, "password": {password}}).leadsTo("/profile/pats")
		},
		"a password over the API": func(v *visitor) {
			w.as("").cookie(session(v)).post("/api/v1/session", api.SignIn{Email: "dom@example.com", Password: password}).is(201)
		},
		"the provider": func(v *visitor) { v.comes("zoe").leadsTo("/profile/pats") },
		"signing out":  func(v *visitor) { v.post("/logout", url.Values{}).leadsTo("/login") },
		"signing out over the API": func(v *visitor) {
			w.as("").cookie(session(v)).delete("/api/v1/session").is(204)
		},
	}
	for name, act := range ends {
		t.Run(name, func(*testing.T) {
			ann, other := w.visit("ann"), w.visit("ann")
			code, before := ann.code(), session(ann)
			act(ann)
			w.as("").cookie(before).get("/api/v1/me").problem(401, models.CodeUnauthenticated)
			w.as("").post("/api/v1/session", api.SignIn{Code: code, Transport: "bearer"}).problem(401, models.CodeBadCredentials)
			other.get("/profile/pats").is(200)
		})
	}
}

// TestLookingAtHeadersDoesNothing walks all addresses that can be read: whoever asks for the
// headers alone uses nothing up and changes nothing.
func TestLookingAtHeadersDoesNothing(t *testing.T) {
	w, _ := withProvider(t, testenv.SQLite(t), nil)
	token := w.pat("ann", "ci", "acme:models:*:read")
	root := w.visit("root")
	root.get("/profile/pats").is(200)
	root.post("/admin/domains/new", url.Values{"id": {"gamma"}, "name": {"Gamma"}}) // leaves a notice
	notice := w.records()
	fill := strings.NewReplacer(":identity", "x", ":id", token.ID, ":pat", token.ID, ":user", w.users["ann"].ID, ":name", "x", ":scope", token.Scopes[0].ID,
		":decision", "x")
	n := 0
	for _, r := range server.Routes() {
		if r.Method != http.MethodGet || r.Mount {
			continue
		}
		n++
		page := root.send(http.MethodHead, fill.Replace(r.Path), nil)
		for _, cookie := range page.header.Values("Set-Cookie") {
			t.Errorf("HEAD %s sets %s", r.Path, cookie)
		}
		require.Equal(t, notice, w.records(), "HEAD %s", r.Path)
	}
	assert.Greater(t, n, 60)
	assert.Contains(t, root.get("/admin/domains").is(200).text, "role=\"status\"", "the notice is still there")
}

// records are the rows of what requests could change, of a world on SQLite.
func (w *world) records() string {
	w.t.Helper()
	db, err := sql.Open("sqlite", strings.TrimPrefix(w.dbURL, "sqlite://"))
	require.NoError(w.t, err)
	defer func() { assert.NoError(w.t, db.Close()) }()
	var all strings.Builder
	for _, table := range []string{"sessions", "one_time_codes", "audit_events", "users", "identities", "pats", "memberships", "domains", "changes"} {
		rows, err := db.QueryContext(w.t.Context(), "SELECT * FROM "+table+" ORDER BY 1, 2")
		require.NoError(w.t, err)
		defer func() { _ = rows.Close() }()
		columns, err := rows.Columns()
		require.NoError(w.t, err)
		for rows.Next() {
			values := make([]any, len(columns))
			into := make([]any, len(columns))
			for i := range values {
				into[i] = &values[i]
			}
			require.NoError(w.t, rows.Scan(into...))
			fmt.Fprintln(&all, table, values)
		}
		require.NoError(w.t, rows.Err())
	}
	return all.String()
}
