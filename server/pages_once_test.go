package server_test

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bundles"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/server"
	"patrol/server/manage"
	"patrol/server/ui"
	"patrol/server/ui/uitest"
)

// Between a form that makes a secret and the page that shows it, the secret is nowhere in
// clear, and of use to nobody but the browser that sent the form.
func TestWhatIsMadeIsShownOnce(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		user := "/admin/users/" + w.users["eve"].ID
		for name, form := range map[string]struct {
			who, path string
			fields    url.Values
			secret    *regexp.Regexp
			then      string // where a second look leads
		}{
			"a token":      {"ann", "/profile/pats/new", newToken("ci"), regexp.MustCompile(`id="token"[^>]* value="([^"]+)"`), `^/profile/pats/[0-9A-Za-z]{16}$`},
			"a code":       {"ann", "/profile/sessions/code", url.Values{}, regexp.MustCompile(`id="code"[^>]* value="([^"]+)"`), `^/profile/sessions/code$`},
			"a reset link": {"root", user + "/reset", url.Values{}, regexp.MustCompile(`id="code"[^>]* value="([^"]+)"`), "^" + user + "$"},
		} {
			t.Run(name, func(t *testing.T) {
				who := w.visit(form.who)
				sent := func() (path string, key *http.Cookie) {
					t.Helper()
					if form.fields.Has("name") {
						form.fields.Set("name", form.fields.Get("name")+"x")
						form.fields.Set("key", form.fields.Get("name"))
					}
					answer := who.post(form.path, form.fields).is(http.StatusSeeOther)
					for _, c := range (&http.Response{Header: answer.header}).Cookies() {
						if c.Name == w.cookieName("made") {
							key = c
						}
					}
					require.NotNil(t, key)
					path = answer.header.Get("Location")
					assert.Equal(t, path, key.Path, "no other page is sent the key")
					assert.True(t, key.HttpOnly)
					assert.Equal(t, http.SameSiteStrictMode, key.SameSite)
					assert.Equal(t, 120, key.MaxAge)
					return path, key
				}
				gone := func(path string) {
					t.Helper()
					assert.Regexp(t, form.then, who.get(path).is(http.StatusSeeOther).header.Get("Location"))
				}

				path, key := sent()
				before := w.dump()
				who.send(http.MethodHead, path, nil).is(http.StatusSeeOther) // does not use it up
				other := w.visit("dom")
				other.header.Set("Cookie", w.cookieName("made")+"="+key.Value)
				assert.NotEqual(t, http.StatusOK, other.get(path).status, "another user with the key")
				page := who.get(path).is(http.StatusOK)
				assert.Equal(t, "no-store", page.header.Get("Cache-Control"))
				m := form.secret.FindStringSubmatch(page.text)
				require.NotNil(t, m)
				for _, part := range []string{m[1], strings.ReplaceAll(m[1], "-", "")} {
					assert.NotContains(t, before, part, "the database while it was not seen yet")
					assert.NotContains(t, w.logs.String(), part)
					assert.NotContains(t, path, part)
				}
				gone(path)
				who.header.Set("Cookie", w.cookieName("made")+"="+key.Value) // as a browser would that forgets nothing
				gone(path)
				who.header.Del("Cookie")

				path, _ = sent()
				w.clock.Advance(2*time.Minute + time.Second)
				gone(path)

				_, key = sent()
				stranger := w.visit("")
				stranger.header.Set("Cookie", w.cookieName("session")+"="+key.Value)
				stranger.get("/profile/sessions").leadsTo("/login?next=%2Fprofile%2Fsessions") // it is no session
			})
		}
	})
}

