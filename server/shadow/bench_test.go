package shadow_test

import (
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"patrol/policies/engine"
	"patrol/server/shadow"
)

// BenchmarkRecord measures what a decision's way into the sample adds to a request.
func BenchmarkRecord(b *testing.B) {
	holiday := rule("holiday", `input.request.entity == "b"`)
	for _, c := range []struct {
		name   string
		sample int
	}{{"all", 100}, {"one in ten", 10}} {
		b.Run(c.name, func(b *testing.B) {
			bed := newBed(b, setup{candidate: holiday, config: func(cfg *shadow.Config) {
				*cfg = shadow.DefaultConfig()
				cfg.Sample = c.sample
			}})
			bed.judging(engine.Source{Files: files(b, holiday)}.Digest())
			r := bed.decide("d", "read")
			b.ReportAllocs()
			for b.Loop() {
				_ = bed.Record(b.Context(), r)
			}
		})
	}
}

// BenchmarkAnswersBesideAHungryShadow measures decisions, as many at a time as there
// are processors, alone and beside a shadow whose rule takes all the time there is for
// one decision in fifty: on average and for the slowest percent. The bar is that
// no more than the shadow's share of a processor is missing, with room for the noise of one run.
func BenchmarkAnswersBesideAHungryShadow(b *testing.B) {
	const bar = 0.7
	policy := load(b, nil)
	alone := newBed(b, setup{candidate: map[string]string{}}) // the policy in force: nothing is judged
	measure := func(bed *bed) (perSecond float64, p99 time.Duration) {
		var all []time.Duration
		var mu sync.Mutex
		var workers sync.WaitGroup
		const span = 2 * time.Second
		until := time.Now().Add(span)
		slow, usual := bed.decide("slow", "read"), bed.decide("d", "read")
		for range runtime.GOMAXPROCS(0) {
			workers.Go(func() {
				var own []time.Duration
				for n := 0; time.Now().Before(until); n++ {
					r := usual
					if n%50 == 0 {
						r = slow
					}
					began := time.Now()
					_, err := policy.Decide(b.Context(), r.Request, r.Facts, r.JudgedAt)
					_ = bed.Record(b.Context(), r)
					own = append(own, time.Since(began))
					if err != nil {
						b.Error(err)
						return
					}
				}
				mu.Lock()
				defer mu.Unlock()
				all = append(all, own...)
			})
		}
		workers.Wait()
		slices.Sort(all)
		return float64(len(all)) / span.Seconds(), all[len(all)*99/100]
	}
	for b.Loop() {
		without, p99Without := measure(alone)
		hungryBed := newBed(b, setup{candidate: hungry(), config: func(cfg *shadow.Config) { *cfg = shadow.DefaultConfig() }})
		hungryBed.judging(engine.Source{Files: files(b, hungry())}.Digest())
		with, p99With := measure(hungryBed)
		require.Positive(b, hungryBed.metric("patrol_policy_shadow_dropped_total")+hungryBed.metric("patrol_policy_shadow_decisions_total"))
		b.ReportMetric(without, "alone/s")
		b.ReportMetric(with, "beside/s")
		b.ReportMetric(float64(p99Without.Microseconds()), "alone-p99-µs")
		b.ReportMetric(float64(p99With.Microseconds()), "beside-p99-µs")
		if with < bar*without {
			b.Errorf("%.0f decisions a second beside the shadow, and %.0f alone: less than %.0f %%", with, without, 100*bar)
		}
	}
}
