package server_test

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/bundles"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine"
	"patrol/server"
	"patrol/server/manage"
)

// serveCredential is the credential with which edge replicas fetch the bundle.
const serveCredential = "edge-credential-of-32-characters!"

func withServeCredential(c *server.Config, _ *server.Deps) { c.BundleCredential = serveCredential }

func (w *world) policyNow() (out api.Policy) {
	w.t.Helper()
	w.as("pol").get("/api/v1/policy").is(200).into(&out)
	return out
}

func (w *world) policyHistory() (out api.PolicyHistory) {
	w.t.Helper()
	w.as("pol").get("/api/v1/policy/history").is(200).into(&out)
	return out
}

func TestPolicyInForce(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		p := w.policyNow()
		assert.Equal(t, "embedded", p.Source)
		assert.Equal(t, w.policy.Engine().Current().Revision(), p.Revision)
		assert.True(t, p.SourceStatus.Reached)
		assert.NotNil(t, p.SourceStatus.CheckedAt)
		assert.Nil(t, p.SourceStatus.Pending)
		assert.Empty(t, p.Refusals)
		assert.False(t, p.Pinned)

		digest := w.ships("v2", nil)
		p = w.policyNow()
		assert.Equal(t, "v2", p.Revision)
		assert.Equal(t, digest, p.Digest)
		assert.Equal(t, "https://bundles.example.com/p.tar.gz", p.Source)
		assert.Equal(t, "release", p.SignedBy)
		assert.Equal(t, w.clock.Now().UTC(), p.Since)
		require.NotNil(t, p.Result.Tests)
		assert.Equal(t, api.PolicyTests{Passed: 12, Skipped: 1}, *p.Result.Tests)
		require.NotNil(t, p.Result.Coverage)
		assert.InDelta(t, 97.5, *p.Result.Coverage, 0)

		// The last refusals, the latest first, with where and why.
		for _, revision := range []string{"v3", "v4", "v5", "v6", "v7", "v8"} {
			require.NoError(t, manage.PolicyLedger(w.store).Refuse(t.Context(), bundles.Record{
				Digest: "sha256:" + revision, Revision: revision, Source: "https://bundles.example.com/p.tar.gz",
				Result: bundles.Result{Findings: []engine.Finding{{Stage: "compile", File: "authz/authz.rego", Line: 7, Code: "rego_type_error", Message: "undefined function"}}},
			}))
		}
		p = w.policyNow()
		assert.Equal(t, "v2", p.Revision)
		require.Len(t, p.Refusals, 5)
		assert.Equal(t, "v8", p.Refusals[0].Revision)
		assert.Equal(t, "v4", p.Refusals[4].Revision)
		assert.Equal(t, models.ActorSystem, p.Refusals[0].Actor)
		assert.Equal(t, []api.PolicyFinding{{Stage: "compile", File: "authz/authz.rego", Line: 7, Code: "rego_type_error", Message: "undefined function"}}, p.Refusals[0].Result.Findings)
	})
}