// TestBackAndReloadSendNothingAgain: after each form that a browser sends, Back and reload
// ask for pages, which make nothing and ask nobody.
func TestBackAndReloadSendNothingAgain(t *testing.T) {
	browser := uitest.Start(t)
	w := newWorld(t, testenv.SQLite(t), nil)
	ann := w.open(browser, uitest.Options{})
	ann.signsIn()
	ann.goTo("/profile/pats/new?preset=read")
	ann.click(".buttons button.primary") // without a name
	ann.waitsToRead("#problems", "Name is required.")
	events := len(w.everything())

	reload := func() {
		t.Helper()
		ann.script(`window.stays = "1", ""`)
		ann.script(`setTimeout(() => location.reload()), ""`)
		require.Eventually(t, func() bool {
			anew, err := chromedp.Run(ann.tab, chromedp.Evaluate[bool](`document.readyState === "complete" && !window.stays`))
			return err == nil && anew
		}, soon, 20*time.Millisecond)
	}
	reload() // asks for the form, filled in
	ann.waitsFor("Create a personal access token")
	assert.Empty(t, ann.script(`document.querySelector("#problems")?.textContent ?? ""`))
	assert.Equal(t, "models/read", ann.value(`[name="scopes[0].operation"]`), "what was chosen is kept")

	ann.click(".buttons button.primary") // refused once more, so that a refused form is what Back leads to
	ann.waitsToRead("#problems", "Name is required.")
	ann.fill("#f-name", "ci")
	ann.click(".buttons button.primary")
	ann.waitsFor("Your token")
	token := ann.value("#token")
	ann.script(`document.querySelector("#token").dispatchEvent(new Event("copy")), ""`)
	made := len(w.everything())
	assert.Equal(t, events+1, made)

	back := func() {
		t.Helper()
		_, _ = chromedp.Run(ann.tab, chromedp.Evaluate[string](`history.back(), ""`)) // the page may be gone before it can answer
	}
	back()
	ann.waitsFor("Create a personal access token")
	assert.NotContains(t, ann.script("document.documentElement.outerHTML"), token)
	_, _ = chromedp.Run(ann.tab, chromedp.Evaluate[string](`history.forward(), ""`))
	ann.waitsFor("ci")
	assert.Contains(t, ann.sees(".notice"), "The token itself is shown once")
	reload()
	ann.waitsFor("ci")
	assert.NotContains(t, ann.script("document.documentElement.outerHTML"), token)
	assert.Len(t, w.everything(), made)
}

// Every address that a form is sent to leads back to a page that there is.
func TestEveryFormHasAPage(t *testing.T) {
	there := map[string]bool{}
	for _, r := range server.Routes() {
		if r.Page && r.Method == http.MethodGet {
			there[r.Path] = true
		}
	}
	names := strings.NewReplacer(":id", "0000000000000000", ":pat", "1111111111111111", ":user", "2222222222222222", ":scope", "3333333333333333")
	for _, r := range server.Routes() {
		if !r.Page || r.Method != http.MethodPost || r.Path == "/logout" {
			continue
		}
		page, _, _ := strings.Cut(ui.Resume(names.Replace(r.Path), nil, server.DefaultConfig().Limits), "?")
		for name, value := range map[string]string{":id": "0000000000000000", ":pat": "1111111111111111", ":user": "2222222222222222", ":scope": "3333333333333333"} {
			page = strings.ReplaceAll(page, value, name)
		}
		assert.True(t, there[page], "%s leads to %s, which is no page", r.Path, page)
	}
}

// TestBrowsersAreShownPages: whatever goes wrong for somebody at a browser is said on a page, with
// the navigation of whoever is signed in.
func TestBrowsersAreShownPages(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("ann", "ci", "acme:models:*:read")
	large := url.Values{"name": {strings.Repeat("x", 8<<20)}}
	for name, c := range map[string]struct {
		who, method, path string
		form              url.Values
		status            int
		heading           string
		link              string // in the page, "" for any
	}{
		"no such page":               {"ann", "GET", "/nowhere", nil, 404, "There is nothing here", `href="/"`},
		"no such page, nobody":       {"", "GET", "/nowhere", nil, 404, "There is nothing here", ""},
		"no such page for a form":    {"ann", "POST", "/nowhere", url.Values{"a": {"b"}}, 404, "There is nothing here", ""},
		"another's token":            {"eve", "GET", "/profile/pats/" + pat.ID, nil, 404, "There is nothing here", ""},
		"not for members":            {"ann", "GET", "/admin/users", nil, 403, "This is not permitted", ""},
		"not for this member":        {"ann", "GET", "/admin/domains/acme/pats", nil, 403, "This is not permitted", ""},
		"not for admins of a domain": {"dom", "GET", "/policy", nil, 403, "This is not permitted", ""},
		"a form's address":           {"root", "GET", "/admin/domains/acme/limits", nil, 405, "There is no page here", `href="/admin/domains/acme"`},
		"a form's address, revoke":   {"root", "GET", "/admin/pats/" + pat.ID + "/revoke", nil, 405, "There is no page here", `href="/admin/pats/` + pat.ID + `"`},
		"signing out by address":     {"ann", "GET", "/logout", nil, 405, "There is no page here", `href="/"`},
		"a form for a page":          {"ann", "POST", "/profile/pats", url.Values{"a": {"b"}}, 405, "There is no page here", ""},
		"deleting a page":            {"ann", "DELETE", "/profile/sessions", nil, 405, "There is no page here", ""},
		"a parameter of no page":     {"ann", "GET", "/profile/pats?nme=ci", nil, 422, "That did not work", ""},
		"a field of no form":         {"ann", "POST", "/profile/pats/" + pat.ID + "/edit", url.Values{"nme": {"ci"}}, 422, "That did not work", ""},
		"a form that is too large":   {"ann", "POST", "/profile/pats/" + pat.ID + "/edit", large, 413, "That did not work", ""},
		"setup, too large":           {"", "POST", "/setup", large, 413, "That did not work", ""},
		"setup, over":                {"ann", "POST", "/setup", filledSetup(), 404, "There is nothing here", ""},
	} {
		t.Run(name, func(t *testing.T) {
			v := w.visit(c.who)
			v.header.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
			page := v.send(c.method, c.path, c.form).is(c.status)
			assert.Equal(t, "text/html; charset=utf-8", page.header.Get("Content-Type"))
			assert.Equal(t, c.heading, page.heading())
			assert.Equal(t, c.who != "", strings.Contains(page.text, `aria-label="Main"`), "the navigation")
			assert.Contains(t, page.text, c.link)
			if c.status == http.StatusMethodNotAllowed {
				assert.NotEmpty(t, page.header.Get("Allow"))
			}
		})
	}
	for _, program := range []struct{ method, path string }{{"GET", "/nowhere"}, {"GET", "/logout"}, {"PUT", "/profile/pats"}, {"GET", "/authorize"}, {"POST", "/api/v1/me"}} {
		a := w.as("ann").set("Accept", "application/json").send(program.method, program.path, nil)
		assert.Equal(t, "application/problem+json", a.header.Get("Content-Type"), "%s %s", program.method, program.path)
	}
}

