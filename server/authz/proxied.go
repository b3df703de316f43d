package authz

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"patrol/models"
	"patrol/policies/engine"
)

// Proxied is a proxied request whose secret has verified and which is still to
// be mapped and judged. One policy snapshot serves all its steps. It belongs to
// one goroutine, except for what [Proxied.Hold] starts.
type Proxied struct {
	a       *Authorizer
	call    Call
	policy  *engine.Snapshot
	tokenID string
	rec     *tokenRecord
	start   time.Time
	names   []Name           // those of the questions that are spelled in another way than they are judged
	need    *models.BodyNeed // of the body, as the policy says
	judged  []models.Request // the questions, once they are known
	http    models.ProxiedFacts

	generation uint64 // of the facts and the policy, noted before they were read
}

// Begin verifies the token of a proxied request. If that fails, ok is false and
// d is the answer. Nothing of the request but the token has been looked at.
func (a *Authorizer) Begin(ctx context.Context, call Call) (p *Proxied, d models.Decision, ok bool) {
	start, generation := a.cfg.Clock(), a.holds.generation.Load()
	rec, code, cause := a.verify(ctx, a.look(), call)
	if code != "" {
		return nil, a.conclude(ctx, call, nil, refusal(code, cause), start), false
	}
	return &Proxied{a: a, call: call, policy: a.cfg.Policy.Current(), tokenID: rec.pat.ID, rec: rec, start: start, generation: generation}, d, true
}

// Hints returns what the policy says about how to treat the request before it is
// judged: whether its body must be read to learn the entity (need, nil if not),
// and whether it may be upgraded to a WebSocket.
func (p *Proxied) Hints(ctx context.Context, r models.HTTPRequest) (need *models.BodyNeed, websocket bool, err error) {
	if need, websocket, known := p.policy.RecallBodyNeed(r); known {
		p.need = need
		return need, websocket, nil
	}
	if err := p.a.takeTurn(ctx); err != nil {
		return nil, false, err
	}
	defer p.a.endTurn()
	p.need, websocket, err = p.policy.BodyNeed(ctx, r)
	return p.need, websocket, err
}

// Admit judges the token and its owner alone, before a body is read that must be
// known to judge the request. If ok is false, d is the answer: a token that is
// revoked or expired, or whose owner is gone, gets nothing read. It costs an
// evaluation only where none is remembered for the same facts and policy; what it
// admits is judged in full by Decide all the same.
func (p *Proxied) Admit(ctx context.Context) (d models.Decision, ok bool) {
	user, err := p.a.facts.user(ctx, throughCache, p.rec.pat.UserID)
	if err != nil {
		return p.conclude(ctx, refusal(models.Unavailable, fmt.Errorf("read the token's owner: %w", err))), false
	}
	if p.rec.admitted(p.policy, user, p.a.cfg.Clock()) {
		return d, true
	}
	v := p.a.judgeToken(ctx, p.policy, p.rec)
	if v.Status() != http.StatusForbidden {
		return p.conclude(ctx, v), false
	}
	p.rec.admission.Store(&admission{policy: p.policy, user: user})
	return d, true
}

// Maps reports whether the policy maps the request if it were made with another
// method and without a body.
func (p *Proxied) Maps(ctx context.Context, method string, r models.HTTPRequest) bool {
	r.Method, r.Body = method, nil
	_, ok, code, _ := p.route(ctx, r)
	return ok && code == ""
}

// route maps the request.
func (p *Proxied) route(ctx context.Context, r models.HTTPRequest) (reqs []models.Request, ok bool, code models.ReasonCode, cause error) {
	reqs, ok, known := p.policy.RecallRoute(r)
	if known {
		return reqs, ok, "", nil
	}
	if err := p.a.takeTurn(ctx); err != nil {
		return nil, false, models.Unavailable, err
	}
	reqs, ok, err := p.policy.Route(ctx, r)
	p.a.endTurn()
	if err != nil {
		return nil, false, models.PolicyError, fmt.Errorf("map the request: %w", err)
	}
	return reqs, ok, "", nil
}

