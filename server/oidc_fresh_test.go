package server_test

import (
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/server"
	"patrol/server/identity"
	"patrol/server/ui/uitest"
)

// continues is the address at the provider that a page leads on to.
func (s *shown) continues() string {
	s.t.Helper()
	s.is(http.StatusOK)
	for _, n := range s.find(func(n *html.Node) bool { return attr(n, "http-equiv") == "refresh" }) {
		_, address, ok := strings.Cut(attr(n, "content"), "url=")
		require.True(s.t, ok)
		return address
	}
	require.Fail(s.t, "the page leads nowhere", s.text)
	return ""
}

func TestAFreshSignInAtTheProvider(t *testing.T) {
	w, idp := withProvider(t, testenv.SQLite(t), func(c *identity.OIDCConfig) {
		c.Memberships = []identity.GroupMembership{{Group: "eng", Domain: "acme", Role: "member"}}
	})
	pass := func(d time.Duration) {
		w.clock.Advance(d)
		idp.At(w.clock.Now())
	}
	idp.Person("zoe", person("zoe", "eng"))
	idp.Person("eve", person("eve"))
	zoe := w.visit("")
	zoe.comes("zoe").leadsTo("/profile/pats")
	zoe.post("/profile/pats/new", newToken("fresh")).shows(zoe)

	pass(11 * time.Minute)
	page := zoe.get("/profile/pats/new").is(200)
	assert.Empty(t, page.named("password"), "there is no password to ask for")
	assert.Contains(t, page.text, "you are led to Example ID and back")
	form := newToken("typed with care")
	form.Set("description", "kept")
	away := zoe.post("/profile/pats/new", form).continues()
	q := mustQuery(t, away)
	assert.Equal(t, []string{"login", "600"}, []string{q.Get("prompt"), q.Get("max_age")})
	back := zoe.get(zoe.atProvider(away, "zoe")).is(http.StatusSeeOther).header.Get("Location")
	page = zoe.get(back).is(200)
	assert.Equal(t, "typed with care", page.value("name"))
	assert.Equal(t, "kept", page.value("description"))
	assert.NotContains(t, page.text, "you are led to Example ID")
	zoe.post("/profile/pats/new", form).shows(zoe)

	// Rotating and widening ask in the same way.
	pats, _, err := w.store.PATs(t.Context(), store.PATFilter{UserID: w.byEmail("zoe@corp.example").ID}, store.Page{})
	require.NoError(t, err)
	pass(11 * time.Minute)
	here := "/profile/pats/" + pats[0].ID
	assert.Contains(t, zoe.post(here+"/rotate", url.Values{"expires_in": {"7d"}, "grace": {"1h"}, "key": {"k"}}).continues(), idp.Issuer)
	widened := url.Values{"scopes[0].domain": {"acme"}, "scopes[0].entity_type": {"datasets"}, "scopes[0].pick": {"*"}, "scopes[0].operation": {"datasets/read"}}
	away = zoe.post(here+"/scopes", widened).continues()

	// Somebody else's credentials do not confirm anything.
	refused := zoe.get(w.visit("").atProvider(away, "eve")).is(403)
	assert.Contains(t, refused.text, "You signed in at the identity provider as somebody else than here.")
	assert.NotEmpty(t, zoe.post(here+"/scopes", widened).continues())

	// A session that ended at the provider's is a sign-in like any other.
	away = zoe.post(here+"/scopes", widened).continues()
	zoe.post("/logout", url.Values{}).is(200)
	back = zoe.get(zoe.atProvider(away, "zoe")).is(http.StatusSeeOther).header.Get("Location")
	assert.Equal(t, "datasets/read", zoe.get(back).is(200).value("scopes[0].operation"))
	zoe.post(here+"/scopes", widened).leadsTo(here)

	// The provider's own session is no fresh sign-in here.
	pass(11 * time.Minute)
	zoe.post("/logout", url.Values{}).is(200)
	callback := zoe.leavesWithoutAsking()
	zoe.get(callback).leadsTo("/profile/pats")
	assert.Contains(t, zoe.post("/profile/pats/new", newToken("late")).continues(), idp.Issuer)

	// Nor is it a sign-in at all once it is older than max_age: the provider asks.
	pass(8 * 24 * time.Hour)
	zoe.comes("zoe").leadsTo("/profile/pats")
	zoe.post("/profile/pats/new", newToken("after a week")).shows(zoe)
}

