package server_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"patrol/internal/secret"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/server"
	"patrol/server/identity"
)

// withProvider starts a world whose people can also sign in at a real provider.
func withProvider(t *testing.T, dbURL string, change func(*identity.OIDCConfig)) (*world, *testenv.OIDCProvider) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	base := "http://" + listener.Addr().String()
	idp := testenv.OIDC(t, base+"/login/oidc/callback")
	w := &world{t: t, listener: listener}
	w.start(t, dbURL, func(c *server.Config, _ *server.Deps) {
		c.PublicURL = base
		c.OIDC.Issuer, c.OIDC.ClientID, c.OIDC.ClientSecret = idp.Issuer, "patrol", secret.Text(idp.ClientSecret)
		c.OIDC.Name, c.OIDC.AllowCreate = "Example ID", true
		c.OIDC.Scopes = append(c.OIDC.Scopes, "groups")
		if change != nil {
			change(&c.OIDC)
		}
	})
	w.populate()
	idp.At(w.clock.Now())
	idp.Person("zoe", person("zoe"))
	return w, idp
}

// person is the claims of somebody with a verified address.
func person(name string, groups ...string) map[string]any {
	return map[string]any{"email": name + "@corp.example", "email_verified": true, "name": "Zoë " + name, "groups": groups}
}

// raw sends a request to Patrol or the provider, and follows nothing.
func (v *visitor) raw(method, address string, form url.Values) (*http.Response, *html.Node) {
	v.w.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(v.w.t.Context(), method, address, body)
	require.NoError(v.w.t, err)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := v.client.Do(req)
	require.NoError(v.w.t, err)
	defer func() { _ = resp.Body.Close() }()
	doc, err := html.Parse(resp.Body)
	require.NoError(v.w.t, err)
	return resp, doc
}

// atProvider goes from an address at the provider through its sign-in, as id, and
// returns the address at Patrol that it leads back to, which is not visited.
func (v *visitor) atProvider(address, id string) string {
	v.w.t.Helper()
	for range 20 {
		if path, here := strings.CutPrefix(address, v.w.http.URL); here {
			return path
		}
		here, err := url.Parse(address)
		require.NoError(v.w.t, err)
		resp, doc := v.raw(http.MethodGet, address, nil)
		if resp.StatusCode == http.StatusOK {
			action := ""
			for n := range doc.Descendants() {
				if n.Data == "form" {
					action = attr(n, "action")
				}
			}
			require.NotEmpty(v.w.t, action, "the provider asks for a sign-in")
			target, err := here.Parse(action)
			require.NoError(v.w.t, err)
			resp, _ = v.raw(http.MethodPost, target.String(), url.Values{"prompt": {"login"}, "login": {id}, "password": {"any"}})
		}
		require.Equal(v.w.t, http.StatusSeeOther, resp.StatusCode, "%s", address)
		next, err := here.Parse(resp.Header.Get("Location"))
		require.NoError(v.w.t, err)
		address = next.String()
	}
	v.w.t.Fatal("the provider leads in circles")
	return ""
}

// leaves begins a sign-in at the provider and returns where it leads.
func (v *visitor) leaves(path string) string {
	v.w.t.Helper()
	return v.get(path).is(http.StatusSeeOther).header.Get("Location")
}

// comes signs in at the provider as id, and returns what Patrol answers.
func (v *visitor) comes(id string) *shown {
	v.w.t.Helper()
	return v.get(v.atProvider(v.leaves("/login/oidc"), id))
}

// flow is the cookie of a visit to the provider.
func (v *visitor) flow() *http.Cookie {
	v.w.t.Helper()
	base, err := url.Parse(v.w.http.URL)
	require.NoError(v.w.t, err)
	for _, cookie := range v.client.Jar.Cookies(base) {
		if strings.HasPrefix(cookie.Name, v.w.cookieName("flow")+"_") {
			return cookie
		}
	}
	return nil
}

// setFlow plants the cookie of a visit.
func (v *visitor) setFlow(name, value string) {
	v.w.t.Helper()
	base, err := url.Parse(v.w.http.URL)
	require.NoError(v.w.t, err)
	v.client.Jar.SetCookies(base, []*http.Cookie{{Name: name, Value: value, Path: "/"}})
}

