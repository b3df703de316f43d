package authz

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"patrol/models"
	"patrol/policies/engine"
)

// verdict is a decision on its way, with what it was made on.
type verdict struct {
	models.Decision
	cause   error          // why it is policy_error or unavailable
	request models.Request // what the policy judged
	facts   engine.Facts
	at      time.Time // when; zero: the policy was not asked
	reads   engine.Reads
	look    look // how the facts were read
}

// judge is a policy: an [engine.Snapshot], or an [engine.Series] where several requests
// are judged one after the other.
type judge interface {
	Decide(ctx context.Context, req models.Request, f engine.Facts, now time.Time) (models.Decision, error)
	Revision() string
	Catalog() models.Catalog
	Reads() engine.Reads
}

// refusal is a verdict without the policy.
func refusal(code models.ReasonCode, cause error) verdict {
	return verdict{Decision: models.Deny(code), cause: cause}
}

// kindOf returns the kind of the upstream that a request in domain goes to; said is
// what the caller knows about that, or "".
func (a *Authorizer) kindOf(said models.UpstreamKind, domain string) models.UpstreamKind {
	if said != "" {
		return said
	}
	return a.cfg.Kinds.Of(domain)
}

// judge gathers the facts about rec's owner and the request and has policy
// decide. Policy sees names of models in canonical form, in the request and in the
// token's scopes alike.
func (a *Authorizer) judge(ctx context.Context, policy judge, l look, rec *tokenRecord, call *Call, req models.Request) verdict {
	kind := a.kindOf(call.Kind, req.Domain)
	req, ok := kind.Canonical(req)
	if !ok {
		return a.notAName(ctx, policy, rec, kind)
	}
	facts := engine.Facts{Client: call.client(), HTTP: call.http}
	standing := a.facts.standing(l.how, rec.pat.UserID, req.Domain)
	user, err := standing.owner(ctx)
	if err != nil {
		return refusal(models.Unavailable, fmt.Errorf("read the token's owner: %w", err))
	}
	facts.User = user
	domain, err := standing.domainOf(ctx)
	if err != nil {
		return refusal(models.Unavailable, fmt.Errorf("read the domain: %w", err))
	}
	if facts.Domain = domain; domain != nil {
		member, err := standing.membership(ctx)
		if err != nil {
			return refusal(models.Unavailable, fmt.Errorf("read the membership: %w", err))
		}
		facts.Membership = member
	}
	facts.Token = a.tokenValue(policy, rec, kind, req, domain, a.cfg.Clock())
	v := a.evaluate(ctx, policy, req, facts)
	v.look = l
	return v
}

// tokenValue returns the token's part of the input for a request in canonical form.
func (a *Authorizer) tokenValue(policy judge, rec *tokenRecord, kind models.UpstreamKind, req models.Request, domain *engine.Value, now time.Time) *engine.Value {
	if rec.supposed {
		lifetime := models.DefaultLifetime
		if most := a.cfg.MaxLifetime; most > 0 {
			lifetime = min(lifetime, most)
		}
		return engine.HypotheticalToken(req, domain, now, lifetime)
	}
	return rec.inForm(a.cfg.Kinds, kind, req.Domain, rec.lostApproval(policy, req.Domain))
}

// notAName denies a request for a model that no upstream of its kind can have. A
// token that is not good any more is told that instead.
func (a *Authorizer) notAName(ctx context.Context, policy judge, rec *tokenRecord, kind models.UpstreamKind) verdict {
	if first := a.judgeToken(ctx, policy, rec); first.Status() != http.StatusForbidden {
		return first
	}
	v := verdict{Decision: noSuchName(kind)}
	v.Revision = policy.Revision()
	return v
}

// noSuchName denies a request for a model that no upstream of a kind can have.
func noSuchName(kind models.UpstreamKind) models.Decision {
	return models.DenyFor(models.Reason{
		Code:    models.RouteUnmapped,
		Message: fmt.Sprintf("An upstream of the kind %s has no model of such a name, or reads more than one name in it.", kind),
	})
}

// nothing is a request for what no catalog has.
var nothing = models.Request{Domain: "-", EntityType: "-", Entity: "-", Operation: "-"}

// judgeToken has policy judge rec and its owner alone. Of the decision, a status
// other than 403 counts; the rest is about a request that nobody made.
func (a *Authorizer) judgeToken(ctx context.Context, policy judge, rec *tokenRecord) verdict {
	user, err := a.facts.user(ctx, throughCache, rec.pat.UserID)
	if err != nil {
		return refusal(models.Unavailable, fmt.Errorf("read the token's owner: %w", err))
	}
	token := rec.value
	if rec.supposed {
		token = a.tokenValue(policy, rec, "", nothing, nil, a.cfg.Clock())
	}
	v := a.evaluate(ctx, policy, nothing, engine.Facts{Token: token, User: user})
	if v.Allowed {
		return refusal(models.PolicyError, errors.New("the policy allows what does not exist"))
	}
	return v
}

