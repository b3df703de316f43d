package shadow

import (
	"github.com/prometheus/client_golang/prometheus"

	"patrol/models"
	"patrol/policies/engine/workbench"
)

type metrics struct {
	decisions *prometheus.CounterVec
	dropped   prometheus.Counter
	ended     prometheus.Counter
	info      *prometheus.GaugeVec
}

func newMetrics(to prometheus.Registerer, queued func() int64) *metrics {
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patrol_policy_shadow_decisions_total", Help: "Decisions that the shadow policy was asked for again, by how its answer differs.",
		}, []string{"outcome"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "patrol_policy_shadow_dropped_total", Help: "Decisions of the sample that the shadow policy was not asked for, for want of time or room.",
		}),
		ended: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "patrol_policy_shadow_failures_total", Help: "How often the process that asks the shadow policy could not be started or ended of itself.",
		}),
		info: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "patrol_policy_shadow_info", Help: "1 for the shadow policy that is being asked.",
		}, []string{"revision", "digest"}),
	}
	for _, outcome := range []string{
		models.ShadowSame, string(workbench.NewlyAllowed), string(workbench.NewlyDenied), string(workbench.OtherReasons), string(workbench.OtherGrant), models.ShadowError,
	} {
		m.decisions.WithLabelValues(outcome) // so that a first occurrence shows as a rise
	}
	if to != nil {
		to.MustRegister(m.decisions, m.dropped, m.ended, m.info, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "patrol_policy_shadow_queued_bytes", Help: "Size of what waits to be judged by the shadow policy.",
		}, func() float64 { return float64(queued()) }))
	}
	return m
}
