package bundles

import (
	"context"
	"errors"
	"sync"
	"time"
)

// news is what a source returned.
type news struct {
	bundle *Bundle
	err    error
}

// retryAfter is the pause before a candidate is judged again that could not be
// judged, such as when the database was away.
const retryAfter = 10 * time.Second

// Run brings what the source holds into force, and follows the ledger, until ctx
// ends.
func (d *Delivery) Run(ctx context.Context) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { d.syncLoop(ctx) })
	heard := make(chan news)
	tasks.Go(func() {
		for ctx.Err() == nil {
			b, err := d.cfg.Source.Next(ctx)
			select {
			case heard <- news{b, err}:
			case <-ctx.Done():
			}
		}
	})
	latest := d.latest()
	retry := time.NewTimer(0)
	retry.Stop()
	defer retry.Stop()
	consider := func() {
		retry.Stop()
		if latest == nil {
			return
		}
		if err := d.consider(ctx, latest); err != nil && ctx.Err() == nil {
			d.metrics.candidates.WithLabelValues(outcomeFailed).Inc()
			d.log.ErrorContext(ctx, "a candidate policy could not be judged; it will be tried again", "source", latest.Name, "error", err)
			retry.Reset(retryAfter)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-heard:
			d.heard(ctx, n.bundle, n.err)
			if n.bundle != nil {
				latest = n.bundle
				consider()
			}
		case <-d.reconsider:
			consider()
		case <-retry.C:
			consider()
		}
	}
}

// latest is what the source held at the start, if it is to be considered again.
func (d *Delivery) latest() *Bundle {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.began
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
	bad, refused := errors.AsType[*BadBundleError](err)
	d.state.Lock()
	s := &d.state.source
	repeated := err != nil && s.Error == err.Error()
	s.Reached, s.CheckedAt, s.Error = err == nil || refused, time.Now(), ""
	if err != nil {
		s.Error = err.Error()
	}
	reached := s.Reached
	d.state.Unlock()
	d.metrics.reached.Set(map[bool]float64{true: 1}[reached])
	switch {
	case refused:
		r := Record{Source: bad.Name, Result: refusal("read", codeUnreadable, bad.Err)}
		if bad.Signature {
			r.Result = refusal(StageSignature, codeSignature, bad.Err)
		}
		if bad.Archive != nil {
			r.ArchiveDigest = ArchiveDigest(bad.Archive)
		}
		if err := d.refuse(ctx, r); err != nil {
			d.log.ErrorContext(ctx, "a refused policy could not be noted", "error", err)
		}
	case err != nil && !repeated:
		d.log.WarnContext(ctx, "the policy's source cannot be read; the policy in force stays", "source", d.cfg.Source.Name(), "error", err)
	}
}

// consider puts a bundle of the source in force if it passes and nothing is pinned.
// The error is not about the bundle.
func (d *Delivery) consider(ctx context.Context, b *Bundle) error {
	if err := d.Sync(ctx); err != nil {
		return err
	}
	active := d.Status().Active
	if b.Digest() == active.Digest && ArchiveDigest(b.Archive) == active.ArchiveDigest {
		d.setPending(nil)
		return nil
	}
	waiting := &Pending{Digest: b.Digest(), Revision: b.Revision()}
	if active.Pinned {
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
	d.ready = candidate
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
		d.log.ErrorContext(ctx, "policy refused", "source", r.Source, "revision", r.Revision, "digest", r.Digest,
			"stage", f.Stage, "code", f.Code, "file", f.File, "line", f.Line, "message", f.Message)
	}
	return d.cfg.Ledger.Refuse(ctx, r)
}
