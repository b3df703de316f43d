package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"sync"
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
	"patrol/server/manage"
)

// from begins a call of somebody at an address.
func (w *world) from(address string) *call { return w.as("").set("X-Forwarded-For", address) }

func behindProxies(c *server.Config, _ *server.Deps) { c.TrustedProxies = []string{"127.0.0.0/8"} }

// One address that tries many accounts is told to wait, whether they exist or not,
// and what it is told says nothing of which do. A right password is let in.
func TestOneAddressAtManyAccounts(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), behindProxies)
	try := func(from, email, password string) *answer {
		return w.from(from).post("/api/v1/session", api.SignIn{Email: email, Password: password, Transport: "bearer"})
	}
	const office = "203.0.113.1"
	for i := range 50 {
		try(office, fmt.Sprintf("invented-%d@example.com", i), "wrong").problem(401, models.CodeBadCredentials)
	}
	invented := try(office, "another@example.com", "wrong")
	exists := try(office, "eve@example.com", "wrong")
	one, other := invented.problem(429, models.CodeRateLimited), exists.problem(429, models.CodeRateLimited)
	one.RequestID, other.RequestID = "", ""
	assert.Equal(t, one, other)
	assert.Equal(t, invented.header.Get("Retry-After"), exists.header.Get("Retry-After"))
	try(office, "dom@example.com", password).is(201)
	try("203.0.113.2", "another@example.com", "wrong").is(401)
	w.clock.Advance(time.Minute)
	try(office, "another@example.com", "wrong").is(401)
}

// Which accounts know a network is not told in it when it is over its limit: not by a
// sign-in from there, not by a session, and not when an account's own limit is reached.
func TestWhoKnowsANetworkIsNotTold(t *testing.T) {
	dbURL := testenv.SQLite(t)
	w := newWorld(t, dbURL, behindProxies)
	const office = "203.0.113.1"
	signIn := func(w *world, from, email, password string) *answer {
		return w.from(from).post("/api/v1/session", api.SignIn{Email: email, Password: password, Transport: "bearer"})
	}
	signIn(w, office, "ann@example.com", password).is(201)
	alike := func(w *world) {
		t.Helper()
		for i := range 50 {
			signIn(w, office, fmt.Sprintf("invented-%d@example.com", i), "wrong").problem(401, models.CodeBadCredentials)
		}
		for range 7 { // an account has 5 a minute
			var all []api.Problem
			for _, email := range []string{"another@example.com", "eve@example.com", "ann@example.com"} {
				begin := time.Now()
				answer := signIn(w, office, email, "wrong")
				assert.GreaterOrEqual(t, time.Since(begin), 300*time.Millisecond, email)
				p := answer.problem(429, models.CodeRateLimited)
				p.RequestID = ""
				all = append(all, p)
			}
			assert.Equal(t, all[0], all[1])
			assert.Equal(t, all[0], all[2])
		}
		w.clock.Advance(time.Minute)
		signIn(w, office, "ann@example.com", password).is(201)
	}
	alike(w)
	again := newEmptyWorld(t, dbURL, behindProxies) // which knows by the session alone
	again.clock.Advance(0)
	alike(again)
}

// One address tries 300 accounts that exist: it is told to wait soon, and people
// elsewhere sign in meanwhile.
func TestOneAddressAtManyAccountsThatExist(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), behindProxies)
	const accounts = 300
	hash, err := identity.HashPassword(password)
	require.NoError(t, err)
	for i := range accounts {
		_, err := w.store.CreateUser(t.Context(), models.Actor{Kind: models.ActorSystem},
			models.User{Email: fmt.Sprintf("many-%d@example.com", i), Name: "Many", PasswordHash: hash})
		require.NoError(t, err)
	}
	try := func(from string, i int, password string) *answer {
		return w.from(from).post("/api/v1/session", api.SignIn{Email: fmt.Sprintf("many-%d@example.com", i), Password: password, Transport: "bearer"})
	}
	const guesser = "203.0.113.1"
	for i := range 50 {
		try(guesser, i, "wrong").problem(401, models.CodeBadCredentials)
	}
	var more sync.WaitGroup
	for i := 50; i < accounts; i++ {
		more.Go(func() {
			try(guesser, i, "wrong").problem(429, models.CodeRateLimited)
		})
		if i%50 == 0 {
			try(fmt.Sprintf("198.51.100.%d", i%250), i, password).is(201)
			try(fmt.Sprintf("198.51.100.%d", i%250), i-50, password).is(201)
		}
	}
	more.Wait()
	try(guesser, 299, password).problem(429, models.CodeRateLimited) // at 50 that exist, a right one counts no more
	try("198.51.100.9", 299, password).is(201)
	w.server.WaitForNotes()
	events, _, err := w.store.AuditEvents(t.Context(), store.AuditFilter{Action: "session.refuse"}, store.Page{Limit: manage.MaxPage})
	require.NoError(t, err)
	assert.GreaterOrEqual(t, len(events), 50, "each guess that was judged is known")
	for _, e := range events {
		assert.Equal(t, guesser, e.Actor.IP)
	}
}

