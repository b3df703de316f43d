package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/server"
	"patrol/server/ui/uitest"
)

// busyWorld is a world with as many people, domains and tokens as a company of some size has,
// with long names, and something of everything that pages list.
type busyWorld struct {
	*world
	pat, dead, rotated api.PAT
	spare              api.PAT // to be rotated
	stranded           api.PAT // of eve, who is in no domain any more
	widest             string  // domain
	decision           string
	old, shadow        string // revision and digest
	leaked             string
}

func newBusyWorld(t *testing.T) *busyWorld {
	t.Helper()
	w := newWorld(t, testenv.SQLite(t), nil)
	f := &busyWorld{world: w, widest: "department-of-applied-machine-learning-and-data-engineering-eu"}
	hash, err := passwordHash()
	require.NoError(t, err)
	names := []string{"Wolfeschlegelsteinhausenbergerdorff", "Ana María de los Ángeles Fernández-Villaverde y Ruiz", "Nguyễn Thị Minh Khai", "Jo"}
	for i := len(w.users); i < 48; i++ {
		u := models.User{
			Name: fmt.Sprintf("%s %d", names[i%len(names)], i), PasswordHash: hash, Disabled: i%9 == 0, Policy: i%13 == 0, Admin: i%17 == 0,
			Email: fmt.Sprintf("maximiliane.wolfeschlegelsteinhausen%d@machine-learning.department.example.com", i),
		}
		u, err := w.store.CreateUser(t.Context(), by, u)
		require.NoError(t, err)
		if i < 30 {
			w.users[fmt.Sprint(i)] = u
		}
	}
	for i := 2; i < 12; i++ {
		d := models.Domain{ID: fmt.Sprintf("team-%d-evaluation-of-speech-recognition", i), Name: fmt.Sprintf("Team %d, evaluation of speech recognition and synthesis", i), Status: models.DomainEnabled}
		switch i {
		case 2:
			d.ID, d.Name = f.widest, strings.Repeat("Donaudampfschifffahrtsgesellschaft ", 3)[:99]
		case 3:
			d.Status = models.DomainIsDisabled
		case 4:
			d.Status = models.DomainIsFrozen
		}
		_, err := w.store.CreateDomain(t.Context(), by, d)
		require.NoError(t, err)
		w.member("ann", d.ID, "member")
		w.member("root", d.ID, "admin")
	}
	for name := range w.users {
		if name != "eve" { // who is in no domain
			w.member(name, f.widest, "member")
		}
	}
	w.member("root", "acme", "admin")

	w.member("eve", "acme", "member")
	f.stranded = w.pat("eve", "stranded", "acme:models:*:read")
	require.NoError(t, w.store.RemoveMember(t.Context(), by, w.users["eve"].ID, "acme"))

	// 68 tokens, some of them dead, used, rotated, waiting for approval.
	w.ships("2026.11-release-candidate-with-a-long-name", nil)
	f.old = w.policy.Status().Active.Digest
	titles := []string{"ci", "nightly export of the golden set to the archive", "evaluation-pipeline/production/eu-central-1/speech", strings.Repeat("x", 100), "notebook on my laptop"}
	wide := f.widest + ":models:meta-llama/Llama-3.3-70B-Instruct-quantised-int8:execute"
	for i := range 68 {
		owner := []string{"ann", "root"}[i%2]
		title := titles[i%len(titles)]
		title = fmt.Sprintf("%s%d", title[:min(len(title), 98)], i)
		w.freshen(owner)
		pat := w.pat(owner, title, "*:models:*:read", wide, f.widest+":datasets:"+strings.Repeat("d", 200)+":read", "*:domains:*:read", "acme:models:llama3:8b:execute")
		switch {
		case i == 1:
			f.pat = pat
		case i == 3:
			w.as(owner).post("/api/v1/pats/"+pat.ID+"/rotate", api.Rotation{ExpiresIn: "30d", Grace: "24h"}).is(200).into(&f.rotated)
		case i == 5:
			f.dead = pat
			w.as("root").post("/api/v1/pats/"+pat.ID+"/revoke", map[string]string{"reason": "It was found in a public repository: https://git.example.com/" + strings.Repeat("path", 40)}).is(200)
		case i == 9:
			f.spare = pat
		case i == 7:
			f.leaked = pat.Token
		case i%6 == 0:
			w.as("root").post("/api/v1/pats/"+pat.ID+"/revoke", nil).is(200)
		}
	}
	description := "Evaluates prompts on every merge request.\n" + strings.Repeat("Lorem ipsum dolor sit amet. ", 12) + "The end."
	w.as("root").send(http.MethodPatch, "/api/v1/pats/"+f.pat.ID, api.PATPatch{Description: &description}).is(200)

	w.logged(f.pat.Token, "acme:models:meta-llama/Llama-3.3-70B-Instruct-quantised-int8:read")
	f.decision = w.logged(f.pat.Token, f.widest+":models:meta-llama/Llama-3.3-70B-Instruct-quantised-int8:write")
	for range 5 {
		w.ask("patrol_"+strings.Repeat("0", 54), "acme:models:m:read")
	}
	w.ships("2026.12-another-release-with-a-long-name", adds("custom/closed.rego", "package patrol.custom\n\n# METADATA\n# title: Closed\nreason := {\"code\": \"closed\", \"message\": \"Closed.\"} if input.request.entity == \"closed\"\n"))
	f.shadow = w.shadows("2027.01-shadow-with-a-long-name").Digest
	w.counted(f.shadow, 1200, 12)
	return f
}