// broken is a policy that panics when it is asked how it is.
type broken struct {
	manage.Policy
	now atomic.Bool
}

func (b *broken) Status() bundles.Status {
	if b.now.Load() {
		panic("the secret cause")
	}
	return b.Policy.Status()
}

func TestADefectIsSaidOnAPage(t *testing.T) {
	policy := &broken{}
	w := newWorld(t, testenv.SQLite(t), func(_ *server.Config, d *server.Deps) {
		policy.Policy = d.Policy
		d.Policy = policy
	})
	pol := w.visit("pol")
	policy.now.Store(true)
	page := pol.get("/policy").is(http.StatusInternalServerError)
	assert.Equal(t, "Something went wrong", page.heading())
	assert.Contains(t, page.text, `aria-label="Main"`)
	assert.NotContains(t, page.text, "secret cause")
	assert.Contains(t, page.text, page.header.Get("X-Request-Id"))
	assert.Contains(t, w.logs.String(), "the secret cause")
}

func filledSetup() url.Values {
	return url.Values{"code": {"x"}, "email": {"a@example.com"}, "name": {"A"}, "password": {password}}
}

// warning is a policy that comes into force with something to be told beside it.
type warning struct{ manage.Policy }

func (p warning) Sync(ctx context.Context) error {
	models.Warn(ctx, "Something went wrong beside it.")
	return p.Policy.Sync(ctx)
}

// A warning beside the result is a header for programs, and on the next page for people.
func TestPagesTellWhatWentWrongBeside(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), func(_ *server.Config, d *server.Deps) { d.Policy = warning{d.Policy} })
	w.ships("v1", nil)
	old := w.policy.Status().Active.Digest
	w.ships("v2", nil)
	pol := w.visit("pol")
	pol.get("/policy/history/rollback?revision=" + old).is(http.StatusOK).submits(pol).is(http.StatusSeeOther)
	page := pol.get("/policy").is(http.StatusOK)
	assert.Contains(t, page.text, "Something went wrong beside it.")
	assert.NotContains(t, pol.get("/policy").text, "Something went wrong beside it.", "said once")
}

// A creation reads the domains and their limits once, from a page as from a program.
func TestACreationReadsLimitsOnce(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	page := w.visit("ann")
	reads := func() map[string]string {
		t.Helper()
		out := map[string]string{}
		count := regexp.MustCompile(`(?m)^patrol_database_operation_duration_seconds_count\{operation="(create_pat|domains|known_domains|memberships)"\} (\d+)$`)
		for _, m := range count.FindAllStringSubmatch(string(w.as("").get("/metrics").is(200).body), -1) {
			out[m[1]] = m[2]
		}
		return out
	}
	w.pat("ann", "first", "acme:models:*:read") // the sign-in reads memberships too
	require.Equal(t, map[string]string{"create_pat": "1", "known_domains": "1", "memberships": "1"}, reads())
	page.post("/profile/pats/new", newToken("by page")).is(http.StatusSeeOther)
	assert.Equal(t, map[string]string{"create_pat": "2", "known_domains": "1", "memberships": "2", "domains": "1"}, reads())
	w.pat("ann", "by program", "acme:models:*:read")
	assert.Equal(t, map[string]string{"create_pat": "3", "known_domains": "2", "memberships": "2", "domains": "1"}, reads())
}
