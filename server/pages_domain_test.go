package server_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"patrol/internal/testenv"
	"patrol/models"
)

func TestADomainsAdminOnPages(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		w.member("eve", "beta", "admin")
		both := w.pat("eve", "both", "acme:models:*:read", "beta:datasets:secret-plan:write")
		beta := w.pat("eve", "beta's", "beta:models:*:read")
		anns := w.pat("ann", "ann's", "acme:models:*:read")
		dom := w.visit("dom")

		// The way there.
		assert.Contains(t, dom.get("/profile/pats").is(200).text, `href="/admin/domains"`)
		list := dom.get("/admin/domains").is(200)
		assert.Equal(t, []string{"ACME"}, list.names())
		assert.NotContains(t, list.text, "/admin/domains/new")
		w.visit("ann").get("/admin/domains").is(403)
		page := dom.get("/admin/domains/acme").is(200)
		assert.Empty(t, page.named("status"), "what the domain is called and who gets in is the platform's business")
		assert.NotContains(t, page.text, "/admin/users/")
		assert.NotEmpty(t, page.named("max_lifetime"))
		dom.post("/admin/domains/acme", url.Values{"name": {"x"}, "status": {"frozen"}}).is(403)
		dom.post("/admin/domains/acme/members", url.Values{"user": {"eve@example.com"}, "role": {"viewer"}}).leadsTo("/admin/domains/acme")
		dom.post("/admin/domains/acme/members/"+w.users["eve"].ID+"/remove", url.Values{}).leadsTo("/admin/domains/acme")
		dom.get("/admin/domains/acme/members/" + w.users["eve"].ID + "/remove").is(404)

		// Limits.
		refused := dom.post("/admin/domains/acme/limits", url.Values{"max_lifetime": {"a month"}, "approval": {"1", "0"}, "no_wildcards": {"0"}}).is(422)
		assert.Equal(t, "a month", refused.value("max_lifetime"))
		assert.True(t, has(refused.named("approval")[0], "checked"))
		dom.post("/admin/domains/acme/limits", url.Values{"max_lifetime": {" 30d "}, "approval": {"1", "0"}, "no_wildcards": {"0"}}).leadsTo("/admin/domains/acme")
		assert.False(t, w.allowed(anns.Token, "models", "m", "read"))
		page = dom.get("/admin/domains/acme").is(200)
		assert.Equal(t, "30d", page.value("max_lifetime"))
		assert.Contains(t, page.text, "2 tokens are not approved")

		// The tokens that reach it.
		tokens := dom.get("/admin/domains/acme/pats").is(200)
		assert.ElementsMatch(t, []string{"both", "ann's"}, tokens.names())
		assert.NotContains(t, tokens.text, "secret-plan")
		assert.Equal(t, []string{"both"}, dom.get("/admin/domains/acme/pats?owner=eve").is(200).names())
		dom.get("/admin/domains/acme/pats?owner=eve&domain=beta").is(422)
		assert.Len(t, dom.get("/admin/domains/acme/pats?approval=missing&status=active").names(), 2)
		assert.Empty(t, dom.get("/admin/domains/acme/pats?approval=given").names())
		dom.get("/admin/domains/acme/pats?after=x").leadsTo("/admin/domains/acme/pats")

		// Approve, withdraw.
		link := "/admin/domains/acme/pats/" + anns.ID
		token := dom.get(link).is(200)
		assert.Contains(t, token.text, "refused until it is approved")
		dom.post(link+"/approve", url.Values{"scope": {"another"}}).is(409)
		dom.post(link+"/approve", url.Values{}).is(409)
		assert.Contains(t, w.visit("ann").get("/profile/pats/"+anns.ID).text, "It does not work in <strong>acme</strong> yet")
		dom.post(link+"/approve", url.Values{"scope": {token.value("scope")}}).leadsTo(link)
		assert.True(t, w.allowed(anns.Token, "models", "m", "read"))
		assert.NotContains(t, w.visit("ann").get("/profile/pats/"+anns.ID).text, "It does not work in")
		dom.post(link+"/withdraw", url.Values{}).leadsTo(link)
		assert.False(t, w.allowed(anns.Token, "models", "m", "read"))

		// Revoke, with the owner told why.
		dom.post(link+"/revoke", url.Values{"reason": {" "}}).is(422)
		dom.post(link+"/revoke", url.Values{"reason": {"It was in a log.\r\nMake another."}}).leadsTo(link)
		ann := w.visit("ann")
		for _, p := range []string{"/profile/pats", "/profile/pats/" + anns.ID} {
			text := ann.get(p).is(200).text
			assert.Contains(t, text, "an admin of acme")
			assert.Contains(t, text, "It was in a log.\nMake another.")
		}
		made := ann.post("/profile/pats/new", newToken("next")).shows(ann)
		assert.Contains(t, made.text, "It does not work in <strong>acme</strong> yet")

		// Nothing of another domain, by whatever address.
		for _, target := range []string{
			"/admin/domains/beta", "/admin/domains/beta/pats", "/admin/domains/beta/pats/" + both.ID, "/admin/domains/acme/pats/" + beta.ID,
		} {
			assert.NotContains(t, dom.get(target).is(404).text, "beta&#39;s")
		}
		for path, form := range map[string]url.Values{
			"/admin/domains/beta/limits": {"approval": {"1"}}, "/admin/domains/beta/members": {"id": {"x"}}, "/admin/domains/beta/pats/" + beta.ID + "/revoke": {"reason": {"x"}},
			"/admin/domains/acme/pats/" + beta.ID + "/revoke": {"reason": {"x"}}, "/admin/domains/acme/pats/" + beta.ID + "/approve": {"scope": {"x"}},
			"/admin/domains/acme/pats/" + beta.ID + "/withdraw": {},
		} {
			dom.post(path, form).is(404)
		}
		for _, platform := range []string{"/admin/pats", "/admin/pats/" + both.ID, "/admin/users", "/admin/audit", "/admin/leaked"} {
			dom.get(platform).is(403)
		}
		still, err := w.store.PAT(t.Context(), beta.ID)
		require.NoError(t, err)
		assert.Nil(t, still.RevokedAt)

		// A frozen domain is not its admins' any more.
		frozen := models.DomainIsFrozen
		w.as("root").send("PATCH", "/api/v1/domains/acme", map[string]any{"status": frozen}).is(200)
		dom.get("/admin/domains/acme").is(403)
		assert.NotContains(t, dom.get("/profile/pats").text, `href="/admin/domains"`)
	})
}

