package server_test

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/server"
	"patrol/server/manage"
)

// The router serves nothing that does not say how recent a sign-in it needs.
func TestEveryRouteSaysHowRecentASignInItNeeds(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	table := map[string]server.Route{}
	for _, r := range server.Routes() {
		assert.NotEmpty(t, r.SignIn, "%s %s", r.Method, r.Path)
		table[r.Method+" "+r.Path] = r
	}
	for _, served := range w.server.GinRoutes() {
		method := served.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		r, known := table[method+" "+served.Path]
		if !assert.True(t, known, "%s %s", served.Method, served.Path) {
			continue
		}
		name := r.Method + " " + r.Path
		switch {
		case r.Method == http.MethodGet:
			assert.Contains(t, []string{"read", "noSession"}, r.SignIn, name)
		case slices.Contains([]string{"anyone", "tokenHolder", "patItself", "askingProxy"}, r.By):
			assert.Equal(t, "noSession", r.SignIn, name)
		case slices.Contains([]string{"platformAdmin", "domainAdmin", "policyTeam"}, r.By):
			assert.Contains(t, []string{"freshAdmin", "freshAdminToWiden", "narrow", "read"}, r.SignIn, name)
		case r.By == "ownerFresh":
			assert.Equal(t, "freshOwn", r.SignIn, name)
		case r.By == "ownerConfirming":
			assert.Equal(t, "freshByForm", r.SignIn, name)
		default:
			assert.NotEqual(t, "noSession", r.SignIn, name)
		}
		// Every change of others' objects that any sign-in permits is on this list.
		if slices.Contains([]string{"platformAdmin", "domainAdmin", "policyTeam"}, r.By) && r.Method != http.MethodGet && (r.SignIn == "narrow" || r.SignIn == "read") {
			assert.Contains(t, mayBeOld, name)
		}
	}
}

// mayBeOld are the acts on others' things that only take power away, or change nothing.
var mayBeOld = []string{
	"DELETE /api/v1/domains/:id/members/:user", "POST /api/v1/domains/:id/pats/:pat/revoke", "DELETE /api/v1/domains/:id/approvals/:pat",
	"PUT /api/v1/domains/:id/pats/:pat/withdrawal", "POST /admin/domains/:id/pats/:pat/withdrawal",
	"DELETE /api/v1/users/:id/codes", "POST /admin/users/:id/access/codes",
	"DELETE /api/v1/users/:id/identities/:identity", "POST /admin/users/:id/identities/:identity/disconnect",
	"POST /api/v1/policy/playground", "POST /policy/playground", "POST /policy/decisions",
	"POST /admin/pats/revoke", "POST /admin/pats/:id/revoke", "POST /admin/domains/:id/members/:user/remove",
	"POST /admin/domains/:id/pats/:pat/revoke", "POST /admin/domains/:id/pats/:pat/withdraw",
}

// Who repeats what a sign-in is too old for does not fill the audit log.
func TestAttemptsWithAnOldSignInAreNotedOnceAMinute(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	path := "/api/v1/users/" + w.users["ann"].ID + "/password-reset"
	first, other := w.signIn("root"), w.signIn("root")
	w.clock.Advance(time.Hour + time.Second)
	before := w.audited()
	for range 200 {
		w.with(first).post(path, nil).problem(403, models.CodeReauthentication)
	}
	assert.Equal(t, before+1, w.audited())
	w.with(other).post(path, nil).problem(403, models.CodeReauthentication)
	assert.Equal(t, before+2, w.audited(), "another session is another one's")
	w.with(first).post("/api/v1/users", api.NewUser{Email: "new@example.com", Name: "New"}).problem(403, models.CodeReauthentication)
	assert.Equal(t, before+3, w.audited(), "so is another act")
	w.clock.Advance(time.Minute)
	w.with(first).post(path, nil).problem(403, models.CodeReauthentication)
	assert.Equal(t, before+4, w.audited())
}

