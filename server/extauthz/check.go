package extauthz

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/net/http/httpguts"

	"patrol/models"
	"patrol/server/authz"
	"patrol/server/bound"
	"patrol/server/route"
)

// surface names this package in decisions and their metrics.
const surface = "extauthz"

// verdict is what became of a question.
type verdict struct {
	question question
	decision models.Decision
	request  models.Request // what was judged, as far as it is known
	// malformed says in plain words why the request is answered 400 without a
	// decision; "" if there is one.
	malformed string
}

// reply is an answer and how it counts.
type reply struct {
	message *authv3.CheckResponse
	outcome string
}

// Check answers one question. Its error is always nil: see the package comment.
func (s *Server) Check(ctx context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	start := time.Now()
	r, err := bound.Do(ctx, s.gate, func(ctx context.Context) reply { return s.answer(s.judge(ctx, req)) })
	if err != nil {
		r = s.refuse(ctx, req, err)
	}
	s.metrics.checked(r.outcome, time.Since(start))
	return r.message, nil
}

// refuse answers a question that was not judged, touching as little of it as
// possible.
func (s *Server) refuse(ctx context.Context, req *authv3.CheckRequest, cause error) reply {
	v := verdict{decision: models.Deny(models.Unavailable)}
	v.decision.ID = models.NewID()
	v.question.dryRun = req.GetAttributes().GetContextExtensions()[extensionDryRun] == "true"
	s.log.warn(ctx, "a request was refused without being judged", "decision_id", v.decision.ID, "error", cause)
	r := s.answer(v)
	if r.outcome == outcomeError {
		r.outcome = outcomeOf(cause)
	}
	return r
}

func outcomeOf(err error) string {
	switch {
	case errors.Is(err, bound.ErrOverload):
		return outcomeOverload
	case errors.Is(err, bound.ErrTimeout):
		return outcomeTimeout
	default:
		return outcomePanic
	}
}

// judge reads the question and has it decided.
func (s *Server) judge(ctx context.Context, req *authv3.CheckRequest) verdict {
	q, err := s.read(req)
	v := verdict{question: q}
	if err != nil {
		v.malformed = "Patrol could not read what the proxy asked."
		s.log.warn(ctx, "a question of Envoy could not be read", "error", err)
		return v
	}
	token, err := q.token()
	if err != nil {
		v.malformed = "The request has more than one Authorization header."
		return v
	}
	call := authz.Call{Token: token, Surface: surface, IP: q.client, UserAgent: route.Mask(q.header.Get("User-Agent"))}
	p, d, ok := s.authz.Begin(ctx, call)
	if !ok {
		v.decision = d
		return v
	}
	v.decision = s.decide(ctx, p, q)
	v.request = p.Request()
	return v
}

// decide judges a request whose token has verified.
func (s *Server) decide(ctx context.Context, p *authz.Proxied, q question) models.Decision {
	if q.misconfigured != "" {
		s.log.warn(ctx, "a route of Envoy has a context extension that does not exist or is empty; its requests are refused", "key", q.misconfigured)
		return p.Refuse(ctx, models.PolicyError)
	}
	r, err := route.Parse(q.method, q.target, q.header)
	if err != nil || tokenInPath(q.target) || q.contradicts(r) {
		return p.Refuse(ctx, models.RouteUnmapped)
	}
	need, websocket, err := p.Hints(ctx, r)
	switch {
	case err != nil:
		s.log.warn(ctx, "the policy could not say how a request is to be read", "error", err)
		return p.Refuse(ctx, models.PolicyError)
	case q.upgrades() && (!websocket || q.method != http.MethodGet):
		return p.Refuse(ctx, models.RouteUnmapped)
	}
	if need != nil && q.fixed.Entity == "" && (len(q.body.data) > 0 || q.body.truncated) {
		model, err := q.model(*need)
		if err != nil {
			return p.Refuse(ctx, models.RouteUnmapped)
		}
		r.Body = &models.HTTPBody{Model: model}
	}
	d := p.Decide(ctx, r, q.fixed)
	if err := checkPolicyHeaders(d.Headers); err != nil {
		s.log.warn(ctx, "the policy sets a header that it cannot set", "error", err)
		return p.Refuse(ctx, models.PolicyError)
	}
	return d
}

// contradicts reports whether the path names another domain than the operator's
// route does. An upstream that goes by the path would serve the one while the
// other was judged.
func (q *question) contradicts(r models.HTTPRequest) bool {
	return q.fixed.Domain != "" && len(r.Segments) > 1 && r.Segments[0] == "proxy" && r.Segments[1] != q.fixed.Domain
}

// upgrades reports whether the request asks for a WebSocket. Other upgrades are
// offers, which Envoy passes over.
func (q *question) upgrades() bool {
	for _, value := range q.header["Upgrade"] {
		for offer := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(offer), "websocket") {
				return true
			}
		}
	}
	return false
}

// checkPolicyHeaders checks what a policy wants to tell the upstream, by the
// gateway's rule: headers under Patrol's own prefix, save those that are set from
// the token, and those of guardrails.
func checkPolicyHeaders(headers map[string]string) error {
	for name, value := range headers {
		lower := strings.ToLower(name)
		switch {
		case !route.IsPlainName(name) || !reserved(lower):
			return fmt.Errorf("header %q is neither X-Patrol-… nor X-Guardrails-…", name)
		case slices.Contains(identityHeaders[:], lower):
			return fmt.Errorf("header %q is set from the token", name)
		case !httpguts.ValidHeaderFieldValue(value):
			return fmt.Errorf("the value of header %q has a character that no header can have", name)
		}
	}
	return nil
}
