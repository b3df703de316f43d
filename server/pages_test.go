package server_test

import (
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/cookiejar"
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
)

// visitor is somebody at a browser without JavaScript: cookies, links and forms.
type visitor struct {
	w      *world
	client *http.Client
	// header is sent along.
	header http.Header
}

// visit opens a browser; name is signed in on the sign-in page, unless it is "".
func (w *world) visit(name string) *visitor {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(w.t, err)
	v := &visitor{w: w, header: http.Header{}, client: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}}
	if name != "" {
		v.post("/login", url.Values{"email": {name + "@example.com"}, "password": {password}}).leadsTo("/profile/pats")
	}
	return v
}

// shown is a page as it was shown.
type shown struct {
	t      *testing.T
	status int
	header http.Header
	text   string
	doc    *html.Node
	url    string
}

func (v *visitor) get(target string) *shown { return v.send(http.MethodGet, target, nil) }

func (v *visitor) post(target string, form url.Values) *shown {
	return v.send(http.MethodPost, target, form)
}

func (v *visitor) send(method, target string, form url.Values) *shown {
	v.w.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(v.w.t.Context(), method, v.w.http.URL+target, body)
	require.NoError(v.w.t, err)
	req.Header = v.header.Clone()
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := v.client.Do(req)
	require.NoError(v.w.t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(v.w.t, err)
	doc, err := html.Parse(strings.NewReader(string(text)))
	require.NoError(v.w.t, err)
	return &shown{t: v.w.t, status: resp.StatusCode, header: resp.Header, text: string(text), doc: doc, url: target}
}

func (s *shown) is(status int) *shown {
	s.t.Helper()
	require.Equal(s.t, status, s.status, "%s: %s", s.url, s.text)
	return s
}

// leadsTo checks a redirection after a form.
func (s *shown) leadsTo(path string) {
	s.t.Helper()
	s.is(http.StatusSeeOther)
	require.Equal(s.t, path, s.header.Get("Location"))
}

// shows follows to the page that shows what a form made, once.
func (s *shown) shows(v *visitor) *shown {
	s.t.Helper()
	s.is(http.StatusSeeOther)
	return v.get(s.header.Get("Location")).is(http.StatusOK)
}

// find returns the elements for which want is true.
func (s *shown) find(want func(*html.Node) bool) []*html.Node {
	var out []*html.Node
	for n := range s.doc.Descendants() {
		if n.Type == html.ElementNode && want(n) {
			out = append(out, n)
		}
	}
	return out
}

func (s *shown) named(name string) []*html.Node {
	return s.find(func(n *html.Node) bool { return attr(n, "name") == name })
}

func (s *shown) byID(id string) *html.Node {
	for _, n := range s.find(func(n *html.Node) bool { return attr(n, "id") == id }) {
		return n
	}
	return nil
}

// value returns the value that a control would send.
func (s *shown) value(name string) string {
	s.t.Helper()
	controls := s.named(name)
	require.NotEmpty(s.t, controls, "%s has no %s", s.url, name)
	for _, n := range controls {
		switch {
		case n.Data == "textarea":
			return inside(n)
		case n.Data == "select":
			chosen := ""
			for i, o := range slices.Collect(options(n)) {
				if i == 0 || has(o, "selected") {
					chosen = attr(o, "value")
				}
			}
			return chosen
		case attr(n, "type") == "radio" && !has(n, "checked"):
			continue
		case n.Data == "input":
			return attr(n, "value")
		}
	}
	return ""
}

// options are the choices of a list.
func options(list *html.Node) iter.Seq[*html.Node] {
	return func(yield func(*html.Node) bool) {
		for n := range list.Descendants() {
			if n.Data == "option" && !yield(n) {
				return
			}
		}
	}
}

// heading is the page's h1.
func (s *shown) heading() string {
	for _, n := range s.find(func(n *html.Node) bool { return n.Data == "h1" }) {
		return inside(n)
	}
	return ""
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, key string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == key })
}