func TestARouteThatDoesNotSayHowRecentStopsTheProgram(t *testing.T) {
	assert.PanicsWithValue(t, "the route GET /new does not say how recent a sign-in it needs", server.RouteWithoutSignIn)
}

// act is something that asks for a recent sign-in.
type act struct {
	name, who, route string
	body             string     // of a program
	form             url.Values // of a page
	secret           url.Values // that the page asks for again
	fresh            int        // the answer to a recent sign-in
}

// freshActs are the acts that widen somebody's power or remove a protection, each as a
// program and as a person does it. A route that asks for a recent sign-in has at least one.
func freshActs() []act {
	one := func(pairs ...string) url.Values {
		v := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			v.Add(pairs[i], pairs[i+1])
		}
		return v
	}
	return []act{
		{name: "create a platform admin", who: "root", route: "POST /api/v1/users", body: `{"email":"new@example.com","name":"New","admin":true}`, fresh: 201},
		{name: "create a user", who: "root", route: "POST /api/v1/users", body: `{"email":"new2@example.com","name":"New"}`, fresh: 201},
		{name: "promote", who: "root", route: "PATCH /api/v1/users/:id", body: `{"admin":true}`, fresh: 200},
		{name: "promote, hidden among other fields", who: "root", route: "PATCH /api/v1/users/:id", body: `{"name":"Ann","disabled":true,"policy":false,"admin":true}`, fresh: 200},
		{name: "make a policy author", who: "root", route: "PATCH /api/v1/users/:id", body: `{"policy":true}`, fresh: 200},
		{name: "enable", who: "root", route: "PATCH /api/v1/users/:id", body: `{"disabled":false}`, fresh: 200},
		{name: "reset a password", who: "root", route: "POST /api/v1/users/:id/password-reset", fresh: 201},
		{name: "change an address", who: "root", route: "POST /api/v1/users/:id/email-change", body: `{"email":"other@example.com"}`, fresh: 201},
		{name: "change an address", who: "root", route: "POST /admin/users/:id/email", form: one("email", "other@example.com"), fresh: 303},
		{name: "confirm one's own address", who: "ann", route: "POST /api/v1/me/email", body: `{"code":"AAAAA-AAAAA-AAAAA-AAAAA"}`, fresh: 403},
		{name: "confirm one's own address", who: "ann", route: "POST /profile/email", form: one(), secret: one("code", "AAAAA-AAAAA-AAAAA-AAAAA"), fresh: 403},
		{name: "anonymise", who: "root", route: "POST /api/v1/users/:id/anonymise", fresh: 409}, // she is not disabled
		{name: "anonymise", who: "root", route: "POST /admin/users/:id/anonymise", form: one(), fresh: 409},
		{name: "end others' sessions", who: "root", route: "DELETE /api/v1/users/:id/sessions", fresh: 204},
		{name: "create a domain", who: "root", route: "POST /api/v1/domains", body: `{"id":"gamma","name":"Gamma"}`, fresh: 201},
		{name: "enable a domain", who: "root", route: "PATCH /api/v1/domains/:domain", body: `{"status":"enabled"}`, fresh: 200},
		{name: "thaw a domain for its admins", who: "root", route: "PATCH /api/v1/domains/:domain", body: `{"name":"Acme","status":"disabled"}`, fresh: 200},
		{name: "give a role", who: "dom", route: "PUT /api/v1/domains/:domain/members/:user", body: `{"role":"admin"}`, fresh: 200},
		{name: "give a role that administers nothing", who: "root", route: "PUT /api/v1/domains/:domain/members/:user", body: `{"role":"viewer"}`, fresh: 200},
		{name: "relax limits", who: "dom", route: "PUT /api/v1/domains/:domain/limits", body: `{"wildcards":true,"approval":false}`, fresh: 200},
		{name: "approve", who: "dom", route: "PUT /api/v1/domains/:domain/approvals/:pat", fresh: 200},
		{name: "approve as a platform admin", who: "root", route: "PUT /api/v1/domains/:domain/approvals/:pat", fresh: 200},
		{name: "let a withdrawn token in", who: "dom", route: "DELETE /api/v1/domains/:domain/pats/:pat/withdrawal", fresh: 204},
		{name: "purge everybody's records", who: "root", route: "POST /api/v1/admin/pats/purge", body: `{"all":true}`, fresh: 200},
		{name: "handle a leak", who: "root", route: "POST /api/v1/admin/leaked", body: `{"token":"x"}`, fresh: 422},
		{name: "roll back", who: "pol", route: "POST /api/v1/policy/rollback", body: `{"revision":"none such"}`, fresh: 404},
		{name: "resume", who: "pol", route: "POST /api/v1/policy/resume", fresh: 200},
		{name: "promote a policy", who: "pol", route: "POST /api/v1/policy/promote", body: `{"revision":"none such"}`, fresh: 404},
		{name: "create a token", who: "ann", route: "POST /api/v1/pats", body: `{"name":"t","expires_in":"1h","scopes":[{"domain":"acme","entity_type":"models","entity":"*","operation":"read"}]}`, fresh: 201},
		{name: "rotate a token", who: "ann", route: "POST /api/v1/pats/:pat/rotate", body: `{"expires_in":"1h"}`, fresh: 200},
		{name: "widen a token", who: "ann", route: "POST /api/v1/pats/:pat/scopes", body: `{"domain":"acme","entity_type":"models","entity":"m","operation":"execute"}`, fresh: 201},

		{name: "use a token from more addresses", who: "ann", route: "PATCH /api/v1/pats/:limited", body: `{"allowed_ips":["0.0.0.0/0"]}`, fresh: 200},
		{name: "use a token from everywhere", who: "ann", route: "PATCH /api/v1/pats/:limited", body: `{"name":"limited","allowed_ips":[]}`, fresh: 200},

		{name: "withdraw codes of one's own", who: "ann", route: "DELETE /api/v1/me/codes", fresh: 204},
		{name: "withdraw codes of one's own", who: "ann", route: "POST /profile/sessions/codes", form: one(), fresh: 303},
		{name: "disconnect an identity of one's own", who: "ann", route: "DELETE /api/v1/me/identities/:identity", fresh: 404},

		{name: "use a token from everywhere", who: "ann", route: "POST /profile/pats/:limited/edit", form: one("name", "limited", "description", "", "allowed_ips", ""), fresh: 303},
		{name: "create a user", who: "root", route: "POST /admin/users/new", form: one("email", "p@example.com", "name", "P", "admin", "1", "policy", "0"), secret: one("password", "a long secret of hers"), fresh: 303},
		{name: "promote", who: "root", route: "POST /admin/users/:id", form: one("name", "ann", "admin", "1", "policy", "0", "disabled", "0"), fresh: 303},
		{name: "make a policy author", who: "root", route: "POST /admin/users/:id", form: one("name", "ann", "admin", "0", "policy", "1", "disabled", "0"), fresh: 303},
		{name: "reset a password", who: "root", route: "POST /admin/users/:id/reset", form: one(), fresh: 303},
		{name: "end others' sessions", who: "root", route: "POST /admin/users/:id/access/sessions", form: one(), fresh: 303},
		{name: "create a domain", who: "root", route: "POST /admin/domains/new", form: one("id", "delta", "name", "Delta"), fresh: 303},
		{name: "close a domain to its members", who: "root", route: "POST /admin/domains/:domain", form: one("name", "Acme", "status", "disabled"), fresh: 303},
		{name: "give a role", who: "dom", route: "POST /admin/domains/:domain/members", form: one("user", "eve@example.com", "role", "admin", "id", ""), fresh: 303},
		{name: "relax limits", who: "dom", route: "POST /admin/domains/:domain/limits", form: one("max_lifetime", "", "no_wildcards", "0", "approval", "0"), fresh: 303},
		{name: "approve", who: "dom", route: "POST /admin/domains/:domain/pats/:pat/approve", form: one("scope", ":scope"), fresh: 303},
		{name: "let a withdrawn token in", who: "dom", route: "POST /admin/domains/:domain/pats/:pat/admit", form: one(), fresh: 303},
		{name: "handle a leak", who: "root", route: "POST /admin/leaked", form: one(), secret: one("token", "not-a-token"), fresh: 422},
		{name: "purge everybody's records", who: "root", route: "POST /admin/pats/purge", form: one("older_than", "any", "all", "true", "user", ""), fresh: 303},
		{name: "roll back", who: "pol", route: "POST /policy/history/rollback", form: one("revision", "none such"), fresh: 404},
		{name: "resume", who: "pol", route: "POST /policy/resume", form: one(), fresh: 303},
		{name: "promote a policy", who: "pol", route: "POST /policy/shadow/promote", form: one("revision", "none such"), fresh: 404},
		{name: "end one's own sessions", who: "ann", route: "POST /profile/sessions/end", form: one("id", "others"), fresh: 303},
	}
}

