package authz

import (
	"context"
	"net/http"
	"time"

	"patrol/models"
	"patrol/policies/engine"
)

// About names the subject of a question that somebody else than the holder of a token asks.
// Exactly one field is set.
type About struct {
	// UserID is the id of a user. They are judged by a supposed token, which has what is asked
	// for as its only scope; see [engine.HypotheticalToken].
	UserID string
	// TokenID is the public id of a token, which is judged as it is.
	TokenID string
}

// Answer is a decision with what it depends on.
type Answer struct {
	models.Decision
	// DependsOn are those of client, context and http that rules looked at; see
	// [engine.Snapshot.Examine].
	DependsOn []string
}

// Inquire decides for a service that knows by itself whom it serves. Unlike
// [Authorizer.Authorize] it asks for no secret, so the caller has to be one who may be told.
// The decision is recorded, but never as a use of the token.
func (a *Authorizer) Inquire(ctx context.Context, call Call, about About) Answer {
	start := a.cfg.Clock()
	call.inquiry, call.Surface = true, models.SurfaceInquiry
	look := a.look()
	if call.Full {
		look = a.lookAnew()
	}
	rec, refused := a.subject(ctx, look, call, about)
	if refused != nil {
		return Answer{Decision: a.conclude(ctx, call, nil, *refused, start)}
	}
	policy := &examiner{Snapshot: a.cfg.Policy.Current()}
	v := a.judge(ctx, policy, look, rec, &call, call.Request)
	if v.Allowed && a.outdated(look) {
		v = a.judge(ctx, policy, a.lookAnew(), rec, &call, call.Request)
	}
	d := a.conclude(ctx, call, rec, v, start)
	if rec.supposed {
		d.TokenID, d.ScopeID = "", ""
	}
	return Answer{Decision: d, DependsOn: policy.dependsOn}
}

// subject returns the token that a question is judged by.
func (a *Authorizer) subject(ctx context.Context, l look, call Call, about About) (*tokenRecord, *verdict) {
	if about.TokenID == "" {
		return supposedRecord(about.UserID), nil
	}
	rec, err := a.facts.token(ctx, l.how, about.TokenID, call.IP)
	switch {
	case err != nil:
		v := refusal(models.Unavailable, err)
		return nil, &v
	case rec == nil:
		v := refusal(models.TokenUnknown, nil)
		return nil, &v
	}
	return rec, nil
}

// AskingAbout returns the request that the policy must allow a service before it may ask about
// others in a domain.
func AskingAbout(domain string) models.Request {
	return models.Request{Domain: domain, EntityType: "decisions", Entity: models.Any, Operation: "evaluate"}
}

// Introspect verifies a token that a service was shown, and has the policy judge it and its owner
// alone. If it is no good, ok is false and d says why, which is recorded. It is a use of the token.
func (a *Authorizer) Introspect(ctx context.Context, call Call) (pat models.PAT, d models.Decision, ok bool) {
	start := a.cfg.Clock()
	look := a.look()
	rec, code, cause := a.verify(ctx, look, call)
	if code != "" {
		return pat, a.conclude(ctx, call, nil, refusal(code, cause), start), false
	}
	v := a.judgeToken(ctx, a.cfg.Policy.Current(), rec)
	if v.Status() != http.StatusForbidden {
		return pat, a.conclude(ctx, call, rec, v, start), false
	}
	if a.outdated(look) {
		return pat, models.Deny(models.Unavailable), false
	}
	a.uses.note(rec, call, models.Decision{}, a.cfg.Clock())
	return rec.pat, d, true
}

// supposedRecord stands for the token of a question about a user.
func supposedRecord(userID string) *tokenRecord {
	return &tokenRecord{pat: models.PAT{ID: models.HypotheticalID, UserID: userID}, supposed: true}
}

// examiner is a policy that tells what its last answer depends on.
type examiner struct {
	*engine.Snapshot
	dependsOn []string
}

// Decide is [engine.Snapshot.Examine].
func (e *examiner) Decide(ctx context.Context, req models.Request, f engine.Facts, now time.Time) (d models.Decision, err error) {
	d, e.dependsOn, err = e.Examine(ctx, req, f, now)
	return d, err
}

// Examination decides questions that nobody acts on: reports, pages, lists. It reads nothing
// and records nothing; whoever asks has read the facts. All answers are those of one policy. It is for one goroutine.
type Examination struct {
	authorizer *Authorizer
	policy     *examiner
	now        time.Time
}

// Examine begins one.
func (a *Authorizer) Examine() *Examination {
	return &Examination{authorizer: a, policy: &examiner{Snapshot: a.cfg.Policy.Current()}, now: a.cfg.Clock()}
}

// Revision is that of the policy which answers.
func (e *Examination) Revision() string { return e.policy.Revision() }

// Catalog is that of the policy which answers.
func (e *Examination) Catalog() models.Catalog { return e.policy.Catalog() }

// Examined is somebody about whom questions are asked: a user, and a token of theirs or a
// supposed one.
type Examined struct {
	of    *Examination
	token *tokenRecord
	user  *engine.Value
}

// User returns a user, who is judged by supposed tokens. nil: there is no such user.
func (e *Examination) User(u *models.User) *Examined { return e.examined(u, supposedRecord("")) }

// Token returns a token of a user, which need not be in the store.
func (e *Examination) Token(pat models.PAT, owner *models.User) *Examined {
	rec := &tokenRecord{pat: pat.WithMaxLifetime(e.authorizer.cfg.MaxLifetime)}
	rec.value = engine.TokenValue(rec.pat)
	return e.examined(owner, rec)
}

func (e *Examination) examined(u *models.User, rec *tokenRecord) *Examined {
	out := &Examined{of: e, token: rec}
	if u != nil {
		out.user = newOwner(*u, e.authorizer.cfg.MaxAbsence).now(e.now)
	}
	return out
}

// May decides whether they may do what is asked. domain and member are nil if there is no such
// domain, and if they are not in it.
func (x *Examined) May(ctx context.Context, req models.Request, domain *models.Domain, member *models.Membership) Answer {
	a, e := x.of.authorizer, x.of
	kind := a.kindOf("", req.Domain)
	req, ok := kind.Canonical(req)
	if !ok {
		return Answer{Decision: noSuchName(kind)}
	}
	facts := engine.Facts{User: x.user}
	if domain != nil {
		facts.Domain = engine.DomainValue(*domain)
		if member != nil {
			facts.Membership = engine.MembershipValue(*member)
		}
	}
	facts.Token = a.tokenValue(e.policy, x.token, kind, req, facts.Domain, e.now)
	e.policy.dependsOn = nil
	v := a.evaluate(ctx, e.policy, req, facts)
	return Answer{Decision: v.Decision, DependsOn: e.policy.dependsOn}
}
