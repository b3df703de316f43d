package server_test

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/server"
)

// frames are requests around which something is wrong: more than the route
// declares, or less. Each is what somebody wrote who meant something by it, so that
// none may do anything.
type frame struct {
	name  string
	field string // that the answer names
	query func(server.Route) string
	body  func(server.Route) (io.Reader, string) // and its content type
	only  func(server.Route) bool
}

func declared(r server.Route, name string) bool {
	return slices.Contains(r.Query, name) || slices.Contains(r.Lists, name)
}

var frames = []frame{
	{name: "an unknown parameter", field: "nonsense", query: func(server.Route) string { return "nonsense=1" }},
	{
		name: "a misspelt filter", field: "stauts", query: func(server.Route) string { return "stauts=expired" },
	},
	{
		name: "a filter of another list", field: "name", query: func(server.Route) string { return "name=nope" },
		only: func(r server.Route) bool { return !declared(r, "name") },
	},
	{
		name: "ids in the address", field: "ids", query: func(server.Route) string { return "ids=a&ids=b" },
	},
	{
		name: "a parameter in other letters", field: "Limit", query: func(server.Route) string { return "Limit=1" },
	},
	{
		name: "a parameter that is given twice", field: "*", query: func(r server.Route) string { return r.Query[0] + "=1&" + r.Query[0] + "=2" },
		only: func(r server.Route) bool { return len(r.Query) > 0 },
	},
	{
		name: "a parameter without a value", field: "*", query: func(r server.Route) string { return r.Query[0] + "=" },
		only: func(r server.Route) bool { return len(r.Query) > 0 && !r.Page },
	},
	{
		name: "a parameter of blanks", field: "*", query: func(r server.Route) string { return r.Query[0] + "=%20%09" },
		only: func(r server.Route) bool { return len(r.Query) > 0 && !r.Page },
	},
	{name: "an escape that is none", query: func(server.Route) string { return "limit=%zz" }},
	{name: "a semicolon between parameters", query: func(server.Route) string { return "a=1;b=2" }},
	{
		name: "a body", field: "body",
		body: func(server.Route) (io.Reader, string) { return strings.NewReader(`{"ids":["a"]}`), "application/json" },
		only: func(r server.Route) bool { return r.Body == "none" && !takesForm(r) },
	},
	{
		name: "a body of unknown length", field: "body",
		body: func(server.Route) (io.Reader, string) {
			return struct{ io.Reader }{strings.NewReader(`{"ids":["a"]}`)}, "application/json"
		},
		only: func(r server.Route) bool { return r.Body == "none" && !takesForm(r) },
	},
	{
		name: "an unknown member", field: "nonsense",
		body: func(server.Route) (io.Reader, string) { return strings.NewReader(`{"nonsense":1}`), "application/json" },
		only: func(r server.Route) bool { return r.Body != "none" },
	},
	{
		name: "no body",
		body: func(server.Route) (io.Reader, string) { return nil, "" },
		only: func(r server.Route) bool { return r.Body == "object" },
	},
	{
		name: "an unknown field of a form",
		body: func(r server.Route) (io.Reader, string) {
			form := filled(r)
			form.Set("nonsense", "1")
			return strings.NewReader(form.Encode()), "application/x-www-form-urlencoded"
		},
		only: takesForm,
	},
	{
		name: "a field of a form that is given twice",
		body: func(r server.Route) (io.Reader, string) {
			return strings.NewReader(url.Values{r.Form[0]: {"1", "2"}}.Encode()), "application/x-www-form-urlencoded"
		},
		only: func(r server.Route) bool { return takesForm(r) && len(r.Form) > 0 },
	},
}

func takesForm(r server.Route) bool {
	return r.Method == http.MethodPost && (r.Page || len(r.Form) > 0)
}