func inside(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// newToken is a filled-in create form.
func newToken(name string) url.Values {
	return url.Values{
		"name": {name}, "expires_in": {"30d"}, "description": {""}, "action": {"create"}, "key": {"key-of-" + name},
		"scopes[0].domain": {"acme"}, "scopes[0].entity_type": {"models"}, "scopes[0].pick": {"*"}, "scopes[0].operation": {"models/read"},
	}
}

func TestATokensLifeOnPages(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		ann := w.visit("ann")
		assert.Contains(t, ann.get("/profile/pats").is(200).text, "You have no tokens yet")

		// A preset, a name, Create.
		form := ann.get("/profile/pats/new?preset=inference").is(200)
		assert.Equal(t, "acme", form.value("scopes[0].domain"))
		assert.Equal(t, "models/read", form.value("scopes[0].operation"))
		assert.Equal(t, "models/execute", form.value("scopes[1].operation"))
		assert.Equal(t, "30d", form.value("expires_in"))
		in := newToken("ci")
		in.Set("key", form.value("key"))
		made := ann.post("/profile/pats/new", in).shows(ann)
		assert.Equal(t, "Your token", made.heading())
		assert.Equal(t, "no-store", made.header.Get("Cache-Control"))
		assert.Empty(t, made.header.Get("Content-Encoding"))
		token := attr(made.byID("token"), "value")
		_, err := models.ParseToken(token)
		require.NoError(t, err)
		assert.Equal(t, 1, strings.Count(made.text, token), "the token is there once, and in no snippet")
		assert.True(t, w.allowed(token, "models", "llama3", "read"))
		id := strings.Split(token, "_")[1]

		// The page again, and the form again: no second token, and this one is not told again.
		page := "/profile/pats/" + id
		ann.get(page + "/token").leadsTo(page)
		assert.Contains(t, ann.get(page).is(200).text, "The token itself is shown once, right after it was made.")
		ann.post("/profile/pats/new", in).leadsTo(page + "/token")
		ann.get(page + "/token").leadsTo(page)
		list := ann.get("/profile/pats").is(200)
		assert.Len(t, list.find(func(n *html.Node) bool { return attr(n, "class") == "name" }), 1)
		assert.NotContains(t, list.text, token)

		assert.NotContains(t, ann.get(page).is(200).text, token)

		ann.post(page+"/edit", url.Values{"name": {"ci main"}, "description": {"two\r\nlines"}}).leadsTo(page)
		view := ann.get(page).is(200)
		assert.Contains(t, view.heading(), "ci main")
		assert.Contains(t, view.text, "The changes are saved.")
		assert.Contains(t, view.text, "two\nlines")
		assert.NotContains(t, ann.get(page).text, "The changes are saved.", "said once")

		ann.post(page+"/scopes", url.Values{
			"scopes[0].domain": {"acme"}, "scopes[0].entity_type": {"datasets"}, "scopes[0].pick": {":typed"},
			"scopes[0].entity": {"golden"}, "scopes[0].operation": {"datasets/write"},
		}).leadsTo(page)
		assert.True(t, w.allowed(token, "datasets", "golden", "write"))
		pat, err := w.store.PAT(t.Context(), id)
		require.NoError(t, err)
		require.Len(t, pat.Scopes, 2)
		ann.get(page + "/scopes/" + pat.Scopes[1].ID + "/remove").is(200)
		ann.post(page+"/scopes/"+pat.Scopes[1].ID+"/remove", url.Values{}).leadsTo(page)
		assert.False(t, w.allowed(token, "datasets", "golden", "write"))

		rotated := ann.post(page+"/rotate", url.Values{"expires_in": {"7d"}, "grace": {"1h"}, "key": {"r1"}}).shows(ann)
		assert.Equal(t, "Your new token", rotated.heading())
		next := attr(rotated.byID("token"), "value")
		assert.True(t, w.allowed(token, "models", "llama3", "read"), "within the grace")
		assert.True(t, w.allowed(next, "models", "llama3", "read"))
		nextPage := "/profile/pats/" + strings.Split(next, "_")[1]
		assert.Contains(t, ann.get(nextPage).is(200).text, "Rotations")

		ann.get(nextPage + "/revoke").is(200)
		ann.post(nextPage+"/revoke", url.Values{}).leadsTo(nextPage)
		assert.False(t, w.allowed(next, "models", "llama3", "read"))
		assert.False(t, w.allowed(token, "models", "llama3", "read"), "revoking ends the grace")
		ann.post(nextPage+"/delete", url.Values{}).leadsTo("/profile/pats")
		ann.get(nextPage).is(404)
	})
}