// Decide maps the request to what it stands for and judges that, on the facts as
// they are now: reading a body may have taken a while since Begin. Fields of
// fixed that are not empty come from the operator and replace the route's, in each of its
// questions. All questions must be allowed; each becomes a decision with a record of its own, and
// they are put together as [models.Together] says. A request by which a client could choose
// something else than what is judged is refused, see [engine.Snapshot.Chooses].
func (p *Proxied) Decide(ctx context.Context, r models.HTTPRequest, fixed models.Request) models.Decision {
	p.call.method, p.call.path = r.Method, r.Path
	p.http = models.ProxiedFacts{Method: r.Method, Path: r.Path, Headers: p.a.listed(r)}
	p.call.http = &p.http
	routed, ok, code, cause := p.route(ctx, r)
	switch {
	case code != "":
		v := refusal(code, cause)
		v.Revision = p.policy.Revision()
		return p.conclude(ctx, v)
	case ok:
	case fixed.Domain == "" || fixed.EntityType == "" || fixed.Entity == "" || fixed.Operation == "":
		return p.Refuse(ctx, models.Because(models.RouteUnmapped))
	default: // the operator says it all
		routed = []models.Request{fixed}
	}
	reqs, err := p.questions(routed, fixed)
	p.call.Request = reqs[0]
	if r.Escaped > 0 && !namesTail(routed, r) {
		return p.Refuse(ctx, models.Reason{Code: models.RouteUnmapped, Message: "This request is not judged: the path has an encoded slash where no route takes one."})
	}
	if err != nil {
		return p.Refuse(ctx, models.Reason{Code: models.RouteUnmapped, Message: notAnEntity(err)})
	}
	if p.call.KeepsNames && fixed.Entity == "" && slices.ContainsFunc(p.names, func(n Name) bool { return !n.Plain }) {
		return p.Refuse(ctx, models.Reason{Code: models.RouteUnmapped, Message: "The upstream could read another model's name in this spelling, and it cannot be changed on the way."})
	}
	if fixed.Entity == "" {
		if what, chooses := p.policy.Chooses(r, p.need, reqs); chooses {
			return p.Refuse(ctx, models.Reason{Code: models.RouteUnmapped, Message: "The request has " + what + " by which some servers let clients choose another model than the one that is judged."})
		}
	}
	look := p.a.look()
	rec, err := p.a.facts.token(ctx, look.how, p.tokenID, p.call.IP)
	switch {
	case err != nil:
		return p.conclude(ctx, refusal(models.Unavailable, fmt.Errorf("read the token again: %w", err)))
	case rec == nil: // deleted while the body was read
		return p.conclude(ctx, refusal(models.TokenUnknown, nil))
	}
	p.rec, p.judged = rec, reqs
	return p.judge(ctx, look, rec, reqs)
}

// listed returns those headers of a request that policies of decisions see.
func (a *Authorizer) listed(r models.HTTPRequest) map[string]string {
	if len(a.cfg.Headers) == 0 || r.Headers == nil {
		return nil
	}
	all, listed := r.Headers(), make(map[string]string, len(a.cfg.Headers))
	for _, name := range a.cfg.Headers {
		if value, ok := all[name]; ok {
			listed[name] = value
		}
	}
	return listed
}

// namesTail reports whether a question is about what stands at the end of the path, from the
// first segment on that the client joined to others with an encoded slash, or from before it.
// Only the stars (`**`) of a route name several segments.
func namesTail(reqs []models.Request, r models.HTTPRequest) bool {
	for at := 2; at < min(r.Escaped, len(r.Segments)); at++ { // 2 segments are Patrol's
		name := strings.Join(r.Segments[at:], "/")
		if slices.ContainsFunc(reqs, func(q models.Request) bool { return q.Entity == name }) {
			return true
		}
	}
	return false
}

// notAnEntity says which fields of a request are not what they can be, without
// repeating them.
func notAnEntity(err error) string {
	var problems []string
	if e, ok := errors.AsType[*models.Error](err); ok {
		for _, f := range e.Fields {
			problems = append(problems, f.Field+" "+f.Message)
		}
	}
	return "What the request names cannot be judged: " + strings.Join(problems, "; ") + "."
}

// questions returns what is asked of the policy: what the route says, with what the operator
// fixed, in canonical names, and none twice. There is always one. The error says which of them
// cannot be asked.
func (p *Proxied) questions(routed []models.Request, fixed models.Request) (reqs []models.Request, err error) {
	p.names = nil
	reqs = routed
	for i, req := range routed {
		overlay(&req.Domain, fixed.Domain)
		overlay(&req.EntityType, fixed.EntityType)
		overlay(&req.Entity, fixed.Entity)
		overlay(&req.Operation, fixed.Operation)
		err = cmp.Or(err, req.Validate())
		req = p.note(req)
		if !req.Same(routed[i]) { // which are shared
			if &reqs[0] == &routed[0] {
				reqs = slices.Clone(routed)
			}
			reqs[i] = req
		}
	}
	if len(reqs) > 1 {
		kept := make([]models.Request, 0, len(reqs))
		for _, req := range reqs {
			if !slices.ContainsFunc(kept, req.Same) {
				kept = append(kept, req)
			}
		}
		reqs = kept
	}
	return reqs, err
}