// leavesWithoutAsking signs in by the session that the provider has.
func (v *visitor) leavesWithoutAsking() string {
	v.w.t.Helper()
	return v.atProvider(v.leaves("/login/oidc"), "nobody, since nobody is asked")
}

func TestSigningOutTellsOfTheProvider(t *testing.T) {
	w, idp := withProvider(t, testenv.SQLite(t), nil)
	zoe := w.visit("")
	zoe.comes("zoe").leadsTo("/profile/pats")
	page := zoe.post("/logout", url.Values{}).is(200)
	assert.False(t, zoe.signedIn())
	links := page.find(func(n *html.Node) bool { return strings.HasPrefix(attr(n, "href"), idp.Issuer) })
	require.Len(t, links, 1)
	q := mustQuery(t, attr(links[0], "href"))
	assert.Equal(t, "patrol", q.Get("client_id"))
	assert.Equal(t, w.http.URL+"/login", q.Get("post_logout_redirect_uri"))
	resp, _ := zoe.raw(http.MethodGet, attr(links[0], "href"), nil)
	assert.Equal(t, 200, resp.StatusCode, "the provider takes it")
	w.visit("ann").post("/logout", url.Values{}).leadsTo("/login")
}

func TestConnectingAnAccount(t *testing.T) {
	w, idp := withProvider(t, testenv.SQLite(t), nil)
	idp.Person("ann", map[string]any{"email": "ann@example.com", "email_verified": true})
	idp.Person("mallory", person("mallory"))
	ann := w.visit("ann")
	assert.Contains(t, ann.get("/profile/password").is(200).text, `href="/profile/identity"`)
	assert.Contains(t, ann.get("/profile/identity").is(200).text, "Connect your account")

	connect := url.Values{"action": {"connect"}}
	w.clock.Advance(11 * time.Minute)
	idp.At(w.clock.Now())
	assert.Contains(t, ann.post("/profile/identity", connect).is(422).text, "Your password")
	connect.Set("password", password)
	away := ann.post("/profile/identity", connect).continues()
	connect.Del("password")

	// Only the session that asked for it is connected.
	flow := ann.flow()
	back := ann.atProvider(away, "ann")
	eve := w.visit("eve")
	eve.setFlow(flow.Name, flow.Value)
	eve.get(back).is(403)
	assert.Contains(t, eve.get("/profile/identity").text, "Connect your account")
	// A planted visit does not connect somebody else.
	mallory := w.visit("eve")
	away = mallory.post("/profile/identity", connect).continues()
	planted, theirs := mallory.flow(), mallory.atProvider(away, "mallory")
	ann.setFlow(planted.Name, planted.Value)
	ann.get(theirs).is(403)
	assert.Contains(t, ann.get("/profile/identity").text, "Connect your account")

	ann.get(ann.atProvider(ann.post("/profile/identity", connect).continues(), "ann")).leadsTo("/profile/identity")
	page := ann.get("/profile/identity").is(200)
	assert.Contains(t, page.text, "Your account is connected with Example ID.")
	assert.Contains(t, page.text, "Your account is connected since")
	w.visit("").comes("ann").leadsTo("/profile/pats")
	other := w.visit("")
	other.comes("ann").leadsTo("/profile/pats")

	// A connected account belongs to one person.
	dom := w.visit("dom")
	refused := dom.get(dom.atProvider(dom.post("/profile/identity", connect).continues(), "ann")).is(409)
	assert.Contains(t, refused.text, "This is somebody else")

	ann.post("/profile/identity", url.Values{"action": {"disconnect"}}).leadsTo("/profile/identity")
	assert.True(t, ann.signedIn())
	assert.False(t, other.signedIn(), "sessions by the connection have ended")
	w.visit("").comes("ann").is(409)
	w.visit("ann")
}