// allowed asks for a decision in acme.
func (w *world) allowed(token, entityType, entity, operation string) bool {
	w.t.Helper()
	var d api.Decision
	w.as("").post("/authorize", api.AuthorizeRequest{
		Token: &token, Domain: "acme", EntityType: entityType, Entity: entity, Operation: operation,
	}).is(200).into(&d)
	return d.Allowed
}

func TestARefusedFormKeepsWhatWasTyped(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	ann := w.visit("ann")
	in := newToken("")
	in.Set("description", "what for")
	in.Set("expires_in", "custom")
	in.Set("scopes[1].domain", "acme")
	in.Set("scopes[1].entity_type", "models")
	in.Set("scopes[1].pick", ":typed")
	in.Set("scopes[1].entity", "llama3:8b")
	p := ann.post("/profile/pats/new", in).is(422)
	assert.Equal(t, "what for", p.value("description"))
	assert.Equal(t, "custom", p.value("expires_in"))
	assert.Equal(t, "llama3:8b", p.value("scopes[1].entity"))
	assert.Equal(t, ":typed", p.value("scopes[1].pick"))
	var said []string
	for _, n := range p.find(func(n *html.Node) bool { return n.Data == "a" && strings.HasPrefix(attr(n, "href"), "#f-") }) {
		said = append(said, inside(n))
		assert.NotNil(t, p.byID(strings.TrimPrefix(attr(n, "href"), "#")), "%s leads nowhere", attr(n, "href"))
	}
	assert.Equal(t, []string{
		"Name is required.", "Duration needs a date: choose one, or another duration.", "Scope 2, operation is not chosen yet.",
	}, said)
	invalid := p.find(func(n *html.Node) bool { return attr(n, "aria-invalid") == "true" })
	require.Len(t, invalid, 3)
	for _, n := range invalid {
		for id := range strings.FieldsSeq(attr(n, "aria-describedby")) {
			assert.NotNil(t, p.byID(id), "%s is described by nothing", attr(n, "name"))
		}
	}

	// Errors that only the core finds come back in the same way.
	ann.post("/profile/pats/new", newToken("taken")).shows(ann)
	in = newToken("taken")
	in.Set("key", "another")
	assert.Contains(t, ann.post("/profile/pats/new", in).is(409).text, "There is a live token named &#34;taken&#34; already.")
}

func TestScopeRowsWithoutAScript(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	ann := w.visit("ann")
	in := newToken("ci")
	in.Set("action", "add-scope")
	p := ann.post("/profile/pats/new", in).is(200)
	assert.Equal(t, "ci", p.value("name"))
	assert.Equal(t, "acme", p.value("scopes[1].domain"), "the only domain is chosen")
	in.Set("action", "preset-full")
	p = ann.post("/profile/pats/new", in).is(200)
	assert.NotEmpty(t, p.named("scopes[4].operation"), "a member has five operations")
	assert.Empty(t, p.named("scopes[5].operation"))
	assert.Contains(t, p.text, "It can change and delete anything of a kind")
	in.Set("action", "remove-scope-0")
	p = ann.post("/profile/pats/new", in).is(200)
	assert.Empty(t, p.value("scopes[0].operation"), "one row is always there")

	// A choice that contradicts the one before it is not guessed at.
	in = newToken("ci")
	in.Set("scopes[0].operation", "datasets/write")
	assert.Contains(t, ann.post("/profile/pats/new", in).is(422).text, "belongs to another entity type")
	// Nor is one that the role does not hold.
	in.Set("scopes[0].operation", "models/write")
	assert.Contains(t, ann.post("/profile/pats/new", in).is(422).text, "is not one that your role in this domain holds")
}