// evaluate has policy decide when it is this call's turn.
func (a *Authorizer) evaluate(ctx context.Context, policy judge, req models.Request, facts engine.Facts) verdict {
	if err := a.takeTurn(ctx); err != nil {
		return refusal(models.Unavailable, err)
	}
	v := verdict{request: req, facts: facts, at: a.cfg.Clock(), reads: policy.Reads()}
	var err error
	v.Decision, err = policy.Decide(ctx, req, facts, v.at)
	a.endTurn()
	if err != nil {
		v.Decision = models.Deny(models.PolicyError)
		v.Revision = policy.Revision()
		v.cause = fmt.Errorf("evaluate the policy: %w", err)
		if breach, ok := errors.AsType[*engine.BreachError](err); ok {
			for _, code := range breach.Codes {
				a.cfg.Metrics.Breached(string(code))
			}
		}
	}
	return v
}

// takeTurn waits until an evaluation may run. Without it, a burst of calls
// would have every one of them take as long as all, and end many for it.
func (a *Authorizer) takeTurn(ctx context.Context) error {
	select {
	case a.turns <- struct{}{}:
		return nil
	default:
	}
	select {
	case a.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waited in vain for other evaluations: %w", ctx.Err())
	}
}

func (a *Authorizer) endTurn() { <-a.turns }

// conclude completes a decision and records it. rec is the verified token, or
// nil.
func (a *Authorizer) conclude(ctx context.Context, call Call, rec *tokenRecord, v verdict, start time.Time) models.Decision {
	now := a.cfg.Clock()
	d, cause := v.Decision, v.cause
	if d.Revision == "" {
		d.Revision = a.cfg.Policy.Current().Revision()
	}
	if v.at.IsZero() {
		v.request = call.Request
	}
	r := Record{
		Request: v.request, Facts: v.facts, Reads: v.reads, JudgedAt: v.at, At: now, Took: now.Sub(start),
		Surface: call.Surface, RequestID: call.RequestID, IP: call.IP, Method: call.method, Path: call.path, Further: call.further,
	}
	if rec == nil {
		r.Decision = d
		d.ID = Refused(ctx, a.cfg.Recorder, r)
	} else {
		d.ID, d.TokenID, d.UserID = models.NewDecisionID(now), rec.pat.ID, rec.pat.UserID
		r.Decision = d
		if err := a.record(ctx, r); err != nil && d.Allowed {
			d, cause = withheld(d), fmt.Errorf("record the decision: %w", err)
		}
	}
	if d.Allowed && a.outdated(v.look) {
		d, cause = withheld(d), errors.New("the process stood still, or took too long, since it read the facts")
	}
	outcome, reason := string(d.Outcome()), string(d.FirstReason())
	if rec != nil && !call.inquiry {
		a.uses.note(rec, call, d, now)
	}
	a.cfg.Metrics.Decided(outcome, reason, call.Surface, now.Sub(start))
	for _, w := range d.Waived {
		a.cfg.Metrics.Waived(string(w.Code), w.Until != 0)
	}
	if cause != nil {
		a.tell(ctx, call, d, rec != nil, cause)
	}
	return d
}

func (a *Authorizer) record(ctx context.Context, r Record) error {
	if a.cfg.Recorder == nil {
		return nil
	}
	return a.cfg.Recorder.Record(ctx, r)
}

// couldNotJudge is logged; the error says why, such as that the policy allows what no
// policy may allow.
const couldNotJudge = "a request was refused because it could not be judged"

// tell logs that a request could not be judged. For callers who showed no token
// that verifies, of whom there may be any number, it does so once a second.
func (a *Authorizer) tell(ctx context.Context, call Call, d models.Decision, verified bool, cause error) {
	level := slog.LevelError
	if errors.Is(ctx.Err(), context.Canceled) { // the caller went away, which is no fault
		level = slog.LevelDebug
	}
	fields := []any{"decision_id", d.ID, "reason", d.FirstReason(), "surface", call.Surface, "revision", d.Revision, "error", cause}
	if breach, ok := errors.AsType[*engine.BreachError](cause); ok {
		fields = append(fields, "breach", breach.Codes, "rule", breach.Rule, "file", breach.File, "line", breach.Line)
	}
	if verified {
		a.cfg.Logger.Log(ctx, level, couldNotJudge, fields...)
		return
	}
	a.unlogged.Add(1)
	a.untold.Do(func() {
		if others := a.unlogged.Swap(0) - 1; others > 0 {
			fields = append(fields, "others_not_logged", others)
		}
		a.cfg.Logger.Log(ctx, level, couldNotJudge, fields...)
	})
}

// withheld is the answer in place of an allowance that could not be recorded where it
// must be, or that comes too late. It keeps its id: the log may have the allowance
// after all, which then is known not to have been given.
func withheld(d models.Decision) models.Decision {
	denied := models.Deny(models.Unavailable)
	denied.ID, denied.Revision, denied.TokenID, denied.UserID = d.ID, d.Revision, d.TokenID, d.UserID
	return denied
}