func TestPowerIsAskedForAgain(t *testing.T) {
	asked := map[string]bool{}
	for _, r := range server.Routes() {
		if strings.HasPrefix(r.SignIn, "freshAdmin") || strings.HasPrefix(r.SignIn, "freshOwn") {
			asked[r.Method+" "+r.Path] = true
		}
	}
	forRoute := strings.NewReplacer(":domain", ":id", "/pats/:pat/rotate", "/pats/:id/rotate", "/pats/:pat/scopes", "/pats/:id/scopes", ":limited", ":id")
	for _, a := range freshActs() {
		delete(asked, forRoute.Replace(a.route))
	}
	assert.Empty(t, asked, "each act has a case")

	for _, a := range freshActs() {
		t.Run(a.route+" "+a.name, func(t *testing.T) {
			w := newWorld(t, testenv.SQLite(t), nil)
			pat := w.pat("ann", "ci", "acme:models:*:read")
			limited := w.pat("ann", "limited", "acme:models:*:read")
			w.as("ann").send("PATCH", "/api/v1/pats/"+limited.ID, api.PATPatch{AllowedIPs: &[]string{"203.0.113.7"}}).is(200)
			fill := strings.NewReplacer(":limited", limited.ID, ":domain", "acme", ":id", w.users["ann"].ID, ":user", w.users["ann"].ID, ":pat", pat.ID, ":scope", pat.Scopes[0].ID)
			method, target, _ := strings.Cut(fill.Replace(a.route), " ")
			limit := time.Hour
			if a.who == "ann" {
				limit = 10 * time.Minute
			}
			if a.form != nil {
				w.asPerson(t, a, target, fill, limit)
				return
			}
			var body any
			if a.body != "" {
				body = a.body
			}
			w.session(a.who)
			w.clock.Advance(limit + time.Second)
			before := w.audited()
			w.as(a.who).send(method, target, body).problem(403, models.CodeReauthentication)
			if a.who != "ann" || strings.Contains(a.route, "/me/") || strings.Contains(a.route, ":limited") { // what she does with her own tokens is not noted
				before++
			}
			assert.Equal(t, before, w.audited(), "nothing was done, and the attempt is known")
			w.freshen(a.who)
			w.clock.Advance(limit) // and not a second longer
			w.as(a.who).send(method, target, body).is(a.fresh)
		})
	}
}