// TestNothingUndeclaredIsIgnored walks the router: whatever a route does not read is
// refused, by name, and nothing is done.
func TestNothingUndeclaredIsIgnored(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("root", "kept", "acme:models:*:read")
	ann := w.pat("ann", "ann's", "acme:models:*:read")
	asks := w.pat("root", "asks", "*:decisions:*:evaluate") // before a body of AuthZEN is read
	target := strings.NewReplacer(":id", pat.ID, ":pat", ann.ID, ":user", w.users["ann"].ID, ":scope", pat.Scopes[0].ID, ":decision", "d", ":name", "x")
	before := w.everything()
	tried := 0
	for _, r := range server.Routes() {
		// What a logout token may come with is for its specification to say.
		if r.Mount || strings.HasPrefix(r.Path, "/setup") || r.Path == logoutPath {
			continue
		}
		path := target.Replace(r.Path)
		if strings.Contains(r.Path, "domains/:id") {
			path = strings.Replace(r.Path, ":id", "acme", 1)
			path = target.Replace(path)
		}
		for _, f := range frames {
			if f.only != nil && !f.only(r) || r.Open && f.query != nil && f.field != "" {
				continue
			}
			tried++
			address := w.http.URL + path
			if f.query != nil {
				address += "?" + f.query(r)
			}
			var body io.Reader
			kind := ""
			if f.body != nil {
				body, kind = f.body(r)
			}
			req, err := http.NewRequestWithContext(t.Context(), r.Method, address, body)
			require.NoError(t, err)
			if kind != "" {
				req.Header.Set("Content-Type", kind)
			}
			req.Header.Set("Authorization", "Bearer "+w.session("root"))
			if r.By == "patItself" {
				req.Header.Set("Authorization", "Bearer "+pat.Token)
			}
			if strings.HasPrefix(r.Path, "/access/v1/") {
				req.Header.Set("Authorization", "Bearer "+asks.Token)
			}
			resp, err := http.DefaultTransport.RoundTrip(req)
			require.NoError(t, err)
			text, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			assert.Contains(t, []int{400, 415, 422}, resp.StatusCode, "%s %s with %s: %s", r.Method, address, f.name, text)
			field := f.field
			if field == "*" {
				field = r.Query[0]
			}
			// AuthZEN and OAuth have errors of their own: 400, and no fields.
			if field != "" && !r.Page && !strings.HasPrefix(r.Path, "/access/v1/") && !strings.HasPrefix(r.Path, "/oauth/") {
				assert.Equal(t, 422, resp.StatusCode, "%s %s with %s", r.Method, address, f.name)
				assert.Contains(t, string(text), `"field":"`+field+`"`, "%s %s with %s", r.Method, address, f.name)
			}
		}
	}
	assert.Greater(t, tried, 500)
	assert.Equal(t, before, w.everything(), "none of it did anything")
	w.ask(pat.Token, "acme:models:m:read")
}

// everything counts the events in the audit log, but for sign-ins.
func (w *world) everything() (actions []string) {
	w.t.Helper()
	page := store.Page{Limit: 200}
	for {
		events, next, err := w.store.AuditEvents(w.t.Context(), store.AuditFilter{}, page)
		require.NoError(w.t, err)
		for _, e := range events {
			if e.Action != "session.create" {
				actions = append(actions, e.Action+" "+e.Subject)
			}
		}
		if next == "" {
			return actions
		}
		page.After = next
	}
}

func TestAnEmptyPartOfAPathIsNoName(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("ann", "kept", "acme:models:*:read", "acme:datasets:*:read")
	before := w.everything()
	for _, r := range server.Routes() {
		if r.Mount || r.Page || !strings.Contains(r.Path, "/:") {
			continue
		}
		for _, nothing := range []string{"", "%20", "%09"} {
			path := r.Path
			for _, p := range []string{":id", ":pat", ":user", ":scope", ":decision", ":name"} {
				path = strings.Replace(path, p, nothing, 1)
			}
			a := w.as("root").send(r.Method, path, nil)
			assert.Contains(t, []int{404, 422}, a.status, "%s %s: %s", r.Method, path, a.body)
		}
	}
	p := w.as("ann").post("/api/v1/pats//revoke", nil).problem(422, models.CodeInvalid)
	assert.Equal(t, "id", p.Errors[0].Field)
	p = w.as("ann").send("POST", "/api/v1/pats/%20/revoke", nil).problem(422, models.CodeInvalid)
	assert.Equal(t, "id", p.Errors[0].Field)
	assert.Equal(t, before, w.everything())
	assert.True(t, w.ask(pat.Token, "acme:models:m:read").Allowed)
}

