package engine_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies/engine"
)

// TestSeriesDecidesAsOneByOne has series judge requests that differ in some parts from the
// one before, and holds each answer to that of the request alone.
func TestSeriesDecidesAsOneByOne(t *testing.T) {
	own := `package patrol.custom

deny contains {"code": "no_nights", "message": sprintf("Not %s at %d.", [input.request.entity, input.now])} if {
	input.now % 2 == 1
	input.request.operation == "read"
}

labels := {"who": input.user.email, "what": input.request.entity} if input.request.entity != "llama3"
`
	for name, policy := range map[string]map[string]string{"default": nil, "own rules": {"custom/own.rego": own}} {
		t.Run(name, func(t *testing.T) {
			s := load(t, policy)
			require.NoError(t, s.Hasten(t.Context(), 200))
			random := rand.New(rand.NewPCG(1, 2))
			one := func(n int) bool { return random.IntN(n) == 0 }
			disabled := admin
			disabled.Disabled = true
			series := s.Series()
			defer series.End()
			f, req, at := facts(), readModel, now
			outcomes := map[bool]int{}
			for range 5000 {
				for range 1 + random.IntN(2) {
					switch random.IntN(8) {
					case 0:
						req.Entity = fmt.Sprintf("model-%d", random.IntN(20))
					case 1:
						req.Entity = "llama3"
					case 2:
						req.Operation = []string{"read", "write", "execute", "fly"}[random.IntN(4)]
					case 3:
						req.Domain = []string{"acme", "globex", "*"}[random.IntN(3)]
					case 4:
						f.User = []*engine.Value{facts().User, engine.UserValue(admin), engine.UserValue(disabled), nil}[random.IntN(4)]
					case 5:
						f.Domain = []*engine.Value{
							in(models.DomainIsFrozen), in(models.DomainIsDisabled), in(models.DomainEnabled), facts().Domain, nil,
							engine.DomainValue(models.Domain{ID: "acme", Status: models.DomainEnabled, Limits: models.DomainLimits{MaxLifetime: time.Hour, NoWildcards: true}}),
						}[random.IntN(6)]
					case 6:
						f.Membership = []*engine.Value{as("viewer"), as("admin"), as("member"), nil}[random.IntN(4)]
					default:
						at = now.Add(time.Duration(random.IntN(4)) * time.Second)
						if req.Context = nil; one(2) {
							req.Context = map[string]any{"n": random.IntN(3)}
						}
					}
				}
				want, werr := s.Decide(t.Context(), req, f, at)
				got, gerr := series.Decide(t.Context(), req, f, at)
				require.Equal(t, werr == nil, gerr == nil, "%v %v", werr, gerr)
				require.Equal(t, want, got, "%v", req)
				outcomes[want.Allowed]++
			}
			assert.Greater(t, outcomes[true], 40)
			assert.Greater(t, outcomes[false], 40)
		})
	}
}

func BenchmarkSeries(b *testing.B) {
	s := load(b, nil)
	require.NoError(b, s.Hasten(b.Context(), 100))
	b.Run("100 models for one token", func(b *testing.B) {
		reqs := make([]models.Request, 100)
		for i := range reqs {
			reqs[i] = readModel
			reqs[i].Entity = fmt.Sprintf("model-%d", i)
		}
		f := facts()
		b.ReportAllocs()
		for b.Loop() {
			series := s.Series()
			for _, req := range reqs {
				if _, err := series.Decide(b.Context(), req, f, now); err != nil {
					b.Fatal(err)
				}
			}
			series.End()
		}
	})
	b.Run("10000 users for one model", func(b *testing.B) {
		all := make([]engine.Facts, 10_000)
		for i := range all {
			all[i] = facts()
			all[i].User = engine.UserValue(models.User{ID: models.NewID(), Email: fmt.Sprintf("u%d@example.com", i)})
		}
		b.ReportAllocs()
		for b.Loop() {
			series := s.Series()
			for _, f := range all {
				if _, err := series.Decide(b.Context(), readModel, f, now); err != nil {
					b.Fatal(err)
				}
			}
			series.End()
		}
	})
}