// place is a page for a test: its address and its visitor.
type place struct {
	as, path string
	// fill are the fields of its form, by their names; nil: it is not sent.
	fill map[string]string
	// then is the address that the sent form leads to, without the parts that differ each time.
	then string
}

// places are the addresses of a page of the route table: at least one, of each of its faces.
func (f *busyWorld) places(route string) []place {
	ann, root := "ann", "root"
	pats, user, domain := "/profile/pats/", "/admin/users/"+f.users["7"].ID, "/admin/domains/"+f.widest
	own := pats + f.pat.ID
	return map[string][]place{
		"/":                        {{as: root, path: "/"}},
		"/login":                   {{path: "/login"}, {path: "/login?next=%2Fprofile%2Fpats%2Fnew"}},
		"/login/oidc":              {{as: root, path: "/login/oidc"}}, // without a provider; TestPagesInABrowser has the rest
		"/login/oidc/callback":     {{as: root, path: "/login/oidc/callback"}},
		"/profile/identity":        {{as: root, path: "/profile/identity"}},
		"/reset":                   {{path: "/reset"}},
		"/profile/pats":            {{as: root, path: "/profile/pats"}, {as: ann, path: "/profile/pats"}, {as: "eve", path: "/profile/pats"}, {as: root, path: "/profile/pats?name=ci&status=revoked"}, {as: root, path: "/profile/pats?status=nope"}},
		"/profile/pats/new":        {{as: ann, path: "/profile/pats/new?preset=full"}, {as: root, path: "/profile/pats/new?from=" + f.pat.ID}, {as: "eve", path: "/profile/pats/new"}, {as: "pol", path: "/profile/pats/new?preset=read"}},
		"/profile/pats/revoke-all": {{as: root, path: "/profile/pats/revoke-all"}},
		"/profile/pats/:id":        {{as: root, path: own}, {as: root, path: pats + f.dead.ID}, {as: root, path: pats + f.rotated.ID}, {as: root, path: pats + "0000000000000000"}},
		"/profile/pats/:id/token": {
			{as: root, path: "/profile/pats/new?preset=full", fill: map[string]string{"name": "made in a browser"}, then: "/token"},
			{as: root, path: pats + f.spare.ID + "/rotate", fill: map[string]string{"grace": "1h"}, then: "/token"},
		},
		"/profile/sessions/code/shown":                     {{as: root, path: "/profile/sessions/code", fill: map[string]string{}, then: "/profile/sessions/code/shown"}},
		"/admin/users/:id/reset/link":                      {{as: root, path: user + "/reset", fill: map[string]string{}, then: "/reset/link"}},
		"/profile/pats/purge":                              {{as: root, path: "/profile/pats/purge"}},
		"/admin/pats/purge":                                {{as: root, path: "/admin/pats/purge?all=true"}, {as: root, path: "/admin/pats/purge?user=" + f.users["7"].ID}, {as: root, path: "/admin/pats/purge"}},
		"/profile/pats/:id/edit":                           {{as: root, path: own + "/edit"}},
		"/profile/pats/:id/rotate":                         {{as: root, path: own + "/rotate"}},
		"/profile/pats/:id/revoke":                         {{as: root, path: own + "/revoke"}},
		"/profile/pats/:id/delete":                         {{as: root, path: pats + f.dead.ID + "/delete"}},
		"/profile/pats/:id/scopes":                         {{as: root, path: own + "/scopes"}, {as: "eve", path: pats + f.stranded.ID + "/scopes"}},
		"/profile/pats/:id/scopes/:scope/remove":           {{as: root, path: own + "/scopes/" + f.pat.Scopes[0].ID + "/remove"}},
		"/profile/password":                                {{as: root, path: "/profile/password"}},
		"/profile/sessions":                                {{as: root, path: "/profile/sessions"}},
		"/profile/sessions/code":                           {{as: root, path: "/profile/sessions/code"}},
		"/help":                                            {{as: root, path: "/help"}},
		"/help/test":                                       {{as: root, path: "/help/test"}, {as: root, path: "/help/test", fill: map[string]string{"token": f.leaked, "entity": strings.Repeat("e", 200)}, then: "/help/test"}},
		"/admin/pats":                                      {{as: root, path: "/admin/pats"}, {as: root, path: "/admin/pats?name=x&status=active&unused=1"}, {as: ann, path: "/admin/pats"}},
		"/admin/pats/revoke":                               {{as: root, path: "/admin/pats/revoke?all=true"}, {as: root, path: "/admin/pats/revoke"}},
		"/admin/pats/:id":                                  {{as: root, path: "/admin/pats/" + f.pat.ID}, {as: root, path: "/admin/pats/" + f.dead.ID}},
		"/admin/leaked":                                    {{as: root, path: "/admin/leaked"}, {as: root, path: "/admin/leaked", fill: map[string]string{"token": f.leaked}, then: "/admin/leaked"}},
		"/admin/users":                                     {{as: root, path: "/admin/users"}},
		"/admin/users/new":                                 {{as: root, path: "/admin/users/new"}},
		"/profile/confirm":                                 {{as: ann, path: "/profile/confirm"}},
		"/admin/users/:id":                                 {{as: root, path: user}, {as: root, path: "/admin/users/" + f.users["root"].ID}},
		"/admin/users/:id/reset":                           {{as: root, path: user + "/reset"}},
		"/admin/users/:id/email":                           {{as: root, path: user + "/email"}},
		"/admin/users/:id/email/link":                      {{as: root, path: user + "/email", fill: map[string]string{"email": "a.rather.long.address.of.somebody@a-rather-long-host.example.com"}, then: "/email/link"}},
		"/profile/email":                                   {{as: root, path: "/profile/email"}},
		"/admin/users/:id/identities":                      {{as: root, path: user + "/identities"}},
		"/admin/users/:id/identities/:identity/disconnect": {{as: root, path: user + "/identities/" + f.identity(f.users["7"].ID) + "/disconnect"}},
		"/profile/identity/list":                           {{as: root, path: "/profile/identity/list"}, {as: ann, path: "/profile/identity/list"}},
		"/profile/identity/:identity/disconnect":           {{as: root, path: "/profile/identity/" + f.identity(f.users["root"].ID) + "/disconnect"}},
		"/profile/data":                                    {{as: root, path: "/profile/data"}},
		"/admin/codes":                                     {{as: root, path: "/admin/codes"}},
		"/admin/users/:id/anonymise":                       {{as: root, path: user + "/anonymise"}},
		"/admin/users/:id/access":                          {{as: root, path: user + "/access"}},
		"/admin/domains":                                   {{as: root, path: "/admin/domains"}, {as: "dom", path: "/admin/domains"}},
		"/admin/domains/new":                               {{as: root, path: "/admin/domains/new"}},
		"/admin/domains/:id":                               {{as: root, path: domain}, {as: "dom", path: "/admin/domains/acme"}, {as: ann, path: "/admin/domains/acme"}},
		"/admin/domains/:id/members/:user/remove":          {{as: root, path: domain + "/members/" + f.users["7"].ID + "/remove"}},
		"/admin/domains/:id/pats":                          {{as: root, path: domain + "/pats"}, {as: root, path: "/admin/domains/acme/pats?unused=1&status=active"}},
		"/admin/domains/:id/pats/:pat":                     {{as: root, path: domain + "/pats/" + f.pat.ID}, {as: root, path: domain + "/pats/" + f.dead.ID}},
		"/admin/audit":                                     {{as: root, path: "/admin/audit"}, {as: root, path: "/admin/audit?action=pat.revoke"}},
		"/policy":                                          {{as: "pol", path: "/policy"}, {as: ann, path: "/policy"}},
		"/policy/rules":                                    {{as: "pol", path: "/policy/rules"}},
		"/policy/advice":                                   {{as: root, path: "/policy/advice?uncertain=1"}, {as: "pol", path: "/policy/advice"}},
		"/policy/decisions":                                {{as: "pol", path: "/policy/decisions"}, {as: "pol", path: "/policy/decisions?outcome=deny"}},
		"/policy/decisions/:decision":                      {{as: "pol", path: "/policy/decisions/" + f.decision}, {as: "pol", path: "/policy/decisions/0000000000000000"}},
		"/policy/refusals":                                 {{as: "pol", path: "/policy/refusals"}},
		"/policy/history":                                  {{as: "pol", path: "/policy/history"}},
		"/policy/history/diff":                             {{as: "pol", path: "/policy/history/diff?from=" + f.old + "&to=" + f.policy.Status().Active.Digest}},
		"/policy/history/rollback":                         {{as: "pol", path: "/policy/history/rollback?revision=" + f.old}},
		"/policy/shadow":                                   {{as: "pol", path: "/policy/shadow"}},
		"/policy/shadow/promote":                           {{as: "pol", path: "/policy/shadow/promote?revision=" + f.shadow}},
		"/policy/playground":                               {{as: "pol", path: "/policy/playground"}, {as: "pol", path: "/policy/playground?decision=" + f.decision}},
	}[route]
}