// signedIn reports whether the visitor is.
func (v *visitor) signedIn() bool { return v.get("/profile/pats").status == http.StatusOK }

func (w *world) byEmail(email string) *models.User {
	w.t.Helper()
	u, err := w.store.UserByEmail(w.t.Context(), email)
	require.NoError(w.t, err)
	return u
}

func TestSignInAtAProvider(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w, _ := withProvider(t, dbURL, nil)
		zoe := w.visit("")
		page := zoe.get("/login?next=/help").is(200)
		assert.Contains(t, page.text, `href="/login/oidc?next=%2Fhelp"`)
		assert.Contains(t, page.text, "Sign in with Example ID")

		begun := zoe.get("/login/oidc?next=/help").is(http.StatusSeeOther)
		there, err := url.Parse(begun.header.Get("Location"))
		require.NoError(t, err)
		cookie := (&http.Response{Header: begun.header}).Cookies()[0]
		assert.Equal(t, []any{w.flowName(there), "/", true, http.SameSiteLaxMode, 900}, []any{cookie.Name, cookie.Path, cookie.HttpOnly, cookie.SameSite, cookie.MaxAge})
		q := there.Query()
		assert.Equal(t, "S256", q.Get("code_challenge_method"))
		assert.Equal(t, "code", q.Get("response_type"))
		assert.Equal(t, "604800", q.Get("max_age"))
		assert.Equal(t, w.http.URL+"/login/oidc/callback", q.Get("redirect_uri"))
		for _, name := range []string{"state", "nonce", "code_challenge"} {
			assert.Len(t, q.Get(name), 43, name)
		}
		back := zoe.atProvider(there.String(), "zoe")
		zoe.get(back).leadsTo("/help")
		assert.Nil(t, zoe.flow(), "a visit counts once")
		assert.True(t, zoe.signedIn())

		user := w.byEmail("zoe@corp.example")
		require.NotNil(t, user)
		assert.Equal(t, []any{"Zoë zoe", "", false, false}, []any{user.Name, user.PasswordHash, user.Admin, user.Disabled})
		events, _, err := w.store.AuditEvents(t.Context(), store.AuditFilter{Subject: "user:" + user.ID}, store.Page{})
		require.NoError(t, err)
		var actions []string
		for _, e := range events {
			actions = append(actions, string(e.Actor.Kind)+" "+e.Action)
		}
		assert.ElementsMatch(t, []string{"system user.create", "system identity.link", "user session.create"}, actions)

		before, err := w.store.CountUsers(t.Context())
		require.NoError(t, err)
		w.visit("").comes("zoe").leadsTo("/profile/pats")
		after, err := w.store.CountUsers(t.Context())
		require.NoError(t, err)
		assert.Equal(t, before, after, "the same account")

		// A code and a state are good once, and in one browser.
		zoe.get(back).is(403)
		for _, text := range []string{w.logs.String(), w.dump()} {
			code := mustQuery(t, back).Get("code")
			require.NotEmpty(t, code)
			assert.NotContains(t, text, code)
			assert.NotContains(t, text, "the client's secret")
		}
	})
}

func mustQuery(t *testing.T, address string) url.Values {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	return u.Query()
}

