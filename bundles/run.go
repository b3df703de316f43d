package bundles

import (
	"context"
	"errors"
	"sync"
	"time"

	"patrol/policies/engine"
)

// news is the answer of a source.
type news struct {
	bundle *Bundle
	err    error
}

// retryAfter is the pause before a candidate is judged again that could not be
// judged, such as when the database was away.
const retryAfter = 10 * time.Second

// follower listens to a source.
type follower struct {
	// heard learns of everything that the source returns.
	heard func(context.Context, *Bundle, error)
	// consider is called with each bundle, and with the last one again some time after
	// it failed, and when again has an element.
	consider func(context.Context, *Bundle) error
	again    <-chan struct{}
}

// follow listens to a source until ctx ends. latest is what it has returned before,
// or nil.
func follow(ctx context.Context, source Source, latest *Bundle, f follower) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	heard := make(chan news)
	tasks.Go(func() {
		for ctx.Err() == nil {
			b, err := source.Next(ctx)
			select {
			case heard <- news{b, err}:
			case <-ctx.Done():
			}
		}
	})
	retry := time.NewTimer(0)
	retry.Stop()
	defer retry.Stop()
	consider := func() {
		retry.Stop()
		if latest != nil && f.consider(ctx, latest) != nil && ctx.Err() == nil {
			retry.Reset(retryAfter)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-heard:
			f.heard(ctx, n.bundle, n.err)
			if n.bundle != nil {
				latest = n.bundle
				consider()
			}
		case <-f.again:
			consider()
		case <-retry.C:
			consider()
		}
	}
}

// Run brings what the source holds into force, and follows the ledger, until ctx
// ends.
func (d *Delivery) Run(ctx context.Context) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { d.syncLoop(ctx) })
	if d.cfg.PlanTrials > 0 {
		tasks.Go(func() { d.hasten(ctx) })
	}
	follow(ctx, d.cfg.Source, d.latest(), follower{heard: d.heard, again: d.reconsider, consider: func(ctx context.Context, b *Bundle) error {
		err := d.consider(ctx, b)
		if err != nil && ctx.Err() == nil {
			d.metrics.candidates.WithLabelValues(outcomeFailed).Inc()
			d.log.ErrorContext(ctx, "a candidate policy could not be judged; it will be tried again", "source", b.Name, "error", err)
		}
		return err
	}})
}

// latest is the bundle in the source at the start, if it is to be considered again.
func (d *Delivery) latest() *Bundle {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.began
}

// hasten has the plan of each policy in force answer as soon as it has been held against
// OPA's own evaluator, which answers until then.
func (d *Delivery) hasten(ctx context.Context) {
	swapped := make(chan struct{}, 1)
	swapped <- struct{}{}
	d.engine.OnSwap(func() {
		select {
		case swapped <- struct{}{}:
		default:
		}
	})
	for {
		select {
		case <-ctx.Done():
			return
		case <-swapped:
		}
		s := d.engine.Current()
		switch err := s.Hasten(ctx, d.cfg.PlanTrials); {
		case ctx.Err() != nil:
		case err != nil:
			d.log.WarnContext(ctx, "requests are decided by OPA's own evaluator, which is slower", "revision", s.Revision(), "error", err)
		default:
			d.log.InfoContext(ctx, "requests are decided by the policy's compiled plan", "revision", s.Revision(), "trials", d.cfg.PlanTrials)
		}
	}
}

func (d *Delivery) syncLoop(ctx context.Context) {
	ticker := time.NewTicker(d.cfg.Sync)
	defer ticker.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		text := ""
		if err := d.Sync(ctx); err != nil && ctx.Err() == nil {
			if text = err.Error(); text != last {
				d.log.WarnContext(ctx, "this server does not follow which policy is in force", "error", err)
			}
		}
		last = text
	}
}

