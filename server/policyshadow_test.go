package server_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/bundles"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/server"
	"patrol/server/manage"
	"patrol/server/shadow"
)

// shadows makes the default policy under another revision the shadow, with a rule that
// denies entity `secret`.
func (w *world) shadows(revision string) bundles.Record {
	w.t.Helper()
	own, err := bundles.Read(w.t.Context(), "", nil)
	require.NoError(w.t, err)
	own.Files[".manifest"] = []byte(`{"revision": "` + revision + `", "roots": ["patrol"]}`)
	own.Files["custom/custom.rego"] = []byte(`package patrol.custom

reason := {"code": "secret", "message": "It is secret."} if input.request.entity == "secret"
`)
	dir := w.t.TempDir()
	for name, content := range own.Files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(w.t, os.MkdirAll(filepath.Dir(file), 0o700))
		require.NoError(w.t, os.WriteFile(file, content, 0o600))
	}
	b, err := bundles.Read(w.t.Context(), dir, nil)
	require.NoError(w.t, err)
	r := bundles.Record{
		Digest: b.Digest(), ArchiveDigest: bundles.ArchiveDigest(b.Archive), Revision: revision, Source: "/etc/shadow-policy",
		Result: bundles.Result{Passed: true, Tests: &bundles.Tests{Passed: 12}},
	}
	require.NoError(w.t, manage.ShadowLedger(w.store).Place(w.t.Context(), r, b.Archive))
	w.clock.Advance(time.Second)
	return r
}

// counted counts decisions that a shadow would have denied, under the policy in force.
func (w *world) counted(digest string, same, denied int64) {
	w.t.Helper()
	now := w.clock.Now()
	base := w.policy.Status().Active.Revision
	require.NoError(w.t, w.store.AddShadowCounts(w.t.Context(), digest, []models.ShadowCount{
		{Base: base, Kind: models.ShadowSame, Rules: json.RawMessage(`[]`), Count: same, FirstAt: now, LastAt: now},
		{Base: base, Kind: models.ShadowDropped, Rules: json.RawMessage(`[]`), Count: 3, FirstAt: now, LastAt: now},
		{
			Base: base, Kind: "newly_denied", Reasons: "secret", Rules: json.RawMessage(`[{"code":"secret","title":"It is secret","file":"custom/custom.rego","line":3}]`),
			Count: denied, FirstAt: now, LastAt: now,
			Examples: []models.Divergence{{ID: "d1", At: now, Request: "acme:models:secret:read", TokenID: "t1", UserID: "u1", Before: []models.ReasonCode{}, After: []models.ReasonCode{"secret"}}},
		},
		{Base: "of before", Kind: models.ShadowSame, Rules: json.RawMessage(`[]`), Count: 1000, FirstAt: now, LastAt: now},
	}))
}

// ownShadow is the shadow of a server that a test makes up.
type ownShadow struct{ status shadow.Status }

func (s *ownShadow) Status() shadow.Status { return s.status }

func TestTheShadowCanBeLookedAt(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		own := &ownShadow{}
		w := newWorld(t, dbURL, func(_ *server.Config, d *server.Deps) { d.Shadow = own })
		var got api.PolicyShadow
		w.as("pol").get("/api/v1/policy/shadow").is(200).into(&got)
		assert.Nil(t, got.Shadow)
		assert.Empty(t, got.Groups)

		r := w.shadows("v9")
		w.counted(r.Digest, 40, 2)
		w.as("pol").get("/api/v1/policy/shadow").is(200).into(&got)
		require.NotNil(t, got.Shadow)
		assert.Equal(t, []string{"v9", r.Digest, "/etc/shadow-policy"}, []string{got.Shadow.Revision, got.Shadow.Digest, got.Shadow.Source})
		assert.Equal(t, 12, got.Shadow.Result.Tests.Passed)
		assert.Equal(t, []int64{42, 40, 2, 3, 2}, []int64{got.Counts.Judged, got.Counts.Same, got.Counts.NewlyDenied, got.Counts.Dropped, got.Counts.Changes()})
		require.Len(t, got.Groups, 1)
		assert.Equal(t, []api.PolicyReplayReason{{Code: "secret", Title: "It is secret", File: "custom/custom.rego", Line: 3}}, got.Groups[0].Reasons)
		require.Len(t, got.Latest, 1)
		assert.Equal(t, "d1", got.Latest[0].ID)
		assert.False(t, got.Server.Judging)

		// A server that judges by another one, such as in the middle of a change, tells of its own.
		other := w.shadows("v10")
		own.status = shadow.Status{
			ShadowStatus: bundles.ShadowStatus{
				Source: bundles.SourceStatus{Name: "/etc/shadow-policy", Reached: true}, Candidate: &bundles.Candidate{Record: r},
				Refused: &bundles.Record{Result: bundles.Result{}},
			},
			Sample: 50, Judging: true,
		}
		w.as("pol").get("/api/v1/policy/shadow").is(200).into(&got)
		assert.Equal(t, "v9", got.Shadow.Revision)
		assert.Equal(t, 50, got.Server.Sample)
		assert.True(t, got.Server.Judging)
		assert.False(t, got.Server.Refused.Passed)
		own.status = shadow.Status{}
		w.as("pol").get("/api/v1/policy/shadow").is(200).into(&got)
		assert.Equal(t, other.Digest, got.Shadow.Digest)
	})
}