func TestAnOldSignInIsAskedForThePassword(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	ann := w.visit("ann")
	assert.Empty(t, ann.get("/profile/pats/new").named("password"))
	w.clock.Advance(11 * time.Minute)
	assert.NotEmpty(t, ann.get("/profile/pats/new").named("password"))
	in := newToken("ci")
	assert.Contains(t, ann.post("/profile/pats/new", in).is(422).text, "Password is needed")
	in.Set("password", "wrong wrong wrong")
	p := ann.post("/profile/pats/new", in).is(422)
	assert.Contains(t, p.text, "Password is not right.")
	assert.Equal(t, "ci", p.value("name"))
	assert.NotContains(t, p.text, "wrong wrong wrong")
	in.Set("password", password)
	ann.post("/profile/pats/new", in).shows(ann)
	assert.Empty(t, ann.get("/profile/pats/new").named("password"))
}

func TestAnEndedSessionKeepsWhatWasTyped(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	ann := w.visit("ann")
	w.clock.Advance(13 * time.Hour)
	in := newToken("ci")
	in.Set("description", "a & b")
	p := ann.post("/profile/pats/new", in).is(401)
	assert.Equal(t, "Sign in", p.heading())
	next := p.value("next")
	require.Contains(t, next, "/profile/pats/new?")
	ann.post("/login", url.Values{"email": {"ann@example.com"}, "password": {password}, "next": {next}}).leadsTo(next)
	p = ann.get(next).is(200)
	assert.Equal(t, "ci", p.value("name"))
	assert.Equal(t, "a & b", p.value("description"))
	assert.Equal(t, "models/read", p.value("scopes[0].operation"))
	tokens, _, err := w.store.PATs(t.Context(), store.PATFilter{UserID: w.users["ann"].ID}, store.Page{})
	require.NoError(t, err)
	assert.Empty(t, tokens, "nothing is submitted by a sign-in")
}

func TestTheSignInLeadsNowhereElse(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	for _, next := range []string{"https://evil.example/", "//evil.example", `/\evil.example`, "/\t/evil.example", "javascript:alert(1)", "evil"} {
		v := w.visit("")
		v.post("/login", url.Values{"email": {"ann@example.com"}, "password": {password}, "next": {next}}).leadsTo("/profile/pats")
	}
	v := w.visit("")
	v.get("/profile/pats/new?preset=read").leadsTo("/login?next=%2Fprofile%2Fpats%2Fnew%3Fpreset%3Dread")
	assert.Contains(t, v.post("/login", url.Values{"email": {"ann@example.com"}, "password": {"nope"}}).is(401).text, "do not match")
	v.post("/login", url.Values{}).is(422)
}

// Who may open a page, and that a page of another site can make nobody send a
// form.
// filled is a form with a value in each field that a route reads.
func filled(r server.Route) url.Values {
	form := url.Values{}
	for _, name := range append(slices.Clone(r.Form), r.Lists...) {
		form.Set(name, "x")
	}
	return form
}

