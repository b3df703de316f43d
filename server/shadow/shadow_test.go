package shadow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bundles"
	"patrol/bundles/sandbox"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/policies"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
	"patrol/server/authz"
	"patrol/server/decisionlog"
	"patrol/server/shadow"
)

// TestMain lets the test binary be the processes that check and judge.
func TestMain(m *testing.M) {
	if sandbox.IsChild(os.Args[1:]) {
		os.Exit(sandbox.Main(os.Args[1:], bundles.Jobs(), os.Stdin, os.Stdout, os.Stderr))
	}
	sandbox.Replace(testenv.Program())
	os.Exit(m.Run())
}

// rule is a file with a rule of one's own, which denies for a reason while the
// condition holds.
func rule(code, condition string) map[string]string {
	return map[string]string{"custom/custom.rego": fmt.Sprintf(`package patrol.custom

# METADATA
# title: What %[1]s is about
# custom:
#   code: %[1]s
#   message: It is not to be.
reason := {"code": %[1]q, "message": "It is not to be."} if {
	%[2]s
}
`, code, condition)}
}

// files is the default policy with some files in place of its own. Of its tests, which
// take a while, it has few.
func files(t testing.TB, changed map[string]string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	require.NoError(t, fs.WalkDir(policies.FS, ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && !strings.HasSuffix(path, "_test.rego") {
			all[path], err = policies.FS.ReadFile(path)
		}
		return err
	}))
	all["few_test.rego"] = []byte(fewTests)
	for name, text := range changed {
		all[name] = []byte(text)
	}
	return all
}

// fewTests say as much about a policy as the gate demands.
const fewTests = `package patrol.few_test

import data.patrol.authz
import data.patrol.http

asked := {
	"request": {"domain": "acme", "entity_type": "models", "entity": "m", "operation": "read", "context": {}},
	"token": {
		"id": "t", "name": "ci", "revoked": false, "created_at": 1790000000, "expires_at": 1792592000,
		"scopes": {"acme": {"models": {"read": {"*": "s"}}}},
	},
	"user": {"id": "u", "email": "a@example.com", "admin": false, "disabled": false},
	"domain": {"id": "acme", "status": "enabled"},
	"membership": {"role": "member"},
	"now": 1790500000,
}

test_allow if authz.decision.allow with input as asked

test_deny if not authz.decision.allow with input as object.union(asked, {"now": 1792592000})

path(p) := {"http": {"method": "GET", "path": p, "segments": split(trim(p, "/"), "/"), "query": {}, "headers": {}}}

test_route if http.request.operation == "read" with input as path("/v1/models")

test_no_route if not http.request with input as path("/nowhere/at/all")
`

func load(t testing.TB, changed map[string]string) *engine.Snapshot {
	t.Helper()
	s, err := engine.Load(t.Context(), engine.Source{Name: "test", Files: files(t, changed)}, engine.WithTimeout(time.Minute))
	require.NoError(t, err)
	return s
}

// ledger is a ledger, and a store of counts, in memory.
type ledger struct {
	mu      sync.Mutex
	placed  []bundles.Record
	refused []bundles.Record
	counts  map[string][]models.ShadowCount // by digest
	fail    error
}

func (l *ledger) Place(_ context.Context, r bundles.Record, _ []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.placed = append(l.placed, r)
	return nil
}

func (l *ledger) Refuse(_ context.Context, r bundles.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = append(l.refused, r)
	return nil
}

func (l *ledger) AddShadowCounts(_ context.Context, digest string, counts []models.ShadowCount) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	l.counts[digest] = append(l.counts[digest], counts...)
	return nil
}

// sums adds up what is counted of a shadow, by kind and reasons.
func (l *ledger) sums(digest string) map[string]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	sums := map[string]int64{}
	for _, c := range l.counts[digest] {
		key := c.Kind
		if c.Reasons != "" {
			key += " " + c.Reasons
		}
		sums[key] += c.Count
	}
	return sums
}

func (l *ledger) total() (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, counts := range l.counts {
		for _, c := range counts {
			n += c.Count
		}
	}
	return n
}

func (l *ledger) examples(digest, kind string) (all []models.Divergence) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.counts[digest] {
		if c.Kind == kind {
			all = append(all, c.Examples...)
		}
	}
	return all
}

func (l *ledger) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// bed is a shadow beside a policy in force.
type bed struct {
	*shadow.Shadow
	t       testing.TB
	ledger  *ledger
	policy  *engine.Engine
	folder  string
	active  string // digest of the policy in force
	metrics *prometheus.Registry
	next    int

	facts engine.Facts
}

