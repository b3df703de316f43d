package bundles

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bundles/sandbox"
	"patrol/internal/policytest"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

// seededEvents are n decisions of the policy in the binary as the log has them, on a
// token of its own for every ten. Of each ten, readers of acme read a model seven times
// and are denied to write three times.
func seededEvents(t testing.TB, n, scopes int) [][]byte {
	t.Helper()
	policy, err := engine.Load(t.Context(), engine.Source{Name: "own", Files: embeddedFiles(t, nil)}, engine.WithTimeout(time.Minute))
	require.NoError(t, err)
	at := time.Unix(1790500000, 0)
	user, domain := engine.UserValue(models.User{ID: "u1", Email: "a@example.com"}), engine.DomainValue(models.Domain{ID: "acme", Status: models.DomainEnabled})
	member := engine.MembershipValue(models.Membership{UserID: "u1", Domain: "acme", Role: "member"})
	fact := func(v *engine.Value) *models.Fact {
		f, err := v.Fact()
		require.NoError(t, err)
		return f
	}
	input := models.DecisionInput{User: fact(user), Domain: fact(domain), Membership: fact(member), Now: at.Unix()}
	events := make([][]byte, n)
	var token *engine.Value
	for i := range events {
		if i%10 == 0 {
			pat := models.PAT{ID: fmt.Sprintf("token%011d", i), UserID: "u1", CreatedAt: at.Add(-time.Hour), ExpiresAt: at.Add(time.Hour)}
			for k := range scopes {
				pat.Scopes = append(pat.Scopes, models.Scope{
					ID: fmt.Sprintf("scope-%d-%d", i, k), Domain: "acme", EntityType: "models", Entity: fmt.Sprintf("model-%d", k), Operation: "read",
				})
			}
			token = engine.TokenValue(pat)
			input.Token = fact(token)
		}
		ask := models.Request{Domain: "acme", EntityType: "models", Entity: "model-0", Operation: "read"}
		if i%10 >= 7 {
			ask.Operation = "write"
		}
		d, err := policy.Decide(t.Context(), ask, engine.Facts{Token: token, User: user, Domain: domain, Membership: member}, at)
		require.NoError(t, err)
		require.Equal(t, i%10 < 7, d.Allowed)
		d.ID = models.NewDecisionID(at)
		l := models.LoggedDecision{Decision: d, At: at, Surface: "authorize", Request: ask, Input: new(input)}
		events[i] = l.AppendEvent(nil, []byte(`{}`))
	}
	return events
}

// handOut gives events in one piece of memory, as Events may.
func handOut(events [][]byte) Events {
	return func(_ context.Context, yield func([]byte) error) error {
		var room []byte
		for _, event := range events {
			room = append(room[:0], event...)
			if err := yield(room); err != nil {
				return err
			}
			clear(room)
		}
		return nil
	}
}

// lightFiles are those of the bundle in the binary with some replaced, and with few
// tests, which take most of the time of a check.
func lightFiles(t testing.TB, replaced map[string]string) map[string][]byte {
	t.Helper()
	files := embeddedFiles(t, replaced)
	policytest.Lighten(files)
	for name, content := range replaced {
		if files[name] = []byte(content); content == "" {
			delete(files, name)
		}
	}
	return files
}

// deniesReads is the policy in the binary, with a rule that denies what was read. Its tests do not.
func deniesReads(t testing.TB) engine.Source {
	t.Helper()
	return engine.Source{Name: "candidate", Files: lightFiles(t, map[string]string{"custom/custom.rego": `package patrol.custom

# METADATA
# title: Nobody reads
# custom:
#   code: closed
#   message: Closed.
reason := {"code": "closed", "message": "Closed."} if {
	input.request.operation == "read"
	input.request.entity == "model-0"
}
`})}
}

