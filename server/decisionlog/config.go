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

	// FlushInterval is the time between writes of decisions. On a busy server, verified ones
	// gather for up to six intervals.
	FlushInterval time.Duration
	// Buffer bounds, in bytes, what gathers, and then each sink's queue.
	Buffer int64

	// Retention is the maximum time for which the database keeps decisions, and MaxRows how
	// many (0: any number): where there are more, the oldest of the users and tokens
	// that have most. CountRetention is the time for which it keeps what they add up to.
	Retention      time.Duration
	MaxRows        int64
	CountRetention time.Duration

	Refused  RefusedConfig
	File     FileConfig
	Endpoint EndpointConfig
}

// RefusedConfig bounds what is kept of refusals of those who showed no token that
// verifies. All of them are counted.
type RefusedConfig struct {
	// Addresses is the number of addresses that are counted by themselves in a minute, and
	// beyond them how many networks. An IPv6 /64 is an address.
	Addresses int
	// Samples is the number of refusals of an address that are kept in a minute, and
	// SamplesInAll how many of all addresses.
	Samples, SamplesInAll int
	// MaxRows bounds those that the database keeps, within its own MaxRows and never
	// more than an eighth of that, and MaxCounts how many counts by address and minute;
	// older ones are added up by the hour. 0: any number.
	MaxRows, MaxCounts int64
}

// refusedPart is the part of the buffer, and of a file's size, that there is besides
// for refusals of those who showed no token that verifies: one so many'th.
const refusedPart = 8

// FileConfig is a file of JSON lines. When it is full or old it is renamed, with
// the time before its suffix, and a new one is begun.
type FileConfig struct {
	Path     string // empty: there is none
	MaxSize  int64  // bytes
	MaxAge   time.Duration
	MaxFiles int // that are kept beside the one being written
	Sync     bool
}

// EndpointConfig is the endpoint to which batches of events are posted, gzipped JSON arrays, as
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
		Refused:  RefusedConfig{Addresses: 200, Samples: 3, SamplesInAll: 60, MaxRows: 100_000, MaxCounts: 200_000},
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
	check(c.Refused.Addresses >= 1, "at least one address must be counted by itself")
	check(c.Refused.Samples >= 0 && c.Refused.SamplesInAll >= 0, "the numbers of refusals that are kept must not be negative")
	check(c.Refused.MaxRows >= 0 && c.Refused.MaxCounts >= 0, "the maximum of rows of refusals must not be negative")
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
	// PruneDecisions deletes what is beyond the bounds, of each token's share what is
	// oldest, and says how far back the log reaches then.
	PruneDecisions(ctx context.Context, bounds models.LogBounds) (models.LogReach, error)
	// HashKey returns the key of masks that hash.
	HashKey(ctx context.Context) ([]byte, error)
}

// Deps has the parts that a [Log] uses. Policy is required.
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
