//go:build !race

package engine_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
)

// TestPlanAgrees holds the plans of the default policy against OPA's evaluator on many
// more inputs than a server does: those of the model's test, and made-up ones.
func TestPlanAgrees(t *testing.T) {
	inputs, trials, seed := 20_000, 20_000, uint64(1)
	if testenv.Long() {
		inputs, trials, seed = 1_000_000, 1_000_000, rand.Uint64()
	}
	t.Logf("seed %d", seed)
	slow, quick := load(t, nil), load(t, nil)
	require.NoError(t, quick.HastenAnew(t.Context(), trials))
	random := rand.New(rand.NewPCG(seed, 0))
	for range inputs {
		input := generate(random)
		if random.IntN(3) == 0 {
			limit(random, input)
		}
		want, werr := slow.DecideRaw(t.Context(), input)
		got, gerr := quick.DecideRaw(t.Context(), input)
		require.Equal(t, werr == nil, gerr == nil, "%v, %v, on %v", werr, gerr, input)
		require.Equal(t, want, got, "on %v", input)
	}
	require.Empty(t, quick.Slow())
}

// TestPlanOfOwnRules holds the plans of policies with rules of one's own, of the kinds
// that people write, against OPA's evaluator.
func TestPlanOfOwnRules(t *testing.T) {
	for name, rule := range map[string]string{
		"an own reason": `reason := rego.metadata.rule().custom if input.request.entity == "secret"`,
		"a context":     `reason := rego.metadata.rule().custom if input.request.context.branch != "main"`,
		"a loop":        `reason := rego.metadata.rule().custom if { some k, v in input.request.context; startswith(k, "x"); v != 1 }`,
		"a clock":       `reason := rego.metadata.rule().custom if time.weekday(input.now * 1000000000) in {"Saturday", "Sunday"}`,
		"every":         `reason := rego.metadata.rule().custom if { every d, _ in input.token.scopes { d != "acme" } }`,
		"a negated set": `reason := rego.metadata.rule().custom if not input.user.email in {"e", "a@example.com"}`,
		"a replaced part": `reason := rego.metadata.rule().custom if { late with input.now as input.now + 100 }
late if input.now > 1000`,
	} {
		t.Run(name, func(t *testing.T) {
			s := load(t, map[string]string{"custom/rule.rego": "# METADATA\n# scope: package\n# title: Own\npackage patrol.custom\n\n# METADATA\n# title: Own\n# custom:\n#   code: own_rule\n#   message: No.\n" + rule + "\n"})
			require.NoError(t, s.HastenAnew(t.Context(), 2000))
			require.True(t, s.Fast())
		})
	}
}
