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

// recheckEvery is the interval at which a held request is judged even if nothing was
// announced.
const recheckEvery = 30 * time.Second

// Hold keeps watch over an allowed request that goes on for a while. The
// returned context ends with [ErrDenied] as its cause once the request would be
// denied: its facts changed, its token expired, the policy was replaced. The
// request is cut too when it could not be judged for MaxStaleness. The caller
// calls stop when the request is over. Most are over before there is cause to judge
// them again, so nothing runs until there is.
func (p *Proxied) Hold(ctx context.Context) (held context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	h := &hold{p: p, ctx: ctx, cancel: cancel, token: p.rec.pat.ID, user: p.rec.pat.UserID, judged: p.judged}
	h.mu.Lock() // who is woken finds the timer
	h.timer = time.AfterFunc(max(min(recheckEvery, p.rec.pat.ExpiresAt.Sub(p.a.cfg.Clock())), time.Millisecond), h.wake)
	h.mu.Unlock()
	if p.a.holds.add(h) != p.generation {
		h.wake() // something changed since before the facts were read
	}
	return ctx, h.stop
}

// wake has the request judged again, in a goroutine that ends with that.
func (h *hold) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.over:
	case h.looking != nil:
		h.anew = true
	default:
		h.looking = make(chan struct{})
		go h.look()
	}
}

// look judges the request again, and once more whenever it was woken meanwhile.
func (h *hold) look() {
	for {
		next, ok := h.judge()
		h.mu.Lock()
		if ok && h.anew && !h.over {
			h.anew = false
			h.mu.Unlock()
			continue
		}
		if h.over = h.over || !ok; !h.over {
			h.timer.Reset(max(next, time.Millisecond))
		}
		close(h.looking)
		h.looking = nil
		h.mu.Unlock()
		return
	}
}

// judge judges the request once and returns the time until the next judgement. If the
// request must end, ok is false.
func (h *hold) judge() (next time.Duration, ok bool) {
	p := h.p
	d, expires, cause := p.again(h.ctx, h.judged)
	if h.ctx.Err() != nil {
		return 0, false
	}
	now := p.a.cfg.Clock()
	switch {
	case d.Allowed:
		h.failingSince = time.Time{}
		return min(recheckEvery, expires.Sub(now)), true
	case d.Has(models.Unavailable):
		if h.failingSince.IsZero() {
			h.failingSince = now
		}
		if now.Sub(h.failingSince) < p.a.cfg.MaxStaleness {
			return p.a.cfg.PollInterval, true
		}
	}
	p.a.cfg.Logger.Info("a stream was cut because its request is no longer allowed",
		"token_id", h.token, "surface", p.call.Surface, "reason", d.Reasons[0].Code, "error", cause)
	h.cancel(ErrDenied)
	return 0, false
}

// stop ends the watch. When it returns, nothing of it runs.
func (h *hold) stop() {
	h.cancel(context.Canceled)
	h.p.a.holds.remove(h)
	h.mu.Lock()
	h.over = true
	h.timer.Stop()
	looking := h.looking
	h.mu.Unlock()
	if looking != nil {
		<-looking
	}
}

// again judges the held request on current facts and the current policy.
func (p *Proxied) again(ctx context.Context, judged []models.Request) (d models.Decision, expires time.Time, cause error) {
	look := p.a.look()
	rec, err := p.a.facts.token(ctx, look.how, p.tokenID, p.call.IP)
	switch {
	case err != nil:
		return models.Deny(models.Unavailable), expires, err
	case rec == nil:
		return models.Deny(models.TokenUnknown), expires, nil
	}
	policy := p.a.cfg.Policy.Current()
	if len(judged) == 1 {
		v := p.a.judge(ctx, policy, look, rec, &p.call, judged[0])
		if v.Allowed && p.a.outdated(look) {
			return tooLate()
		}
		return v.Decision, rec.pat.ExpiresAt, v.cause
	}
	verdicts := p.a.judgeAll(ctx, policy, look, rec, &p.call, judged)
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

// tooLate is the answer to a held request whose facts may have changed while it was
// judged.
func tooLate() (models.Decision, time.Time, error) {
	return models.Deny(models.Unavailable), time.Time{}, errors.New("it took too long since the facts were read")
}

// hold is one request under watch and the facts that it depends on.
type hold struct {
	p           *Proxied
	ctx         context.Context //nolint:containedctx // of the request, which is judged again in its name
	cancel      context.CancelCauseFunc
	token, user string
	judged      []models.Request
	timer       *time.Timer

	failingSince time.Time // of who judges

	mu      sync.Mutex
	looking chan struct{} // closed when the one who judges is done; nil: nobody judges
	anew    bool          // woken since that began
	over    bool
}

func (h *hold) in(domain string) bool {
	return slices.ContainsFunc(h.judged, func(r models.Request) bool { return r.Domain == domain })
}

func (h *hold) dependsOn(c models.Change) bool {
	switch c.Kind {
	case models.ChangeToken:
		return c.Key == h.token
	case models.ChangeUser:
		return c.Key == h.user
	case models.ChangeDomain:
		return h.in(c.Key)
	case models.ChangeMembership:
		return c.Key == h.user && h.in(c.Key2)
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
