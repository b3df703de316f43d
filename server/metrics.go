package server

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"patrol/internal/release"
	"patrol/models"
	"patrol/server/request"
)

// Metrics counts what happens, for Prometheus, in a registry of its own. No label
// ever holds an id, a path or anything else that a client chose, so the number of
// series is bounded.
type Metrics struct {
	registry *prometheus.Registry
	handler  http.Handler

	decisions        *prometheus.CounterVec
	decisionDuration *prometheus.HistogramVec
	cacheRequests    *prometheus.CounterVec
	queryDuration    *prometheus.HistogramVec
	databaseErrors   *prometheus.CounterVec
	requests         *prometheus.CounterVec
	requestDuration  *prometheus.HistogramVec
	signIns          *prometheus.CounterVec
	breaches         *prometheus.CounterVec
	waived           *prometheus.CounterVec

	// The series of the busy ones, by their labels.
	counted series[decisionLabels, prometheus.Counter]
	timed   series[string, prometheus.Observer]
	looked  series[cacheLabels, prometheus.Counter]
	served  series[requestLabels, prometheus.Counter]
	lasted  series[string, prometheus.Observer]
}

type decisionLabels struct{ outcome, reason, surface string }

type cacheLabels struct {
	name string
	hit  bool
}

type requestLabels struct {
	name, method string
	status       int
}

// NewMetrics returns a registry with Patrol's, Go's and the process's metrics.
func NewMetrics() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	fast := prometheus.ExponentialBuckets(25e-6, 2.5, 12) // 25 µs to 0.6 s
	slow := prometheus.ExponentialBuckets(100e-6, 3, 11)  // 100 µs to 6 s
	m := &Metrics{
		registry:         prometheus.NewRegistry(),
		decisions:        counter("patrol_decisions_total", "Decisions by outcome, first reason and surface.", "outcome", "reason", "surface"),
		decisionDuration: histogram("patrol_decision_duration_seconds", "Time to decide, without HTTP.", fast, "surface"),
		cacheRequests:    counter("patrol_cache_requests_total", "Look-ups in the cache of facts.", "cache", "result"),
		queryDuration:    histogram("patrol_database_operation_duration_seconds", "Time of database operations.", slow, "operation"),
		databaseErrors:   counter("patrol_database_errors_total", "Database operations that failed, by code.", "code"),
		requests:         counter("patrol_http_requests_total", "HTTP requests by route, method and status.", "route", "method", "status"),
		requestDuration:  histogram("patrol_http_request_duration_seconds", "Time from a request's headers to the end of its answer.", slow, "route"),
		signIns:          counter("patrol_sign_ins_total", "Attempts to sign in: accepted, refused or throttled.", "outcome"),
		breaches:         counter("patrol_policy_breaches_total", "Answers in which the policy allowed what no policy may allow, by the reason that it should have given. None was allowed.", "code"),
		waived:           counter("patrol_decisions_waived_total", "Allowances in spite of a reason to deny, by a waiver of manifest and server or an exception of the policy.", "code", "by"),
	}
	build := release.Current()
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "patrol_build_info", Help: "1, with the build that this is as labels.",
			ConstLabels: prometheus.Labels{"version": build.Version, "commit": build.Commit, "go_version": build.Go},
		}, func() float64 { return 1 }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.decisions, m.decisionDuration, m.cacheRequests, m.queryDuration, m.databaseErrors, m.requests, m.requestDuration, m.signIns, m.breaches, m.waived,
	)
	m.begin()
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
	return m
}

// Registry returns the registry in which other parts of the program may register metrics.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Decided counts one decision; it is part of authz.Metrics.
func (m *Metrics) Decided(outcome, reason, surface string, took time.Duration) {
	m.counted.of(decisionLabels{outcome, knownReason(reason), surface}, func(l decisionLabels) prometheus.Counter {
		return m.decisions.WithLabelValues(l.outcome, l.reason, l.surface)
	}).Inc()
	m.timed.of(surface, func(surface string) prometheus.Observer { return m.decisionDuration.WithLabelValues(surface) }).Observe(took.Seconds())
}

