package authz

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"patrol/models"
)

// ErrDenied is the cause with which [Proxied.Hold] cancels.
var ErrDenied = errors.New("the request is no longer allowed")

// recheckEvery is how often a held request is judged even if nothing was
// announced: as long as a fact may be cached.
const recheckEvery = maxFactTTL

// Hold keeps watch over an allowed request that goes on for a while. The
// returned context ends with [ErrDenied] as its cause once the request would be
// denied: its facts changed, its token expired, the policy was replaced. The
// request is cut too when it could not be judged for MaxStaleness. The caller
// calls stop when the request is over.
func (p *Proxied) Hold(ctx context.Context) (held context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	h := &hold{token: p.rec.pat.ID, user: p.rec.pat.UserID, wakeUp: make(chan struct{}, 1)}
	for _, req := range p.judged {
		h.domains = append(h.domains, req.Domain)
	}
	if p.a.holds.add(h) != p.generation {
		h.wake() // something changed since before the facts were read
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.watch(ctx, h, cancel)
	}()
	return ctx, func() {
		cancel(context.Canceled)
		p.a.holds.remove(h)
		<-done
	}
}

// watch judges the request again whenever there is cause to, until it is denied
// or ctx ends.
func (p *Proxied) watch(ctx context.Context, h *hold, cancel context.CancelCauseFunc) {
	timer := time.NewTimer(max(min(recheckEvery, p.rec.pat.ExpiresAt.Sub(p.a.cfg.Clock())), time.Millisecond))
	defer timer.Stop()
	var failingSince time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wakeUp:
		case <-timer.C:
		}
		d, expires, cause := p.again(ctx)
		if ctx.Err() != nil {
			return
		}
		now := p.a.cfg.Clock()
		next := min(recheckEvery, expires.Sub(now))
		switch {
		case d.Allowed:
			failingSince = time.Time{}
		case d.Has(models.Unavailable):
			if failingSince.IsZero() {
				failingSince = now
			}
			if now.Sub(failingSince) < p.a.cfg.MaxStaleness {
				next = p.a.cfg.PollInterval
				break
			}
			fallthrough
		default:
			p.a.cfg.Logger.Info("a stream was cut because its request is no longer allowed",
				"token_id", h.token, "surface", p.call.Surface, "reason", d.Reasons[0].Code, "error", cause)
			cancel(ErrDenied)
			return
		}
		timer.Reset(max(next, time.Millisecond))
	}
}

// again judges the held request on current facts and the current policy.
func (p *Proxied) again(ctx context.Context) (d models.Decision, expires time.Time, cause error) {
	look := p.a.look()
	rec, err := p.a.facts.token(ctx, look.how, p.tokenID, p.call.IP)
	switch {
	case err != nil:
		return models.Deny(models.Unavailable), expires, err
	case rec == nil:
		return models.Deny(models.TokenUnknown), expires, nil
	}
	policy := p.a.cfg.Policy.Current()
	if len(p.judged) == 1 {
		v := p.a.judge(ctx, policy, look, rec, p.call.Kind, p.judged[0])
		if v.Allowed && p.a.outdated(look) {
			return tooLate()
		}
		return v.Decision, rec.pat.ExpiresAt, v.cause
	}
	verdicts := p.a.judgeAll(ctx, policy, look, rec, p.call.Kind, p.judged)
	worst := verdicts[0]
	for _, v := range verdicts[1:] {
		// That something could not be judged counts less than that something is denied.
		if !v.Allowed && (worst.Allowed || worst.Has(models.Unavailable)) {
			worst = v
		}
	}
	if worst.Allowed && p.a.outdated(look) {
		return tooLate()
	}
	return worst.Decision, rec.pat.ExpiresAt, worst.cause
}

// tooLate is what became of a held request whose facts may have changed while it was
// judged.
func tooLate() (models.Decision, time.Time, error) {
	return models.Deny(models.Unavailable), time.Time{}, errors.New("it took too long since the facts were read")
}

// hold is one request under watch and the facts that it depends on.
type hold struct {
	token, user string
	domains     []string
	wakeUp      chan struct{} // holds at most one signal
}

func (h *hold) wake() {
	select {
	case h.wakeUp <- struct{}{}:
	default: // it is going to look anyway
	}
}

func (h *hold) dependsOn(c models.Change) bool {
	switch c.Kind {
	case models.ChangeToken:
		return c.Key == h.token
	case models.ChangeUser:
		return c.Key == h.user
	case models.ChangeDomain:
		return slices.Contains(h.domains, c.Key)
	case models.ChangeMembership:
		return c.Key == h.user && slices.Contains(h.domains, c.Key2)
	}
	return true
}

// holds are the requests under watch. The zero value is ready to use.
type holds struct {
	// generation is the number of times that something changed by which requests are
	// judged. It rises after the facts that changed are dropped, or the policy is
	// replaced: who notes it and then judges, judges on what holds at least since then.
	generation atomic.Uint64

	mu  sync.Mutex
	set map[*hold]struct{}
}

// add has h woken from now on, and returns the generation in which that begins.
func (s *holds) add(h *hold) (generation uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		s.set = map[*hold]struct{}{}
	}
	s.set[h] = struct{}{}
	return s.generation.Load()
}

func (s *holds) remove(h *hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.set, h)
}

// wake has the requests judged again that depend on any of the changes.
func (s *holds) wake(changes []models.Change) {
	if len(changes) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation.Add(1)
	for h := range s.set {
		if slices.ContainsFunc(changes, h.dependsOn) {
			h.wake()
		}
	}
}

func (s *holds) wakeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation.Add(1)
	for h := range s.set {
		h.wake()
	}
}