// heard notes how the source is doing. A bundle that could be reached and not be
// read is a candidate that is refused.
func (d *Delivery) heard(ctx context.Context, b *Bundle, err error) {
	if b == nil && ctx.Err() != nil {
		return
	}
	d.hold(b, err)
	d.state.Lock()
	bad, repeated := d.state.source.heard(err)
	reached := d.state.source.Reached
	d.state.Unlock()
	d.metrics.reached.Set(map[bool]float64{true: 1}[reached])
	switch {
	case bad != nil:
		if err := d.refuse(ctx, bad.record()); err != nil {
			d.log.ErrorContext(ctx, "a refused policy could not be noted", "error", err)
		}
	case err != nil && !repeated:
		d.log.WarnContext(ctx, "the policy's source cannot be read; the policy in force stays", "source", d.cfg.Source.Name(), "error", err)
	}
}

// heard notes what a source returned: bad is a bundle that was reached and cannot be
// read, and repeated says that the last thing to happen was the same error.
func (s *SourceStatus) heard(err error) (bad *BadBundleError, repeated bool) {
	bad, refused := errors.AsType[*BadBundleError](err)
	repeated = err != nil && s.Error == err.Error()
	s.Reached, s.CheckedAt, s.Error = err == nil || refused, time.Now(), ""
	if err != nil {
		s.Error = err.Error()
	}
	return bad, repeated
}

// record is the refusal of what cannot be read.
func (e *BadBundleError) record() Record {
	r := Record{Source: e.Name, Result: refusal("read", codeUnreadable, e.Err)}
	if e.Signature {
		r.Result = refusal(StageSignature, codeSignature, e.Err)
	}
	if e.Archive != nil {
		r.ArchiveDigest = ArchiveDigest(e.Archive)
	}
	return r
}

// about is a reason why a candidate is refused, for the log.
func (r Record) about(f engine.Finding) []any {
	return []any{
		"source", r.Source, "revision", r.Revision, "digest", r.Digest,
		"stage", f.Stage, "code", f.Code, "file", f.File, "line", f.Line, "message", f.Message,
	}
}

// consider puts a bundle of the source in force if it passes and nothing is pinned.
// The error is not about the bundle.
func (d *Delivery) consider(ctx context.Context, b *Bundle) error {
	if err := d.Sync(ctx); err != nil {
		return err
	}
	active := d.Status().Active
	if b.Digest() == active.Digest && ArchiveDigest(b.Archive) == active.ArchiveDigest && !active.Promoted {
		d.setPending(nil)
		return nil
	}
	waiting := &Pending{Digest: b.Digest(), Revision: b.Revision()}
	if active.held(b.Digest()) {
		d.metrics.candidates.WithLabelValues(outcomeHeld).Inc()
		d.log.InfoContext(ctx, "the policy's source has another bundle; the one in force is pinned", "source", b.Name,
			"revision", waiting.Revision, "digest", waiting.Digest)
		d.setPending(waiting)
		return nil
	}
	candidate, result, err := d.admit(ctx, b, active)
	if err != nil {
		return err
	}
	if candidate == nil {
		return d.refuse(ctx, recordOf(b, "", result))
	}
	d.mu.Lock()
	d.keepReady(candidate)
	d.mu.Unlock()
	err = d.cfg.Ledger.Activate(ctx, recordOf(b, candidate.snapshot.Revision(), result), b.Archive)
	if errors.Is(err, ErrPinned) { // meanwhile
		d.setPending(waiting)
		return nil
	}
	if err != nil {
		return err
	}
	d.metrics.candidates.WithLabelValues(outcomeActivated).Inc()
	d.setPending(nil)
	return d.Sync(ctx)
}

func (d *Delivery) setPending(p *Pending) {
	d.state.Lock()
	d.state.source.Pending = p
	d.state.Unlock()
	d.metrics.refused.Set(map[bool]float64{true: 1}[p != nil && p.Refused])
}

// refuse notes and tells why a candidate is refused.
func (d *Delivery) refuse(ctx context.Context, r Record) error {
	d.metrics.candidates.WithLabelValues(outcomeRefused).Inc()
	d.setPending(&Pending{Digest: r.Digest, Revision: r.Revision, Refused: true})
	for _, f := range r.Result.Findings {
		d.log.ErrorContext(ctx, "policy refused", r.about(f)...)
	}
	return d.cfg.Ledger.Refuse(ctx, r)
}
