package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
	"patrol/policies/engine/plan"
)

// The parts of the input that differ from one call to the next of the same token for the
// same thing. An answer given without a call holds for all of them only if no rule looked
// at these.
const (
	DependsOnClient  = "client"
	DependsOnContext = "context"
	DependsOnHTTP    = "http"
)

// Examine is [Snapshot.Decide] for a question that nobody asks in order to act on it. It also
// returns which of client, context and http the rules looked at for this answer, sorted; with
// others there it may be different. Where topdown answers, these are all that the policy reads.
func (s *Snapshot) Examine(ctx context.Context, req models.Request, f Facts, now time.Time) (d models.Decision, dependsOn []string, err error) {
	if err := req.Validate(); err != nil {
		return d, nil, fmt.Errorf("judge a request: %w", err)
	}
	q, err := s.askDecision(req, f, now)
	if err != nil {
		return d, nil, err
	}
	defer q.end()
	q.watched = true
	d, err = s.answerTo(ctx, q)
	return d, s.dependence(q, f), err
}

// dependence returns the parts that were looked at for a question.
func (s *Snapshot) dependence(q *question, f Facts) (parts []string) {
	if q.shape == nil || q.unwatched {
		if f.Token.HasAllowedIPs() && !slices.Contains(s.variable, DependsOnClient) {
			return append([]string{DependsOnClient}, s.variable...)
		}
		return s.variable
	}
	for _, name := range []string{DependsOnClient, DependsOnContext, DependsOnHTTP} {
		path := []string{name}
		if name == DependsOnContext {
			path = []string{"request", name}
		}
		if from, to, ok := q.shape.Range(path...); !ok || q.read&(1<<to-1<<from) != 0 {
			parts = append(parts, name)
		}
	}
	return parts
}

// variableParts returns the parts that rules of the documents at refs can read.
func variableParts(c *ast.Compiler, refs ...ast.Ref) (parts []string) {
	r := readsOf(c, refs...)
	if r.IP || r.UserAgent {
		parts = append(parts, DependsOnClient)
	}
	if readsContext(c, refs...) {
		parts = append(parts, DependsOnContext)
	}
	if r.Method || r.Path || r.Headers {
		parts = append(parts, DependsOnHTTP)
	}
	return parts
}

func readsContext(c *ast.Compiler, refs ...ast.Ref) (reads bool) {
	path := []*ast.Term{key.request, key.context}
	eachInput(c, refs, func(ref ast.Ref) {
		may := true
		for i, name := range path {
			if len(ref) > i+1 {
				_, named := ref[i+1].Value.(ast.String)
				may = may && (!named || ref[i+1].Equal(name))
			}
		}
		reads = reads || may
	})
	return reads
}

// watch returns where an evaluation notes what it looks at; nil: nobody asks.
func (q *question) watch() *plan.Slots {
	if !q.watched {
		return nil
	}
	return &q.read
}