func TestPolicyRollsBack(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		digests := map[string]string{}
		for _, revision := range []string{"v2", "v3"} {
			digests[revision] = w.ships(revision, nil)
			w.clock.Advance(time.Second)
		}
		w.ships("v3", func(files map[string][]byte) { files["x/x.rego"] = []byte("package patrol.x\n") })
		h := w.policyHistory()
		require.Len(t, h.Kept, 4)
		assert.True(t, h.Kept[0].Active)
		assert.Equal(t, "v3", h.Kept[0].Revision)
		assert.False(t, h.Kept[1].Active)

		for name, c := range map[string]struct {
			body   any
			status int
			code   models.Code
			says   string
		}{
			"nothing":           {`{}`, 422, models.CodeInvalid, ""},
			"one that is gone":  {api.PolicyRollback{Revision: "v1"}, 404, models.CodeNotFound, "no such revision of the policy is kept"},
			"a name of several": {api.PolicyRollback{Revision: "v3"}, 409, models.CodeConflict, digests["v3"]},
			"not a text":        {`{"revision": 3}`, 422, models.CodeInvalid, ""},
			"something else":    {`{"revision": "v2", "force": true}`, 422, models.CodeInvalid, ""},
			"no JSON":           {`{`, 400, models.CodeMalformed, ""},
		} {
			got := w.as("pol").post("/api/v1/policy/rollback", c.body).problem(c.status, c.code)
			assert.Contains(t, got.Detail, c.says, name)
		}
		assert.Equal(t, "v3", w.policyNow().Revision)
		assert.False(t, w.policyNow().Pinned)

		var p api.Policy
		w.as("pol").post("/api/v1/policy/rollback", api.PolicyRollback{Revision: "v2"}).is(200).into(&p)
		assert.Equal(t, "v2", p.Revision)
		assert.True(t, p.Pinned)
		assert.Equal(t, "v2", w.policy.Engine().Current().Revision(), "it is in force when that is answered")
		assert.Equal(t, "v2", w.ask(w.pat("ann", "ci", "acme:models:*:read").Token, "acme:models:m:read").Revision)
		w.as("root").post("/api/v1/policy/rollback", api.PolicyRollback{Revision: digests["v3"]}).is(200).into(&p)
		assert.Equal(t, digests["v3"], p.Digest)

		w.as("pol").post("/api/v1/policy/resume", nil).is(200).into(&p)
		assert.False(t, p.Pinned)
		assert.Equal(t, digests["v3"], p.Digest, "until the source has another")

		h = w.policyHistory()
		var happened []string
		for _, e := range h.Events[:3] {
			happened = append(happened, e.Kind+" "+e.Revision+" "+string(e.Actor)+" "+e.UserID)
		}
		pol, root := w.users["pol"].ID, w.users["root"].ID
		assert.Equal(t, []string{"resume v3 user " + pol, "rollback v3 user " + root, "rollback v2 user " + pol}, happened)
		audited, _, err := w.store.AuditEvents(t.Context(), store.AuditFilter{Action: "policy.rollback"}, store.Page{})
		require.NoError(t, err)
		require.Len(t, audited, 2)
		assert.Equal(t, "policy:"+digests["v3"], audited[0].Subject)
		assert.Equal(t, "v2", audited[0].Detail["before"])
	})
}

const bundlePath = "/api/v1/policy/bundle"

func TestPolicyBundle(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		digest := w.ships("v2", nil)
		a := w.as("pol").get(bundlePath).is(200)
		etag := strconv.Quote(bundles.ArchiveDigest(a.body))
		assert.Equal(t, etag, a.header.Get("ETag"))
		assert.Equal(t, "application/vnd.openpolicyagent.bundles", a.header.Get("Content-Type"))
		assert.Equal(t, "private, no-cache", a.header.Get("Cache-Control"))
		assert.Equal(t, strconv.Itoa(len(a.body)), a.header.Get("Content-Length"))
		b, err := bundles.Unpack(t.Context(), "served", a.body, nil)
		require.NoError(t, err)
		assert.Equal(t, digest, b.Digest())

		for tags, status := range map[string]int{
			etag: 304, "W/" + etag: 304, `"other", ` + etag: 304, "*": 304, `"other"`: 200, bundles.ArchiveDigest(a.body): 200, "": 200,
		} {
			got := w.as("pol").set("If-None-Match", tags).get(bundlePath).is(status)
			assert.Equal(t, etag, got.header.Get("ETag"), tags)
			assert.Equal(t, status == 200, len(got.body) > 0, tags)
		}
		w.ships("v3", nil)
		got := w.as("pol").set("If-None-Match", etag).get(bundlePath).is(200)
		assert.NotEqual(t, etag, got.header.Get("ETag"))
	})
}

func TestPolicyBundleCredential(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), withServeCredential)
	w.with(serveCredential).get(bundlePath).is(200)
	for _, wrong := range []string{serveCredential + "x", serveCredential[1:], "x"} {
		w.with(wrong).get(bundlePath).is(401)
	}
	for _, path := range []string{"/api/v1/policy", "/api/v1/policy/history", "/api/v1/me", "/api/v1/users"} {
		w.with(serveCredential).get(path).is(401)
	}
	w.with(serveCredential).post("/api/v1/policy/rollback", api.PolicyRollback{Revision: "v1"}).is(401)
	assert.NotContains(t, w.logs.String(), serveCredential)

	without := newWorld(t, testenv.SQLite(t), nil)
	without.with(serveCredential).get(bundlePath).is(401)
	without.with("").get(bundlePath).is(401)
}

// waiter is one who asks for the bundle and is told the tag of what it has.
type waiter struct {
	status int
	etag   string
	took   time.Duration
	err    error
}