func TestAccountsWithoutAPassword(t *testing.T) {
	w, _ := withProvider(t, testenv.SQLite(t), nil)
	zoe := w.visit("")
	zoe.comes("zoe").leadsTo("/profile/pats")
	page := zoe.get("/profile/password").is(200)
	assert.Equal(t, "Your account has no password", page.heading())
	assert.Contains(t, page.text, "You sign in with Example ID")
	zoe.post("/profile/password", url.Values{"current": {"x"}, "password": {newPassword}, "repeat": {newPassword}}).is(401)
	assert.Contains(t, zoe.get("/profile/identity").is(200).text, "It is your only way in.")
	zoe.post("/profile/identity", url.Values{"action": {"disconnect"}}).is(409)
	v := w.visit("")
	v.post("/login", url.Values{"email": {"zoe@corp.example"}, "password": {newPassword}}).is(401)
}

func TestAProviderThatIsAway(t *testing.T) {
	idp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	issuer := "http://" + idp.Addr().String()
	require.NoError(t, idp.Close())
	w := newWorld(t, testenv.SQLite(t), func(c *server.Config, _ *server.Deps) {
		c.PublicURL = "http://127.0.0.1:8080"
		c.OIDC.Issuer, c.OIDC.ClientID, c.OIDC.Name = issuer, "patrol", "Example ID"
	})
	assert.True(t, w.visit("ann").signedIn(), "passwords work")
	v := w.visit("")
	for range 2 {
		page := v.get("/login/oidc?next=/help").is(503)
		assert.Equal(t, "5", page.header.Get("Retry-After"))
		assert.Contains(t, page.text, "Example ID cannot be reached at the moment.")
		assert.Equal(t, "/help", page.value("next"))
	}
	assert.Contains(t, w.logs.String(), "discover the identity provider")

	// It comes back, and is asked again after a moment.
	back, err := net.Listen("tcp", idp.Addr().String())
	require.NoError(t, err)
	fake := newHostileProvider(t, back)
	v.get("/login/oidc").is(503)
	assert.Zero(t, fake.asked("/.well-known/openid-configuration"), "not at every request")
	w.clock.Advance(5 * time.Second)
	assert.Contains(t, v.leaves("/login/oidc"), issuer)
	v.leaves("/login/oidc")
	assert.Equal(t, 1, fake.asked("/.well-known/openid-configuration"))
}

func TestWithoutAProvider(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	v := w.visit("")
	assert.NotContains(t, v.get("/login").text, "Sign in with")
	v.get("/login/oidc").is(404)
	v.get("/login/oidc/callback?code=x&state=y").is(404)
	ann := w.visit("ann")
	ann.get("/profile/identity").is(404)
	ann.post("/profile/identity", url.Values{"action": {"connect"}}).is(404)
	assert.NotContains(t, ann.get("/profile/password").text, "/profile/identity")
}

func TestSignInAtAProviderInABrowser(t *testing.T) {
	browser := uitest.Start(t)
	w, idp := withProvider(t, testenv.SQLite(t), func(c *identity.OIDCConfig) {
		c.Memberships = []identity.GroupMembership{{Group: "eng", Domain: "acme", Role: "member"}}
	})
	idp.Person("zoe", person("zoe", "eng"))
	zoe := w.open(browser, uitest.Options{})
	signsIn := func() {
		zoe.do(chromedp.SendKeys(chromedp.CSS("input[name=login]"), "zoe"))
		zoe.do(chromedp.SendKeys(chromedp.CSS("input[name=password]"), "any"))
		zoe.click("button[type=submit]")
	}
	zoe.goTo("/profile/pats")
	zoe.waitsFor("Sign in")
	zoe.click(`a[href="/login/oidc"]`)
	signsIn()
	zoe.waitsFor("Personal access tokens")

	// In the middle of a form the sign-in grows old.
	zoe.goTo("/profile/pats/new?preset=read&name=kept")
	w.clock.Advance(11 * time.Minute)
	idp.At(w.clock.Now())
	zoe.fill("#f-description", "typed before")
	zoe.click(".buttons button.primary")
	signsIn()
	zoe.waitsFor("Create a personal access token")
	assert.Equal(t, "kept", zoe.value("#f-name"))
	assert.Equal(t, "typed before", zoe.value("#f-description"))
	zoe.click(".buttons button.primary")
	zoe.waitsFor("Your token")
	pats, _, err := w.store.PATs(t.Context(), store.PATFilter{UserID: w.byEmail("zoe@corp.example").ID, Status: models.StatusActive}, store.Page{})
	require.NoError(t, err)
	assert.Len(t, pats, 1)
}
