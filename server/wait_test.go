package server_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/models/store/storetest"
	"patrol/server"
)

// Whoever waits learns which servers know of a revocation, and never waits longer
// than any server trusts what it has cached.
func TestRevokeWaitsForAllServers(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, database string) {
		w := newWorld(t, database, func(_ *server.Config, d *server.Deps) { d.ID = "here" })
		ctx, stop := context.WithCancel(t.Context())
		see := func(id string, staleness time.Duration) {
			require.NoError(t, w.store.SeeServer(ctx, store.Server{ID: id, Name: "host-" + id + " :8080", StartedAt: time.Now(), MaxStaleness: staleness}))
		}
		see("here", time.Hour)
		revoke := func(path string, body any, by string) (out api.RevokedPAT, took time.Duration) {
			begin := time.Now()
			w.as(by).post(path+"?wait=all", body).is(200).into(&out)
			require.NotNil(t, out.Servers)
			return out, time.Since(begin)
		}

		first := w.pat("ann", "first", "acme:models:*:read")
		out, _ := revoke("/api/v1/pats/"+first.ID+"/revoke", nil, "ann")
		assert.Equal(t, models.StatusRevoked, out.Status)
		assert.Equal(t, &api.Reached{Acknowledged: 1, Lapsed: []api.Server{}}, out.Servers, "this one waits for nobody")

		// One that applies and says so, and one that stands still.
		applied := make(chan struct{})
		other := storetest.New(t, database)
		at, err := other.FeedEnd(ctx)
		require.NoError(t, err)
		see("other", time.Hour)
		go func() {
			defer close(applied)
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				page, err := other.Changes(ctx, at, 1000)
				if err == nil {
					at = page.Next
					if page.Awaited {
						_ = other.Acknowledge(ctx, "other", at)
					}
				}
				<-tick.C
			}
		}()
		defer func() { stop(); <-applied }()
		second := w.pat("ann", "second", "acme:models:*:read")
		out, took := revoke("/api/v1/pats/"+second.ID+"/revoke", api.Revocation{Reason: "it leaked"}, "root")
		assert.Equal(t, &api.Reached{Acknowledged: 2, Lapsed: []api.Server{}}, out.Servers)
		assert.Less(t, took, 30*time.Minute, "it did not wait for the time to pass")

		see("still", 100*time.Millisecond)
		for _, path := range []string{"/api/v1/pats/" + second.ID + "/revoke", "/api/v1/domains/acme/pats/" + w.pat("ann", "third", "acme:models:*:read").ID + "/revoke"} {
			out, took = revoke(path, api.Revocation{Reason: "it leaked"}, "root")
			assert.Equal(t, models.StatusRevoked, out.Status, path)
			assert.Equal(t, 2, out.Servers.Acknowledged, path)
			require.Len(t, out.Servers.Lapsed, 1, path)
			assert.Equal(t, "still", out.Servers.Lapsed[0].ID)
			assert.Equal(t, "host-still :8080", out.Servers.Lapsed[0].Name)
			assert.GreaterOrEqual(t, took, 1100*time.Millisecond, "%s: its maximum staleness and a second", path)
		}
		require.NoError(t, w.store.ForgetServer(ctx, "still"))
		out, _ = revoke("/api/v1/pats/"+second.ID+"/revoke", nil, "ann")
		assert.Empty(t, out.Servers.Lapsed)

		fourth := w.pat("ann", "fourth", "acme:models:*:read")
		p := w.as("ann").post("/api/v1/pats/"+fourth.ID+"/revoke?wait=some", nil).problem(422, models.CodeInvalid)
		require.Len(t, p.Errors, 1)
		assert.Equal(t, "wait", p.Errors[0].Field)
		w.as("eve").post("/api/v1/pats/"+fourth.ID+"/revoke?wait=all", nil).problem(404, models.CodeNotFound)
		assert.True(t, w.ask(fourth.Token, "acme:models:*:read").Allowed)
	})
}