func TestReplayReportsWhatChanges(t *testing.T) {
	events := seededEvents(t, 100, 1)
	own := engine.Source{Name: "own", Files: lightFiles(t, nil)}

	same, err := Replay(t.Context(), own, handOut(events), ReplayOptions{})
	require.NoError(t, err)
	assert.EqualValues(t, 100, same.Replayed)
	assert.Zero(t, same.Changes())

	report, err := Replay(t.Context(), deniesReads(t), handOut(events), ReplayOptions{Examples: 2})
	require.NoError(t, err)
	assert.EqualValues(t, 70, report.NewlyDenied)
	assert.EqualValues(t, 70, report.Changes())
	require.Len(t, report.Groups, 1)
	assert.Equal(t, workbench.NewlyDenied, report.Groups[0].Kind)
	require.Len(t, report.Groups[0].Reasons, 1)
	reason := report.Groups[0].Reasons[0]
	assert.Equal(t, "Nobody reads", reason.Title)
	assert.Equal(t, "custom/custom.rego", reason.File)
	assert.Equal(t, 8, reason.Line)
	require.Len(t, report.Groups[0].Examples, 2)
	assert.Equal(t, "acme:models:model-0:read", report.Groups[0].Examples[0].Request)

	// Compared with another policy than the one that decided.
	report, err = Replay(t.Context(), deniesReads(t), handOut(events), ReplayOptions{Base: new(deniesReads(t))})
	require.NoError(t, err)
	assert.Zero(t, report.Changes())
	report, err = Replay(t.Context(), own, handOut(events), ReplayOptions{Base: new(deniesReads(t))})
	require.NoError(t, err)
	assert.EqualValues(t, 70, report.NewlyAllowed)
}

func TestReplayFails(t *testing.T) {
	events := seededEvents(t, 50, 1)
	with := func(body string) engine.Source {
		return engine.Source{Name: "candidate", Files: lightFiles(t, map[string]string{"custom/custom.rego": "package patrol.custom\n\n" + body})}
	}
	own := with("x := 1")
	away := errors.New("the database is away")
	var limit *sandbox.LimitError
	for name, c := range map[string]struct {
		candidate engine.Source
		events    Events
		opts      ReplayOptions
		check     func(t *testing.T, err error)
	}{
		"a candidate that takes all the time": {
			with("reason := {\"code\": \"x\", \"message\": \"x\"} if count({x | some i in numbers.range(1, 9999); some j in numbers.range(1, 9999); x := i * j; x < 0}) == 1"),
			handOut(events),
			ReplayOptions{Limits: sandbox.Limits{CPU: 2 * time.Second}},
			func(t *testing.T, err error) {
				require.ErrorAs(t, err, &limit)
				assert.Equal(t, sandbox.CPU, limit.Resource)
			},
		},
		"a candidate that takes all the memory": {
			engine.Source{Name: "candidate", Files: lightFiles(t, map[string]string{"x/data.json": `{"x": [` + strings.Repeat(`{"a":{}},`, 900_000) + `1]}`})},
			handOut(events),
			ReplayOptions{Limits: sandbox.Limits{Memory: 256 << 20}},
			func(t *testing.T, err error) {
				require.ErrorAs(t, err, &limit)
				assert.Equal(t, sandbox.Memory, limit.Resource)
			},
		},
		"a candidate that says too much": {
			with("reason := {\"code\": input.token.id, \"message\": \"x\"} if input.request.operation == \"read\""),
			handOut(events),
			ReplayOptions{Limits: sandbox.Limits{Output: 1 << 10}},
			func(t *testing.T, err error) {
				require.ErrorAs(t, err, &limit)
				assert.Equal(t, sandbox.Output, limit.Resource)
			},
		},
		"a candidate that does not compile": {
			with("x := y"), handOut(events),
			ReplayOptions{},
			func(t *testing.T, err error) { require.ErrorContains(t, err, "custom/custom.rego:3") },
		},
		"events that are none": {
			own, handOut([][]byte{events[0], []byte(`{"decision_id": "1"}`)}),
			ReplayOptions{},
			func(t *testing.T, err error) { require.ErrorContains(t, err, "events:2: ") },
		},
		"events that cannot be read": {
			own, func(_ context.Context, yield func([]byte) error) error { return errors.Join(yield(events[0]), away) },
			ReplayOptions{},
			func(t *testing.T, err error) { require.ErrorIs(t, err, away) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(name, "a candidate that takes") && !sandbox.Enforced {
				testenv.Missing(t, "rlimits", "this platform has no limits on processes")
			}
			report, err := Replay(t.Context(), c.candidate, c.events, c.opts)
			require.Error(t, err)
			assert.Nil(t, report)
			c.check(t, err)
		})
	}
}

// TestReplayLeavesOutSmallGroups holds that reasons of a policy's making do not make a
// report as large as the log.
func TestReplayLeavesOutSmallGroups(t *testing.T) {
	candidate := engine.Source{Name: "candidate", Files: lightFiles(t, map[string]string{
		"custom/custom.rego": "package patrol.custom\n\nreason := {\"code\": sprintf(\"x_%s\", [lower(input.token.id)]), \"message\": \"x\"} if input.request.operation == \"read\"",
	})}
	report, err := Replay(t.Context(), candidate, handOut(seededEvents(t, 1000, 1)), ReplayOptions{Groups: 3, Examples: 1})
	require.NoError(t, err)
	assert.EqualValues(t, 700, report.NewlyDenied)
	assert.Len(t, report.Groups, 3)
	assert.Equal(t, 97, report.MoreGroups)
}