// note returns what is judged in the place of a request, and takes down how that spells the
// name of its model if it is in another way. What is no name is left for the verdict.
func (p *Proxied) note(req models.Request) models.Request {
	kind := p.a.kindOf(p.call.Kind, req.Domain)
	canonical, ok := kind.Canonical(req)
	if !ok {
		return req
	}
	if canonical.Entity != req.Entity {
		name, _ := kind.ModelName(req.Entity)
		p.names = append(p.names, Name{Spelled: req.Entity, ModelName: name})
	}
	return canonical
}

func overlay(field *string, fixed string) {
	if fixed != "" {
		*field = fixed
	}
}

// judge has the policy answer all questions, and concludes each.
func (p *Proxied) judge(ctx context.Context, l look, rec *tokenRecord, reqs []models.Request) models.Decision {
	if len(reqs) == 1 {
		v := p.a.judge(ctx, p.policy, l, rec, &p.call, reqs[0])
		if v.Allowed && p.a.outdated(l) {
			p.call.Request = reqs[0]
			if rec, v = p.a.judgeAnew(ctx, p.policy, p.call, rec); rec != nil {
				p.rec = rec
			}
		}
		return p.conclude(ctx, v)
	}
	verdicts := p.a.judgeAll(ctx, p.policy, l, rec, &p.call, reqs)
	decisions := make([]models.Decision, len(reqs))
	for i, v := range verdicts {
		p.call.Request = reqs[i]
		decisions[i] = p.conclude(ctx, v)
		p.start = p.a.cfg.Clock()
	}
	d, which := models.Together(decisions)
	p.call.Request = reqs[which]
	return d
}

// judgeAll has policy answer several questions. If the headers for the upstream in the answers
// disagree, nobody can say which are right, and all of those are policy errors.
func (a *Authorizer) judgeAll(ctx context.Context, policy judge, l look, rec *tokenRecord, call *Call, reqs []models.Request) []verdict {
	verdicts := make([]verdict, len(reqs))
	said := map[string]int{} // by header in lower case: the first answer that says it
	value := func(i int, header string) string {
		for name, value := range verdicts[i].Headers {
			if strings.EqualFold(name, header) {
				return value
			}
		}
		return ""
	}
	var disagree []int
	for i, req := range reqs {
		verdicts[i] = a.judge(ctx, policy, l, rec, call, req)
		for name, text := range verdicts[i].Headers {
			lower := strings.ToLower(name)
			first, before := said[lower]
			if !before {
				said[lower] = i
			} else if value(first, lower) != text {
				disagree = append(disagree, first, i)
			}
		}
	}
	for _, i := range disagree {
		if verdicts[i].Allowed {
			v := &verdicts[i]
			v.Decision, v.cause = models.Deny(models.PolicyError), errors.New("the policy's headers for two questions of one request disagree")
			v.Revision = policy.Revision()
		}
	}
	return verdicts
}

// Refuse denies the request for a reason that was found outside the policy, such
// as a path that can be read in two ways. A token that is not good any more is
// told that instead: nobody else learns which routes there are. The decision is
// recorded like any other, so the reason's message repeats nothing that is secret.
func (p *Proxied) Refuse(ctx context.Context, reason models.Reason) models.Decision {
	v := verdict{Decision: models.DenyFor(reason)}
	v.Revision = p.policy.Revision()
	if v.Status() == http.StatusServiceUnavailable {
		return p.conclude(ctx, v)
	}
	if first := p.a.judgeToken(ctx, p.policy, p.rec); first.Status() != http.StatusForbidden {
		return p.conclude(ctx, first)
	}
	return p.conclude(ctx, v)
}

// Name is a model's name as a request spells it, and what was judged in its place.
type Name struct {
	Spelled string
	models.ModelName
}

// Names returns the names of models in a request that are to be forwarded in another
// spelling than it has them in, each once. It judges nothing: a request that cannot be
// mapped has none.
func (p *Proxied) Names(ctx context.Context, r models.HTTPRequest, fixed models.Request) (names []Name) {
	if p.call.Kind == "" && len(p.a.cfg.Kinds) == 0 {
		return nil
	}
	routed, ok, _, _ := p.route(ctx, r)
	if !ok {
		return nil
	}
	if _, err := p.questions(routed, fixed); err != nil {
		return nil
	}
	for _, n := range p.names {
		if n.Forward != n.Spelled && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

// TokenID returns the id of the token.
func (p *Proxied) TokenID() string { return p.tokenID }

// Expires returns the time at which the token expires, as far as it is known here.
func (p *Proxied) Expires() time.Time { return p.rec.pat.ExpiresAt }

// Request returns what was judged; it is complete after Decide. Of several questions it is
// the one whose decision was returned.
func (p *Proxied) Request() models.Request { return p.call.Request }

func (p *Proxied) conclude(ctx context.Context, v verdict) models.Decision {
	return p.a.conclude(ctx, p.call, p.rec, v, p.start)
}