// Cached facts do not count when the facts are to be full.
func TestAuthorizeWithFullConsistency(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, database string) {
		w := newWorld(t, database, nil)
		pat := w.pat("ann", "ci", "acme:models:*:read")
		ask := func(path, body string) (out struct {
			api.Decision
			Decisions []api.Decision `json:"decisions"`
		},
		) {
			w.with(pat.Token).post(path, body).is(200).into(&out)
			if len(out.Decisions) > 0 {
				out.Decision = out.Decisions[0]
			}
			return out
		}
		require.True(t, ask("/authorize", `{`+readModels+`}`).Allowed)
		require.True(t, ask("/authorize", `{`+readModels+`,"consistency":"full"}`).Allowed)
		require.True(t, ask("/authorize", `{`+readModels+`,"consistency":null}`).Allowed)
		require.True(t, ask("/authorize/batch", `{"requests":[{`+readModels+`}],"consistency":"full"}`).Allowed)
		// A write that no feed tells of.
		db := rawDB(t, database)
		for _, c := range []struct{ path, body, undo string }{
			{"/authorize", `{` + readModels + `,"consistency":"full"}`, "UPDATE domains SET status = 'enabled' WHERE id = 'acme'"},
			{"/authorize/batch", `{"requests":[{` + readModels + `}],"consistency":"full"}`, ""},
		} {
			_, err := db.ExecContext(t.Context(), "UPDATE domains SET status = 'disabled' WHERE id = 'acme'")
			require.NoError(t, err)
			d := ask(c.path, c.body)
			require.False(t, d.Allowed)
			assert.Equal(t, models.ReasonCode("domain_disabled"), d.Reasons[0].Code)
			assert.False(t, ask("/authorize", `{`+readModels+`}`).Allowed, "and what was cached is not used again")
			if c.undo != "" {
				_, err = db.ExecContext(t.Context(), c.undo)
				require.NoError(t, err)
				require.True(t, ask("/authorize", `{`+readModels+`,"consistency":"full"}`).Allowed)
			}
		}
		for _, bad := range []string{`"none"`, `""`, `"FULL"`} {
			for path, body := range map[string]string{
				"/authorize": `{` + readModels + `,"consistency":` + bad + `}`, "/authorize/batch": `{"requests":[{` + readModels + `}],"consistency":` + bad + `}`,
			} {
				p := w.with(pat.Token).post(path, body).problem(422, models.CodeInvalid)
				require.Len(t, p.Errors, 1)
				assert.Equal(t, "consistency", p.Errors[0].Field)
			}
		}
		w.with(pat.Token).post("/authorize", `{`+readModels+`,"consistency":1}`).is(422)
		w.with(pat.Token).post("/authorize/batch", `{"requests":[{`+readModels+`,"consistency":"full"}]}`).is(422)
	})
}

// rawDB opens the database past the store.
func rawDB(t *testing.T, databaseURL string) *sql.DB {
	t.Helper()
	driver, dsn := "pgx", databaseURL
	if path, ok := strings.CutPrefix(databaseURL, "sqlite://"); ok {
		driver, dsn = "sqlite", (&url.URL{Scheme: "file", Path: path}).String()
	}
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// A create costs at most ten round trips to the database, the session and all
// included.
func TestCreateCostsFewRoundTrips(t *testing.T) {
	cluster := testenv.NewCluster(t)
	proxy := testenv.NewProxy(t, cluster.Addr())
	w := newWorld(t, cluster.URLAt(proxy.Addr()), nil)
	w.pat("ann", "first", "acme:models:*:read")
	const creates = 20
	best := 0.0
	for attempt := range 3 { // what runs beside it makes round trips, too
		before := proxy.Trips()
		for i := range creates {
			w.pat("ann", fmt.Sprint(attempt, " ", i), "acme:models:*:read", "acme:datasets:*:read")
		}
		if each := float64(proxy.Trips()-before) / creates; best == 0 || each < best {
			best = each
		}
	}
	t.Logf("%.1f round trips for a create, and what runs beside it", best)
	assert.LessOrEqual(t, best, 10.0)
}
