package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"patrol/internal/certificate"
	"patrol/models"
	"patrol/models/store"
)

// begin has each counter with labels of a fixed set there from the start: to Prometheus a
// counter that appears with its first event has not risen.
func (m *Metrics) begin() {
	for _, surface := range models.Surfaces {
		m.decisions.WithLabelValues("allow", "", surface)
		for _, reason := range knownReasons {
			outcome := "deny"
			if reason == models.PolicyError || reason == models.Unavailable {
				outcome = "error"
			}
			m.decisions.WithLabelValues(outcome, string(reason), surface)
		}
		m.decisionDuration.WithLabelValues(surface)
	}
	for _, reason := range knownReasons {
		m.breaches.WithLabelValues(string(reason))
		m.waived.WithLabelValues(string(reason), "waiver")
		m.waived.WithLabelValues(string(reason), "exception")
	}
	for _, cache := range []string{"token", "unknown", "user", "domain", "membership"} {
		m.cacheRequests.WithLabelValues(cache, "hit")
		m.cacheRequests.WithLabelValues(cache, "miss")
	}
	for _, code := range []models.Code{models.CodeUnavailable, models.CodeInternal} {
		m.databaseErrors.WithLabelValues(string(code))
	}
	for _, outcome := range []string{"accepted", "refused", "throttled"} {
		m.signIns.WithLabelValues(outcome)
	}
}

// Database is the source of the metrics of a database.
type Database interface {
	Pools() []store.PoolStats
	FileSizes() (file, wal int64, ok bool)
}

// WatchDatabase exposes how the connections to a database are used, and with SQLite how
// large it is.
func (m *Metrics) WatchDatabase(name string, d Database) {
	m.registry.MustRegister(databaseCollector{name, d})
}

type databaseCollector struct {
	name string
	of   Database
}

var (
	connectionsDesc = prometheus.NewDesc("patrol_database_connections", "Connections to a database, by pool and by whether they are in use.", []string{"database", "pool", "state"}, nil)
	maxDesc         = prometheus.NewDesc("patrol_database_connections_max", "Most connections of a pool.", []string{"database", "pool"}, nil)
	waitsDesc       = prometheus.NewDesc("patrol_database_connection_waits_total", "How often an operation waited for a connection of a pool.", []string{"database", "pool"}, nil)
	waitedDesc      = prometheus.NewDesc("patrol_database_connection_wait_seconds_total", "How long operations waited for a connection of a pool.", []string{"database", "pool"}, nil)
	fileDesc        = prometheus.NewDesc("patrol_database_file_bytes", "Size of an SQLite database (main) and of its write-ahead log (wal).", []string{"database", "file"}, nil)
)

// Describe is part of prometheus.Collector. What it describes is the same for each database,
// so it says nothing: two can be registered.
func (c databaseCollector) Describe(chan<- *prometheus.Desc) {}

// Collect is part of prometheus.Collector.
func (c databaseCollector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, labels...)
	}
	for _, p := range c.of.Pools() {
		gauge(connectionsDesc, float64(p.InUse), c.name, p.Name, "in_use")
		gauge(connectionsDesc, float64(p.Idle), c.name, p.Name, "idle")
		gauge(maxDesc, float64(p.MaxOpenConnections), c.name, p.Name)
		counter(waitsDesc, float64(p.WaitCount), c.name, p.Name)
		counter(waitedDesc, p.WaitDuration.Seconds(), c.name, p.Name)
	}
	if file, wal, ok := c.of.FileSizes(); ok {
		gauge(fileDesc, float64(file), c.name, "main")
		gauge(fileDesc, float64(wal), c.name, "wal")
	}
}

// gauge registers what is measured when it is asked for.
func (m *Metrics) gauge(name, help string, labels prometheus.Labels, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value))
}

// watchPlaces exposes how many requests are under way.
func (s *Server) watchPlaces() {
	const name, help = "patrol_http_in_flight", "Requests under way, by kind: those that ask for decisions, and the rest."
	s.metrics.gauge(name, help, prometheus.Labels{"kind": "decisions"}, func() float64 { return float64(s.places.Decisions.Used()) })
	s.metrics.gauge(name, help, prometheus.Labels{"kind": "rest"}, func() float64 { return float64(s.places.Rest.Used()) })
}

// WatchCertificate exposes when the certificate of a listener ends.
func (m *Metrics) WatchCertificate(listener string, w *certificate.Watched) {
	m.gauge("patrol_tls_certificate_expiry_timestamp_seconds", "When the certificate of a listener ends, in Unix time.", prometheus.Labels{"listener": listener},
		func() float64 { return float64(w.Expires().UnixNano()) / float64(time.Second) })
}
