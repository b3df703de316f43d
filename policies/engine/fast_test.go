package engine_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies/engine"
)

// hasten has the plans of a policy answer.
func hasten(t testing.TB, s *engine.Snapshot) *engine.Snapshot {
	t.Helper()
	require.NoError(t, s.Hasten(t.Context(), 200))
	require.True(t, s.Fast())
	return s
}

// TestPlanIsShared has many goroutines ask one policy whose plan answers.
func TestPlanIsShared(t *testing.T) {
	s := hasten(t, load(t, nil))
	f := facts()
	denied := f
	denied.Domain = in(models.DomainIsFrozen)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 200 {
				d, err := s.Decide(t.Context(), readModel, f, now)
				if assert.NoError(t, err) {
					assert.True(t, d.Allowed)
				}
				d, err = s.Decide(t.Context(), readModel, denied, now)
				if assert.NoError(t, err) {
					assert.Equal(t, []models.ReasonCode{models.DomainFrozen}, codes(d))
				}
			}
		})
	}
	group.Wait()
	require.True(t, s.Fast())
}

// TestDisagreement has the plan of another policy answer, as if the plan were wrong: the
// request on which both judge is denied, and from then on OPA's evaluator answers.
func TestDisagreement(t *testing.T) {
	s := load(t, nil)
	before := engine.Disagreements()
	require.NoError(t, s.PlanOf(t.Context(), load(t, map[string]string{
		"authz/authz.rego": "package patrol.authz\n\n# METADATA\n# entrypoint: true\ndecision := {\"allow\": false, \"reasons\": [{\"code\": \"wrong\", \"message\": \"wrong\"}]}\n",
	})))
	denied := 0
	for range 2 * engine.DoubleCheck {
		d, err := s.Decide(t.Context(), readModel, facts(), now)
		if err != nil {
			var disagreement *engine.DisagreementError
			require.ErrorAs(t, err, &disagreement)
			denied++
			continue
		}
		if denied == 0 {
			require.Equal(t, []models.ReasonCode{"wrong"}, codes(d))
		} else {
			require.True(t, d.Allowed)
		}
	}
	assert.Equal(t, 1, denied)
	assert.Equal(t, before+1, engine.Disagreements())
	assert.False(t, s.Fast())
	assert.Contains(t, s.Slow(), "disagreed")
	require.Error(t, s.Hasten(t.Context(), 10), "it stays so when the policy comes into force again")
	require.False(t, s.Fast())
	s.Forget()
}

// TestPlanIsRefused has a plan that fails the trials not answer.
func TestPlanIsRefused(t *testing.T) {
	s := load(t, nil)
	defer s.Forget()
	require.ErrorContains(t, s.HastenWith(t.Context(), load(t, map[string]string{
		"custom/rule.rego": "package patrol.custom\n\nreason := {\"code\": \"own\", \"message\": \"own\"} if input.user.email == \"e\"\n",
	}), 1000), "its plan answers")
	assert.False(t, s.Fast())
	assert.NotEmpty(t, s.Slow())
}

// TestPlanKeepsTime has a plan that does not end be stopped by the time limit, and
// topdown not begin where the plan ended.
func TestPlanKeepsTime(t *testing.T) {
	s := load(t, map[string]string{"custom/rule.rego": `package patrol.custom

reason := {"code": "slow", "message": "slow"} if {
	input.request.context.slow
	n := numbers.range(1, 100000)
	some a in n
	some b in n
	a + b == 0
}
`}, engine.WithTimeout(50*time.Millisecond))
	hasten(t, s)
	req := readModel
	req.Context = map[string]any{"slow": true}
	began := time.Now()
	_, err := s.Decide(t.Context(), req, facts(), now)
	require.ErrorIs(t, err, engine.ErrTimeout)
	require.Less(t, time.Since(began), 5*time.Second)
	require.True(t, s.Fast())
}

func BenchmarkPlanAllow(b *testing.B) {
	s, f := hasten(b, load(b, nil)), facts()
	b.ReportAllocs()
	for b.Loop() {
		if d, err := s.Decide(b.Context(), readModel, f, now); err != nil || !d.Allowed {
			b.Fatal(d, err)
		}
	}
}

func BenchmarkPlanDeny(b *testing.B) {
	s := hasten(b, load(b, nil))
	f, req := facts(), readModel
	f.Domain, req.Operation = in(models.DomainIsFrozen), "write"
	b.ReportAllocs()
	for b.Loop() {
		if d, err := s.Decide(b.Context(), req, f, now); err != nil || len(d.Reasons) != 3 {
			b.Fatal(d, err)
		}
	}
}