// candidates puts bundles one after the other where a delivery looks, and returns
// what became of each.
func candidates(t *testing.T, cfg GateConfig, all ...engine.Source) (results []Result, d *Delivery) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.tar.gz")
	replace(t, file, packedFiles(t, lightFiles(t, nil)))
	source, err := NewSource(Options{Source: file, Interval: 5 * time.Millisecond})
	require.NoError(t, err)
	d, ledger := begin(t, source, cfg)
	for _, candidate := range all {
		replace(t, file, packedFiles(t, candidate.Files))
		results = append(results, ledger.next(t).Result)
	}
	return results, d
}

// TestGateRefusesWhatChangesTooMuch replays 70 reads and 30 refused writes that were
// decided by the policy in the binary.
func TestGateRefusesWhatChangesTooMuch(t *testing.T) {
	recorded := handOut(seededEvents(t, 100, 1))
	denies := deniesReads(t)
	commented := func(s engine.Source, comment string) engine.Source {
		s.Files = maps.Clone(s.Files)
		s.Files["custom/more.rego"] = []byte("package patrol.custom\n\n# METADATA\n# title: " + comment + "\n# custom:\n#   code: nobodys\n#   message: No.\n" +
			"deny contains rego.metadata.rule().custom if input.request.entity == \"a-thing-of-nobody\"\n")
		return s
	}
	few := -1.0 // the candidates' rules have no tests of their own

	t.Run("refused", func(t *testing.T) {
		results, d := candidates(t, GateConfig{MinCoverage: few, Recorded: recorded, MaxChanges: 69}, denies)
		r := results[0]
		assert.False(t, r.Passed)
		require.Len(t, r.Findings, 1)
		assert.Equal(t, StageReplay, r.Findings[0].Stage)
		assert.Equal(t, "replay_changes", r.Findings[0].Code)
		assert.Regexp(t, `^it changes 70 of 100 recorded decisions \(0 newly allowed, 70 newly denied\), and at most 69 may change: `+
			`70 newly denied as closed, such as acme:models:model-0:read \(decision \w{16}\)$`, r.Findings[0].Message)
		require.NotNil(t, r.Replay)
		assert.EqualValues(t, 100, r.Replay.Replayed)
		assert.EqualValues(t, 70, r.Replay.NewlyDenied)
		require.Len(t, r.Replay.Groups, 1)
		assert.Equal(t, "custom/custom.rego", r.Replay.Groups[0].Reasons[0].File)
		assert.Len(t, r.Replay.Groups[0].Examples, 3)
		assert.NotNil(t, r.Tests)
		assert.Equal(t, "100 decisions, 0 newly allowed, 70 newly denied", r.Summary()["replay"])
		assert.True(t, allows(t, d.Engine()))
		assert.True(t, d.Status().Source.Pending.Refused)
	})
	t.Run("as many as may", func(t *testing.T) {
		results, d := candidates(t, GateConfig{MinCoverage: few, Recorded: recorded, MaxChanges: 70}, denies)
		assert.True(t, results[0].Passed)
		assert.EqualValues(t, 70, results[0].Replay.NewlyDenied)
		assert.Eventually(t, func() bool { return d.Status().Active.Digest == denies.Digest() }, time.Minute, time.Millisecond)
	})
	t.Run("what the policy in force changed is settled", func(t *testing.T) {
		results, _ := candidates(t, GateConfig{MinCoverage: few, Recorded: recorded, MaxChanges: 70},
			denies, commented(denies, "It says the same"), engine.Source{Files: lightFiles(t, nil)})
		assert.EqualValues(t, 70, results[0].Replay.Changes())
		assert.True(t, results[1].Passed)
		assert.Zero(t, results[1].Replay.Changes())
		assert.True(t, results[2].Passed, "the way back")
		assert.EqualValues(t, 70, results[2].Replay.NewlyAllowed)
	})
	t.Run("another text, the same decisions", func(t *testing.T) {
		results, _ := candidates(t, GateConfig{MinCoverage: few, Recorded: recorded},
			commented(engine.Source{Files: lightFiles(t, nil)}, "It changes nothing"))
		assert.True(t, results[0].Passed)
		assert.Zero(t, results[0].Replay.Changes())
	})
	t.Run("nothing is recorded yet", func(t *testing.T) {
		results, _ := candidates(t, GateConfig{MinCoverage: few, Recorded: handOut(nil)}, denies)
		assert.True(t, results[0].Passed)
		assert.Zero(t, results[0].Replay.Replayed)
		assert.Nil(t, results[0].Replay.From)
	})
	t.Run("only without traffic fast enough", func(t *testing.T) {
		if !sandbox.Enforced {
			testenv.Missing(t, "rlimits", "this platform has no limits on processes")
		}
		slow := engine.Source{Files: lightFiles(t, map[string]string{"custom/custom.rego": `package patrol.custom

# METADATA
# title: It thinks long about reads of this model
reason := {"code": "x", "message": "x"} if {
	input.request.entity == concat("-", ["model", "0"])
	count({x | some i in numbers.range(1, 9999); some j in numbers.range(1, 9999); x := i * j; x < 0}) == 1
}
`})}
		// Neither the safety suite nor the tests ask about that model, whose name is nowhere
		// in the policy.
		results, d := candidates(t, GateConfig{MinCoverage: few, Recorded: recorded, Limits: sandbox.Limits{CPU: 8 * time.Second}}, slow)
		require.Len(t, results[0].Findings, 1)
		assert.Equal(t, StageLimits, results[0].Findings[0].Stage)
		assert.Equal(t, "replay: it takes more than 8s of CPU time", results[0].Findings[0].Message)
		assert.NotNil(t, results[0].Tests, "it passed these")
		assert.True(t, allows(t, d.Engine()))
	})
}

