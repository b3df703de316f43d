package bundles

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bundles/sandbox"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/policies/engine"
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

// deniesReads is the policy in the binary, with a rule that denies reading.
func deniesReads(t testing.TB) engine.Source {
	t.Helper()
	return engine.Source{Name: "candidate", Files: embeddedFiles(t, map[string]string{"custom/custom.rego": `package patrol.custom

# METADATA
# title: Nobody reads
# custom:
#   code: closed
#   message: Closed.
reason := {"code": "closed", "message": "Closed."} if input.request.operation == "read"
`})}
}

func TestReplayReportsWhatChanges(t *testing.T) {
	events := seededEvents(t, 100, 1)
	own := engine.Source{Name: "own", Files: embeddedFiles(t, nil)}

	same, err := Replay(t.Context(), own, handOut(events), ReplayOptions{})
	require.NoError(t, err)
	assert.EqualValues(t, 100, same.Replayed)
	assert.Zero(t, same.Changes())

	report, err := Replay(t.Context(), deniesReads(t), handOut(events), ReplayOptions{Examples: 2})
	require.NoError(t, err)
	assert.EqualValues(t, 70, report.NewlyDenied)
	assert.EqualValues(t, 70, report.Changes())
	require.Len(t, report.Groups, 1)
	assert.Equal(t, engine.NewlyDenied, report.Groups[0].Kind)
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

// TestReplayOfManyTakesLittle replays more tokens than fit into the child's memory.
func TestReplayOfManyTakesLittle(t *testing.T) {
	if !sandbox.Enforced {
		testenv.Missing(t, "rlimits", "this platform has no limits on processes")
	}
	event := seededEvents(t, 1, models.DefaultLimits().MaxScopes)[0]
	const count = 20_000
	report, err := Replay(t.Context(), engine.Source{Name: "own", Files: embeddedFiles(t, nil)},
		func(_ context.Context, yield func([]byte) error) error {
			for i := range count {
				if err := yield(bytes.ReplaceAll(event, []byte("token00000000000"), fmt.Appendf(nil, "token%011d", i))); err != nil {
					return err
				}
			}
			return nil
		}, ReplayOptions{Limits: sandbox.Limits{Memory: 192 << 20}})
	require.NoError(t, err)
	assert.EqualValues(t, count, report.Replayed)
	assert.Zero(t, report.Changes())
}

func TestReplayFails(t *testing.T) {
	events := seededEvents(t, 50, 1)
	with := func(body string) engine.Source {
		return engine.Source{Name: "candidate", Files: embeddedFiles(t, map[string]string{"custom/custom.rego": "package patrol.custom\n\n" + body})}
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
			with("reason := {\"code\": \"x\", \"message\": \"x\"} if {\n\tinput.now > 0\n\tcount(numbers.range(1, 500000000 + input.now)) == 1\n}"),
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
	candidate := engine.Source{Name: "candidate", Files: embeddedFiles(t, map[string]string{
		"custom/custom.rego": "package patrol.custom\n\nreason := {\"code\": sprintf(\"x_%s\", [lower(input.token.id)]), \"message\": \"x\"} if input.request.operation == \"read\"",
	})}
	report, err := Replay(t.Context(), candidate, handOut(seededEvents(t, 1000, 1)), ReplayOptions{Groups: 3, Examples: 1})
	require.NoError(t, err)
	assert.EqualValues(t, 700, report.NewlyDenied)
	assert.Len(t, report.Groups, 3)
	assert.Equal(t, 97, report.MoreGroups)
}
