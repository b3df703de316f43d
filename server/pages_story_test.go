package server_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/models/store"
	"patrol/server/ui/uitest"
)

// signsInAs signs somebody in on the page that asks for it.
func (r *reader) signsInAs(name, heading string) {
	r.w.t.Helper()
	r.waitsFor("Sign in")
	r.fill("#f-email", name+"@example.com")
	r.fill("#f-password", password)
	r.click("button.primary")
	r.waitsFor(heading)
}

// waitsToRead waits for a page where the element says this.
func (r *reader) waitsToRead(selector, text string) {
	r.w.t.Helper()
	said := fmt.Sprintf(`document.readyState === "complete" ? document.querySelector(%q)?.textContent ?? "" : ""`, selector)
	require.Eventually(r.w.t, func() bool {
		found, err := chromedp.Run(r.tab, chromedp.Evaluate[string](said))
		return err == nil && strings.Contains(found, text)
	}, 20*time.Second, 20*time.Millisecond, "%s never says %q", selector, text)
}

func TestALeakedTokenInABrowser(t *testing.T) {
	browser := uitest.Start(t)
	w := behindGateway(t, testenv.SQLite(t))
	pat := w.pat("ann", "leaked", "acme:models:*:read")
	require.Equal(t, "200", w.curl(pat.Token))
	root := w.open(browser, uitest.Options{})
	root.goTo("/admin/leaked")
	root.signsInAs("root", "Revoke a leaked token")
	root.fill("#f-token", "patrol_only-a-part")
	root.click("button.primary")
	root.waitsToRead("#problems", "is not a whole token")
	root.fill("#f-token", forged(t, pat.ID))
	root.click("button.primary")
	root.waitsToRead("#problems", "is not known here")
	assert.Empty(t, root.value("#f-token"), "what was pasted is not shown again")
	assert.Equal(t, "200", w.curl(pat.Token), "an id alone revokes nothing")
	root.fill("#f-token", pat.Token)
	root.click("button.primary")
	root.waitsFor("leaked")
	assert.Contains(t, root.sees(".notice"), "This is the token that you pasted.")
	assert.NotContains(t, root.script("document.documentElement.outerHTML + location.href"), pat.Token)
	root.click("form.form button.danger")
	root.waitsToRead(".notice", "The token is revoked.")
	assert.Equal(t, "401", w.curl(pat.Token))

	ann := w.open(browser, uitest.Options{})
	ann.signsIn()
	assert.Contains(t, ann.sees("table.tokens"), "by a platform admin")
	assert.Contains(t, ann.sees("table.tokens"), "found where it should not be")
}

func TestASessionEndsInTheMiddleOfAForm(t *testing.T) {
	browser := uitest.Start(t)
	w := newWorld(t, testenv.SQLite(t), nil)
	ann := w.open(browser, uitest.Options{})
	ann.signsIn()
	ann.goTo("/profile/pats/new?preset=read")
	ann.fill("#f-name", "long thought about")
	ann.fill("#f-description", "typed over night")
	w.clock.Advance(13 * time.Hour)
	ann.click(".buttons button.primary")
	ann.waitsFor("Sign in")
	assert.Contains(t, ann.sees(".intro"), "what you typed is kept")
	ann.signsInAs("ann", "Create a personal access token")
	assert.Equal(t, "long thought about", ann.value("#f-name"))
	assert.Equal(t, "typed over night", ann.value("#f-description"))
	assert.Contains(t, ann.sees("#meaning"), "list and inspect")
	w.holdsPATs("ann", 0)
	ann.click(".buttons button.primary")
	ann.waitsFor("Your token")
	w.holdsPATs("ann", 1)
}

// holdsPATs checks how many tokens somebody has.
func (w *world) holdsPATs(name string, n int) {
	w.t.Helper()
	pats, _, err := w.store.PATs(w.t.Context(), store.PATFilter{UserID: w.users[name].ID}, store.Page{})
	require.NoError(w.t, err)
	assert.Len(w.t, pats, n)
}

func TestAnEndIsShown(t *testing.T) {
	browser := uitest.Start(t)
	w := behindGateway(t, testenv.SQLite(t))
	pat := w.pat("ann", "short", "acme:models:*:read")
	ann := w.open(browser, uitest.Options{})
	ann.signsIn()
	assert.Contains(t, ann.sees("table.tokens"), "Active")
	for _, step := range []struct {
		after        time.Duration
		state, curls string
	}{
		{24 * 24 * time.Hour, "Expires soon", "200"},
		{6 * 24 * time.Hour, "Expired", "401"},
	} {
		w.clock.Advance(step.after)
		assert.Equal(t, step.curls, w.curl(pat.Token))
		ann.goTo("/profile/pats")
		ann.signsInAs("ann", "Personal access tokens")
		assert.Contains(t, ann.sees("table.tokens"), step.state)
		ann.goTo("/profile/pats/" + pat.ID)
		ann.waitsFor("short")
		assert.Contains(t, ann.sees("h1"), step.state)
	}
	ann.click(`.actions a[href$="/delete"]`) // a dead one is not revoked but deleted
	ann.waitsFor("Delete short?")
	ann.click("form.form button.danger")
	ann.waitsFor("Personal access tokens")
	w.holdsPATs("ann", 0)
}

func TestADomainsAdminInABrowser(t *testing.T) {
	browser := uitest.Start(t)
	w := behindGateway(t, testenv.SQLite(t))
	pat := w.pat("ann", "ci", "acme:models:*:read")
	require.Equal(t, "200", w.curl(pat.Token))
	dom := w.open(browser, uitest.Options{Width: 360, Height: 780})
	dom.goTo("/admin/domains/acme")
	dom.signsInAs("dom", "ACME")
	dom.click("#f-approval")
	dom.click(`form[action$="/limits"] button`)
	dom.waitsToRead(".notice", "The limits are set.")
	assert.Equal(t, "403", w.curl(pat.Token))
	dom.click(`a[href*="approval=missing"]`)
	dom.waitsFor("Tokens that reach ACME")
	dom.click("a.name")
	dom.waitsFor("ci")
	dom.click(`form[action$="/approve"] button`)
	dom.waitsToRead(".notice", "The token is approved.")
	assert.Equal(t, "200", w.curl(pat.Token))
	dom.fill("#f-reason", "the project has ended")
	dom.click(`form[action$="/revoke"] button`)
	dom.waitsToRead(".notice", "The token is revoked.")
	assert.Equal(t, "401", w.curl(pat.Token))
	overflow, err := uitest.Overflow(dom.tab)
	require.NoError(t, err)
	assert.Zero(t, overflow)
}
