package bundles

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"patrol/policies/engine"
)

// ShadowLedger keeps what became of candidates for the shadow. All servers on one
// database share it.
type ShadowLedger interface {
	// Place notes that a candidate has passed the gate and is judged beside the policy
	// in force from now on. It does nothing if that is known.
	Place(ctx context.Context, r Record, archive []byte) error
	// Refuse notes that a candidate was refused.
	Refuse(ctx context.Context, r Record) error
}

// ShadowConfig holds the parts and settings of a [Shadow]. All but the last two are required.
type ShadowConfig struct {
	Source     Source
	Gate       *Gate
	Ledger     ShadowLedger
	Logger     *slog.Logger          // nil: slog.Default()
	Registerer prometheus.Registerer // nil: the metrics are nobody's
}

// Shadow follows a source whose policy never comes into force by itself: it is there
// to be judged beside the one that is. What the source holds goes through the same gate,
// but that no recorded decisions are replayed: what would change is what a shadow
// is to show. It is safe for use by many goroutines.
type Shadow struct {
	cfg       ShadowConfig
	log       *slog.Logger
	candidate atomic.Pointer[Candidate]

	mu     sync.Mutex
	source SourceStatus
	why    *Record // of the refusal of what the source holds

	reached, refused prometheus.Gauge
}

// Candidate is a policy that passed the gate.
type Candidate struct {
	Record
	Since  time.Time // on this server
	source engine.Source
}

// ShadowStatus is a server's state of its shadow.
type ShadowStatus struct {
	Source    SourceStatus
	Candidate *Candidate // that is judged; nil: none yet
	Refused   *Record    // why the source's is not; nil if it is
}

// NewShadow returns a shadow that does nothing until [Shadow.Run].
func NewShadow(cfg ShadowConfig) (*Shadow, error) {
	s := &Shadow{cfg: cfg, log: cfg.Logger}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.source.Name = cfg.Source.Name()
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	s.reached = gauge("patrol_policy_shadow_source_reached", "1 if the shadow policy's source could be read the last time, else 0.")
	s.refused = gauge("patrol_policy_shadow_source_refused", "1 if what the shadow policy's source holds was refused, so that it is not judged, else 0.")
	if cfg.Registerer == nil {
		return s, nil
	}
	return s, errors.Join(cfg.Registerer.Register(s.reached), cfg.Registerer.Register(s.refused))
}

// Run follows the source until ctx ends.
func (s *Shadow) Run(ctx context.Context) {
	follow(ctx, s.cfg.Source, nil, follower{heard: s.heard, consider: func(ctx context.Context, b *Bundle) error {
		err := s.consider(ctx, b)
		if err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "a shadow policy could not be checked; it will be tried again", "source", b.Name, "error", err)
		}
		return err
	}})
}

// Candidate returns the policy that is to be judged beside the one in force; nil if
// there is none yet.
func (s *Shadow) Candidate() *Candidate { return s.candidate.Load() }

// Status returns what this server knows of its shadow.
func (s *Shadow) Status() ShadowStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ShadowStatus{Source: s.source, Candidate: s.candidate.Load(), Refused: s.why}
}

func (s *Shadow) heard(ctx context.Context, b *Bundle, err error) {
	if b == nil && ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	bad, repeated := s.source.heard(err)
	reached := s.source.Reached
	s.mu.Unlock()
	s.reached.Set(map[bool]float64{true: 1}[reached])
	switch {
	case bad != nil:
		if err := s.refuse(ctx, bad.record()); err != nil {
			s.log.ErrorContext(ctx, "a refused shadow policy could not be noted", "error", err)
		}
	case err != nil && !repeated:
		s.log.WarnContext(ctx, "the shadow policy's source cannot be read", "source", s.cfg.Source.Name(), "error", err)
	}
}

// consider makes a bundle the candidate if it passes. The error is not about the
// bundle.
func (s *Shadow) consider(ctx context.Context, b *Bundle) error {
	if c := s.Candidate(); c != nil && c.Digest == b.Digest() && c.ArchiveDigest == ArchiveDigest(b.Archive) {
		s.settle(nil)
		return nil
	}
	result, err := s.cfg.Gate.check(ctx, b.Source, false)
	if err != nil {
		return err
	}
	record := recordOf(b, "", result)
	if !result.Passed {
		return s.refuse(ctx, record)
	}
	if err := s.cfg.Ledger.Place(ctx, record, b.Archive); err != nil {
		return err
	}
	s.candidate.Store(&Candidate{Record: record, Since: time.Now(), source: s.cfg.Gate.Permit(b.Source)})
	s.settle(nil)
	s.log.InfoContext(ctx, "shadow policy", "revision", record.Revision, "digest", record.Digest, "source", record.Source)
	return nil
}

func (s *Shadow) refuse(ctx context.Context, r Record) error {
	s.settle(&r)
	for _, f := range r.Result.Findings {
		s.log.ErrorContext(ctx, "shadow policy refused", r.about(f)...)
	}
	return s.cfg.Ledger.Refuse(ctx, r)
}

// settle notes whether what the source holds is refused.
func (s *Shadow) settle(why *Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.why, s.source.Pending = why, nil
	if why != nil {
		s.source.Pending = &Pending{Digest: why.Digest, Revision: why.Revision, Refused: true}
	}
	s.refused.Set(map[bool]float64{true: 1}[why != nil])
}
