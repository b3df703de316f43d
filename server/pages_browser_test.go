package server_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"regexp"
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
	"patrol/server/gateway"
	"patrol/server/ui/uitest"
)

// reader is somebody at a real browser.
type reader struct {
	w   *world
	tab context.Context
}

// open opens a tab with a browser's whole power, or what o takes away.
func (w *world) open(browser context.Context, o uitest.Options) *reader {
	w.t.Helper()
	return &reader{w: w, tab: uitest.Tab(w.t, browser, o)}
}

func (r *reader) do(steps ...chromedp.Action[chromedp.Void]) {
	r.w.t.Helper()
	require.NoError(r.w.t, chromedp.Do(r.tab, steps...))
}

func (r *reader) goTo(path string) { r.w.t.Helper(); r.do(chromedp.Navigate(r.w.http.URL + path)) }

func (r *reader) click(selector string) {
	r.w.t.Helper()
	r.do(chromedp.Click(chromedp.CSS(selector)))
}

func (r *reader) fill(selector, text string) {
	r.w.t.Helper()
	r.script(`document.querySelector("` + selector + `").value = ""`)
	r.do(chromedp.SendKeys(chromedp.CSS(selector), text))
}

// sees waits for an element and returns its text.
func (r *reader) sees(selector string) string {
	r.w.t.Helper()
	text, err := chromedp.Run(r.tab, chromedp.Text(chromedp.CSS(selector)))
	require.NoError(r.w.t, err)
	return text
}

func (r *reader) value(selector string) string {
	r.w.t.Helper()
	text, err := chromedp.Run(r.tab, chromedp.Value(chromedp.CSS(selector)))
	require.NoError(r.w.t, err)
	return text
}

// waitsFor waits for a page with this h1.
func (r *reader) waitsFor(heading string) {
	r.w.t.Helper()
	require.Eventually(r.w.t, func() bool {
		text, err := chromedp.Run(r.tab, chromedp.Evaluate[string](`document.readyState === "complete" ? document.querySelector("h1")?.textContent.trim() ?? "" : ""`))
		return err == nil && strings.HasPrefix(text, heading)
	}, 20*time.Second, 20*time.Millisecond, "no page %q", heading)
}

func (r *reader) script(code string) string {
	r.w.t.Helper()
	text, err := chromedp.Run(r.tab, chromedp.Evaluate[string](code, chromedp.EvalAwaitPromise))
	require.NoError(r.w.t, err)
	return text
}

// signsIn signs ann in.
func (r *reader) signsIn() {
	r.w.t.Helper()
	r.goTo("/login")
	r.fill("#f-email", "ann@example.com")
	r.fill("#f-password", password)
	r.click("button.primary")
	r.waitsFor("Personal access tokens")
}

