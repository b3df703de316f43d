package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"

	"patrol/models"
)

// Kind is the kind of question to a policy.
type Kind string

// The kinds of questions.
const (
	KindDecision Kind = "decision" // may this token do that?
	KindRoute    Kind = "route"    // what does a proxied request ask for?
)

// Answer is a policy's answer to an input document that somebody wrote down or
// that was recorded.
type Answer struct {
	Kind     Kind   `json:"kind"`
	Revision string `json:"revision"`

	// Of a decision.
	Allowed bool              `json:"allowed"`
	Reasons []models.Reason   `json:"reasons"`
	ScopeID string            `json:"scope_id,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	// Waived are the reasons against it that were waived.
	Waived []models.Waiver `json:"waived,omitempty"`

	// Of a route: what is asked for, all of which must be allowed; nil if no route maps the
	// request.
	Requests []RouteAnswer `json:"requests,omitempty"`
	// Request is the one in Requests; nil if there are several.
	Request *RouteAnswer `json:"request,omitempty"`

	// Warnings say where the input is not as the server makes it.
	Warnings []string `json:"warnings,omitempty"`
}

// RouteAnswer is the question that a proxied request stands for. Domain is "" if the path does not
// name one.
type RouteAnswer struct {
	Domain     string `json:"domain"`
	EntityType string `json:"entity_type"`
	Entity     string `json:"entity"`
	Operation  string `json:"operation"`
}

// Input is an input document as it was written down.
type Input struct {
	Kind     Kind
	Doc      object
	Term     *ast.Term
	Warnings []string
}

// ReadInput reads an input document: that of a decision or of a route, or a
// recorded event that has one under "input".
func ReadInput(ctx context.Context, content []byte) (*Input, error) {
	var doc any
	if err := util.UnmarshalJSON(content, &doc); err != nil {
		return nil, fmt.Errorf("the input is not JSON: %w", err)
	}
	in := &Input{}
	in.Doc, _ = doc.(object)
	if inner, ok := in.Doc["input"].(object); ok && in.Doc["request"] == nil && in.Doc["http"] == nil {
		in.Doc = inner
	}
	var schema string
	_, asks := in.Doc["request"]
	switch {
	case in.Doc == nil:
		return nil, errors.New("the input is not a JSON object")
	case !asks && in.Doc["http"] != nil:
		in.Kind, schema = KindRoute, "http_input"
	default:
		in.Kind, schema = KindDecision, "authz_input"
	}
	v, err := ast.InterfaceToValue(in.Doc)
	if err != nil {
		return nil, fmt.Errorf("the input: %w", err)
	}
	in.Term = ast.NewTerm(v)
	for _, f := range FindingsOf("", "", matchSchema(ctx, "input", schema, in.Doc)) {
		in.Warnings = append(in.Warnings, f.Message)
	}
	return in, nil
}

// Evaluate answers one input document in JSON. What has "request" in it is a question
// for a decision, else what has "http" for a route, and everything else for a decision; of a recorded event the part under
// "input" counts. A document that is malformed is evaluated all the same, with
// warnings: that is how it is found out what the policy makes of it.
func (s *Snapshot) Evaluate(ctx context.Context, content []byte) (*Answer, error) {
	in, err := ReadInput(ctx, content)
	if err != nil {
		return nil, err
	}
	return s.EvaluateInput(ctx, in)
}

// EvaluateInput answers an input that was read.
func (s *Snapshot) EvaluateInput(ctx context.Context, in *Input) (*Answer, error) {
	a := &Answer{Kind: in.Kind, Revision: s.revision, Reasons: []models.Reason{}, Warnings: in.Warnings}
	if in.Kind == KindRoute {
		reqs, err := s.ask(ctx, in.Term)
		if errors.Is(err, errUndefined) {
			return a, nil
		}
		if err != nil {
			return nil, err
		}
		for _, req := range reqs {
			a.Requests = append(a.Requests, RouteAnswer{Domain: req.Domain, EntityType: req.EntityType, Entity: req.Entity, Operation: req.Operation})
		}
		if len(a.Requests) == 1 {
			a.Request = &a.Requests[0]
		}
		return a, nil
	}
	d, err := s.DecideInput(ctx, in.Term)
	if err != nil {
		return nil, err
	}
	a.Allowed, a.ScopeID, a.Headers, a.Labels, a.Waived = d.Allowed, d.ScopeID, d.Headers, d.Labels, d.Waived
	a.Reasons = append(a.Reasons, d.Reasons...)
	return a, nil
}

// Positive reports whether the answer is yes: allowed, or mapped by a route.
func (a *Answer) Positive() bool { return a.Allowed || len(a.Requests) > 0 }