func TestWhoMayOpenEveryPage(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("ann", "of ann alone", "acme:models:*:read", "acme:datasets:*:read")
	eve, ann, dom := w.visit("eve"), w.visit("ann"), w.visit("dom")
	root, pol := w.visit("root"), w.visit("pol")
	foreign := w.visit("ann")
	foreign.header.Set("Sec-Fetch-Site", "cross-site")
	foreign.header.Set("Origin", "https://evil.example")
	n := 0
	for _, r := range server.Routes() {
		if !r.Page {
			continue
		}
		n++
		t.Run(r.Method+" "+r.Path, func(t *testing.T) {
			id := pat.ID
			if strings.HasPrefix(r.Path, "/admin/domains") {
				id = "acme"
			}
			target := strings.NewReplacer(":id", id, ":pat", pat.ID, ":user", w.users["ann"].ID, ":scope", pat.Scopes[0].ID, ":name", "x").Replace(r.Path)
			if r.Method == http.MethodPost {
				foreign.post(target, url.Values{}).is(403)
			}
			if r.By == "anyone" {
				return
			}
			nobody := w.visit("").send(r.Method, target, map[string]url.Values{"GET": nil, "POST": {}}[r.Method])
			if r.Method == http.MethodGet {
				require.Equal(t, 303, nobody.status)
				assert.True(t, strings.HasPrefix(nobody.header.Get("Location"), "/login"))
			} else {
				nobody.is(401)
				assert.Equal(t, "Sign in", nobody.heading())
			}
			if strings.Contains(r.Path, ":id") && strings.HasPrefix(r.By, "owner") {
				for _, other := range []*visitor{eve, root} {
					p := other.send(r.Method, target, map[string]url.Values{"GET": nil, "POST": filled(r)}[r.Method]).is(404)
					assert.NotContains(t, p.text, pat.Name)
				}
			}
			if r.By == "domainAdmin" {
				send := func(v *visitor) *shown {
					return v.send(r.Method, target, map[string]url.Values{"GET": nil, "POST": {}}[r.Method])
				}
				send(eve).is(404)
				send(ann).is(403)
				assert.Contains(t, []int{200, 303, 409, 422}, send(dom).status, "let in, whatever the form is worth")
				w.member("ann", "acme", "member") // one of the forms takes her out
			}
			if r.By == "platformAdmin" || r.By == "policyTeam" {
				eve.send(r.Method, target, map[string]url.Values{"GET": nil, "POST": {}}[r.Method]).is(403)
			}
			if r.By == "policyTeam" {
				for _, who := range []*visitor{pol, root} {
					let := who.send(r.Method, target, map[string]url.Values{"GET": nil, "POST": {}}[r.Method])
					assert.NotContains(t, []int{401, 403, 500}, let.status, "%s", let.text)
				}
			}
			bearer := w.visit("")
			bearer.header.Set("Authorization", "Bearer "+pat.Token)
			bearer.send(r.Method, target, map[string]url.Values{"GET": nil, "POST": {}}[r.Method]).is(403)
		})
	}
	assert.Greater(t, n, 25)
	still, err := w.store.PAT(t.Context(), pat.ID)
	require.NoError(t, err)
	assert.Equal(t, models.StatusActive, still.Status(w.clock.Now()))
	eve.get("/profile/pats/new?from=" + pat.ID).is(404)
}

// Text that would be code if it were not escaped, in every place where somebody
// can store it.
var nasty = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `javascript:alert(1)`,
	`</script><svg onload=alert(1)>`, `{{.Secret}}`, `</textarea><b>`, "\u2028alert(1)", `&lt;b&gt;`,
}

// isOnlyText checks that a page has no code but the server's, whatever text it has.
func (s *shown) isOnlyText(text string) {
	s.t.Helper()
	for _, n := range s.find(func(*html.Node) bool { return true }) {
		if n.Data == "script" {
			assert.True(s.t, strings.HasPrefix(attr(n, "src"), "/assets/") || attr(n, "type") == "application/json", "%s: a script", s.url)
		}
		assert.NotContains(s.t, []string{"img", "b"}, n.Data, "%s: %s", s.url, text)
		for _, a := range n.Attr {
			assert.False(s.t, strings.HasPrefix(a.Key, "on"), "%s: %s", s.url, a.Key)
			assert.False(s.t, a.Key == "href" && strings.HasPrefix(a.Val, "javascript:"), s.url)
			assert.NotEqual(s.t, "style", a.Key, s.url)
		}
	}
}

