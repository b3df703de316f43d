//go:build !race

package engine_test

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/policies/engine"
)

// TestPolicyAgreesWithModel holds the Rego against the model over many inputs, most
// of them near something that is allowed: same verdict, same reasons, same scope.
// So it also holds that a request is allowed exactly when there is no reason to
// deny it, and that the invariants are those reasons before any hides another.
func TestPolicyAgreesWithModel(t *testing.T) {
	s := load(t, nil)
	inputs, seed := 104_000, uint64(1)
	if testenv.Long() {
		inputs, seed = 10*inputs, rand.Uint64()
	}
	if fixed := os.Getenv("PATROL_SEED"); fixed != "" {
		require.NoError(t, json.Unmarshal([]byte(fixed), &seed))
	}
	t.Logf("%d inputs; to repeat: PATROL_SEED=%d", inputs, seed)

	const streams = 8 // as many whatever the machine, so that a seed means the same inputs
	var mu sync.Mutex
	seen := map[models.ReasonCode]int{}
	var group sync.WaitGroup
	for stream := range streams {
		group.Go(func() {
			counts := compare(t, s, rand.New(rand.NewPCG(seed, uint64(stream))), inputs/streams)
			mu.Lock()
			defer mu.Unlock()
			for code, n := range counts {
				seen[code] += n
			}
		})
	}
	group.Wait()
	t.Logf("outcomes: %v", seen)
	for _, code := range []models.ReasonCode{
		"allow", models.TokenRevoked, models.TokenExpired, models.UserDisabled, models.UnknownOperation,
		models.DomainUnknown, models.DomainDisabled, models.DomainFrozen, models.NotAMember, models.RoleForbids, models.OutOfScope,
		models.LifetimeExceeded, models.WildcardForbidden, models.ApprovalRequired, models.Withdrawn, models.IPForbidden,
	} {
		assert.GreaterOrEqual(t, seen[code], inputs/100, "%s is hardly ever the outcome", code)
	}
}

func compare(t *testing.T, s *engine.Snapshot, random *rand.Rand, n int) map[models.ReasonCode]int {
	catalog := s.Catalog()
	counts := map[models.ReasonCode]int{}
	for range n {
		input := generate(random)
		if random.IntN(5) < 2 {
			limit(random, input)
		}
		want, scope := judge(input, catalog.Roles, catalog)
		got, err := s.DecideRaw(t.Context(), input)
		if err != nil || got.Allowed != (len(want) == 0) || !slices.Equal(codes(got), want) || got.ScopeID != scope {
			text, _ := json.MarshalIndent(input, "", "  ")
			t.Errorf("the model says %v, scope %q; the policy says %v, scope %q, error %v, on this input:\n%s",
				want, scope, codes(got), got.ScopeID, err, text)
			return counts
		}
		broken, granted, err := s.BrokenOf(input)
		if err != nil || (len(broken) == 0) != (len(want) == 0) || len(want) == 0 && granted != scope || !slices.Equal(want, common(want, broken)) {
			text, _ := json.MarshalIndent(input, "", "  ")
			t.Errorf("the model says %v, scope %q; the invariants say %v, scope %q, error %v, on this input:\n%s", want, scope, broken, granted, err, text)
			return counts
		}
		if got.Allowed {
			counts["allow"]++
		}
		for _, code := range want {
			counts[code]++
		}
	}
	return counts
}

// common are the elements of a that b has as well.
func common(a, b []models.ReasonCode) (both []models.ReasonCode) {
	for _, code := range a {
		if slices.Contains(b, code) {
			both = append(both, code)
		}
	}
	return both
}
