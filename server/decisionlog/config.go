package decisionlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"patrol/models"
	"patrol/policies/engine"
)

// Config says where decisions are kept and how much of them. Start from
// [DefaultConfig].
type Config struct {
	// Required makes an allowance wait until it is on record, for Wait at most, and
	// a denial if it is not.
	Required bool
	Wait     time.Duration

	// FlushInterval is how long decisions gather before they are written.
	FlushInterval time.Duration
	// Buffer bounds, in bytes, what gathers, and then each sink's queue.
	Buffer int64

	// Retention is how long the database keeps decisions, and MaxRows how many (0:
	// any number). CountRetention is how long it keeps what they add up to.
	Retention      time.Duration
	MaxRows        int64
	CountRetention time.Duration

	File     FileConfig
	Endpoint EndpointConfig
}

// FileConfig is a file of JSON lines. When it is full or old it is renamed, with
// the time before its suffix, and a new one is begun.
type FileConfig struct {
	Path     string // empty: there is none
	MaxSize  int64  // bytes
	MaxAge   time.Duration
	MaxFiles int // that are kept beside the one being written
	Sync     bool
}

// EndpointConfig is where batches of events are posted to, gzipped JSON arrays, as
// OPA does it.
type EndpointConfig struct {
	URL       string // empty: nowhere
	Token     string // sent as a Bearer token; empty: none
	BatchSize int    // bytes of JSON in a batch, at most
	Timeout   time.Duration
}

// DefaultConfig returns the configuration that applies where nothing else is said.
func DefaultConfig() Config {
	return Config{
		Wait:          2 * time.Second,
		FlushInterval: 200 * time.Millisecond,
		Buffer:        64 << 20,
		Retention:     30 * 24 * time.Hour, MaxRows: 2_000_000, CountRetention: 400 * 24 * time.Hour,
		File:     FileConfig{MaxSize: 100 << 20, MaxAge: 24 * time.Hour, MaxFiles: 10},
		Endpoint: EndpointConfig{BatchSize: 1 << 20, Timeout: 10 * time.Second},
	}
}

// Validate returns everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("decision log: "+format, args...))
		}
	}
	check(c.Wait > 0, "the wait for a record must be longer than zero")
	check(c.FlushInterval >= time.Millisecond, "the flush interval must be at least 1ms")
	check(c.Buffer >= minBuffer, "the buffer must have at least %d bytes", minBuffer)
	check(c.Retention >= time.Minute, "the retention must be at least 1m")
	check(c.MaxRows >= 0, "the maximum of rows must not be negative")
	check(c.CountRetention >= 24*time.Hour, "the retention of counts must be at least one day")
	if c.File.Path != "" {
		check(c.File.MaxSize >= 1<<20, "a file must be let grow to at least 1 MiB")
		check(c.File.MaxAge >= time.Minute, "a file must be let grow old for at least 1m")
		check(c.File.MaxFiles >= 0, "the number of files must not be negative")
	}
	if c.Endpoint.URL != "" {
		u, err := url.Parse(c.Endpoint.URL)
		check(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "", "the endpoint must be an http:// or https:// URL")
		check(c.Endpoint.BatchSize >= 4<<10 && int64(c.Endpoint.BatchSize) <= c.Buffer, "a batch must have at least 4 KiB, and fit the buffer")
		check(c.Endpoint.Timeout > 0, "the endpoint's timeout must be longer than zero")
	}
	return errors.Join(errs...)
}

const minBuffer = 64 << 10

// Database is a decision log in a database. Its methods are safe for concurrent
// use and end when ctx does.
type Database interface {
	// Add writes decisions, all or none. Adding one again is no error.
	Add(ctx context.Context, batch []models.LoggedDecision) error
	// AddCounts adds to what is there.
	AddCounts(ctx context.Context, counts models.DecisionCounts) error
	// PruneDecisions deletes decisions from before a time, the oldest of more than
	// most (0: any number), and counts of days before countsBefore.
	PruneDecisions(ctx context.Context, before time.Time, most int64, countsBefore time.Time) error
	// HashKey returns the key of masks that hash.
	HashKey(ctx context.Context) ([]byte, error)
}

// Deps is what a [Log] works with. Policy is required.
type Deps struct {
	Policy   *engine.Engine // has the mask
	Database Database       // nil: decisions are not kept in one
	Client   *http.Client   // for the endpoint; nil: one without redirects
	// Labels say in each event who logs, as a JSON object.
	Labels     []byte
	Registerer prometheus.Registerer // nil: nothing is counted for others
	Logger     *slog.Logger          // nil: slog.Default
	Clock      func() time.Time      // nil: time.Now
}