func TestAFormOfADomainSurvivesTheSession(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	dom := w.visit("dom")
	pat := w.pat("ann", "ci", "acme:models:*:read")
	w.clock.Advance(13 * time.Hour)
	for path, next := range map[string]string{
		"/admin/domains/acme/limits":                      "/admin/domains/acme",
		"/admin/domains/acme/pats/" + pat.ID + "/revoke":  "/admin/domains/acme/pats/" + pat.ID,
		"/admin/domains/acme/pats/" + pat.ID + "/approve": "/admin/domains/acme/pats/" + pat.ID,
	} {
		p := dom.post(path, url.Values{"reason": {"x"}}).is(401)
		assert.Equal(t, next, p.value("next"))
	}
}

// The form shows what a domain does not accept, and keeps the entries.
func TestTheCreateFormSaysWhatADomainDoesNotTake(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	w.limit("7d", false, false)
	p := w.visit("ann").post("/profile/pats/new", newToken("ci")).is(422)
	assert.Equal(t, "ci", p.value("name"))
	var said []string
	for _, n := range p.find(func(n *html.Node) bool {
		return n.Data == "a" && len(attr(n, "href")) > 3 && attr(n, "href")[:3] == "#f-"
	}) {
		said = append(said, inside(n))
		assert.NotNil(t, p.byID(attr(n, "href")[1:]))
	}
	assert.Equal(t, []string{
		"Scope 1, entity must name an entity: acme takes no wildcards.", "Duration is longer than the 7d that acme allows.",
	}, said)
}
