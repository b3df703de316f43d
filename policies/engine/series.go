package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
	"patrol/policies/engine/plan"
)

// Series judges one request after another, as [Snapshot.Decide] does, and has only those
// rules evaluated again that depend on what is different from the request before: many
// models for one token, or many users for one model. It is for one goroutine. End it after
// use.
type Series struct {
	policy *Snapshot
	fast   *fast
	series *plan.Series
	q      *question
	before []*ast.Term // the slots of the request before
	texts  [4]ast.Value
	judged bool
}

// Catalog is that of the policy.
func (s *Series) Catalog() models.Catalog { return s.policy.catalog }

// Series begins one.
func (s *Snapshot) Series() *Series { return &Series{policy: s} }

// Revision is [Snapshot.Revision].
func (s *Series) Revision() string { return s.policy.revision }

// Decide is [Snapshot.Decide].
func (s *Series) Decide(ctx context.Context, req models.Request, f Facts, now time.Time) (models.Decision, error) {
	if err := req.Validate(); err != nil {
		return models.Decision{}, fmt.Errorf("judge a request: %w", err)
	}
	if s.q == nil {
		s.q = newQuestion()
		s.before = make([]*ast.Term, len(s.q.slots))
	}
	q := s.q
	clear(q.slots)
	q.doc = nil
	fits, err := s.policy.fill(q, req, f, now)
	if err != nil {
		return models.Decision{}, err
	}
	if !fits {
		return s.policy.Decide(ctx, req, f, now)
	}
	current := s.policy.decision.fast.Load()
	if current != s.fast {
		s.end()
		s.fast = current
	}
	if current != nil && s.series == nil {
		s.series, s.judged = current.program.Series(), false
	}
	q.series, q.changed = s.series, s.changed()
	return s.policy.answerTo(ctx, q)
}

// changed returns the slots that differ from the request before, and notes them.
func (s *Series) changed() (changed plan.Slots) {
	for i, t := range s.q.slots {
		if t != s.before[i] {
			changed |= 1 << i
			s.before[i] = t
		}
	}
	// The terms of texts are used again, for other texts.
	for i := range s.q.texts {
		if v := s.q.texts[i].Value; v != s.texts[i] {
			s.texts[i] = v
			changed |= s.q.textSlots[i]
		}
	}
	if !s.judged {
		s.judged = true
		return plan.AllSlots
	}
	return changed
}

// End gives the memory back.
func (s *Series) End() { s.end() }

func (s *Series) end() {
	if s.series != nil {
		s.series.End()
		s.series = nil
	}
}