func TestAVisitBelongsToOneBrowser(t *testing.T) {
	w, idp := withProvider(t, testenv.SQLite(t), nil)
	idp.Person("mallory", person("mallory"))
	mallory := w.visit("")
	start := mallory.leaves("/login/oidc")
	flow := mallory.flow()
	back := mallory.atProvider(start, "mallory")

	refused := func(v *visitor, path string) {
		t.Helper()
		page := v.get(path).is(403)
		assert.Equal(t, "Sign in", page.heading(), "one can begin again")
		for _, cookie := range (&http.Response{Header: page.header}).Cookies() {
			assert.Empty(t, cookie.Value)
		}
		assert.False(t, v.signedIn())
	}
	// Somebody whom mallory sends the address to is not signed in as mallory.
	refused(w.visit(""), back)
	victim := w.visit("")
	victim.leaves("/login/oidc")
	refused(victim, back)
	// A state that was changed.
	q := mustQuery(t, back)
	q.Set("state", q.Get("state")+"x")
	mallory.setFlow(flow.Name, flow.Value)
	refused(mallory, "/login/oidc/callback?"+q.Encode())
	// Another issuer's answer (RFC 9207).
	q = mustQuery(t, back)
	q.Set("iss", "https://other.example")
	mallory.setFlow(flow.Name, flow.Value)
	refused(mallory, "/login/oidc/callback?"+q.Encode())
	// A cookie that is no visit, and one that holds too much.
	for _, value := range []string{"", "x", "AAAA", strings.Repeat("A", 3000)} {
		mallory.setFlow(flow.Name, value)
		refused(mallory, back)
		w.clock.Advance(time.Minute)
	}

	// The code is good once, even with the cookie.
	idp.At(w.clock.Now())
	mallory = w.visit("")
	start = mallory.leaves("/login/oidc")
	flow = mallory.flow()
	back = mallory.atProvider(start, "mallory")
	mallory.get(back).leadsTo("/profile/pats")
	thief := w.visit("")
	thief.setFlow(flow.Name, flow.Value)
	refused(thief, back)

	// The provider says no, in its own words or in none.
	for given, want := range map[string]string{"access_denied": "access_denied", "<b>": "(error)"} {
		v := w.visit("")
		state := mustQuery(t, v.leaves("/login/oidc")).Get("state")
		page := v.get("/login/oidc/callback?" + url.Values{"state": {state}, "error": {given}, "iss": {idp.Issuer}, "error_description": {"<script>"}}.Encode()).is(403)
		assert.Contains(t, page.text, want)
		assert.NotContains(t, page.text, "<script>")
		assert.NotContains(t, page.text, "<b>")
	}
	// The provider insists on PKCE, and so does Patrol.
	plain := w.visit("")
	there, err := url.Parse(plain.leaves("/login/oidc"))
	require.NoError(t, err)
	q = there.Query()
	q.Del("code_challenge")
	q.Del("code_challenge_method")
	there.RawQuery = q.Encode()
	w.clock.Advance(time.Minute)
	back = plain.atProvider(there.String(), "mallory")
	assert.Contains(t, back, "error=invalid_request")
	refused(plain, back)
}

func TestNobodyIsLedAway(t *testing.T) {
	w, _ := withProvider(t, testenv.SQLite(t), nil)
	for _, next := range []string{"//evil.example", "https://evil.example", `/\evil.example`, "/\t/evil.example", "javascript:alert(1)"} {
		v := w.visit("")
		v.get(v.atProvider(v.leaves("/login/oidc?"+url.Values{"next": {next}}.Encode()), "zoe")).leadsTo("/profile/pats")
	}
	long := "/profile/pats/new?" + url.Values{"description": {strings.Repeat("a kept word ", 300)}}.Encode()
	v := w.visit("")
	v.get(v.atProvider(v.leaves("/login/oidc?"+url.Values{"next": {long}}.Encode()), "zoe")).leadsTo(long)
}

