package server_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/server/ui/uitest"
)

func TestThePolicyTeamInABrowser(t *testing.T) {
	browser := uitest.Start(t)
	w := newWorld(t, testenv.SQLite(t), nil)
	w.open(browser, uitest.Options{}).worksOnThePolicy(t)
}

func TestThePolicyTeamAtATelephoneWithoutJavaScript(t *testing.T) {
	browser := uitest.Start(t)
	w := newWorld(t, testenv.SQLite(t), nil)
	w.open(browser, uitest.Options{NoScript: true, Width: 360, Height: 780}).worksOnThePolicy(t)
}

// worksOnThePolicy looks a denial up and reads why; looks at what changed, rolls back,
// and has the source followed again.
func (r *reader) worksOnThePolicy(t *testing.T) {
	t.Helper()
	w, pol := r.w, r
	w.clock.Advance(time.Second) // what is kept is listed by time: the policy at the start is older
	w.ships("v1", nil)
	pat := w.pat("ann", "ci", "acme:models:*:read")
	w.logged(pat.Token, "acme:models:llama3:read")
	denied := w.logged(pat.Token, "acme:models:llama3:execute")
	w.ships("v2", adds("custom/closed.rego", "package patrol.custom\n\n# METADATA\n# title: Closed\nreason := {\"code\": \"closed\", \"message\": \"Closed.\"}\n"))

	fits := func() {
		t.Helper()
		overflow, err := uitest.Overflow(pol.tab)
		require.NoError(t, err)
		assert.Zero(t, overflow, "pixels beyond the window")
	}
	pol.goTo("/login")
	pol.signsInAs("pol", "Personal access tokens")
	pol.click(`.main-nav a[href="/policy"]`)
	pol.waitsFor("Policy")
	fits()
	pol.click(`.sub-nav a[href="/policy/decisions"]`)
	pol.waitsFor("Decisions")
	pol.fill("#f-user", "ann@example.com")
	pol.do(chromedp.SetValue(chromedp.CSS("#f-outcome"), "deny"))
	pol.click(".filter-grid button.primary")
	require.Eventually(t, func() bool {
		at, err := chromedp.Run(pol.tab, chromedp.Evaluate[string](`location.search`))
		return err == nil && at == "?outcome=deny&user="+w.users["ann"].ID
	}, soon, 20*time.Millisecond)
	pol.waitsFor("Decisions")
	assert.Equal(t, "/policy/decisions/"+denied, pol.script(`[...document.querySelectorAll(".decisions a.name")].map(a => a.getAttribute("href")).join(" ")`))
	fits()
	pol.click(".decisions a.name")
	pol.waitsFor("Decision")
	assert.Contains(t, pol.sees(".changes"), "The token has the scope acme:models:llama3:execute")
	assert.Contains(t, pol.script(`[...document.querySelectorAll("details[open] .line.held")].map(l => l.textContent).join("")`), "not granting_scope")
	assert.Contains(t, pol.script(`document.body.textContent`), "It would be denied for other reasons: closed, out_of_scope.")
	fits()

	pol.click(`.sub-nav a[href="/policy/history"]`)
	pol.waitsFor("History")
	fits()
	pol.click(`a[href*="/history/diff"]`)
	pol.waitsFor("Changes")
	assert.Contains(t, pol.script(`document.querySelector(".diff .added").textContent`), `{"revision": "v2"`)
	fits()
	pol.click(".crumb a")
	pol.waitsFor("History")
	pol.click(`a[href*="rollback"]`)
	pol.waitsFor("Roll back to v1?")
	pol.click("form.form button.danger")
	pol.waitsFor("Policy")
	assert.Equal(t, "v1 is in force, and pinned until the source is followed again.", pol.sees(".notice span"))
	assert.Equal(t, "v1", w.policy.Engine().Current().Revision())
	pol.click(`form[action="/policy/resume"] button`)
	require.Eventually(t, func() bool { return !w.policy.Status().Active.Pinned }, soon, 20*time.Millisecond)
	pol.waitsFor("Policy In force")
}

func TestThePlaygroundInABrowser(t *testing.T) {
	browser := uitest.Start(t)
	w := newWorld(t, testenv.SQLite(t), nil)
	w.open(browser, uitest.Options{}).triesAPolicy(t, true)
}

func TestThePlaygroundWithoutJavaScript(t *testing.T) {
	browser := uitest.Start(t)
	w := newWorld(t, testenv.SQLite(t), nil)
	w.open(browser, uitest.Options{NoScript: true}).triesAPolicy(t, false)
}

// triesAPolicy adds a file in the playground, and tries it: broken, and mended if there is a
// script to be tried with.
func (r *reader) triesAPolicy(t *testing.T, script bool) {
	t.Helper()
	pol := r
	pol.goTo("/login")
	pol.signsInAs("pol", "Personal access tokens")
	pol.goTo("/policy/playground")
	until := func(condition string) {
		t.Helper()
		require.Eventually(t, func() bool {
			holds, err := chromedp.Run(pol.tab, chromedp.Evaluate[bool](`document.readyState === "complete" && (`+condition+`)`))
			return err == nil && holds
		}, soon, 20*time.Millisecond, condition)
	}
	pol.fill("#f-new", "custom/closed.rego")
	pol.click(`button[value="new"]`)
	until(`document.querySelector(".editor textarea")?.value.includes("package patrol.custom")`)
	pol.click(`button[value="sample:decision"]`)
	until(`document.querySelector("#f-input").value.includes('"request"')`)

	edit := func(module string) {
		pol.script(`window.stays = "1"; document.querySelector(".editor textarea").value = ` + strconv.Quote(module))
	}
	tries := func(module, heading string) {
		t.Helper()
		edit(module)
		pol.click("button.primary")
		until(`document.querySelector("#tried-title")?.textContent === "` + heading + `"`)
	}
	tries("package patrol.custom\n\nreason := 1 2\n", "It is not a policy")
	if !script {
		return
	}
	pol.click("#playground-result a[data-line]")
	assert.Equal(t, "reason := 1 2", pol.script(`(t => t.value.slice(t.selectionStart, t.selectionEnd))(document.activeElement)`), "what is wrong is marked")
	tries("package patrol.custom\n\nreason := {\"code\": \"closed\", \"message\": \"Closed.\"}\n", "Denied")
	assert.Contains(t, pol.sees("#playground-result"), "Closed.")
	assert.Equal(t, "1", pol.script(`window.stays ?? "the page was loaded anew"`))

	// Without an answer to the script, the form is sent as without the script.
	pol.script(`window.fetch = () => Promise.reject(new TypeError("blocked")); ""`)
	tries("package patrol.custom\n", "Allowed")
	assert.Equal(t, "anew", pol.script(`window.stays ?? "anew"`))
}
