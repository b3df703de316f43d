package shadow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"patrol/bundles"
	"patrol/bundles/sandbox"
	"patrol/models"
	"patrol/policies/engine/workbench"
	"patrol/server/authz"
	"patrol/server/decisionlog"
)

// Config says how much is judged. Start from [DefaultConfig].
type Config struct {
	// Sample is the share of decisions that are judged, in percent.
	Sample int
	// Share bounds the processor time of judging, in percent of one processor.
	Share int
	// Buffer bounds, in bytes, what waits to be judged.
	Buffer int64
	// Memory bounds, in bytes, the process that judges.
	Memory int64
	// FlushInterval is the time for which counts gather before they are written.
	FlushInterval time.Duration
}

// DefaultConfig returns the configuration that applies where nothing else is said.
func DefaultConfig() Config {
	return Config{Sample: 100, Share: 25, Buffer: 8 << 20, Memory: 256 << 20, FlushInterval: 2 * time.Second}
}

// Validate returns everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("shadow: "+format, args...))
		}
	}
	check(c.Sample >= 1 && c.Sample <= 100, "the sample must be from 1 to 100 percent")
	check(c.Share >= 1 && c.Share <= 100, "the share of a processor must be from 1 to 100 percent")
	check(c.Buffer >= 64<<10, "the buffer must have at least 64 KiB")
	check(c.Memory >= 128<<20, "the memory must be at least 128 MiB")
	check(c.FlushInterval >= time.Millisecond, "the flush interval must be at least 1ms")
	return errors.Join(errs...)
}

// Store keeps what decisions add up to.
type Store interface {
	// AddShadowCounts adds to what there is of a shadow, by its digest. It is
	// [models.CodeNotFound] for one that is not kept any more.
	AddShadowCounts(ctx context.Context, digest string, counts []models.ShadowCount) error
}

// Deps has the parts that a [Shadow] uses. The first four are required.
type Deps struct {
	Candidates *bundles.Shadow
	Active     func() bundles.State // the policy in force
	Store      Store
	Masker     *decisionlog.Masker // of its own
	// Next records the decisions as well; nil: nobody does.
	Next       authz.Recorder
	Registerer prometheus.Registerer // nil: nothing is counted for others
	Logger     *slog.Logger          // nil: slog.Default()
}

// Shadow judges decisions beside the policy in force. It is safe for concurrent
// use.
type Shadow struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	queue   *queue
	tally   *tally
	metrics *metrics
	on      atomic.Bool // there is a policy to judge by, and it is not the one in force

	failure atomic.Pointer[string] // why nothing is judged
}

// New returns a shadow that judges nothing until [Shadow.Run].
func New(cfg Config, deps Deps) (*Shadow, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Candidates == nil || deps.Active == nil || deps.Store == nil || deps.Masker == nil {
		return nil, errors.New("the shadow needs candidates, the policy in force, a store and a mask")
	}
	s := &Shadow{cfg: cfg, deps: deps, log: deps.Logger, queue: newQueue(cfg.Buffer), tally: newTally()}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.metrics = newMetrics(deps.Registerer, s.queue.size)
	return s, nil
}

// Record takes a decision into the sample, and hands it on; it is what makes a Shadow
// an [authz.Recorder]. The error is that of the next recorder.
func (s *Shadow) Record(ctx context.Context, r authz.Record) error {
	if s.on.Load() && !r.JudgedAt.IsZero() && (s.cfg.Sample == 100 || rand.IntN(100) < s.cfg.Sample) { //nolint:gosec // G404: a sample
		s.queue.put(r)
	}
	if s.deps.Next == nil {
		return nil
	}
	return s.deps.Next.Record(ctx, r)
}

// Refused hands on the refusal of somebody who showed no token that verifies: no
// policy was asked. It is what makes a Shadow an [authz.StrangersRecorder].
func (s *Shadow) Refused(ctx context.Context, r authz.Record) (id string) {
	return authz.Refused(ctx, s.deps.Next, r)
}

