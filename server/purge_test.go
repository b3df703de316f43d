package server_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
)

// Owners remove the records of their own dead tokens, platform admins those of
// anybody, and nobody else any.
func TestPurge(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, database string) {
		w := newWorld(t, database, nil)
		w.member("dom", "beta", "member")
		dead := func(name, title string) api.PAT {
			p := w.pat(name, title, "acme:models:*:read")
			w.as(name).post("/api/v1/pats/"+p.ID+"/revoke", nil).is(200)
			return p
		}
		left := func(name string) (titles []string) {
			var page struct{ Items []api.PAT }
			w.as(name).get("/api/v1/pats").is(200).into(&page)
			for _, p := range page.Items {
				titles = append(titles, p.Name)
			}
			return titles
		}
		purged := func(a *answer) api.Purged {
			var out api.Purged
			a.is(200).into(&out)
			return out
		}
		const own, anybodys = "/api/v1/pats/purge", "/api/v1/admin/pats/purge"
		live := w.pat("ann", "live", "acme:models:*:read")
		first := dead("ann", "first")
		dead("dom", "of the domain's admin")
		w.clock.Advance(time.Hour)
		w.freshen("ann")
		dead("ann", "second")

		// No call of another user deletes anything.
		refused := []struct {
			name, path string
			in         any
			status     int
			code       models.Code
		}{
			{"", own, nil, 401, models.CodeUnauthenticated},
			{"", anybodys, api.Purge{All: true}, 401, models.CodeUnauthenticated},
			{"ann", anybodys, api.Purge{All: true}, 403, models.CodeForbidden},
			{"ann", anybodys, api.Purge{UserID: w.users["ann"].ID}, 403, models.CodeForbidden},
			{"dom", anybodys, api.Purge{UserID: w.users["ann"].ID}, 403, models.CodeForbidden}, // admin of her domain, not of the platform
			{"pol", anybodys, api.Purge{All: true}, 403, models.CodeForbidden},
			{"ann", own, map[string]string{"user_id": w.users["dom"].ID}, 422, models.CodeInvalid},
			{"ann", own, `{"older_than": "-1h"}`, 422, models.CodeInvalid},
			{"ann", own, `{"older_than": "soon"}`, 422, models.CodeInvalid},
			{"root", anybodys, api.Purge{}, 422, models.CodeInvalid},
			{"root", anybodys, nil, 400, models.CodeMalformed},
			{"root", anybodys, api.Purge{All: true, UserID: w.users["ann"].ID}, 422, models.CodeInvalid},
			{"root", anybodys, api.Purge{All: true, OlderThan: "soon"}, 422, models.CodeInvalid},
			{"root", anybodys, api.Purge{UserID: "nobody"}, 404, models.CodeNotFound},
		}
		for i, c := range refused {
			t.Run(fmt.Sprint("refused ", i, " ", c.name), func(t *testing.T) {
				a := w.as(c.name).post(c.path, c.in)
				assert.Equal(t, c.status, a.status, "%s", a.body)
				assert.Contains(t, string(a.body), string(c.code))
			})
		}
		for _, path := range []string{own, anybodys} { // a token is no session, least of all to get rid of traces
			w.with(live.Token).post(path, nil).is(403)
		}
		require.ElementsMatch(t, []string{"second", "first", "live"}, left("ann"))
		require.Len(t, left("dom"), 1)

		assert.Zero(t, purged(w.as("ann").post(own, api.Purge{OlderThan: "2h"})).Purged)
		assert.Equal(t, api.Purged{Purged: 1}, purged(w.as("ann").post(own, map[string]string{"older_than": "30m"})))
		assert.ElementsMatch(t, []string{"second", "live"}, left("ann"), "by age")
		gone := w.ask(first.Token, "acme:models:*:read")
		assert.Equal(t, 401, gone.Status)
		require.Len(t, gone.Reasons, 1)
		assert.Equal(t, models.TokenUnknown, gone.Reasons[0].Code)
		assert.Equal(t, api.Purged{Purged: 1}, purged(w.as("ann").post(own, nil)))
		assert.Equal(t, []string{"live"}, left("ann"))
		assert.Len(t, left("dom"), 1, "another user's stay")
		assert.True(t, w.ask(live.Token, "acme:models:*:read").Allowed)

		dead("ann", "third")
		assert.Equal(t, api.Purged{Purged: 1}, purged(w.as("root").post(anybodys, api.Purge{UserID: w.users["dom"].ID})))
		assert.Empty(t, left("dom"))
		assert.ElementsMatch(t, []string{"third", "live"}, left("ann"), "only that user's")
		assert.Equal(t, api.Purged{Purged: 1}, purged(w.as("root").post(anybodys, api.Purge{All: true})))
		assert.Equal(t, []string{"live"}, left("ann"))
		var audit struct{ Items []api.AuditEvent }
		w.as("root").get("/api/v1/admin/audit?action=pat.purge").is(200).into(&audit)
		assert.Len(t, audit.Items, 4)
	})
}
