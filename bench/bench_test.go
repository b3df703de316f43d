package bench_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bench"
	"patrol/bench/frozen"
	"patrol/internal/testenv"
	"patrol/models"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// TestCases holds the cases to what their names promise, so that benchmarks
// measure what they say.
func TestCases(t *testing.T) {
	w, err := bench.NewWorld(1, time.Now())
	require.NoError(t, err)
	policy, err := bench.LoadPolicy(t.Context())
	require.NoError(t, err)
	before, err := frozen.Load(t.Context())
	require.NoError(t, err)
	reasons := map[string][]string{
		"deny_one": {"out_of_scope"},
		"deny_403": {"domain_frozen", "out_of_scope", "role_forbids"},
		"deny_401": {"token_expired", "token_revoked", "user_disabled"},
	}
	for _, c := range w.Cases() {
		d, err := policy.Decide(t.Context(), c.Request, c.Facts[0], c.Now)
		require.NoError(t, err, c.Name)
		assert.Equal(t, c.Allowed, d.Allowed, c.Name)
		var codes []string
		for _, r := range d.Reasons {
			codes = append(codes, string(r.Code))
		}
		assert.Equal(t, reasons[c.Name], codes, c.Name)
		was, err := before.Decide(t.Context(), c.Request, c.Before[0], c.Now)
		require.NoError(t, err, c.Name)
		assert.Equal(t, d.Allowed, was.Allowed, c.Name)
		assert.Equal(t, d.Reasons, was.Reasons, c.Name)
	}
}

// loop measures op, after as many calls as there are things to warm up.
func loop(b *testing.B, warm int, op bench.Op) {
	b.Helper()
	for range warm {
		require.NoError(b, op())
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := op(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseVerify(b *testing.B) {
	w, err := bench.NewWorld(1, time.Now())
	require.NoError(b, err)
	loop(b, 1, bench.ParseVerify(w))
}

func BenchmarkEvaluate(b *testing.B) {
	w, err := bench.NewWorld(1, time.Now())
	require.NoError(b, err)
	policy, err := bench.LoadPolicy(b.Context())
	require.NoError(b, err)
	for _, c := range w.Cases() {
		b.Run(c.Name, func(b *testing.B) { loop(b, 1, bench.Evaluate(b.Context(), policy, c)) })
	}
}

func BenchmarkBefore(b *testing.B) {
	w, err := bench.NewWorld(1, time.Now())
	require.NoError(b, err)
	before, err := frozen.Load(b.Context())
	require.NoError(b, err)
	for _, c := range w.Cases() {
		b.Run(c.Name, func(b *testing.B) { loop(b, 1, bench.EvaluateBefore(b.Context(), before, c)) })
	}
}

func BenchmarkAuthorize(b *testing.B) {
	policy, err := bench.LoadPolicy(b.Context())
	require.NoError(b, err)
	for _, db := range []struct {
		name string
		url  func(testing.TB) string
	}{{"sqlite", testenv.SQLite}, {"postgres", testenv.Postgres}} {
		b.Run(db.name, func(b *testing.B) {
			w, err := bench.NewWorld(100, time.Now())
			require.NoError(b, err)
			s, err := bench.OpenStore(b.Context(), db.url(b), w)
			require.NoError(b, err)
			b.Cleanup(func() { assert.NoError(b, s.Close()) })
			a, err := bench.NewAuthorizer(w, s, policy)
			require.NoError(b, err)
			b.Run("uncached", func(b *testing.B) { loop(b, 100, bench.Authorize(b.Context(), a, w)) })
			stop, err := bench.StartCaching(b.Context(), a)
			require.NoError(b, err)
			b.Run("cached", func(b *testing.B) { loop(b, 100, bench.Authorize(b.Context(), a, w)) })
			require.NoError(b, stop())
		})
	}
}

// BenchmarkOwnRules measures an allowance under more and more rules of one's own, none of
// which applies.
func BenchmarkOwnRules(b *testing.B) {
	w, err := bench.NewWorld(1, time.Now())
	require.NoError(b, err)
	for _, rules := range []int{1, 10, 100, 1000} {
		b.Run(strconv.Itoa(rules), func(b *testing.B) {
			policy, err := bench.LoadOwnRules(b.Context(), rules)
			require.NoError(b, err)
			c := w.Cases()[0]
			denied := c.Request
			denied.Entity = "secret-" + strconv.Itoa(rules-1)
			d, err := policy.Decide(b.Context(), denied, c.Facts[0], c.Now)
			require.NoError(b, err)
			require.True(b, d.Has(models.ReasonCode("own_"+strconv.Itoa(rules-1))))
			require.True(b, policy.Fast())
			loop(b, 100, bench.Evaluate(b.Context(), policy, c))
		})
	}
}