func TestAllIsOnlyMeantWhereItIsSaid(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("ann", "kept", "acme:models:*:read")
	ann, root := w.visit("ann"), w.visit("root")
	before := w.everything()
	for _, query := range []string{"", "?all", "?all=", "?all=false", "?all=1", "?all=TRUE", "?all=true&all=true", "?name=nope", "?status=expired", "?all=true&name=nope", "?ids=" + pat.ID} {
		a := w.as("ann").delete("/api/v1/pats" + query)
		a.problem(422, models.CodeInvalid)
	}
	for _, body := range []string{`{"ids":["` + pat.ID + `"]}`, `{}`, `["` + pat.ID + `"]`, " "} {
		p := w.as("ann").send("DELETE", "/api/v1/pats?all=true", body).problem(422, models.CodeInvalid)
		assert.Equal(t, "body", p.Errors[0].Field)
	}
	for _, form := range []url.Values{{}, {"all": {""}}, {"all": {"1"}}, {"id": {pat.ID}}, {"all": {"true"}, "id": {pat.ID}}, {"all": {"true", "true"}}} {
		ann.post("/profile/pats/revoke-all", form).is(422)
	}
	for _, form := range []url.Values{
		{"count": {"1"}, "typed": {"1"}, "reason": {"x"}},
		{"count": {"1"}, "typed": {"1"}, "reason": {"x"}, "owner": {""}},
		{"count": {"1"}, "typed": {"1"}, "reason": {"x"}, "owner": {" "}, "status": {"active "}},
		{"count": {"1"}, "typed": {"1"}, "reason": {"x"}, "status": {"living"}, "all": {"true"}},
		{"count": {"1"}, "typed": {"1"}, "reason": {"x"}, "user": {"eve@example.com"}, "all": {"true"}},
	} {
		root.post("/admin/pats/revoke", form).is(422)
	}
	for _, page := range []string{"/admin/pats/revoke", "/admin/pats/revoke?owner=", "/admin/pats/revoke?onwer=eve", "/admin/pats?status=nope", "/profile/pats?status=nope", "/admin/pats?unused=yes"} {
		root.get(page).is(422)
	}
	root.get("/admin/pats/revoke?all=true").is(200)
	for _, id := range []string{"", " "} {
		ann.post("/profile/sessions/end", url.Values{"id": {id}}).is(422)
	}
	assert.Equal(t, before, w.everything())
	assert.True(t, w.ask(pat.Token, "acme:models:m:read").Allowed)

	w.as("ann").delete("/api/v1/pats?all=true").is(204)
	assert.False(t, w.ask(pat.Token, "acme:models:m:read").Allowed)
	pat = w.pat("ann", "again", "acme:models:*:read")
	ann.get("/profile/pats/revoke-all").is(200).submits(ann).leadsTo("/profile/pats")
	assert.False(t, w.ask(pat.Token, "acme:models:m:read").Allowed)
}

// submits sends the form of a page that asks for confirmation as it is.
func (s *shown) submits(v *visitor) *shown {
	s.t.Helper()
	form, action := url.Values{}, ""
	for _, n := range s.find(func(*html.Node) bool { return true }) {
		switch {
		case n.Data == "form" && attr(n, "action") != "/logout":
			action = attr(n, "action")
		case n.Data == "input" && attr(n, "type") == "hidden":
			form.Add(attr(n, "name"), attr(n, "value"))
		}
	}
	return v.post(action, form)
}

func TestABoxThatIsNotInAFormChangesNothing(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	w.limit("30d", false, true)
	root := w.visit("root")
	user := "/admin/users/" + w.users["pol"].ID
	root.post(user, url.Values{"name": {"Pol"}}).is(422)
	root.post(user, url.Values{"name": {"Pol"}, "admin": {"0"}, "disabled": {"0"}}).is(422)
	root.post(user, url.Values{"admin": {"0"}, "policy": {"0"}, "disabled": {"0"}}).is(422)
	var pol api.User
	w.as("root").get("/api/v1/users/" + w.users["pol"].ID).is(200).into(&pol)
	assert.True(t, pol.Policy && pol.Name == "pol")
	for _, form := range []url.Values{{}, {"max_lifetime": {""}}, {"max_lifetime": {"30d"}, "approval": {"1"}}, {"approval": {"1"}, "no_wildcards": {"1"}}} {
		root.post("/admin/domains/acme/limits", form).is(422)
	}
	var limits api.DomainLimits
	w.as("root").get("/api/v1/domains/acme/limits").is(200).into(&limits)
	assert.True(t, limits.Approval && !limits.Wildcards && limits.MaxLifetime != nil)
}
