package server_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
)

// Owners remove the records of their dead tokens on a page, platform admins those of a user or of all.
func TestDeadTokensArePurgedOnPages(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		there := func(id string) bool {
			pat, err := w.store.PAT(t.Context(), id)
			require.NoError(t, err)
			return pat != nil
		}
		dead := func(name, title string) string {
			pat := w.pat(name, title, "acme:models:*:read")
			w.as(name).post("/api/v1/pats/"+pat.ID+"/revoke", nil).is(200)
			return pat.ID
		}
		w.member("root", "acme", "admin")
		old, other, roots := dead("ann", "old"), dead("dom", "of dom"), dead("root", "of root")
		alive := w.pat("ann", "alive", "acme:models:*:read")
		w.clock.Advance(8 * 24 * time.Hour)
		w.sessions = map[string]string{}
		young := dead("ann", "young")

		ann := w.visit("ann")
		assert.Contains(t, ann.get("/profile/pats").is(200).text, `href="/profile/pats/purge"`)
		for _, nothing := range []url.Values{{}, {"older_than": {""}}, {"older_than": {"soon"}}, {"older_than": {"-1h"}}} {
			assert.Contains(t, ann.post("/profile/pats/purge", nothing).is(422).text, "Older than")
		}
		assert.True(t, there(old))
		assert.Equal(t, "30d", ann.get("/profile/pats/purge").is(200).value("older_than"))
		ann.post("/profile/pats/purge", url.Values{"older_than": {"30d"}}).leadsTo("/profile/pats")
		assert.Contains(t, ann.get("/profile/pats").text, "No token has been dead for so long.")
		ann.post("/profile/pats/purge", url.Values{"older_than": {"7d"}}).leadsTo("/profile/pats")
		assert.Contains(t, ann.get("/profile/pats").text, "1 record is removed.")
		assert.False(t, there(old))
		assert.True(t, there(young) && there(other) && there(alive.ID))

		root := w.visit("root")
		for _, unclear := range []string{"", "?all=false", "?all=true&user=" + w.users["dom"].ID, "?user="} {
			root.get("/admin/pats/purge" + unclear).is(422)
		}
		root.get("/admin/pats/purge?user=nobody").is(404)
		root.post("/admin/pats/purge", url.Values{"older_than": {"any"}}).is(422)
		ann.post("/admin/pats/purge", url.Values{"older_than": {"any"}, "all": {"true"}}).is(403)
		page := "/admin/users/" + w.users["dom"].ID
		assert.Contains(t, root.get(page).is(200).text, "/admin/pats/purge?user="+w.users["dom"].ID)
		root.post("/admin/pats/purge", url.Values{"older_than": {"any"}, "user": {w.users["dom"].ID}}).leadsTo(page)
		assert.False(t, there(other))
		assert.True(t, there(young) && there(roots))
		root.post("/admin/pats/purge", url.Values{"older_than": {"any"}, "all": {"true"}}).leadsTo("/admin/pats")
		assert.Contains(t, root.get("/admin/pats").is(200).text, "2 records are removed.")
		assert.False(t, there(young) || there(roots))
		assert.True(t, there(alive.ID))
	})
}

// What a list's address says and the page does not know is refused with its name, as by the API.
func TestFiltersOfPagesRefuseWhatTheyDoNotKnow(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	root := w.visit("root")
	for path, says := range map[string]string{
		"/admin/audit?since=yesterday":       "since must be a day",
		"/admin/audit?until=2026-13-01":      "until must be a day",
		"/admin/audit?actions=x":             "actions is not a parameter",
		"/policy/advice?days=31":             "days must be one of 30, 7, 90, 180, 365",
		"/policy/advice?uncertain=yes":       "uncertain must be 1",
		"/policy/decisions?outcome=denied":   "Outcome must be one of allow, deny, error",
		"/policy/decisions?since=whenever":   "Since must be a time",
		"/policy/decisions?until=whenever":   "Until must be a time",
		"/policy/refusals?since=24h":         "since is not a parameter",
		"/admin/pats?status=living":          "status must be one of",
		"/profile/pats?sort=name":            "sort must be one of",
		"/admin/domains/acme/pats?approval=": "",
	} {
		page := root.get(path)
		if says == "" { // an empty field of a filter
			page.is(200)
			continue
		}
		assert.Contains(t, page.is(422).text, strings.ToUpper(says[:1])+says[1:], path)
	}
	for _, path := range []string{"/admin/audit?since=2026-01-31&until=", "/policy/advice?days=90&uncertain=1&domain="} {
		root.get(path).is(200)
	}
}
