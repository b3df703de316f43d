package workbench

import (
	"context"
	"fmt"

	"patrol/policies/engine"
)

const (
	codeSlow    = "plan_refused"    // the compiled plan cannot answer, so that OPA's evaluator does
	codeLinear  = "rules_unindexed" // each request goes through all of many rules
	checkTrials = 1000              // a server makes ten times as many before the plan answers
	manyBodies  = 64                // of a rule: they take about as long as the rest of the default policy
)

// plans warns of what makes the policy slow, and of nothing else: whatever the plan cannot answer,
// OPA's evaluator does.
func (c *check) plans(ctx context.Context) error {
	slow, linear, err := c.snapshot.TryPlans(ctx, checkTrials)
	if err != nil {
		return fmt.Errorf("check policy %s: %w", c.src.Name, err)
	}
	for _, why := range slow {
		l := c.snapshot.Compiler().GetRulesExact(why.Ref)
		f := engine.Finding{Stage: engine.StageRules, Code: codeSlow, Message: fmt.Sprintf("OPA's evaluator answers %s, which takes about ten times as long: %v", why.Ref, why.Err)}
		if len(l) > 0 {
			f.File, f.Line, f.Column = l[0].Location.File, l[0].Location.Row, l[0].Location.Col
		}
		c.warn(f)
	}
	for _, rule := range linear {
		if rule.Bodies < manyBodies {
			continue
		}
		c.warn(engine.Finding{
			Stage: engine.StageRules, File: rule.File, Line: rule.Row, Column: 1, Code: codeLinear,
			Message: fmt.Sprintf("each request goes through %d rules for %s one by one: let each begin by comparing a value of the input with a text, as in `input.request.entity == \"…\"`, so that only those are looked at which name the request's", rule.Bodies, rule.Path),
		})
	}
	return nil
}