type setup struct {
	active, candidate map[string]string // files in place of the default policy's
	config            func(*shadow.Config)
	recorder          authz.Recorder
}

func newBed(t testing.TB, c setup) *bed {
	t.Helper()
	b := &bed{
		t: t, ledger: &ledger{counts: map[string][]models.ShadowCount{}}, policy: engine.New(load(t, c.active)), folder: t.TempDir(), metrics: prometheus.NewRegistry(),
	}
	active := engine.Source{Files: files(t, c.active)}
	b.active = active.Digest()
	b.put(c.candidate)
	source, err := bundles.NewSource(bundles.Options{Source: b.folder, Interval: 100 * time.Millisecond})
	require.NoError(t, err)
	gate, err := bundles.NewGate(bundles.GateConfig{MinCoverage: -1})
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	candidates, err := bundles.NewShadow(bundles.ShadowConfig{Source: source, Gate: gate, Ledger: b.ledger, Logger: log, Registerer: b.metrics})
	require.NoError(t, err)
	masker, err := decisionlog.NewMasker(t.Context(), b.policy, nil, []byte(`{}`))
	require.NoError(t, err)
	cfg := shadow.DefaultConfig()
	cfg.FlushInterval, cfg.Share, cfg.Buffer = 20*time.Millisecond, 100, 256<<20
	if c.config != nil {
		c.config(&cfg)
	}
	b.Shadow, err = shadow.New(cfg, shadow.Deps{
		Candidates: candidates, Active: func() bundles.State { return bundles.State{Digest: b.active, Revision: b.policy.Current().Revision()} },
		Store: b.ledger, Masker: masker, Next: c.recorder, Registerer: b.metrics, Logger: log,
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		assert.NoError(t, <-ran)
	})
	pat := models.PAT{ID: "aaaaaaaaaaaaaaaa", UserID: "u1", CreatedAt: start.Add(-time.Hour), ExpiresAt: start.Add(1000 * time.Hour)}
	for _, op := range []string{"read", "execute"} {
		pat.Scopes = append(pat.Scopes, models.Scope{ID: "scope-" + op, Domain: "acme", EntityType: "models", Entity: "*", Operation: op})
	}
	b.facts = engine.Facts{
		Token: engine.TokenValue(pat), User: engine.UserValue(models.User{ID: "u1", Email: "ann@example.com"}),
		Domain:     engine.DomainValue(models.Domain{ID: "acme", Status: models.DomainEnabled}),
		Membership: engine.MembershipValue(models.Membership{UserID: "u1", Domain: "acme", Role: "member"}),
	}
	return b
}

var start = time.Unix(1790500000, 0).UTC()

// put makes the folder of the shadow hold the default policy with some files in place
// of its own, and returns its digest.
func (b *bed) put(changed map[string]string) string {
	b.t.Helper()
	all := files(b.t, changed)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		path := filepath.Join(b.folder, name)
		require.NoError(b.t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(b.t, os.WriteFile(path, all[name], 0o600))
	}
	return engine.Source{Files: all}.Digest()
}

// judging waits until decisions are judged by a candidate.
func (b *bed) judging(digest string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		s := b.Status()
		return s.Judging && s.Candidate.Digest == digest
	}, 2*time.Minute, 5*time.Millisecond, "nothing is judged")
}

// decide has the policy in force decide, and returns the record of it.
func (b *bed) decide(entity, operation string) authz.Record {
	b.t.Helper()
	b.next++
	at := start.Add(time.Duration(b.next) * time.Millisecond)
	request := models.Request{Domain: "acme", EntityType: "models", Entity: entity, Operation: operation, Context: map[string]any{"n": json.Number("1.50")}}
	d, err := b.policy.Current().Decide(b.t.Context(), request, b.facts, at)
	require.NoError(b.t, err)
	d.ID, d.TokenID, d.UserID = models.NewDecisionID(at), "aaaaaaaaaaaaaaaa", "u1"
	return authz.Record{Decision: d, Request: request, Facts: b.facts, JudgedAt: at, At: at, Surface: "authorize"}
}

func (b *bed) record(entity, operation string) authz.Record {
	b.t.Helper()
	r := b.decide(entity, operation)
	require.NoError(b.t, b.Record(b.t.Context(), r))
	return r
}

// await waits until that many decisions are counted, and returns how.
func (b *bed) await(digest string, n int64) map[string]int64 {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return b.ledger.total() >= n }, 2*time.Minute, 5*time.Millisecond, "%v", b.ledger.sums(digest))
	return b.ledger.sums(digest)
}

