package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"

	"patrol/models"
)

// Kind is what a policy was asked.
type Kind string

// The kinds of questions.
const (
	KindDecision Kind = "decision" // may this token do that?
	KindRoute    Kind = "route"    // what does a proxied request ask for?
)

// Answer is what a policy answers to an input document that somebody wrote down or
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
	// Waived is what it was allowed in spite of.
	Waived []models.Waiver `json:"waived,omitempty"`

	// Of a route: what is asked for, all of which must be allowed; nil if no route maps the
	// request.
	Requests []RouteAnswer `json:"requests,omitempty"`
	// Request is the one in Requests; nil if there are several.
	Request *RouteAnswer `json:"request,omitempty"`

	// Warnings say where the input is not as the server makes it.
	Warnings []string `json:"warnings,omitempty"`
}

// RouteAnswer is what a proxied request asks for. Domain is "" if the path does not
// name one.
type RouteAnswer struct {
	Domain     string `json:"domain"`
	EntityType string `json:"entity_type"`
	Entity     string `json:"entity"`
	Operation  string `json:"operation"`
}

// input is an input document as it was written down.
type input struct {
	kind     Kind
	doc      object
	term     *ast.Term
	warnings []string
}

// readInput reads an input document: that of a decision or of a route, or a
// recorded event that has one under "input".
func readInput(ctx context.Context, content []byte) (*input, error) {
	var doc any
	if err := util.UnmarshalJSON(content, &doc); err != nil {
		return nil, fmt.Errorf("the input is not JSON: %w", err)
	}
	in := &input{}
	in.doc, _ = doc.(object)
	if inner, ok := in.doc["input"].(object); ok && in.doc["request"] == nil && in.doc["http"] == nil {
		in.doc = inner
	}
	var schema string
	switch {
	case in.doc == nil:
		return nil, errors.New("the input is not a JSON object")
	case in.doc["http"] != nil:
		in.kind, schema = KindRoute, "http_input"
	default:
		in.kind, schema = KindDecision, "authz_input"
	}
	v, err := ast.InterfaceToValue(in.doc)
	if err != nil {
		return nil, fmt.Errorf("the input: %w", err)
	}
	in.term = ast.NewTerm(v)
	for _, f := range findings("", "", matchSchema(ctx, "input", schema, in.doc)) {
		in.warnings = append(in.warnings, f.Message)
	}
	return in, nil
}

// Evaluate answers one input document in JSON. What has "http" in it is a question
// for a route, everything else for a decision; of a recorded event the part under
// "input" counts. A document that is malformed is evaluated all the same, with
// warnings: that is how it is found out what the policy makes of it.
func (s *Snapshot) Evaluate(ctx context.Context, content []byte) (*Answer, error) {
	in, err := readInput(ctx, content)
	if err != nil {
		return nil, err
	}
	return s.answer(ctx, in)
}

func (s *Snapshot) answer(ctx context.Context, in *input) (*Answer, error) {
	a := &Answer{Kind: in.kind, Revision: s.revision, Reasons: []models.Reason{}, Warnings: in.warnings}
	if in.kind == KindRoute {
		reqs, err := s.ask(ctx, in.term)
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
	d, err := s.decide(ctx, in.term)
	if err != nil {
		return nil, err
	}
	a.Allowed, a.ScopeID, a.Headers, a.Labels, a.Waived = d.Allowed, d.ScopeID, d.Headers, d.Labels, d.Waived
	a.Reasons = append(a.Reasons, d.Reasons...)
	return a, nil
}

// Positive reports whether the answer is yes: allowed, or mapped by a route.
func (a *Answer) Positive() bool { return a.Allowed || len(a.Requests) > 0 }

// number reads a number of an input document.
func number(v any) (int64, bool) {
	switch v := v.(type) {
	case json.Number:
		n, err := v.Int64()
		return n, err == nil
	case int64:
		return v, true
	case int:
		return int64(v), true
	case float64:
		return int64(v), true
	}
	return 0, false
}