func TestWhoGetsAnAccount(t *testing.T) {
	w, idp := withProvider(t, testenv.SQLite(t), func(c *identity.OIDCConfig) { c.EmailDomains = []string{"Corp.example", "example.com"} })
	count := func() int64 {
		n, err := w.store.CountUsers(t.Context())
		require.NoError(t, err)
		return n
	}
	before := count()
	claims := func(email string, verified any) map[string]any {
		c := map[string]any{"name": "X", "email": email}
		if verified != nil {
			c["email_verified"] = verified
		}
		return c
	}
	for name, tc := range map[string]struct {
		claims map[string]any
		status int
		says   string
	}{
		"unverified":        {claims("x@corp.example", false), 403, "has not verified an email address"},
		"of unknown status": {claims("x@corp.example", nil), 403, "has not verified an email address"},
		"no address":        {map[string]any{"email_verified": true}, 403, "has not verified an email address"},
		"of elsewhere":      {claims("x@corp.example.evil", true), 403, "of no domain that may sign in here"},
		"of a subdomain":    {claims("x@sub.corp.example", true), 403, "of no domain that may sign in here"},
		"of somebody":       {claims("ANN@example.com", true), 409, "sign in to it with its password"},
	} {
		idp.Person(name, tc.claims)
		v := w.visit("")
		page := v.comes(name).is(tc.status)
		assert.Contains(t, page.text, tc.says, name)
		assert.False(t, v.signedIn())
		w.clock.Advance(time.Minute)
		idp.At(w.clock.Now())
	}
	assert.Equal(t, before, count())
	identities, err := w.store.Identities(t.Context(), w.users["ann"].ID)
	require.NoError(t, err)
	assert.Empty(t, identities, "an account is not taken over")

	// A verified address written by a provider of another manner; a name that cannot be one.
	idp.Person("yan", map[string]any{"email": "Yan@CORP.example", "email_verified": "true", "name": strings.Repeat("y", 200)})
	w.visit("").comes("yan").leadsTo("/profile/pats")
	assert.Equal(t, "yan", w.byEmail("yan@corp.example").Name)

	// A disabled account stays out.
	yes := true
	_, err = w.store.UpdateUser(t.Context(), by, w.byEmail("yan@corp.example").ID, store.UserPatch{Disabled: &yes})
	require.NoError(t, err)
	v := w.visit("")
	assert.Contains(t, v.comes("yan").is(403).text, "Your account here is disabled.")
	assert.False(t, v.signedIn())
}

func TestAccountsAreNotMadeUnasked(t *testing.T) {
	w, _ := withProvider(t, testenv.SQLite(t), func(c *identity.OIDCConfig) { c.AllowCreate = false })
	assert.Contains(t, w.visit("").comes("zoe").is(403).text, "You have no account here")
	assert.Nil(t, w.byEmail("zoe@corp.example"))
}

func TestGroupsGiveRights(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w, idp := withProvider(t, dbURL, func(c *identity.OIDCConfig) {
			c.AdminGroup = "/patrol admins"
			c.Memberships = []identity.GroupMembership{
				{Group: "leads", Domain: "acme", Role: "admin"},
				{Group: "eng", Domain: "acme", Role: "member"},
				{Group: "eng", Domain: "nowhere", Role: "member"},
				{Group: "eng", Domain: "beta", Role: "emperor"},
				{Group: "eng", Domain: "beta", Role: "viewer"},
			}
		})
		_, err := w.store.CreateDomain(t.Context(), by, models.Domain{ID: "other", Status: models.DomainEnabled})
		require.NoError(t, err)
		sign := func(groups any) map[string]string {
			t.Helper()
			claims := person("zoe")
			claims["groups"] = groups
			idp.Person("zoe", claims)
			w.visit("").comes("zoe").leadsTo("/profile/pats")
			memberships, err := w.store.Memberships(t.Context(), w.byEmail("zoe@corp.example").ID)
			require.NoError(t, err)
			roles := map[string]string{}
			for _, m := range memberships {
				roles[m.Domain] = m.Role
			}
			return roles
		}
		assert.Equal(t, map[string]string{"acme": "member", "beta": "viewer"}, sign([]string{"eng", "unknown"}), "what cannot be given is left out")
		assert.Contains(t, w.logs.String(), `"role":"emperor"`)
		assert.Contains(t, w.logs.String(), `"domain":"nowhere"`)
		zoe := *w.byEmail("zoe@corp.example")
		assert.False(t, zoe.Admin)
		_, err = w.store.SetMember(t.Context(), by, models.Membership{UserID: zoe.ID, Domain: "other", Role: "viewer"})
		require.NoError(t, err)

		v := w.visit("")
		v.comes("zoe").leadsTo("/profile/pats")
		made := v.post("/profile/pats/new", newToken("ci")).shows(v)
		token := attr(made.byID("token"), "value")
		assert.True(t, w.ask(token, "acme:models:m:read").Allowed)

		assert.Equal(t, map[string]string{"acme": "admin", "beta": "viewer", "other": "viewer"}, sign([]string{"eng", "leads"}), "the first that fits")
		assert.Equal(t, map[string]string{"other": "viewer"}, sign([]string{}), "domains that no group is about stay")
		assert.Equal(t, models.NotAMember, w.ask(token, "acme:models:m:read").Reasons[0].Code, "known at once")

		assert.Equal(t, map[string]string{"acme": "member", "beta": "viewer", "other": "viewer"}, sign("eng"), "a single group")
		assert.Equal(t, map[string]string{"other": "viewer"}, sign(map[string]any{"eng": true}), "what is no list gives nothing")
		assert.Equal(t, map[string]string{"other": "viewer"}, sign(nil))
		assert.Equal(t, map[string]string{"other": "viewer"}, sign([]string{"/patrol admins"}))
		assert.True(t, w.byEmail("zoe@corp.example").Admin)
		sign([]string{"eng"})
		assert.False(t, w.byEmail("zoe@corp.example").Admin)

		events, _, err := w.store.AuditEvents(t.Context(), store.AuditFilter{Subject: "membership:acme/" + zoe.ID}, store.Page{})
		require.NoError(t, err)
		require.NotEmpty(t, events)
		assert.Equal(t, models.ActorSystem, events[0].Actor.Kind)
	})
}