// waits asks for another bundle than the one in force, for at most so many seconds.
func (w *world) waits(ctx context.Context, prefer string) <-chan waiter {
	_, digest, _ := w.policy.Archive()
	done := make(chan waiter, 1)
	go func() {
		begin := time.Now()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.http.URL+bundlePath, nil)
		if err != nil {
			done <- waiter{err: err}
			return
		}
		req.Header.Set("Authorization", "Bearer "+serveCredential)
		req.Header.Set("If-None-Match", strconv.Quote(digest))
		req.Header.Set("Prefer", prefer)
		resp, err := w.http.Client().Do(req)
		if err != nil {
			done <- waiter{err: err}
			return
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		done <- waiter{status: resp.StatusCode, etag: resp.Header.Get("ETag"), took: time.Since(begin), err: err}
	}()
	return done
}

// waiting waits until so many are waiting for another policy.
func (w *world) waiting(n int) {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return w.server.WaitingForPolicy() == n }, time.Minute, time.Millisecond)
}

func TestPolicyBundleLongPolling(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), withServeCredential)

	// The wait ends when another policy is in force.
	for _, prefer := range []string{"wait=60", "modes=snapshot;wait=60", "respond-async, WAIT=60"} {
		waits := w.waits(t.Context(), prefer)
		w.waiting(1)
		w.ships("after "+prefer[:4]+strconv.Itoa(len(prefer)), nil)
		got := <-waits
		require.NoError(t, got.err)
		assert.Equal(t, 200, got.status, prefer)
		_, digest, _ := w.policy.Archive()
		assert.Equal(t, strconv.Quote(digest), got.etag)
		assert.Less(t, got.took, 50*time.Second)
	}

	// Or when the time is up.
	got := <-w.waits(t.Context(), "wait=1")
	require.NoError(t, got.err)
	assert.Equal(t, 304, got.status)
	assert.GreaterOrEqual(t, got.took, time.Second)

	// Nobody waits who does not ask to, or who has something else.
	for _, prefer := range []string{"", "wait=0", "wait=-5", "wait=soon", "wait=99999999999"} {
		got := <-w.waits(t.Context(), prefer)
		require.NoError(t, got.err)
		assert.Equal(t, 304, got.status, prefer)
	}
	w.with(serveCredential).set("If-None-Match", `"other"`).set("Prefer", "wait=60").get(bundlePath).is(200)

	// A client that goes away frees its place.
	ctx, cancel := context.WithCancel(t.Context())
	gone := w.waits(ctx, "wait=60")
	w.waiting(1)
	cancel()
	require.Error(t, (<-gone).err)
	w.waiting(0)
}

// TestPolicyBundleWaiters holds that so many may wait at a time, that others are
// answered at once, and that all hear of another policy.
func TestPolicyBundleWaiters(t *testing.T) {
	const limit = 256
	w := newWorld(t, testenv.SQLite(t), withServeCredential)
	var all []<-chan waiter
	for range limit {
		all = append(all, w.waits(t.Context(), "wait=120"))
	}
	w.waiting(limit)
	var more sync.WaitGroup
	for range 5 {
		more.Go(func() {
			got := <-w.waits(t.Context(), "wait=120")
			assert.NoError(t, got.err)
			assert.Equal(t, 304, got.status)
			assert.Less(t, got.took, time.Minute)
		})
	}
	more.Wait()
	assert.Equal(t, limit, w.server.WaitingForPolicy())
	w.ships("v2", nil)
	for _, waits := range all {
		got := <-waits
		require.NoError(t, got.err)
		assert.Equal(t, 200, got.status)
	}
	w.waiting(0)
}

// TestEdgeReplica holds that a server follows another one's policy, at once.
func TestEdgeReplica(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), withServeCredential)
	source, err := bundles.NewSource(bundles.Options{
		Source: w.http.URL + bundlePath, Interval: time.Hour, // only long polling is fast
		URL: bundles.URLOptions{Credential: serveCredential, Wait: time.Minute, Timeout: time.Minute},
	})
	require.NoError(t, err)
	b, err := source.Next(t.Context())
	require.NoError(t, err)
	assert.Equal(t, w.policy.Status().Active.Digest, b.Digest())
	for _, revision := range []string{"v2", "v3"} {
		heard := make(chan *bundles.Bundle, 1)
		go func() {
			b, err := source.Next(t.Context())
			assert.NoError(t, err)
			heard <- b
		}()
		w.waiting(1)
		w.ships(revision, nil)
		require.Equal(t, revision, (<-heard).Revision())
	}
}