// identity connects somebody with a provider, and returns the id of that.
func (w *world) identity(userID string) string {
	w.t.Helper()
	one := models.Identity{Issuer: "https://login.microsoftonline.example/01234567-89ab-cdef-0123-456789abcdef/v2.0", Subject: strings.Repeat("s", 60) + userID}
	require.NoError(w.t, w.store.LinkIdentity(w.t.Context(), by, userID, one.Issuer, one.Subject))
	return one.ID()
}

// astray are addresses that no page has.
var astray = []place{{as: "root", path: "/nowhere"}, {path: "/nowhere"}, {as: "root", path: "/logout"}, {as: "ann", path: "/policy/resume"}}

// TestEveryPageIsLaidOutSoundly looks at every page of the router in four widths: no word is
// broken that fits, nothing lies on anything else, nothing scrolls sideways, and no
// script throws.
func TestEveryPageIsLaidOutSoundly(t *testing.T) {
	browser := uitest.Start(t)
	f := newBusyWorld(t)
	all := slices.Clone(astray)
	for _, r := range server.Routes() {
		if !r.Page || r.Method != http.MethodGet || r.Path == "/assets/:name" || r.Path == "/profile/data/export" {
			continue
		}
		there := f.places(r.Path)
		require.NotEmpty(t, there, "%s is a page that no test looks at: add its addresses to places", r.Path)
		all = append(all, there...)
	}
	f.clock.Advance(3 * time.Hour) // tokens and sessions have an age
	look := map[string]*reader{}
	complaints := map[string]func() []string{}
	for _, who := range []string{"", "root", "ann", "dom", "eve", "pol"} {
		look[who] = f.open(browser, uitest.Options{})
		complaints[who] = uitest.Console(t, look[who].tab)
		if who != "" {
			look[who].goTo("/login")
			look[who].signsInAs(who, "Personal access tokens")
		}
	}
	look[""].goTo("/login")
	look[""].script(`setTimeout(() => { throw new Error("on purpose") }), ""`)
	require.Eventually(t, func() bool { return len(complaints[""]()) == 1 }, soon, 5*time.Millisecond, "what scripts throw is noticed")
	for _, at := range all {
		r := look[at.as]
		t.Run(at.as+at.path, func(t *testing.T) {
			open := chromedp.Navigate(f.http.URL + at.path)
			if at.fill != nil {
				require.NoError(t, chromedp.Do(r.tab, open))
				r.sendsForm(t, at)
				open = chromedp.Steps()
			}
			for _, width := range []int64{320, 768, 1240, 1440} {
				require.NoError(t, chromedp.Do(r.tab, uitest.Look(uitest.Options{Width: width, Height: 900}), open))
				found, err := uitest.Measure(r.tab)
				require.NoError(t, err)
				assert.Empty(t, found, "at %d pixels", width)
			}
			assert.NotEmpty(t, r.script(`document.querySelector("h1")?.textContent ?? ""`), "it is no page")
			assert.Empty(t, complaints[at.as](), "what the browser complains of")
		})
	}
}

// sendsForm fills the form of the page in and sends it, and waits for what comes.
func (r *reader) sendsForm(t *testing.T, at place) {
	t.Helper()
	for name, value := range at.fill {
		r.do(chromedp.SetValue(chromedp.CSS(`form.form [name="`+name+`"]`), value))
	}
	r.script(`window.before = "1"; document.querySelector("form.form .buttons button[type=submit]").click(); ""`)
	require.Eventually(t, func() bool {
		there, err := chromedp.Run(r.tab, chromedp.Evaluate[bool](`document.readyState === "complete" && !window.before && location.pathname.endsWith("`+at.then+`")`))
		return err == nil && there
	}, soon, 20*time.Millisecond, "it leads elsewhere")
	// The guard of a secret that was not copied would hold up the navigation.
	r.script(`document.querySelector("[data-secret]")?.dispatchEvent(new Event("copy")), ""`)
}