// asPerson does an act on its page.
func (w *world) asPerson(t *testing.T, a act, target string, fill *strings.Replacer, limit time.Duration) {
	t.Helper()
	form, all := url.Values{}, url.Values{}
	for name, values := range a.form {
		for _, v := range values {
			form.Add(name, fill.Replace(v))
			all.Add(name, fill.Replace(v))
		}
	}
	maps.Copy(all, a.secret)
	v := w.visit(a.who)
	w.clock.Advance(limit + time.Second)
	before := w.audited()
	page := v.post(target, all).is(403)
	assert.Equal(t, "Confirm that it is you", page.heading())
	assert.Equal(t, before+1, w.audited(), "nothing was done, and the attempt is known")
	kept := page.fields()
	for name, values := range form {
		assert.Equal(t, values, kept[name], "%s is kept", name)
	}
	for name, values := range a.secret {
		assert.Equal(t, []string{""}, kept[name], "%s is asked for again", name)
		assert.NotContains(t, page.text, values[0])
		kept[name] = values
	}

	kept.Set("confirm_password", "not the password")
	page = v.post(target, kept).is(403)
	assert.Contains(t, page.text, "Your password is not right")
	assert.Equal(t, before+2, w.audited(), "the wrong password; the attempt is known")

	kept = page.fields()
	maps.Copy(kept, a.secret)
	kept.Set("confirm_password", password)
	v.post(target, kept).is(a.fresh)
	w.clock.Advance(limit)
	if a.fresh == 303 && !strings.HasSuffix(target, "/end") { // the same again needs no password within the time
		assert.NotEqual(t, 403, v.post(target, all).status)
	}
}

