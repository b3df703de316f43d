package engine

import (
	"context"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
)

// DecideRaw judges a whole input document, which need not be one that the typed
// API can make.
func (s *Snapshot) DecideRaw(ctx context.Context, input any) (models.Decision, error) {
	v, err := ast.InterfaceToValue(input)
	if err != nil {
		return models.Decision{}, err
	}
	return s.DecideInput(ctx, ast.NewTerm(v))
}

// InputOf returns the input document that Decide would evaluate.
func InputOf(req models.Request, f Facts, now time.Time) (any, error) {
	s := &Snapshot{reads: Reads{true, true, true, true, true}}
	t, err := s.decisionInput(req, f, now)
	if err != nil {
		return nil, err
	}
	return ast.JSON(t.Value)
}

// Broken returns a copy of s in which every look at data panics.
func (s *Snapshot) Broken() *Snapshot {
	c := *s
	c.documents = documents{}
	return &c
}

// ReadsOfRequest names the parts of a proxied request that decide what it is about.
func (s *Snapshot) ReadsOfRequest() (parts []string) {
	p := s.routes.parts
	for _, part := range [...]struct {
		name string
		read bool
	}{{"method", p.method}, {"path", p.path}, {"segments", p.segments}, {"query", p.query}, {"headers", p.headers}, {"body", p.body}} {
		if part.read {
			parts = append(parts, part.name)
		}
	}
	return parts
}

// DoubleCheck is of how many evaluations both evaluators make one.
const DoubleCheck = doubleCheck

// Forget forgets how the plans of s held out.
func (s *Snapshot) Forget() {
	hastened.Lock()
	defer hastened.Unlock()
	delete(hastened.outcome, s.digest)
}

// HastenAnew is Hasten with all trials, whatever is known of the policy.
func (s *Snapshot) HastenAnew(ctx context.Context, trials int) error {
	s.Forget()
	return s.Hasten(ctx, trials)
}

// PlanOf has the plan of another policy decide.
func (s *Snapshot) PlanOf(ctx context.Context, other *Snapshot) error {
	f, err := other.compilePlan(ctx, other.decision)
	s.decision.fast.Store(f)
	return err
}

// HastenWith holds the plan of another policy's decision against s.
func (s *Snapshot) HastenWith(ctx context.Context, other *Snapshot, trials int) error {
	f, err := other.compilePlan(ctx, other.decision)
	if err != nil {
		return err
	}
	if err := s.prove(ctx, s.decision, f, trials); err != nil {
		s.slowDown(s.decision, err)
		return err
	}
	return nil
}

// BrokenOf returns the codes of the invariants that do not hold of an input, and the scope
// that covers what it asks for.
func (s *Snapshot) BrokenOf(input any) ([]models.ReasonCode, string, error) {
	v, err := ast.InterfaceToValue(input)
	if err != nil {
		return nil, "", err
	}
	broken, granted := s.broken(readingOf(v))
	return broken.codes(), string(granted[0]), nil
}

// Upheld returns what holds an allowance of a request against the invariants, and
// nothing else.
func (s *Snapshot) Upheld(req models.Request, f Facts, now time.Time) (func() error, error) {
	q, err := s.askDecision(req, f, now)
	return func() error {
		d := models.Decision{Allowed: true, ScopeID: "scope-1"}
		return s.uphold(context.Background(), q, &d)
	}, err
}
