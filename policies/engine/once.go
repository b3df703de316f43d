package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/policies/engine/plan"
)

// constant is the value of a rule that depends on data alone.
type constant struct {
	ref   ast.Ref
	value *ast.Term
}

// evaluateConstants evaluates the rules whose metadata say `custom: {once: true}`
// and keeps their values for all evaluations to come. Data is part of the
// snapshot, so they would find the same each time. This is how an index over the
// routes can be written in Rego, beside the rules that use it, and still cost
// nothing per request.
func (s *Snapshot) evaluateConstants(ctx context.Context) error {
	var constants []constant
	for _, a := range s.compiler.GetAnnotationSet().Flatten() {
		if once, ok := a.Annotations.Custom["once"]; !ok || once != true {
			continue
		}
		rule := a.GetRule()
		if rule == nil {
			return AtLocation(a.Location, errors.New("once: true is for single rules"))
		}
		ref := rule.Ref().GroundPrefix()
		for _, r := range s.compiler.GetRulesExact(ref) {
			switch {
			case len(r.Head.Args) > 0:
				return AtLocation(r.Location, errors.New("once: true is not for functions"))
			case dependsOnInput(s.compiler, r, map[*ast.Rule]bool{}):
				return AtLocation(r.Location, fmt.Errorf("%s says once: true, yet depends on input", ref))
			}
		}
		d, err := s.prepare(ref)
		if err != nil {
			return err
		}
		value, err := s.eval(ctx, d, emptyObject)
		if err != nil {
			return AtLocation(a.Location, err)
		}
		plan.Settle(value)
		constants = append(constants, constant{ref: ref, value: ast.NewTerm(value)})
	}
	s.constants = constants
	return nil
}

func dependsOnInput(c *ast.Compiler, rule *ast.Rule, seen map[*ast.Rule]bool) (found bool) {
	if seen[rule] {
		return false
	}
	seen[rule] = true
	ast.WalkRefs(rule, func(ref ast.Ref) bool {
		found = found || ref.HasPrefix(ast.InputRootRef)
		return found
	})
	for dep := range c.Graph.Dependencies(rule) {
		if r, ok := dep.(*ast.Rule); ok && !found {
			found = dependsOnInput(c, r, seen)
		}
	}
	return found
}
