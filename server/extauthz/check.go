package extauthz

import (
	"context"
	"errors"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"patrol/models"
	"patrol/server/check"
	"patrol/server/deadline"
)

// surface names this package in decisions and their metrics.
const surface = "extauthz"

// verdict is the answer to a check.
type verdict struct {
	check.Verdict
	asked asked
}

// reply is an answer and how it counts.
type reply struct {
	message *authv3.CheckResponse
	outcome string
}

// Check answers one question. Its error is always nil: see the package comment.
func (s *Server) Check(ctx context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	start := time.Now()
	r, err := deadline.DoFor(ctx, s.gate, func() bool { return s.knows(req) }, func(ctx context.Context) reply { return s.answer(s.judge(ctx, req)) })
	if err != nil {
		r = s.refuse(ctx, req, err)
	}
	s.metrics.checked(r.outcome, time.Since(start))
	return r.message, nil
}

// refuse answers a question that was not judged, touching as little of it as
// possible.
func (s *Server) refuse(ctx context.Context, req *authv3.CheckRequest, cause error) reply {
	v := verdict{Verdict: check.Verdict{Decision: models.Deny(models.Unavailable)}}
	v.Decision.ID = models.NewID()
	v.asked.dryRun = req.GetAttributes().GetContextExtensions()[extensionDryRun] == "true"
	s.log.warn(ctx, "a request was refused without being judged", "decision_id", v.Decision.ID, "error", cause)
	r := s.answer(v)
	if r.outcome == outcomeError {
		r.outcome = outcomeOf(cause)
	}
	return r
}

// knows reports whether a question is about a token that has verified here.
func (s *Server) knows(req *authv3.CheckRequest) bool {
	q, err := s.read(req)
	return err == nil && q.Known(s.authz)
}

func outcomeOf(err error) string {
	switch {
	case errors.Is(err, deadline.ErrOverload):
		return outcomeOverload
	case errors.Is(err, deadline.ErrTimeout):
		return outcomeTimeout
	default:
		return outcomePanic
	}
}

// judge reads the question and has it decided.
func (s *Server) judge(ctx context.Context, req *authv3.CheckRequest) verdict {
	q, err := s.read(req)
	if err != nil {
		s.log.warn(ctx, "a question of Envoy could not be read", "error", err)
		return verdict{Verdict: check.Verdict{Malformed: "Patrol could not read what the proxy asked."}}
	}
	return verdict{Verdict: q.Judge(ctx, s.authz, s.logger), asked: q}
}
