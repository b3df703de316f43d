package extauthz

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"patrol/internal/certificate"
	"patrol/models"
)

// Outcomes of questions in metrics.
const (
	outcomeAllow     = "allow"
	outcomeDeny      = "deny"       // 401 or 403
	outcomeError     = "error"      // 503 by decision: policy_error or unavailable
	outcomeMalformed = "malformed"  // 400
	outcomeTimeout   = "timeout"    // 503: not judged in time
	outcomeOverload  = "overload"   // 503: too many at a time
	outcomePanic     = "panic"      // 503: a defect
	outcomeDryRun    = "would_deny" // let through by a dry run
)

func (v *verdict) outcome() string {
	switch {
	case v.Malformed != "":
		return outcomeMalformed
	case v.Decision.Allowed:
		return outcomeAllow
	case v.Decision.Has(models.Unavailable) || v.Decision.Has(models.PolicyError):
		return outcomeError
	}
	return outcomeDeny
}

// metrics counts questions.
type metrics struct {
	checks   *prometheus.CounterVec
	duration prometheus.Histogram
}

func newMetrics(registerer prometheus.Registerer, inFlight func() int) (*metrics, error) {
	m := &metrics{
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patrol_extauthz_checks_total", Help: "Questions of Envoy by outcome.",
		}, []string{"outcome"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "patrol_extauthz_check_duration_seconds", Help: "Time to answer a question of Envoy.",
			Buckets: prometheus.ExponentialBuckets(25e-6, 2.5, 11), // 25 µs to 0.24 s
		}),
	}
	for _, outcome := range []string{
		outcomeAllow, outcomeDeny, outcomeError, outcomeMalformed, outcomeTimeout, outcomeOverload, outcomePanic, outcomeDryRun,
	} {
		m.checks.WithLabelValues(outcome) // so that a first occurrence shows as a rise
	}
	if registerer == nil {
		return m, nil
	}
	gauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "patrol_extauthz_in_flight", Help: "Questions of Envoy that are being judged.",
	}, func() float64 { return float64(inFlight()) })
	for _, c := range []prometheus.Collector{m.checks, m.duration, gauge} {
		if err := registerer.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) checked(outcome string, took time.Duration) {
	m.checks.WithLabelValues(outcome).Inc()
	m.duration.Observe(took.Seconds())
}

// certificateExpiry exposes when the certificate of the listener ends, beside that of the
// HTTP listener.
func certificateExpiry(w *certificate.Watched) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "patrol_tls_certificate_expiry_timestamp_seconds", Help: "When the certificate of a listener ends, in Unix time.",
		ConstLabels: prometheus.Labels{"listener": "grpc"},
	}, func() float64 { return float64(w.Expires().UnixNano()) / float64(time.Second) })
}

// sparseLog writes each of its messages at most once a second, since all of them
// can come with every request. The next one says how many were left out.
type sparseLog struct {
	to  *slog.Logger
	now func() time.Time

	mu   sync.Mutex
	last map[string]*lastLogged
}

type lastLogged struct {
	at      time.Time
	leftOut int
}

func newSparseLog(to *slog.Logger) *sparseLog {
	return &sparseLog{to: to, now: time.Now, last: map[string]*lastLogged{}}
}

func (l *sparseLog) warn(ctx context.Context, message string, args ...any) {
	l.log(ctx, slog.LevelWarn, message, args)
}

func (l *sparseLog) log(ctx context.Context, level slog.Level, message string, args []any) {
	now := l.now()
	l.mu.Lock()
	last := l.last[message]
	if last == nil {
		last = &lastLogged{}
		l.last[message] = last
	}
	if now.Sub(last.at) < time.Second {
		last.leftOut++
		l.mu.Unlock()
		return
	}
	leftOut := last.leftOut
	*last = lastLogged{at: now}
	l.mu.Unlock()
	if leftOut > 0 {
		args = append(args, "more_like_this", leftOut)
	}
	l.to.Log(ctx, level, message, args...) //nolint:sloglint // callers give constants
}