// metric is the value of a metric, all its series added up but those that lack a label.
func (b *bed) metric(name string, label ...string) (sum float64) {
	b.t.Helper()
	families, err := b.metrics.Gather()
	require.NoError(b.t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			has := len(label) == 0
			for _, l := range m.GetLabel() {
				has = has || l.GetValue() == label[0]
			}
			if has {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func TestCountsAreThoseOfAReplay(t *testing.T) {
	strict, other := rule("weekend", `input.request.entity == "a"`), rule("holiday", `input.request.entity in {"b", "c"}`)
	b := newBed(t, setup{active: strict, candidate: other})
	candidate := engine.Source{Files: files(t, other)}.Digest()
	b.judging(candidate)
	random := rand.New(rand.NewPCG(1, 2))
	want := map[string]int64{}
	var logged []models.LoggedDecision
	const n = 3000
	for range n {
		entity := []string{"a", "b", "c", "d", "e"}[random.IntN(5)]
		operation := []string{"read", "execute", "write"}[random.IntN(3)]
		r := b.record(entity, operation)
		l, err := decisionlog.Unmasked(&r)
		require.NoError(t, err)
		logged = append(logged, l)
		// Nobody's role permits to write models, and the token has no scope for it.
		switch permitted, now := operation != "write", entity == "b" || entity == "c"; {
		case permitted && entity == "a":
			want["newly_allowed weekend"]++
		case permitted && now:
			want["newly_denied holiday"]++
		case entity == "a":
			want["other_reasons out_of_scope role_forbids"]++
		case now:
			want["other_reasons holiday out_of_scope role_forbids"]++
		default:
			want["same"]++
		}
	}
	got := b.await(candidate, n)
	assert.Equal(t, want, got)

	report, err := workbench.Replay(t.Context(), load(t, other), func(each func(models.LoggedDecision) error) error {
		for _, l := range logged {
			if err := each(l); err != nil {
				return err
			}
		}
		return nil
	}, workbench.ReplayOptions{})
	require.NoError(t, err)
	assert.Equal(t, report.NewlyAllowed, got["newly_allowed weekend"])
	assert.Equal(t, report.NewlyDenied, got["newly_denied holiday"])
	assert.Equal(t, report.OtherReasons, got["other_reasons out_of_scope role_forbids"]+got["other_reasons holiday out_of_scope role_forbids"])
	assert.Zero(t, report.OtherGrant)
	assert.InDelta(t, want["newly_denied holiday"], b.metric("patrol_policy_shadow_decisions_total", "newly_denied"), 0)
	assert.InDelta(t, n, b.metric("patrol_policy_shadow_decisions_total"), 0)
	assert.InDelta(t, 1, b.metric("patrol_policy_shadow_info", candidate), 0)
	assert.Zero(t, b.metric("patrol_policy_shadow_dropped_total"))

	example := b.ledger.examples(candidate, "newly_denied")[0]
	assert.Equal(t, []models.ReasonCode{"holiday"}, example.After)
	assert.Empty(t, example.Before)
	assert.Contains(t, []string{"acme:models:b:read", "acme:models:c:read", "acme:models:b:execute", "acme:models:c:execute"}, example.Request)
	assert.Equal(t, "u1", example.UserID)
	b.ledger.set(func() {
		for _, c := range b.ledger.counts[candidate] {
			if c.Kind == "newly_denied" {
				assert.JSONEq(t, `[{"code":"holiday","title":"What holiday is about","file":"custom/custom.rego","line":8}]`, string(c.Rules))
			}
			assert.Equal(t, b.policy.Current().Revision(), c.Base)
		}
	})
}

func TestASampleIsAShare(t *testing.T) {
	b := newBed(t, setup{candidate: rule("holiday", `input.request.entity == "b"`), config: func(c *shadow.Config) { c.Sample = 20 }})
	b.judging(engine.Source{Files: files(t, rule("holiday", `input.request.entity == "b"`))}.Digest())
	const n = 4000
	for range n {
		b.record("b", "read")
	}
	judged := func() float64 { return b.metric("patrol_policy_shadow_decisions_total") }
	require.Eventually(t, func() bool { return judged() > n/5-200 && b.metric("patrol_policy_shadow_queued_bytes") == 0 }, time.Minute, 5*time.Millisecond)
	assert.InDelta(t, n/5, judged(), 200) // eight standard deviations
}

// hungry are rules that take whatever there is, for some entities.
func hungry() map[string]string {
	return map[string]string{"custom/custom.rego": `package patrol.custom

# METADATA
# title: Somebody computes
reason := {"code": "computed", "message": "It was computed."} if {
	input.request.entity == concat("", ["sl", "ow"]) # the gate tries what is written out
	some a in numbers.range(1, 100000)
	some b in numbers.range(1, 100000)
	a * b == 0 - 1
}

else := {"code": "kept", "message": "It was kept."} if {
	input.request.entity == concat("", ["f", "at"])
	long := replace(sprintf("%01000d", [0]), "0", sprintf("%01000d", [0]))
	count([x | some i in numbers.range(1, 99999); x := concat("", [long, format_int(i, 10)])]) == 1
}

else := {"code": "holiday", "message": "It is a holiday."} if {
	input.request.entity == "b"
}
`}
}

func TestAFullQueueDropsAndCounts(t *testing.T) {
	b := newBed(t, setup{candidate: hungry(), config: func(c *shadow.Config) { c.Buffer = 64 << 10 }})
	candidate := engine.Source{Files: files(t, hungry())}.Digest()
	b.judging(candidate)
	b.record("slow", "read") // some 750 ms for what comes behind it to pile up
	r := b.decide("d", "read")
	const n = 5000
	var slowest time.Duration
	for range n {
		began := time.Now()
		require.NoError(t, b.Record(t.Context(), r))
		slowest = max(slowest, time.Since(began))
	}
	assert.Less(t, slowest, 250*time.Millisecond, "nobody waits for the shadow")
	got := b.await(candidate, n+1)
	assert.Equal(t, int64(n+1), b.ledger.total())
	assert.Greater(t, got["dropped"], int64(n/2))
	assert.Equal(t, int64(n), got["dropped"]+got["same"])
	assert.InDelta(t, got["dropped"], b.metric("patrol_policy_shadow_dropped_total"), 0)
}

func TestACandidateIsSwappedWhileItJudges(t *testing.T) {
	first, second := rule("first", `input.request.entity == "b"`), rule("second", `input.request.entity == "d"`)
	b := newBed(t, setup{candidate: first})
	digests := []string{engine.Source{Files: files(t, first)}.Digest(), engine.Source{Files: files(t, second)}.Digest()}
	b.judging(digests[0])
	recorded := int64(0)
	one, two := b.decide("b", "read"), b.decide("d", "read")
	pump := func(digest string) {
		for b.Status().Candidate.Digest != digest || b.ledger.sums(digest)["same"] < 10 {
			require.NoError(t, b.Record(t.Context(), one))
			require.NoError(t, b.Record(t.Context(), two))
			recorded += 2
			if recorded%256 == 0 {
				require.Eventually(t, func() bool { // no faster than it is judged
					return b.metric("patrol_policy_shadow_queued_bytes") <= 1<<20
				}, time.Minute, time.Millisecond)
			}
		}
	}
	pump(digests[0])
	b.put(second)
	pump(digests[1])
	b.put(first)
	b.put(second)
	pump(digests[1])
	b.await(digests[1], recorded)
	require.Equal(t, recorded, b.ledger.total(), "each is judged once")
	for i, code := range []string{"first", "second"} {
		sums := b.ledger.sums(digests[i])
		assert.Positive(t, sums["newly_denied "+code], "%v", sums)
		delete(sums, "newly_denied "+code)
		delete(sums, "same")
		assert.Empty(t, sums, "what one policy says is not counted as another's")
	}
}

func TestARefusedCandidateIsNotJudged(t *testing.T) {
	b := newBed(t, setup{candidate: map[string]string{"custom/custom.rego": "package patrol.custom\n\nreason := {\n"}})
	require.Eventually(t, func() bool { return b.Status().Refused != nil }, time.Minute, 5*time.Millisecond)
	s := b.Status()
	assert.False(t, s.Judging)
	assert.Nil(t, s.Candidate)
	assert.Equal(t, "custom/custom.rego", s.Refused.Result.Findings[0].File)
	assert.True(t, s.Source.Pending.Refused)
	assert.InDelta(t, 1, b.metric("patrol_policy_shadow_source_refused"), 0)
	b.record("b", "read")

	good := rule("holiday", `input.request.entity == "b"`)
	digest := b.put(good)
	b.judging(digest)
	b.record("b", "read")
	assert.Equal(t, map[string]int64{"newly_denied holiday": 1}, b.await(digest, 1))
	assert.Nil(t, b.Status().Refused)
	b.put(map[string]string{"custom/custom.rego": "package patrol.custom\n\nreason := {\n"})
	require.Eventually(t, func() bool { return b.Status().Refused != nil }, time.Minute, 5*time.Millisecond)
	b.record("b", "read")
	assert.Equal(t, map[string]int64{"newly_denied holiday": 2}, b.await(digest, 2), "the good one goes on")
	b.ledger.set(func() {
		assert.Len(t, b.ledger.placed, 1)
		assert.Len(t, b.ledger.refused, 2)
	})
}

func TestThePolicyInForceIsNoShadow(t *testing.T) {
	same := rule("holiday", `input.request.entity == "b"`)
	b := newBed(t, setup{active: same, candidate: same})
	require.Eventually(t, func() bool { return b.Status().Candidate != nil }, time.Minute, 5*time.Millisecond)
	b.record("b", "read")
	assert.False(t, b.Status().Judging)
	assert.Zero(t, b.metric("patrol_policy_shadow_queued_bytes"))
}

func TestWhatIsKeptObeysTheMask(t *testing.T) {
	for name, c := range map[string]struct {
		mask    string
		request string
	}{
		"removed": {`mask := {"/input/request"}`, ""},
		"hashed":  {`mask := {{"op": "hash", "path": "/input/request/entity"}}`, "acme:models:hmac-sha256:"},
		"broken":  {`mask := {"/input/request/entity"} if { to_number(input.decision_id) > 0 }`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, setup{
				active:    map[string]string{"log/mask.rego": "package patrol.log\n\n" + c.mask + "\n"},
				candidate: rule("holiday", `input.request.entity == "secret-model"`),
			})
			candidate := engine.Source{Files: files(t, rule("holiday", `input.request.entity == "secret-model"`))}.Digest()
			b.judging(candidate)
			b.record("secret-model", "read")
			assert.Equal(t, map[string]int64{"newly_denied holiday": 1}, b.await(candidate, 1), "it is judged before it is masked")
			example := b.ledger.examples(candidate, "newly_denied")[0]
			assert.True(t, example.Masked)
			assert.NotContains(t, example.Request, "secret-model")
			if c.request == "" {
				assert.Empty(t, example.Request)
			}
			assert.Contains(t, example.Request, c.request)
		})
	}
}

func TestCountsThatCannotBeWrittenAreKept(t *testing.T) {
	b := newBed(t, setup{candidate: rule("holiday", `input.request.entity == "b"`)})
	candidate := engine.Source{Files: files(t, rule("holiday", `input.request.entity == "b"`))}.Digest()
	b.judging(candidate)
	b.ledger.set(func() { b.ledger.fail = models.NewError(models.CodeUnavailable, "the database is away") })
	for range 30 {
		b.record("b", "read")
		b.record("d", "read")
	}
	require.Eventually(t, func() bool { return b.metric("patrol_policy_shadow_decisions_total") == 60 }, time.Minute, 5*time.Millisecond)
	b.ledger.set(func() { b.ledger.fail = nil })
	assert.Equal(t, map[string]int64{"same": 30, "newly_denied holiday": 30}, b.await(candidate, 60))
	assert.Len(t, models.LatestDivergences(100, b.ledger.examples(candidate, "newly_denied")), models.KeptDivergences)
}

// refuser refuses to record.
type refuser struct{}

var errRefused = errors.New("no room")

func (refuser) Record(context.Context, authz.Record) error { return errRefused }

func TestTheNextRecorderHasTheLastWord(t *testing.T) {
	b := newBed(t, setup{candidate: rule("holiday", `input.request.entity == "b"`), recorder: refuser{}})
	candidate := engine.Source{Files: files(t, rule("holiday", `input.request.entity == "b"`))}.Digest()
	b.judging(candidate)
	require.ErrorIs(t, b.Record(t.Context(), b.decide("b", "read")), errRefused)
	unasked := b.decide("b", "read")
	unasked.JudgedAt = time.Time{}
	require.ErrorIs(t, b.Record(t.Context(), unasked), errRefused)
	assert.Equal(t, map[string]int64{"newly_denied holiday": 1}, b.await(candidate, 1), "what the policy was not asked is not judged")
}

func TestConfigIsValidated(t *testing.T) {
	require.NoError(t, shadow.DefaultConfig().Validate())
	for name, break_ := range map[string]func(*shadow.Config){
		"sample": func(c *shadow.Config) { c.Sample = 0 }, "share": func(c *shadow.Config) { c.Share = 101 },
		"buffer": func(c *shadow.Config) { c.Buffer = 1 }, "memory": func(c *shadow.Config) { c.Memory = 1 << 20 },
		"flush interval": func(c *shadow.Config) { c.FlushInterval = 0 },
	} {
		c := shadow.DefaultConfig()
		break_(&c)
		require.ErrorContains(t, c.Validate(), name)
	}
}