// An account whose limit strangers have used up is open to its owner: at a browser and
// in a session of before, and at an address with a session, after a restart too.
func TestStrangersLockNobodyOut(t *testing.T) {
	dbURL := testenv.SQLite(t)
	strict := func(c *server.Config, d *server.Deps) {
		behindProxies(c, d)
		c.Login.PerAccount = 10
	}
	w := newWorld(t, dbURL, strict)
	ann := w.visit("")
	ann.header.Set("X-Forwarded-For", "198.51.100.1")
	ann.post("/login", url.Values{"email": {"ann@example.com"}, "password": {password}}).leadsTo("/profile/pats")
	var session api.Session
	w.from("198.51.100.2").post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: password, Transport: "bearer"}).is(201).into(&session)

	flood := func(w *world) {
		for i := range 10 {
			w.from(fmt.Sprintf("192.0.2.%d", i)).post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: "wrong"}).is(401)
		}
		w.from("192.0.2.99").post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: password}).problem(429, models.CodeRateLimited)
	}
	flood(w)
	ann.post("/logout", nil)
	ann.header.Set("X-Forwarded-For", "192.0.2.98") // a browser that moves
	ann.post("/login", url.Values{"email": {"ann@example.com"}, "password": {password}}).leadsTo("/profile/pats")
	w.with(session.SessionToken).set("X-Forwarded-For", "192.0.2.97").post("/api/v1/session/reauthenticate", api.Reauthenticate{Password: password}).is(200)

	again := newEmptyWorld(t, dbURL, strict)
	again.clock.Advance(0)
	flood(again)
	again.from("198.51.100.2").post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: password}).is(201)

	// The browser is known to ann alone, for some time, and its cookie signs nobody in.
	var known *http.Cookie
	for _, c := range ann.client.Jar.Cookies(mustURL(t, w.http.URL)) {
		if c.Name == w.cookieName("browser") {
			known = c
		}
	}
	require.NotNil(t, known)
	w.as("").cookie(known).get("/api/v1/me").is(401)
	assert.NotContains(t, w.logs.String(), known.Value)
	for i := range 10 {
		w.from(fmt.Sprintf("192.0.2.%d", i)).post("/api/v1/session", api.SignIn{Email: "eve@example.com", Password: "wrong"}).is(401)
	}
	with := func(cookie *http.Cookie, email string) *answer {
		return w.from("192.0.2.90").cookie(cookie).post("/api/v1/session", api.SignIn{Email: email, Password: password, Transport: "bearer"})
	}
	with(known, "eve@example.com").is(429)
	for _, value := range []string{"", "x", known.Value[:20], known.Value + "A", "AAAA" + known.Value[4:]} {
		w.from("192.0.2.91").cookie(&http.Cookie{Name: known.Name, Value: value}).
			post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: password}).is(429)
	}
	with(known, "ann@example.com").is(201)
	w.clock.Advance(91 * 24 * time.Hour)
	flood(w)
	w.from("192.0.2.89").cookie(known).post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: password}).is(429)
}

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	require.NoError(t, err)
	return u
}

// A picture on any page can make a browser call the callback, and people change their
// minds: neither locks anybody out.
func TestVisitsThatCostNothingAreNotCounted(t *testing.T) {
	w, idp := withProvider(t, testenv.SQLite(t), nil)
	for range 40 {
		w.visit("").get("/login/oidc/callback").is(403)
		w.visit("").get("/login/oidc/callback?state=x&code=y").is(403)
		cancelled := w.visit("")
		there := mustQuery(t, cancelled.leaves("/login/oidc"))
		cancelled.get("/login/oidc/callback?error=access_denied&state=" + there.Get("state") + "&iss=" + url.QueryEscape(idp.Issuer)).is(403)
	}
	for range 12 {
		w.visit("").comes("zoe").leadsTo("/profile/pats")
	}
	refusing := func() *shown {
		v := w.visit("")
		there := mustQuery(t, v.leaves("/login/oidc"))
		return v.get("/login/oidc/callback?code=invented&state=" + there.Get("state") + "&iss=" + url.QueryEscape(idp.Issuer))
	}
	for range 30 {
		refusing().is(403)
	}
	refusing().is(429)
	w.clock.Advance(time.Minute)
	refusing().is(403)
}
