package server_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/server"
)

// happens are changes of ann's account between its reading and the beginning of a session.
func (w *world) happens() map[string]func() {
	id, yes := w.users["ann"].ID, true
	patch := func(p store.UserPatch) {
		_, err := w.store.UpdateUser(w.t.Context(), by, id, p)
		assert.NoError(w.t, err)
	}
	return map[string]func(){
		"nothing": func() {},
		"her hash is renewed": func() { // as by a sign-in in another window
			ann, err := w.store.User(w.t.Context(), id)
			assert.NoError(w.t, err)
			hash, err := server.CheapHash(password)
			assert.NoError(w.t, err)
			assert.NoError(w.t, w.store.RenewPasswordHash(w.t.Context(), by, id, ann.PasswordHash, hash))
		},
		"she has another password": func() {
			hash, err := server.CheapHash(newPassword)
			assert.NoError(w.t, err)
			patch(store.UserPatch{PasswordHash: &hash})
		},
		"she is disabled": func() { patch(store.UserPatch{Disabled: &yes}) },
		"her sessions end": func() {
			assert.NoError(w.t, w.store.Sessions().DeleteByUser(w.t.Context(), by, id, "", "admin"))
		},
	}
}

// TestAnAccountThatChangesUnderItsSignIn: a right password counts for the account as it is when the
// session begins. A renewed hash is of the same password.
func TestAnAccountThatChangesUnderItsSignIn(t *testing.T) {
	again := api.Reauthenticate{Password: password}
	for name, c := range map[string]struct {
		reads  string // the query by which the account is read
		begins func(w *world) (send func() *answer)
		ends   string // what ends it though its session goes on otherwise
	}{
		"a sign-in": {reads: "user_by_email", begins: func(w *world) func() *answer {
			return func() *answer {
				return w.as("").post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: password})
			}
		}},
		"a program signs in again": {reads: "user", ends: "her sessions end", begins: func(w *world) func() *answer {
			session := w.signIn("ann")
			return func() *answer { return w.with(session).post("/api/v1/session/reauthenticate", again) }
		}},
		"a browser signs in again": {reads: "user", ends: "her sessions end", begins: func(w *world) func() *answer {
			cookie := w.signInCookie("ann")
			return func() *answer {
				return w.as("").cookie(cookie).post("/api/v1/session/reauthenticate", again)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for what := range (&world{t: t}).happens() {
				testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
					w := newWorld(t, dbURL, nil)
					send := c.begins(w)
					w.meanwhile.Store(&meanwhile{query: c.reads, happens: w.happens()[what]})
					a := send()
					require.Nil(t, w.meanwhile.Load(), "%s has happened", what)
					lives, err := w.store.Sessions().ByUser(t.Context(), w.users["ann"].ID)
					require.NoError(t, err)
					switch what {
					case "nothing", "her hash is renewed":
						assert.Less(t, a.status, 300, "%s: %s", what, a.body)
						assert.Len(t, lives, 1, what)
					case c.ends:
						assert.Empty(t, lives, what)
					case "her sessions end":
						assert.Equal(t, 201, a.status, "a sign-in after them is another one")
					default:
						a.problem(401, models.CodeBadCredentials)
						assert.Empty(t, lives, what)
					}
				})
			}
		})
	}
}

// A password that is wrong ends no session, however often its hash is renewed.
func TestAWrongPasswordEndsNoSession(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	cookie := w.signInCookie("ann")
	w.meanwhile.Store(&meanwhile{query: "user", happens: w.happens()["her hash is renewed"]})
	w.as("").cookie(cookie).post("/api/v1/session/reauthenticate", api.Reauthenticate{Password: "wrong password"}).problem(401, models.CodeBadCredentials)
	w.as("").cookie(cookie).get("/api/v1/me").is(200)
}

// Who is disabled while coming back from the provider is told so, and has no session.
func TestDisabledOnTheWayBackFromTheProvider(t *testing.T) {
	w, _ := withProvider(t, testenv.SQLite(t), nil)
	zoe := w.visit("")
	zoe.comes("zoe").leadsTo("/profile/pats")
	zoe.post("/logout", url.Values{}).is(200)
	id, yes := w.byEmail("zoe@corp.example").ID, true
	w.meanwhile.Store(&meanwhile{query: "user_by_identity", happens: func() {
		_, err := w.store.UpdateUser(w.t.Context(), by, id, store.UserPatch{Disabled: &yes})
		assert.NoError(t, err)
	}})
	assert.Contains(t, zoe.comes("zoe").is(403).text, "Your account here is disabled.")
	require.Nil(t, w.meanwhile.Load())
	assert.False(t, zoe.signedIn())
	lives, err := w.store.Sessions().ByUser(t.Context(), id)
	require.NoError(t, err)
	assert.Empty(t, lives)
}

// A form that waits in one window is sent once its owner signed in again at the provider in
// another one.
func TestSigningInAgainAtTheProviderInAnotherWindow(t *testing.T) {
	w, idp := withProvider(t, testenv.SQLite(t), nil)
	idp.Person("eve", person("eve"))
	zoe := w.visit("")
	zoe.comes("zoe").leadsTo("/profile/pats")
	old := w.visit("")
	old.comes("zoe").leadsTo("/profile/pats") // in another browser
	w.clock.Advance(11 * time.Minute)
	idp.At(w.clock.Now())

	form := url.Values{"id": {"others"}}
	waits := zoe.post("/profile/sessions/end", form).is(http.StatusForbidden)
	assert.Contains(t, waits.text, "Sign in again with Example ID")
	assert.Empty(t, waits.named("confirm_password"), "there is no password to ask for")
	assert.Equal(t, form, waits.fields(), "the form is kept")
	assert.True(t, old.signedIn())

	// Somebody else's credentials in the other window change nothing.
	away := zoe.post("/profile/confirm", url.Values{}).continues()
	assert.Contains(t, zoe.get(w.visit("").atProvider(away, "eve")).is(403).text, "as somebody else than here")
	assert.Contains(t, zoe.get("/profile/confirm").is(200).text, "Your sign-in is not recent")
	zoe.post("/profile/sessions/end", form).is(http.StatusForbidden)

	// Two windows at the provider at once do not disturb each other.
	first, second := zoe.post("/profile/confirm", url.Values{}).continues(), zoe.post("/profile/confirm", url.Values{}).continues()
	for _, away := range []string{second, first} {
		zoe.get(zoe.atProvider(away, "zoe")).leadsTo("/profile/confirm")
		assert.Contains(t, zoe.get("/profile/confirm").is(200).text, "You signed in again")
	}
	zoe.post("/profile/sessions/end", waits.fields()).leadsTo("/profile/sessions")
	assert.True(t, zoe.signedIn())
	assert.False(t, old.signedIn())
}