// behindGateway starts a world with the real gateway and an upstream that lists
// one model.
func behindGateway(t *testing.T, dbURL string) *world {
	t.Helper()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"data":[{"id":"llama3"}]}`)
	}))
	t.Cleanup(upstream.Close)
	return newWorld(t, dbURL, func(_ *server.Config, deps *server.Deps) {
		base, err := url.Parse(upstream.URL)
		require.NoError(t, err)
		cfg := gateway.DefaultConfig()
		cfg.Upstreams = map[string]gateway.Upstream{gateway.AnyDomain: {URL: base.String()}}
		deps.Gateway, err = gateway.New(cfg, deps.Authz, deps.Logger)
		require.NoError(t, err)
	})
}

// curl calls the gateway as the snippet on the page does, and returns the status.
func (w *world) curl(token string) string {
	w.t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		testenv.Missing(w.t, "curl", "no curl in PATH")
	}
	cmd := exec.CommandContext(w.t.Context(), path, "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--header", "@-", w.http.URL+"/proxy/acme/v1/models")
	cmd.Stdin = strings.NewReader("Authorization: Bearer " + token + "\n")
	out, err := cmd.Output()
	require.NoError(w.t, err)
	return string(out)
}

func TestTheMainStoryInABrowser(t *testing.T) {
	browser := uitest.Start(t)
	w := behindGateway(t, testenv.SQLite(t))
	ann := w.open(browser, uitest.Options{})
	ann.goTo("/")
	ann.waitsFor("Sign in")
	ann.fill("#f-email", "ann@example.com")
	ann.fill("#f-password", password)

	// From here to a copied token in five interactions.
	ann.click("button.primary") // 1
	ann.waitsFor("Personal access tokens")
	ann.click(`.cards a[href$="preset=inference"]`) // 2
	ann.waitsFor("Create a personal access token")
	assert.Contains(t, ann.sees("#meaning"), "use any model in acme")
	assert.Contains(t, ann.sees("#expiry"), "The token will expire on")
	ann.fill("#f-name", "ci")            // 3
	ann.click(".buttons button.primary") // 4
	ann.waitsFor("Your token")
	token := ann.value("#token")
	assert.Equal(t, "reveal-title", ann.script("document.activeElement.id"), "the heading has the focus")
	require.NoError(t, uitest.AllowClipboard(ann.tab, w.http.URL))
	ann.click("[data-copy-from]") // 5
	require.Eventually(t, func() bool { return ann.sees("#copied") != "" }, 5*time.Second, 20*time.Millisecond)
	assert.Equal(t, "Copied to the clipboard.", ann.sees("#copied"))
	assert.Equal(t, token, ann.script("navigator.clipboard.readText()"))

	assert.Equal(t, "200", w.curl(token))

	// Back never shows it again, not even from the browser's memory, and leads on to the record.
	ann.goTo("/profile/pats")
	ann.waitsFor("Personal access tokens")
	// The page may be gone before it can answer.
	_, _ = chromedp.Run(ann.tab, chromedp.Evaluate[string](`history.back(), ""`))
	ann.waitsFor("ci")
	assert.NotContains(t, ann.script("document.documentElement.outerHTML"), token)
	assert.Empty(t, ann.script(`document.querySelector("#token")?.value ?? ""`))

	// Rotate, through the row's menu.
	ann.goTo("/profile/pats")
	ann.click("details.menu summary")
	ann.click(`details.menu a[href$="/rotate"]`)
	ann.waitsFor("Rotate ci")
	ann.click(".buttons button.primary")
	ann.waitsFor("Your new token")
	next := ann.value("#token")
	assert.Equal(t, "401", w.curl(token), "the old one has ended")
	assert.Equal(t, "200", w.curl(next))
	ann.click("[data-saved]")
	ann.waitsFor("ci")

	// Revoke.
	ann.click(`.actions a[href$="/revoke"]`)
	ann.waitsFor("Revoke ci?")
	ann.click("form.form button.danger")
	ann.waitsFor("ci")
	assert.Contains(t, ann.sees(".notice"), "The token is revoked.")
	assert.Equal(t, "401", w.curl(next))
}

func TestCreateWithEachControl(t *testing.T) {
	browser := uitest.Start(t)
	w := newWorld(t, testenv.SQLite(t), nil)
	w.member("ann", "beta", "viewer")
	ann := w.open(browser, uitest.Options{Width: 360, Height: 780, Dark: true})
	ann.signsIn()
	ann.goTo("/profile/pats/new")
	ann.fill("#f-name", "made by hand")
	ann.click(`input[value="custom"]`)
	day := w.clock.Now().AddDate(0, 0, 10).Format(time.DateOnly)
	ann.do(chromedp.SetValue(chromedp.CSS("#expires-on"), day))
	ann.script(`document.querySelector("#expires-on").dispatchEvent(new Event("input", {bubbles: true})), ""`)
	assert.Contains(t, ann.sees("#expiry"), "The token will expire on")
	ann.fill("#f-description", "every control once")

	choose := func(field, value string) {
		t.Helper()
		ann.do(chromedp.SetValue(chromedp.CSS(field), value))
		ann.script(`document.querySelector("` + field + `").dispatchEvent(new Event("change", {bubbles: true})), ""`)
	}
	options := func(field string) string {
		t.Helper()
		return ann.script(`[...document.querySelector("` + field + `").options].map(o => o.value).join(" ")`)
	}
	choose("#f-scopes-0-domain", "beta")
	choose("#f-scopes-0-entity-type", "datasets")
	assert.Equal(t, " datasets/read", options("#f-scopes-0-operation"), "a viewer only reads")
	choose("#f-scopes-0-domain", "acme")
	assert.Equal(t, " datasets/read datasets/write", options("#f-scopes-0-operation"))
	choose("#f-scopes-0-operation", "datasets/write")
	assert.Contains(t, ann.sees("#meaning"), "It can change and delete anything of a kind")
	choose("#f-scopes-0-pick", ":typed")
	ann.fill("#f-scopes-0-entity", "golden")
	assert.Contains(t, ann.sees("#meaning"), "upload, change and delete dataset golden in acme")

	for i, pick := range []string{"*", ":typed", "*"} {
		ann.click("#add-scope")
		row := "#f-scopes-" + string(rune('1'+i))
		choose(row+"-domain", "acme")
		choose(row+"-entity-type", "models")
		choose(row+"-pick", pick)
		choose(row+"-operation", "models/read")
	}
	ann.fill("#f-scopes-2-entity", "llama3")
	assert.Equal(t, "Scope 2 already covers this.", ann.sees("#f-scopes-2 [data-note]"))
	assert.Equal(t, "The same as scope 2.", ann.sees("#f-scopes-3 [data-note]"))
	overflow, err := uitest.Overflow(ann.tab)
	require.NoError(t, err)
	assert.Zero(t, overflow)
	ann.click("#f-scopes-3 [data-remove]")
	ann.click(".buttons button.primary")
	ann.waitsFor("Your token")
	overflow, err = uitest.Overflow(ann.tab)
	require.NoError(t, err)
	assert.Zero(t, overflow)

	pats, _, err := w.store.PATs(t.Context(), store.PATFilter{UserID: w.users["ann"].ID}, store.Page{})
	require.NoError(t, err)
	require.Len(t, pats, 1)
	assert.Equal(t, "every control once", pats[0].Description)
	assert.Equal(t, day+"T23:59:59Z", pats[0].ExpiresAt.Format(time.RFC3339))
	var scopes []string
	for _, sc := range pats[0].Scopes {
		scopes = append(scopes, sc.String())
	}
	assert.Equal(t, []string{"acme:datasets:golden:write", "acme:models:*:read", "acme:models:llama3:read"}, scopes)
}

var untilDate = regexp.MustCompile(`, until [^,]*,`)

// The browser says the same about scopes as the server does.
func TestTheScriptAgreesWithTheServer(t *testing.T) {
	browser := uitest.Start(t)
	w := newWorld(t, testenv.SQLite(t), nil)
	w.member("ann", "beta", "admin")
	plain := w.visit("ann")
	ann := w.open(browser, uitest.Options{Zone: "UTC"})
	ann.signsIn()
	for _, query := range []string{
		"", "preset=full", "preset=read&domain=beta", "preset=inference&domain=*",
		"scope=acme:models:llama3:8b:execute&scope=*:datasets:*:write", "scope=beta:domains:*:write&scope=*:domains:*:read&scope=beta:domains:*:read",
		"scope=acme:models:*:read&scope=acme:models:*:read&scope=acme:models:a:read", "scope=gone:models:*:read&expires_on=2020-01-01",
	} {
		page := "/profile/pats/new?" + query
		ann.goTo(page)
		p := plain.get(page).is(200)
		words := func(text string) string {
			text = untilDate.ReplaceAllString(text, "") // dates are the browser's business
			return strings.Join(strings.Fields(text), "")
		}
		assert.Equal(t, words(inside(p.byID("meaning"))), words(ann.script(`document.querySelector("#meaning").textContent`)), query)
		for _, field := range []string{"domain", "entity_type", "pick", "operation"} {
			assert.Equal(t, p.value("scopes[0]."+field), ann.script(`document.querySelector('[name="scopes[0].`+field+`"]').value`), "%s %s", query, field)
		}
		notes := p.find(func(n *html.Node) bool { return has(n, "data-note") })
		for i, n := range notes {
			assert.Equal(t, inside(n), ann.script(`document.querySelectorAll("[data-note]")[`+string(rune('0'+i))+`].textContent`), query)
		}
	}
}

func TestAFormSentTwiceMakesOneToken(t *testing.T) {
	browser := uitest.Start(t)
	w := newWorld(t, testenv.SQLite(t), nil)
	ann := w.open(browser, uitest.Options{})
	ann.signsIn()
	ann.goTo("/profile/pats/new?preset=read&name=twice")
	ann.script(`(() => { const b = document.querySelector(".buttons .primary"); b.click(); b.click(); return "" })()`)
	ann.waitsFor("Your token")
	pats, _, err := w.store.PATs(t.Context(), store.PATFilter{UserID: w.users["ann"].ID}, store.Page{})
	require.NoError(t, err)
	assert.Len(t, pats, 1)
}

// Two tabs share a session: what one does, the other finds done.
func TestTwoTabs(t *testing.T) {
	browser := uitest.Start(t)
	w := newWorld(t, testenv.SQLite(t), nil)
	one := w.open(browser, uitest.Options{})
	one.signsIn()
	two := &reader{w: w, tab: uitest.SameProfile(t, one.tab)}
	pat := w.pat("ann", "ci", "acme:models:*:read")
	one.goTo("/profile/pats/new?preset=read&name=kept")
	two.goTo("/profile/pats/" + pat.ID + "/revoke")
	two.click("form.form button.danger")
	two.waitsFor("ci")
	two.click(".who button")
	two.waitsFor("Sign in")

	one.fill("#f-description", "typed before the other tab signed out")
	one.click(".buttons button.primary")
	one.waitsFor("Sign in")
	assert.Contains(t, one.sees(".intro"), "what you typed is kept")
	one.fill("#f-email", "ann@example.com")
	one.fill("#f-password", password)
	one.click("button.primary")
	one.waitsFor("Create a personal access token")
	assert.Equal(t, "kept", one.value("#f-name"))
	assert.Equal(t, "typed before the other tab signed out", one.value("#f-description"))
	one.click(".buttons button.primary")
	one.waitsFor("Your token")
	got, err := w.store.PAT(t.Context(), pat.ID)
	require.NoError(t, err)
	assert.Equal(t, models.StatusRevoked, got.Status(w.clock.Now()))
}

func TestSetupInABrowser(t *testing.T) {
	browser := uitest.Start(t)
	w := newEmptyWorld(t, testenv.SQLite(t), nil)
	code := w.setupCode()
	root := w.open(browser, uitest.Options{Width: 360, Height: 780})
	root.goTo("/")
	root.waitsFor("Set up Patrol")
	assert.Equal(t, "f-code", root.script("document.activeElement.id"))
	fill := func(code, password string) {
		t.Helper()
		root.fill("#f-code", code)
		root.fill("#f-email", "root@example.com")
		root.fill("#f-name", "Root")
		root.fill("#f-password", password)
		root.click("button.primary")
	}
	fill("AAAAA-AAAAA-AAAAA-AAAAA", "a password of mine")
	assert.Contains(t, root.sees("#problems"), "Setup code is not the code in the file.")
	assert.Equal(t, "problems", root.script("document.activeElement.id"), "what was wrong has the focus")
	fill(strings.ToLower(code), "a password of mine")
	root.waitsFor("Patrol is set up")
	root.click("a.button.primary")
	root.waitsFor("Sign in")
	root.fill("#f-email", "root@example.com")
	root.fill("#f-password", "a password of mine")
	root.click("button.primary")
	root.waitsFor("Personal access tokens")
	assert.Contains(t, root.sees(".main-nav"), "Administration")
	root.goTo("/setup")
	root.waitsFor("There is nothing here")
}

// A token's life with scripts off: made, used, revoked.
func TestWithoutJavaScript(t *testing.T) {
	browser := uitest.Start(t)
	w := behindGateway(t, testenv.SQLite(t))
	ann := w.open(browser, uitest.Options{NoScript: true, Width: 360, Height: 780})
	ann.signsIn()
	ann.click(`.cards a[href$="preset=read"]`)
	ann.waitsFor("Create a personal access token")
	ann.click("#add-scope") // a button of the form: the server adds the row
	ann.waitsFor("Create a personal access token")
	rows := func() int {
		n, err := chromedp.Run(ann.tab, chromedp.Evaluate[int](`document.querySelectorAll("[data-row]").length`))
		if err != nil { // between two pages
			return 0
		}
		return n
	}
	require.Eventually(t, func() bool { return rows() == 4 }, soon, 20*time.Millisecond, "the preset has three")
	for field, value := range map[string]string{"domain": "acme", "entity-type": "datasets", "pick": "*", "operation": "datasets/write"} {
		ann.do(chromedp.SetValue(chromedp.CSS("#f-scopes-3-"+field), value))
	}
	ann.fill("#f-name", "by hand")
	ann.click(".buttons button.primary")
	ann.waitsFor("Your token")
	token := ann.value("#token")
	assert.Equal(t, "200", w.curl(token))
	ann.click("[data-saved]")
	ann.waitsFor("by hand")
	ann.click(`.actions a[href$="/revoke"]`)
	ann.waitsFor("Revoke by hand?")
	ann.click("form.form button.danger")
	ann.waitsFor("by hand")
	assert.Contains(t, ann.sees(".notice"), "The token is revoked.")
	assert.Equal(t, "401", w.curl(token))
}

// TestNoScriptButOurs has a page name scripts that are served under its host and are not ours.
func TestNoScriptButOurs(t *testing.T) {
	browser := uitest.Start(t)
	w := newWorld(t, testenv.SQLite(t), func(_ *server.Config, d *server.Deps) {
		d.Gateway = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { // as an upstream could answer
			w.Header().Set("Content-Type", "text/javascript")
			_, _ = w.Write([]byte(`window.foreign = "ran"`))
		})
	})
	r := w.open(browser, uitest.Options{})
	r.goTo("/login")
	for _, script := range []string{
		`s.src = "/proxy/acme/x.js"`, `s.src = location.origin + "/proxy/acme/x.js"`, `s.src = "/assets/../proxy/acme/x.js"`, `s.textContent = "window.foreign = 'ran'"`,
		`s.type = "module"; s.src = "/proxy/acme/x.js"`, `s.src = "data:text/javascript,window.foreign='ran'"`,
		`s.src = "/proxy/acme/x.js"; s.integrity = document.querySelector("script[integrity]").integrity`,
	} {
		got := r.script(`new Promise((done) => {
			const s = document.createElement("script");
			` + script + `;
			s.onerror = () => done("refused"); s.onload = () => done("loaded " + window.foreign);
			document.head.append(s);
			setTimeout(() => done("silent " + window.foreign), 500);
		})`)
		assert.Contains(t, []string{"refused", "silent undefined"}, got, script)
	}
	// Our script ran: on a page, on an error page, and on the playground's.
	for _, path := range []string{"/login", "/nowhere", "/reset"} {
		r.goTo(path)
		assert.Equal(t, "ours", r.script(`performance.getEntriesByType("resource").some((e) => e.name.includes("/assets/patrol.") && e.initiatorType === "script" && e.decodedBodySize > 0) ? "ours" : "none"`), path)
	}
}
