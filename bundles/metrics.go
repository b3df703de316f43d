package bundles

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"patrol/policies/engine"
)

// The outcomes of candidates in metrics.
const (
	outcomeActivated = "activated"
	outcomeRefused   = "refused"
	outcomeHeld      = "held"   // because the policy in force is pinned
	outcomeFailed    = "failed" // could not be judged; it is tried again
)

type metrics struct {
	candidates *prometheus.CounterVec
	swaps      prometheus.Counter
	reached    prometheus.Gauge
	refused    prometheus.Gauge
}

func newMetrics(registerer prometheus.Registerer, active func() State) (*metrics, error) {
	m := &metrics{
		candidates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patrol_policy_candidates_total", Help: "Candidate policies by what became of them.",
		}, []string{"outcome"}),
		swaps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "patrol_policy_swaps_total", Help: "How often this server put another policy in force.",
		}),
		reached: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "patrol_policy_source_reached", Help: "1 if the policy's source could be read the last time, else 0.",
		}),
		refused: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "patrol_policy_source_refused", Help: "1 if what the policy's source holds was refused, so that an older policy is in force, else 0.",
		}),
	}
	for _, outcome := range []string{outcomeActivated, outcomeRefused, outcomeHeld, outcomeFailed} {
		m.candidates.WithLabelValues(outcome) // so that a first occurrence shows as a rise
	}
	if registerer == nil {
		return m, nil
	}
	pinned := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "patrol_policy_pinned", Help: "1 if the policy in force is pinned by a roll back or a promotion, else 0.",
	}, func() float64 {
		if active().Pinned {
			return 1
		}
		return 0
	})
	since := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "patrol_policy_activated_timestamp_seconds", Help: "When the policy in force came into force, in Unix time.",
	}, func() float64 { return float64(active().Since.UnixNano()) / float64(time.Second) })
	for _, c := range []prometheus.Collector{m.candidates, m.swaps, m.reached, m.refused, pinned, since} {
		if err := registerer.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// watch adds what is measured of the policy in force.
func (m *metrics) watch(registerer prometheus.Registerer, e *engine.Engine) error {
	if registerer == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "patrol_policy_planned", Help: "1 if the compiled plan of the policy in force answers, 0 if OPA's own evaluator does.",
		}, func() float64 {
			if e.Current().Fast() {
				return 1
			}
			return 0
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "patrol_policy_plan_disagreements_total", Help: "Requests on which the compiled plan and OPA's own evaluator disagreed. They were denied.",
		}, func() float64 { return float64(engine.Disagreements()) }),
	} {
		if err := registerer.Register(c); err != nil {
			return err
		}
	}
	return nil
}