func TestGroupsMayOnlyAdd(t *testing.T) {
	w, idp := withProvider(t, testenv.SQLite(t), func(c *identity.OIDCConfig) {
		c.Memberships, c.RemoveMemberships = []identity.GroupMembership{{Group: "eng", Domain: "acme", Role: "member"}}, false
		c.AdminGroup = "admins"
	})
	idp.Person("zoe", person("zoe", "eng", "admins"))
	w.visit("").comes("zoe").leadsTo("/profile/pats")
	// As the last admin who can sign in she stays one, whatever her groups.
	yes := true
	_, err := w.store.UpdateUser(t.Context(), by, w.users["root"].ID, store.UserPatch{Disabled: &yes})
	require.NoError(t, err)
	idp.Person("zoe", person("zoe"))
	w.visit("").comes("zoe").leadsTo("/profile/pats")
	user := w.byEmail("zoe@corp.example")
	assert.True(t, user.Admin)
	assert.Contains(t, w.logs.String(), "the last platform admin is in no group that makes admins")
	m, err := w.store.Membership(t.Context(), user.ID, "acme")
	require.NoError(t, err)
	assert.NotNil(t, m)
}

func TestAFirstUserIsAnAdmin(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	base := "http://" + listener.Addr().String()
	idp := testenv.OIDC(t, base+"/login/oidc/callback")
	w := &world{t: t, listener: listener}
	w.start(t, testenv.SQLite(t), func(c *server.Config, _ *server.Deps) {
		c.PublicURL = base
		c.OIDC.Issuer, c.OIDC.ClientID, c.OIDC.ClientSecret = idp.Issuer, "patrol", secret.Text(idp.ClientSecret)
		c.OIDC.AllowCreate, c.OIDC.AdminGroup, c.OIDC.Scopes = true, "admins", []string{"email", "groups"}
	})
	idp.At(w.clock.Now())
	code := w.setupCode()
	idp.Person("zoe", person("zoe"))
	assert.Contains(t, w.visit("").comes("zoe").is(409).text, "Patrol is not set up yet")
	w.as("").get("/setup").is(200)
	idp.Person("ada", person("ada", "admins"))
	w.visit("").comes("ada").leadsTo("/profile/pats")
	assert.True(t, w.byEmail("ada@corp.example").Admin)
	w.as("").get("/setup").is(404)
	assert.NotEmpty(t, code)
	w.visit("").comes("zoe").leadsTo("/profile/pats")
}

// flowName is the name of the cookie of a visit to an address of the provider.
func (w *world) flowName(there *url.URL) string {
	w.t.Helper()
	sum := sha256.Sum256([]byte("flow " + there.Query().Get("state")))
	return w.cookieName("flow") + "_" + hex.EncodeToString(sum[:8])
}
