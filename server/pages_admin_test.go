package server_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"patrol/internal/testenv"
	"patrol/models"
)

// names are the first cells of a table's rows.
func (s *shown) names() []string {
	var out []string
	for _, n := range s.find(func(n *html.Node) bool { return n.Data == "a" && attr(n, "class") == "name" }) {
		out = append(out, inside(n))
	}
	return out
}

func TestTheInventory(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		w.member("eve", "beta", "member")
		for _, made := range [][3]string{
			{"ann", "ann's", "acme:models:*:read"},
			{"dom", "dom's", "acme:models:*:read"},
			{"eve", "eve's 100%", "beta:models:*:read"},
			{"eve", "everywhere", "*:models:*:read"},
		} {
			w.pat(made[0], made[1], made[2])
			w.clock.Advance(time.Second)
		}
		root := w.visit("root")
		assert.Equal(t, []string{"everywhere", "eve's 100%", "dom's", "ann's"}, root.get("/admin/pats").is(200).names())
		for query, want := range map[string][]string{
			"owner=EVE@":        {"everywhere", "eve's 100%"},
			"domain=beta":       {"everywhere", "eve's 100%"},
			"domain=acme":       {"everywhere", "dom's", "ann's"},
			"name=100%25":       {"eve's 100%"},
			"name=_":            nil,
			"status=revoked":    nil,
			"expiring=1":        nil,
			"unused=1":          nil,
			"sort=expires":      {"ann's", "dom's", "eve's 100%", "everywhere"},
			"name=E&owner=dom@": nil,
		} {
			assert.ElementsMatch(t, want, root.get("/admin/pats?"+query).is(200).names(), query)
		}
		root.get("/admin/pats?after=garbage").leadsTo("/admin/pats")

		// Many at once: the number that was seen must be typed.
		form := url.Values{"owner": {"eve@"}, "count": {"2"}}
		p := root.get("/admin/pats/revoke?owner=eve%40").is(200)
		assert.Equal(t, "Revoke 2 tokens?", p.heading())
		assert.Contains(t, root.post("/admin/pats/revoke", form).is(422).text, "Type 2 to confirm.")
		assert.Contains(t, root.post("/admin/pats/revoke", form).is(422).text, "Reason is required.")
		form.Set("reason", "the laptop was stolen")
		form.Set("typed", "2")
		w.pat("eve", "one more", "beta:models:*:read")
		assert.Contains(t, root.post("/admin/pats/revoke", form).is(422).text, "The number has changed meanwhile.")
		form.Set("count", "3")
		form.Set("typed", "3")
		root.post("/admin/pats/revoke", form).leadsTo("/admin/pats?owner=eve%40")
		assert.Len(t, root.get("/admin/pats?status=active").names(), 2)
		assert.Contains(t, root.get("/admin/pats?status=revoked").text, "eve&#39;s 100%")

		w.clock.Advance(25 * 24 * time.Hour)
		root = w.visit("root")
		assert.Len(t, root.get("/admin/pats?expiring=1").names(), 2)
		w.clock.Advance(100 * 24 * time.Hour)
		root = w.visit("root")
		assert.Empty(t, root.get("/admin/pats?expiring=1").names())
		assert.Len(t, root.get("/admin/pats?unused=1").names(), 5)
	})
}

func TestALeakedTokenIsRevoked(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("ann", "leaked", "acme:models:*:read")
	root := w.visit("root")
	assert.Contains(t, root.post("/admin/leaked", url.Values{"token": {"patrol_abc"}}).is(422).text, "is not a whole token")
	other, err := models.Mint(strings.NewReader(strings.Repeat("x", 4096)))
	require.NoError(t, err)
	assert.Contains(t, root.post("/admin/leaked", url.Values{"token": {other.Reveal()}}).is(422).text, "is not known here")

	p := root.post("/admin/leaked", url.Values{"token": {` "Bearer ` + pat.Token + `" `}}).is(200)
	assert.Contains(t, p.text, "This is the token that you pasted.")
	assert.Contains(t, p.text, "ann@example.com")
	assert.NotContains(t, p.text, pat.Token)
	assert.True(t, w.allowed(pat.Token, "models", "m", "read"))
	assert.Contains(t, p.value("reason"), "found where it should not be")
	root.post("/admin/pats/"+pat.ID+"/revoke", url.Values{}).is(422)
	assert.True(t, w.allowed(pat.Token, "models", "m", "read"))
	root.post("/admin/pats/"+pat.ID+"/revoke", url.Values{"reason": {p.value("reason")}}).leadsTo("/admin/pats/" + pat.ID)
	assert.False(t, w.allowed(pat.Token, "models", "m", "read"))
	assert.Contains(t, root.get("/admin/audit?action=pat.revoke").is(200).text, "pat:"+pat.ID)
	assert.NotContains(t, w.logs.String(), pat.Token)
}