// Status is a server's state of its shadow.
type Status struct {
	bundles.ShadowStatus
	Sample int // percent
	// Judging says that decisions are judged: there is a candidate, and it is not the
	// policy in force.
	Judging bool
	// Failure says why no decision could be judged lately; "" if some were.
	Failure string
}

// Status returns what this server knows of its shadow.
func (s *Shadow) Status() Status {
	out := Status{ShadowStatus: s.deps.Candidates.Status(), Sample: s.cfg.Sample, Judging: s.on.Load()}
	if text := s.failure.Load(); text != nil {
		out.Failure = *text
	}
	return out
}

// Run follows the source and judges until ctx ends, and then writes what was counted. It
// returns nil.
func (s *Shadow) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	tasks.Go(func() { s.deps.Candidates.Run(ctx) })
	tasks.Go(func() { s.judgeLoop(ctx) })
	tick := time.NewTicker(s.cfg.FlushInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			s.flush(ctx)
		}
	}
	tasks.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	s.flush(last)
	return nil
}

const (
	// maxBatch bounds the decisions that a child is given at a time: so many that
	// it takes from shortBatch to longBatch, so that work and rest alternate quickly.
	maxBatch   = 64
	shortBatch = 5 * time.Millisecond
	longBatch  = 20 * time.Millisecond
	// lookEvery is the interval at which the candidate and the policy in force are looked at while
	// there is nothing to judge.
	lookEvery = 200 * time.Millisecond
	// A child that could not be started, or ended, is followed by another after a
	// pause, which doubles if that happens again soon.
	minPause = time.Second
	maxPause = time.Minute
)

// worker judges. It belongs to one goroutine.
type worker struct {
	*Shadow
	candidate *bundles.Candidate // that judge is of
	judge     *bundles.Judge     // nil: none is there
	failed    time.Time          // when the last one failed
	pause     time.Duration      // after that
	told      string             // the last failure

	taken []authz.Record // being worked on, and how many of them are done
	done  int
	size  int    // of the next batch
	text  []byte // room for events
}

func (s *Shadow) judgeLoop(ctx context.Context) {
	w := &worker{Shadow: s, size: 1}
	defer w.close()
	defer s.on.Store(false)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		busy := w.step(ctx)
		rest := lookEvery
		if busy > 0 {
			rest = time.Duration(float64(busy) * float64(100-s.cfg.Share) / float64(s.cfg.Share))
		}
		timer.Reset(rest)
		wake := s.queue.wake
		if busy > 0 || !w.failed.IsZero() && time.Since(w.failed) < w.pause {
			wake = nil // rest is rest
		}
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-wake:
		}
	}
}

// step judges one batch, if there is one to judge, and returns how long it worked.
func (w *worker) step(ctx context.Context) (busy time.Duration) {
	began := time.Now()
	c := w.deps.Candidates.Candidate()
	active := w.deps.Active()
	if c == nil || c.Digest == active.Digest {
		w.on.Store(false)
		w.close()
		w.forget()
		w.candidate = nil
		return 0
	}
	if w.candidate != c {
		w.close()
		w.candidate, w.failed, w.pause, w.told = c, time.Time{}, 0, ""
		w.failure.Store(nil)
	}
	if !w.on.Swap(true) {
		w.log.InfoContext(ctx, "decisions are judged by the shadow policy as well", "revision", c.Revision, "digest", c.Digest, "percent", w.cfg.Sample)
	}
	if w.done == len(w.taken) {
		var dropped int64
		w.taken, dropped = w.queue.take(w.taken)
		w.done = 0
		if dropped > 0 {
			w.metrics.dropped.Add(float64(dropped))
			w.tally.add(c.Digest, active.Revision, models.ShadowDropped, dropped, began)
		}
	}
	if len(w.taken) == 0 || !w.failed.IsZero() && time.Since(w.failed) < w.pause {
		return 0
	}
	if w.judge == nil {
		judge, err := c.Open(ctx, sandbox.Limits{Memory: w.cfg.Memory})
		if err != nil {
			w.fail(ctx, fmt.Errorf("start to judge by the shadow policy: %w", err))
			return time.Since(began)
		}
		w.judge = judge
		w.metrics.info.WithLabelValues(c.Revision, c.Digest).Set(1)
	}
	w.batch(ctx)
	return time.Since(began)
}