// Cache counts one look-up in a cache of facts; it is part of authz.Metrics.
func (m *Metrics) Cache(name string, hit bool) {
	m.looked.of(cacheLabels{name, hit}, func(l cacheLabels) prometheus.Counter {
		if l.hit {
			return m.cacheRequests.WithLabelValues(l.name, "hit")
		}
		return m.cacheRequests.WithLabelValues(l.name, "miss")
	}).Inc()
}

// Breached counts an allowance that no policy may give; it is part of authz.Metrics.
func (m *Metrics) Breached(code string) { m.breaches.WithLabelValues(knownReason(code)).Inc() }

// Waived counts an allowance in spite of a reason to deny; it is part of authz.Metrics.
func (m *Metrics) Waived(code string, exception bool) {
	by := "waiver"
	if exception {
		by = "exception"
	}
	m.waived.WithLabelValues(knownReason(code), by).Inc()
}

// Query counts one database operation; it fits store.Config.OnQuery. Refusals
// that are answers, such as a name that is taken, are no database errors.
func (m *Metrics) Query(operation string, took time.Duration, err error) {
	m.queryDuration.WithLabelValues(operation).Observe(took.Seconds())
	switch code := models.CodeOf(err); code {
	case models.CodeUnavailable, models.CodeInternal:
		m.databaseErrors.WithLabelValues(string(code)).Inc()
	}
}

func (m *Metrics) signIn(outcome string) { m.signIns.WithLabelValues(outcome).Inc() }

func (m *Metrics) answered(name, method string, status int, took time.Duration) {
	if name == "" {
		name = "none"
	}
	m.served.of(requestLabels{name, knownMethod(method), status}, func(l requestLabels) prometheus.Counter {
		return m.requests.WithLabelValues(l.name, l.method, strconv.Itoa(l.status))
	}).Inc()
	m.lasted.of(name, func(name string) prometheus.Observer { return m.requestDuration.WithLabelValues(name) }).Observe(took.Seconds())
}

// watchFeed exposes how far behind the change feed is read.
func (m *Metrics) watchFeed(lag func() time.Duration) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "patrol_feed_lag_seconds", Help: "Time since the change feed was last read to its end."},
		func() float64 { return lag().Seconds() },
	))
}

// knownReasons are those that have a series of their own. Policies may add codes, and could
// build them from input: those are counted as other.
var knownReasons = []models.ReasonCode{
	models.TokenMissing, models.TokenMalformed, models.TokenUnknown, models.TokenRevoked, models.TokenExpired,
	models.UserDisabled, models.DomainUnknown, models.DomainDisabled, models.DomainFrozen, models.NotAMember,
	models.RoleForbids, models.OutOfScope, models.LifetimeExceeded, models.WildcardForbidden, models.ApprovalRequired, models.Withdrawn,
	models.IPForbidden, models.UnknownOperation, models.RouteUnmapped, models.BodyInvalid, models.BodyTooLarge, models.EncodingUnsupported,
	models.RateLimited, models.PolicyError, models.Unavailable, otherReason,
}

const otherReason = "other"

// knownReason bounds a label.
func knownReason(code string) string {
	if code == "" || slices.Contains(knownReasons, models.ReasonCode(code)) {
		return code
	}
	return otherReason
}

// knownMethod bounds a label and a log field: a method can be any word.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions, http.MethodConnect, http.MethodTrace:
		return method
	}
	return "OTHER"
}

var errMetricsHere = models.NewError(models.CodeForbidden,
	"metrics are for programs on this machine; set metrics.listen for a listener of their own, or metrics.public: true")

// getMetrics answers a scrape on the main listener: of a program on this machine, and not
// of a proxy there that passes on what others ask.
func (s *Server) getMetrics(c *gin.Context, _ models.Principal) error {
	if peer := request.Peer(c.Request); !s.cfg.MetricsPublic && (peer.IsValid() && !peer.IsLoopback() || request.Forwarded(c.Request.Header)) {
		return errMetricsHere
	}
	s.metrics.handler.ServeHTTP(c.Writer, c.Request)
	return nil
}