// TestGateWaitsForTheLog holds that a candidate is neither let through nor refused
// while decisions cannot be read.
func TestGateWaitsForTheLog(t *testing.T) {
	away := errors.New("the database is away")
	asked := make(chan struct{}, 1)
	file := filepath.Join(t.TempDir(), "policy.tar.gz")
	replace(t, file, packedFiles(t, lightFiles(t, nil)))
	source, err := NewSource(Options{Source: file, Interval: 5 * time.Millisecond})
	require.NoError(t, err)
	d, ledger := begin(t, source, GateConfig{MinCoverage: -1, Recorded: func(context.Context, func([]byte) error) error {
		asked <- struct{}{}
		return away
	}})
	replace(t, file, packedFiles(t, deniesReads(t).Files))
	<-asked
	require.Eventually(t, func() bool {
		return testutil.ToFloat64(d.metrics.candidates.WithLabelValues(outcomeFailed)) == 1
	}, time.Minute, time.Millisecond)
	assert.Empty(t, ledger.told)
	assert.True(t, allows(t, d.Engine()))
}

// TestReplayAtTheStart holds that a server that starts with another bundle than was in
// force last compares the two, and goes on with the old one if too much changes.
func TestReplayAtTheStart(t *testing.T) {
	recorded := handOut(seededEvents(t, 100, 1))
	file := filepath.Join(t.TempDir(), "policy.tar.gz")
	ledger := newLedger()
	start := func(cfg GateConfig) *Delivery {
		gate, err := NewGate(cfg)
		require.NoError(t, err)
		source, err := NewSource(Options{Source: file, Interval: time.Hour})
		require.NoError(t, err)
		d, err := Begin(t.Context(), Config{
			Source: source, Gate: gate, Ledger: ledger, Sync: time.Hour, StartTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler),
		})
		require.NoError(t, err)
		return d
	}
	cfg := GateConfig{MinCoverage: -1, Recorded: recorded}
	replace(t, file, packedFiles(t, lightFiles(t, nil)))
	start(cfg)
	assert.Nil(t, ledger.next(t).Result.Replay, "there is nothing to compare with")

	replace(t, file, packedFiles(t, deniesReads(t).Files))
	d := start(cfg)
	assert.EqualValues(t, 70, ledger.next(t).Result.Replay.NewlyDenied)
	assert.NotEqual(t, deniesReads(t).Digest(), d.Status().Active.Digest)

	cfg.MaxChanges = 100
	d = start(cfg)
	assert.EqualValues(t, 70, ledger.next(t).Result.Replay.NewlyDenied)
	assert.Equal(t, deniesReads(t).Digest(), d.Status().Active.Digest)

	start(cfg)
	assert.Nil(t, ledger.next(t).Result.Replay, "it is in force")
}