func TestTheShadowIsPromotedOnAllServers(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		second := w.secondDelivery()
		r := w.shadows("v9")
		w.counted(r.Digest, 40, 2)
		pat := w.pat("ann", "ci", "acme:models:*:read")
		allowed := func() (d api.Decision) {
			w.as("").send("POST", "/authorize", map[string]any{
				"token": pat.Token, "domain": "acme", "entity_type": "models", "entity": "secret", "operation": "read",
			}).is(200).into(&d)
			return d
		}
		assert.True(t, allowed().Allowed)
		none := int64(0)
		w.as("pol").post("/api/v1/policy/promote", api.PolicyPromotion{}).problem(422, models.CodeInvalid)
		w.as("pol").post("/api/v1/policy/promote", api.PolicyPromotion{Revision: "v8"}).problem(409, models.CodeConflict)
		w.as("pol").post("/api/v1/policy/promote", api.PolicyPromotion{Revision: r.Digest, MaxChanges: &none}).problem(409, models.CodeConflict)
		assert.True(t, allowed().Allowed, "what is refused changes nothing")

		var got api.Policy
		began := time.Now()
		w.as("pol").post("/api/v1/policy/promote", api.PolicyPromotion{Revision: r.Digest}).is(200).into(&got)
		assert.Equal(t, []any{"v9", true, true, "/etc/shadow-policy"}, []any{got.Revision, got.Pinned, got.Promoted, got.Source})
		assert.Equal(t, 12, got.Result.Tests.Passed)
		now := allowed()
		assert.Equal(t, []any{false, "v9", models.ReasonCode("secret")}, []any{now.Allowed, now.Revision, now.Reasons[0].Code})
		require.Eventually(t, func() bool { return second.Engine().Current().Revision() == "v9" }, 10*time.Second, time.Millisecond)
		t.Logf("in force on the other server after %s", time.Since(began))
		w.as("pol").post("/api/v1/policy/promote", api.PolicyPromotion{Revision: "v9"}).problem(409, models.CodeConflict)
		var looked api.PolicyShadow
		w.as("pol").get("/api/v1/policy/shadow").is(200).into(&looked)
		assert.True(t, looked.InForce)
		assert.Zero(t, looked.Counts.Judged, "what it was compared with is not in force any more")

		events, _, err := w.store.AuditEvents(t.Context(), store.AuditFilter{Action: "policy.promote"}, store.Page{})
		require.NoError(t, err)
		require.Len(t, events, 1)
		assert.Equal(t, w.users["pol"].ID, events[0].Actor.UserID)
		assert.Equal(t, "2", events[0].Detail["shadow_newly_denied"])

		// The embedded policy, which the source of both has, is another one: it waits.
		assert.True(t, second.Status().Active.Promoted)
		w.as("pol").post("/api/v1/policy/rollback", map[string]string{"revision": r.Digest}).is(200).into(&got)
		assert.False(t, got.Promoted, "to go back to what is in force pins it for good")
		w.as("pol").post("/api/v1/policy/resume", nil).is(200)
		require.Eventually(t, func() bool { return second.Engine().Current().Revision() != "v9" }, 10*time.Second, time.Millisecond)
	})
}

// secondDelivery is another server's on the same database.
func (w *world) secondDelivery() *bundles.Delivery {
	w.t.Helper()
	s, err := store.Open(w.t.Context(), store.Config{URL: w.dbURL, Clock: w.clock.Now})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { assert.NoError(w.t, s.Close()) })
	source, err := bundles.NewSource(bundles.Options{})
	require.NoError(w.t, err)
	gate, err := bundles.NewGate(bundles.GateConfig{})
	require.NoError(w.t, err)
	d, err := bundles.Begin(w.t.Context(), bundles.Config{
		Source: source, Gate: gate, Ledger: manage.PolicyLedger(s), StartTimeout: time.Minute, Sync: 500 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(w.t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.Run(ctx)
	}()
	w.t.Cleanup(func() {
		stop()
		<-ended
	})
	return d
}

func TestWhatAServerCannotLoadIsNotPromoted(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	r := w.shadows("v9")
	before := w.policy.Status().Active.Digest
	r.ArchiveDigest, r.Revision = "sha256:damaged", "v10"
	require.NoError(t, manage.ShadowLedger(w.store).Place(t.Context(), r, []byte("no archive")))
	a := w.as("pol").post("/api/v1/policy/promote", api.PolicyPromotion{Revision: r.Digest})
	a.problem(409, models.CodeConflict)
	assert.Contains(t, string(a.body), "this server could not put it in force")
	state, err := w.store.PolicyState(t.Context())
	require.NoError(t, err)
	assert.Equal(t, before, state.Digest)
}