func TestStoredTextIsOnlyText(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	ann, root := w.visit("ann"), w.visit("root")
	for i, text := range nasty {
		name := text
		if strings.ContainsRune(text, '\u2028') { // no name can have it
			name = "x"
		}
		pat, err := w.store.CreatePAT(t.Context(), by, models.PAT{
			ID: fmt.Sprintf("nasty%011d", i), UserID: w.users["ann"].ID, Name: name, Description: text, KeyID: "k1", MAC: []byte("x"),
			ExpiresAt: w.clock.Now().Add(time.Hour), Scopes: []models.Scope{{Domain: "acme", EntityType: "models", Entity: text, Operation: "read"}},
		})
		require.NoError(t, err)
		require.NoError(t, w.store.RecordUses(t.Context(), []store.Use{{TokenID: pat.ID, At: w.clock.Now(), IP: text, UserAgent: text}}))
		_, err = w.store.UpdateUser(t.Context(), by, w.users["ann"].ID, store.UserPatch{Name: &text})
		require.NoError(t, err)
		_, err = w.store.UpdateDomain(t.Context(), by, "acme", store.DomainPatch{Name: &text})
		require.NoError(t, err)
		link := "/profile/pats/" + pat.ID
		for _, page := range []string{
			"/profile/pats", "/profile/pats?name=" + url.QueryEscape(text), "/profile/pats/new?name=" + url.QueryEscape(text) + "&description=" + url.QueryEscape(text),
			"/profile/pats/new?from=" + pat.ID, link, link + "/edit", link + "/rotate", link + "/revoke", link + "/scopes",
			link + "/scopes/" + pat.Scopes[0].ID + "/remove", "/help", "/help/test", "/profile/sessions",
			"/admin/pats?name=" + url.QueryEscape(text), "/admin/pats/" + pat.ID, "/admin/pats/revoke?all=true", "/admin/users", "/admin/users/" + w.users["ann"].ID,
			"/admin/domains", "/admin/domains/acme", "/admin/domains/acme/members/" + w.users["ann"].ID + "/remove", "/admin/audit", "/admin/audit?action=" + url.QueryEscape(text),
			"/admin/domains/acme/pats", "/admin/domains/acme/pats?name=" + url.QueryEscape(text) + "&owner=" + url.QueryEscape(text), "/admin/domains/acme/pats/" + pat.ID,
		} {
			who := ann
			if strings.HasPrefix(page, "/admin/") {
				who = root
			}
			p := who.get(page).is(200)
			p.isOnlyText(text)
			assert.Regexp(t, `^default-src 'none'; style-src 'self'; script-src( 'sha256-[0-9A-Za-z+/]{43}='){4}; img-src 'self' data:; `+
				`form-action 'self'; frame-ancestors 'none'; base-uri 'none'$`, p.header.Get("Content-Security-Policy"))
			assert.Equal(t, "same-origin", p.header.Get("Cross-Origin-Opener-Policy"))
			assert.Equal(t, "no-store", p.header.Get("Cache-Control"))
		}
		if i%2 == 0 {
			_, err = w.store.RevokeWithin(t.Context(), by, "acme", pat.ID, text)
		} else {
			_, err = w.store.RevokeFor(t.Context(), by, "", pat.ID, text)
		}
		require.NoError(t, err)
		for _, p := range []*shown{ann.get(link), ann.get("/profile/pats"), root.get("/admin/pats/" + pat.ID), root.get("/admin/domains/acme/pats/" + pat.ID), root.get("/admin/audit")} {
			assert.Contains(t, p.is(200).text, html.EscapeString(text))
			p.isOnlyText(text)
		}
	}
}

