package decisionlog

import "github.com/prometheus/client_golang/prometheus"

// metrics counts what becomes of records. No label holds anything of a client's.
type metrics struct {
	recorded   *prometheus.CounterVec
	dropped    *prometheus.CounterVec
	failures   *prometheus.CounterVec
	maskErrors prometheus.Counter
	unrecorded prometheus.Counter
	refusals   *prometheus.CounterVec
	reach      *prometheus.GaugeVec
	rows       *prometheus.GaugeVec

	kept, counted [len(refusalReasons)]prometheus.Counter // of refusals
}

// newMetrics registers them with to, unless that is nil. buffered returns the bytes
// that wait in the buffer.
func newMetrics(to prometheus.Registerer, buffered func() int64) *metrics {
	m := &metrics{
		recorded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patrol_decision_log_recorded_total", Help: "Decisions that a sink of the decision log has.",
		}, []string{"sink"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patrol_decision_log_dropped_total", Help: "Decisions that are lost to the decision log, by where and by outcome.",
		}, []string{"at", "outcome"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patrol_decision_log_write_errors_total", Help: "Attempts of a sink of the decision log to write that failed.",
		}, []string{"sink"}),
		maskErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "patrol_decision_log_mask_errors_total", Help: "Decisions that were logged without input because their mask failed.",
		}),
		unrecorded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "patrol_decision_log_required_failures_total", Help: "Allowances that became denials because they could not be recorded.",
		}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patrol_decision_log_refusals_total", Help: "Refusals of callers who showed no token that verifies, by reason and by whether they are kept or only counted.",
		}, []string{"reason", "kept"}),
		reach: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "patrol_decision_log_reach_seconds", Help: "How far back the decision log's database is complete: of decisions about tokens that verified (verified), and of what is kept of other refusals (refused).",
		}, []string{"class"}),
		rows: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "patrol_decision_log_rows", Help: "Decisions in the decision log's database, by class as above.",
		}, []string{"class"}),
	}
	// So that a first occurrence shows as a rise.
	for _, place := range []string{"buffer", "database", "file", "endpoint"} {
		m.dropped.WithLabelValues(place, "allow")
		m.dropped.WithLabelValues(place, "deny")
		if place != "buffer" {
			m.recorded.WithLabelValues(place)
			m.failures.WithLabelValues(place)
		}
	}
	for i, reason := range refusalReasons {
		m.kept[i], m.counted[i] = m.refusals.WithLabelValues(string(reason), "true"), m.refusals.WithLabelValues(string(reason), "false")
	}
	if to != nil {
		to.MustRegister(m.refusals, m.reach, m.rows, m.recorded, m.dropped, m.failures, m.maskErrors, m.unrecorded, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "patrol_decision_log_buffered_bytes", Help: "Size of what waits in the buffer of the decision log.",
		}, func() float64 { return float64(buffered()) }))
	}
	return m
}

func (m *metrics) drop(at string, d drops) {
	if d.allowed > 0 {
		m.dropped.WithLabelValues(at, "allow").Add(float64(d.allowed))
	}
	if d.refused > 0 {
		m.dropped.WithLabelValues(at, "deny").Add(float64(d.refused))
	}
}