// batch has the next decisions judged.
func (w *worker) batch(ctx context.Context) {
	batch := w.taken[w.done:min(len(w.taken), w.done+w.size)]
	began := time.Now()
	digest, rules := w.candidate.Digest, w.judge.Rules()
	answered := 0
	w.text = w.text[:0]
	for i := range batch {
		if l, err := decisionlog.Unmasked(&batch[i]); err == nil { // else nobody can read it, and the child says so
			w.text = l.AppendEvent(w.text, noLabels)
		}
		w.text = append(w.text, '\n')
	}
	err := w.judge.Judge(w.text, func(a workbench.EventReplay) {
		r := &batch[answered]
		answered++
		switch {
		case a.Unreadable:
			w.count(digest, r, models.ShadowError)
		case a.Kind == "":
			w.count(digest, r, models.ShadowSame)
		default:
			w.metrics.decisions.WithLabelValues(string(a.Kind)).Inc()
			w.tally.diverged(digest, r, a, rules)
		}
	})
	if err != nil && ctx.Err() == nil && answered < len(batch) {
		// It ended on this one, and would again.
		r := &batch[answered]
		w.count(digest, r, models.ShadowError)
		answered++
		w.fail(ctx, fmt.Errorf("judge decision %s by the shadow policy: %w", r.Decision.ID, err))
	}
	if answered > 0 && err == nil {
		w.failure.Store(nil)
		w.told = ""
	}
	w.queue.release(batch[:answered])
	w.done += answered
	switch took := time.Since(began); {
	case took > longBatch:
		w.size = max(1, w.size/4)
	case took < shortBatch:
		w.size = min(maxBatch, 2*w.size)
	}
}

var noLabels = []byte("{}")

func (w *worker) count(digest string, r *authz.Record, kind string) {
	w.metrics.decisions.WithLabelValues(kind).Inc()
	w.tally.add(digest, r.Decision.Revision, kind, 1, r.At)
}

// fail notes that the child is gone.
func (w *worker) fail(ctx context.Context, err error) {
	w.close()
	if ctx.Err() != nil {
		return
	}
	w.metrics.ended.Inc()
	text := err.Error()
	w.failure.Store(&text)
	if !w.failed.IsZero() && time.Since(w.failed) < 2*maxPause {
		w.pause = min(2*w.pause, maxPause)
	} else {
		w.pause = minPause
	}
	w.failed = time.Now()
	if text != w.told {
		w.log.WarnContext(ctx, "the shadow policy could not judge", "revision", w.candidate.Revision, "again_in", w.pause, "error", err)
	}
	w.told = text
}

func (w *worker) close() {
	if w.judge != nil {
		w.judge.Close()
		w.judge = nil
		w.metrics.info.Reset()
	}
}

// forget lets go of what waits: there is nothing to judge it by.
func (w *worker) forget() {
	w.queue.release(w.taken[w.done:])
	w.taken, _ = w.queue.take(w.taken)
	w.queue.release(w.taken)
	w.done = len(w.taken)
	w.failure.Store(nil)
}

// flush writes what was added up. What cannot be written is kept for the next
// time.
func (s *Shadow) flush(ctx context.Context) {
	for digest, counts := range s.tally.take() {
		list := make([]models.ShadowCount, 0, len(counts))
		for _, c := range counts {
			out := c.ShadowCount
			for i := range c.latest {
				d, err := c.latest[i].divergence(ctx, s.deps.Masker)
				if err != nil {
					s.log.WarnContext(ctx, "an example of what the shadow policy decides is kept without its request", "error", err)
				}
				out.Examples = append(out.Examples, d)
			}
			list = append(list, out)
		}
		err := s.deps.Store.AddShadowCounts(ctx, digest, list)
		switch {
		case err == nil:
		case models.CodeOf(err) == models.CodeNotFound:
			// Several others have taken its place meanwhile.
		default:
			s.tally.restore(digest, counts)
			if ctx.Err() == nil {
				s.log.WarnContext(ctx, "what the shadow policy decides could not be written yet", "error", err)
			}
		}
	}
}