// audited returns the number of events in the audit log.
func (w *world) audited() int {
	w.t.Helper()
	w.server.WaitForNotes()
	events, _, err := w.store.AuditEvents(w.t.Context(), store.AuditFilter{}, store.Page{Limit: manage.MaxPage})
	require.NoError(w.t, err)
	return len(events)
}

// fields returns the fields that the form of a page sends if nobody changes it.
func (s *shown) fields() url.Values {
	form := url.Values{}
	for _, n := range s.find(func(n *html.Node) bool { return n.Data == "input" && has(n, "name") }) {
		form.Add(attr(n, "name"), attr(n, "value"))
	}
	return form
}

// A change that takes power away needs no recent sign-in.
func TestNarrowingNeedsNoRecentSignIn(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("ann", "ci", "acme:models:*:read")
	for _, who := range []string{"root", "dom"} {
		w.session(who)
	}
	root := w.visit("root")
	w.clock.Advance(3 * time.Hour)
	ann, eve := w.users["ann"].ID, w.users["eve"].ID
	for _, c := range []struct{ who, method, target, body string }{
		{"root", "PATCH", "/api/v1/users/" + eve, `{"disabled":true}`},
		{"root", "PATCH", "/api/v1/users/" + ann, `{"admin":false,"policy":false,"name":"Ann"}`},
		{"root", "PATCH", "/api/v1/domains/acme", `{"status":"frozen"}`},
		{"root", "PATCH", "/api/v1/domains/beta", `{"name":"Beta"}`},
		{"root", "POST", "/api/v1/pats/" + pat.ID + "/revoke", `{"reason":"x"}`},
		{"root", "DELETE", "/api/v1/domains/acme/members/" + ann, ""},
	} {
		var body any
		if c.body != "" {
			body = c.body
		}
		a := w.as(c.who).send(c.method, c.target, body)
		assert.Less(t, a.status, 300, "%s %s: %s", c.method, c.target, a.body)
	}
	root.post("/admin/users/"+w.users["pol"].ID, url.Values{"name": {"pol"}, "admin": {"0"}, "policy": {"0"}, "disabled": {"1"}}).is(303)
	root.post("/admin/domains/beta", url.Values{"name": {"Beta"}, "status": {"frozen"}}).is(303)
	root.post("/admin/domains/beta", url.Values{"name": {"Beta again"}, "status": {"frozen"}}).is(303)
	root.post("/admin/domains/beta", url.Values{"name": {"Beta"}, "status": {"enabled"}}).is(403)
}