func TestAccountPages(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	ann, elsewhere := w.visit("ann"), w.visit("ann")

	p := ann.get("/profile/sessions").is(200)
	require.Len(t, p.named("id"), 2, "one other, and all others")
	assert.Contains(t, p.text, "Go-http-client")
	assert.Contains(t, p.text, "127.0.0.1")
	// Another user's session cannot be ended.
	w.visit("eve").post("/profile/sessions/end", url.Values{"id": {p.value("id")}}).leadsTo("/profile/sessions")
	elsewhere.get("/profile/pats").is(200)
	ann.post("/profile/sessions/end", url.Values{"id": {p.value("id")}}).leadsTo("/profile/sessions")
	elsewhere.get("/profile/pats").leadsTo("/login")

	elsewhere = w.visit("ann")
	assert.Contains(t, ann.post("/profile/password", url.Values{"current": {password}, "password": {"short"}, "repeat": {"short"}}).is(422).text,
		"Password must have at least 12 characters.")
	assert.Contains(t, ann.post("/profile/password", url.Values{"current": {"x"}, "password": {"a new long password"}, "repeat": {"a new long password"}}).is(401).text,
		"Current password is not right.")
	assert.Contains(t, ann.post("/profile/password", url.Values{"current": {password}, "password": {"a new long password"}, "repeat": {"another"}}).is(422).text,
		"Repeated password is not the same")
	ann.post("/profile/password", url.Values{"current": {password}, "password": {"a new long password"}, "repeat": {"a new long password"}}).leadsTo("/profile/pats")
	assert.Contains(t, ann.get("/profile/pats").is(200).text, "Your password is changed.")
	ann.get("/profile/pats").is(200)
	elsewhere.get("/profile/pats").leadsTo("/login")
	w.visit("").post("/login", url.Values{"email": {"ann@example.com"}, "password": {password}}).is(401)

	ann.post("/logout", url.Values{}).leadsTo("/login")
	ann.get("/profile/pats").leadsTo("/login")
}

func TestAnUnknownAddressIsAPageForPeople(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	v := w.visit("")
	v.header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	assert.Equal(t, "There is nothing here", v.get("/nothing").is(404).heading())
	assert.Equal(t, "application/problem+json", v.get("/api/v1/nothing").is(404).header.Get("Content-Type"))
	assert.Equal(t, "application/problem+json", w.visit("").get("/nothing").is(404).header.Get("Content-Type"))
	v.get("/").leadsTo("/profile/pats")
	w.visit("ann").get("/login").leadsTo("/profile/pats")
}

func TestTestingAToken(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("ann", "ci", "acme:models:*:read")
	ann := w.visit("ann")
	ask := url.Values{"token": {pat.Token}, "domain": {"acme"}, "entity_type": {"models"}, "entity": {"llama3"}, "operation": {"read"}}
	p := ann.post("/help/test", ask).is(200)
	assert.Contains(t, inside(p.byID("decision-title")), "Allowed")
	assert.NotContains(t, p.text, pat.Token)
	ask.Set("operation", "execute")
	p = ann.post("/help/test", ask).is(200)
	assert.Contains(t, inside(p.byID("decision-title")), "Denied, status 403")
	assert.Contains(t, p.text, "out_of_scope")
	ann.post("/help/test", url.Values{}).is(422)
}

func TestTheListIsLight(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	for i := range 100 {
		w.pat("ann", fmt.Sprintf("token number %d of many", i), "acme:models:*:read", "acme:models:*:execute", fmt.Sprintf("acme:datasets:set-%d:read", i))
	}
	ann := w.visit("ann")
	ann.header.Set("Accept-Encoding", "gzip")
	p := ann.get("/profile/pats").is(200)
	assert.Equal(t, "gzip", p.header.Get("Content-Encoding"))
	assert.Less(t, len(p.text), 60<<10)
	ann.header.Del("Accept-Encoding")
	p = ann.get("/profile/pats?sort=expires").is(200)
	assert.Len(t, p.find(func(n *html.Node) bool { return attr(n, "class") == "name" }), 100)
	assert.Len(t, ann.get("/profile/pats?name=number+99").find(func(n *html.Node) bool { return attr(n, "class") == "name" }), 1)
	assert.Contains(t, ann.get("/profile/pats?status=revoked").is(200).text, "No token matches")
}