func TestManagingUsersAndDomains(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	root := w.visit("root")
	user := url.Values{"email": {"New@Example.com"}, "name": {"New"}, "password": {"a first password"}}
	root.post("/admin/users/new", user).leadsTo("/admin/users")
	assert.Contains(t, root.get("/admin/users").text, "new@example.com can sign in now.")
	p := root.post("/admin/users/new", user).is(409)
	assert.Equal(t, "new@example.com", strings.ToLower(p.value("email")))
	assert.NotContains(t, p.text, "a first password")
	root.post("/admin/users/new", url.Values{"email": {"x"}}).is(422)
	created, err := w.store.UserByEmail(t.Context(), "new@example.com")
	require.NoError(t, err)

	link := "/admin/users/" + created.ID
	root.get(link).is(200)
	root.post(link, url.Values{"name": {"New"}, "admin": {"0"}, "policy": {"0"}, "disabled": {"1", "0"}}).leadsTo("/admin/users")
	w.visit("").post("/login", url.Values{"email": {"new@example.com"}, "password": {"a first password"}}).is(401)
	root.post(link, url.Values{"name": {"New"}}).is(422)
	root.post(link, url.Values{"name": {"New"}, "admin": {"0"}, "policy": {"0"}, "disabled": {"0"}}).leadsTo("/admin/users")
	w.visit("").post("/login", url.Values{"email": {"new@example.com"}, "password": {"a first password"}}).is(303)

	// One's own account is guarded: its page does not even ask.
	self := "/admin/users/" + w.users["root"].ID
	assert.Empty(t, root.get(self).named("admin"))
	root.post(self, url.Values{"name": {"Root"}, "disabled": {"1"}}).leadsTo("/admin/users")
	root.get("/admin/users").is(200)

	root.post("/admin/domains/new", url.Values{"id": {"Not A Slug"}, "name": {"Gamma"}}).is(422)
	root.post("/admin/domains/new", url.Values{"id": {"gamma"}, "name": {"Gamma"}}).leadsTo("/admin/domains/gamma")
	page := root.get("/admin/domains/gamma").is(200)
	assert.Contains(t, page.text, "Nobody is a member yet.")
	assert.Contains(t, root.post("/admin/domains/gamma/members", url.Values{"user": {"nobody@example.com"}, "role": {"member"}}).is(422).text, "has no account with this address")
	root.post("/admin/domains/gamma/members", url.Values{"user": {"new@example.com"}, "role": {"king"}}).is(422)
	root.post("/admin/domains/gamma/members", url.Values{"user": {"new@example.com"}, "role": {"viewer"}}).leadsTo("/admin/domains/gamma")
	root.post("/admin/domains/gamma/members", url.Values{"id": {created.ID}, "role": {"member"}}).leadsTo("/admin/domains/gamma")
	m, err := w.store.Membership(t.Context(), created.ID, "gamma")
	require.NoError(t, err)
	assert.Equal(t, "member", m.Role)
	remove := "/admin/domains/gamma/members/" + created.ID + "/remove"
	root.get(remove).is(200)
	root.post(remove, url.Values{}).leadsTo("/admin/domains/gamma")
	root.post("/admin/domains/gamma", url.Values{"name": {"Gamma"}, "status": {"frozen"}}).leadsTo("/admin/domains/gamma")
	assert.Contains(t, root.get("/admin/domains").text, "Frozen")
	root.get("/admin/domains/nothing").is(404)

	for _, query := range []string{"", "?action=user.create", "?actor=root%40example.com", "?subject=domain%3Agamma", "?since=2020-01-01&until=2020-01-02", "?actor=nobody%40x"} {
		root.get("/admin/audit" + query).is(200)
	}
	assert.Contains(t, root.get("/admin/audit?subject=domain%3Agamma").text, "domain.create")
	assert.Contains(t, root.get("/admin/audit?actor=nobody%40x").text, "No event fits this filter.")

	// Users who are no admins do not see the administration.
	assert.NotContains(t, w.visit("ann").get("/profile/pats").text, "/admin/")
}
