package workbench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
	"patrol/policies/engine"
)

// SafetyCase is something that no policy may allow, whatever else it says. A
// policy that is meant to allow it all the same says so by the case's name.
type SafetyCase struct {
	Name  string `json:"name"` // stable
	Title string `json:"title"`
}

// SafetyResult is the result of a case of the safety suite.
type SafetyResult struct {
	SafetyCase
	Outcome Outcome `json:"outcome"`
	// Tried is the number of inputs.
	Tried int `json:"tried"`
	// Example is an input that is allowed and may not be, nil if there is none.
	Example json.RawMessage `json:"example,omitempty"`
}

// safetyCase is a case with its inputs: some that are always the same, and some
// that are made of an input that the policy allows, none if the case is not about
// such an input.
type safetyCase struct {
	SafetyCase
	fixed    []any
	variants func(*allowance) []any
}

// SafetyCases lists the safety suite.
func SafetyCases() []SafetyCase {
	cases := make([]SafetyCase, len(safetySuite))
	for i, c := range safetySuite {
		cases[i] = c.SafetyCase
	}
	return cases
}

// ValidateWaivers checks that each name is a reason that can be waived. It lets names
// of cases of the safety suite pass, which were waived before there were codes;
// [WaiverNotes] says what they are worth.
func ValidateWaivers(names []string) error {
	for _, name := range names {
		if !engine.Waivable(models.ReasonCode(name)) && !slices.ContainsFunc(safetySuite, func(c safetyCase) bool { return c.Name == name }) {
			return fmt.Errorf("%.80q cannot be waived; what can is %s", name, engine.JoinCodes(engine.WaivableCodes()))
		}
	}
	return nil
}

// WaiverNotes says what there is to know about names that [ValidateWaivers] lets pass
// and that are no codes.
func WaiverNotes(names []string) []string {
	_, notes := engine.ReadWaivers(names)
	return notes
}

// allowance is an input that the policy allows, and what is known of it.
type allowance struct {
	input   object
	catalog models.Catalog
	admin   bool // of the platform; otherwise the role is what permits it

	domain, entityType, entity, operation, role string
}

// maxAllowances bounds how many inputs the suite starts from. There is one for
// every operation and every role that permits it, and one for platform admins.
const maxAllowances = 1000

// safety runs the stage of that name.
func (c *check) safety(ctx context.Context) error {
	c.ran[engine.StageSafety] = true
	tried, err := c.tryPermitted(ctx)
	if err != nil {
		return err
	}
	allowed := tried.allowed
	location := c.snapshot.Compiler().GetRulesExact(engine.DecisionRef)[0].Location
	if len(allowed) == 0 {
		c.warn(engine.Finding{
			Stage: engine.StageSafety, File: location.File, Line: location.Row, Column: location.Col, Code: codeNothing,
			Message: "nothing that the catalog and the roles permit is allowed, so that most of the safety suite tries nothing",
		})
	}
	seededOnes := c.seededAllowances(allowed)
	for _, sc := range safetySuite {
		result := SafetyResult{SafetyCase: sc.SafetyCase, Outcome: Passed}
		errs := 0
		certain := sc.inputs(allowed) // the others may well be allowed, where the literals make them so
		for i, input := range append(certain, sc.inputs(seededOnes)...) {
			v, err := ast.InterfaceToValue(input)
			if err != nil {
				return fmt.Errorf("safety case %s: %w", sc.Name, err)
			}
			if i == len(certain) && result.Outcome == Waived {
				break // what else the literals break is another case
			}
			d, err := c.snapshot.DecideInput(ctx, ast.NewTerm(v))
			_, breached := errors.AsType[*engine.BreachError](err)
			switch result.Tried++; {
			case ctx.Err() != nil:
				return fmt.Errorf("check policy %s: %w", c.src.Name, ctx.Err())
			case breached || err == nil && d.Allowed && (i < len(certain) || len(d.Waived) > 0):
				result.Outcome = Waived
				if breached || len(d.Waived) == 0 {
					result.Outcome = Failed
				}
				if result.Example, err = json.Marshal(input); err != nil {
					return fmt.Errorf("safety case %s: %w", sc.Name, err)
				}
			case err != nil:
				errs++
			}
			if result.Outcome == Failed {
				break
			}
		}
		f := engine.Finding{
			Stage: engine.StageSafety, File: location.File, Line: location.Row, Column: location.Col,
			Code: codeSafety, Message: fmt.Sprintf("%s: it allows %s", sc.Name, sc.Title),
		}
		switch {
		case result.Outcome == Waived:
			f.Code = codeWaived
			c.warn(f)
		case result.Outcome == Failed:
			if want := engine.WaivedBy(sc.Name); len(want) > 0 {
				f.Message += fmt.Sprintf("; if it is meant to, the manifest's metadata.waive and the server's gate.waive must both name %s", engine.JoinCodes(want))
			}
			c.stricter(f) // none of it is allowed, whatever the policy says
		case errs > 0:
			f.Code, f.Message = codeFailsShut, fmt.Sprintf("%s: %d of %d inputs are denied by an error in the evaluation, not by a reason", sc.Name, errs, result.Tried)
			c.warn(f)
		}
		c.report.Safety = append(c.report.Safety, result)
	}
	return nil
}

// perSeed is the number of allowances that are tried with the literals of a rule.
const perSeed = 3

// seededAllowances are allowances with what the policy compares input with: what only
// holds where a caller says a magic word is found by saying it.
func (c *check) seededAllowances(allowed []*allowance) (all []*allowance) {
	for _, s := range seedsOf(c.bundle) {
		n := 0
		for _, a := range allowed {
			input, ok := seeded(a.input, s.changes)
			if !ok || n == perSeed {
				continue
			}
			request, ok := input["request"].(object)
			asked := requestIn(input)
			if _, fits := a.catalog.EntityTypes[asked.EntityType].Operations[asked.Operation]; !ok || !fits || request["context"] == nil {
				continue
			}
			if _, isNumber := number(input["now"]); !isNumber {
				continue
			}
			n++
			one := *a
			one.input, one.domain, one.entityType, one.entity, one.operation = input, asked.Domain, asked.EntityType, asked.Entity, asked.Operation
			one.input["now"], _ = number(input["now"])
			all = append(all, &one)
		}
	}
	return all
}

// inputs are all inputs of a case.
func (sc safetyCase) inputs(allowed []*allowance) []any {
	inputs := slices.Clone(sc.fixed)
	if sc.variants != nil {
		for _, a := range allowed {
			inputs = append(inputs, sc.variants(a)...)
		}
	}
	return inputs
}

// trial holds the policy's answers to requests that catalog and roles permit, without context.
type trial struct {
	allowed  []*allowance
	failed   *allowance // the first one that it could not decide; nil: none
	why      error
	timeouts int
}

// tryPermitted decides the requests that catalog and roles permit, once for all stages.
func (c *check) tryPermitted(ctx context.Context) (*trial, error) {
	if c.permitted != nil {
		return c.permitted, nil
	}
	candidates := candidates(c.snapshot.Catalog())
	if len(candidates) > maxAllowances {
		c.warn(engine.Finding{
			Stage: engine.StageSafety, Code: codeSkipped,
			Message: fmt.Sprintf("roles and catalog permit %d things; the safety suite starts from %d of them", len(candidates), maxAllowances),
		})
		step := (len(candidates) + maxAllowances - 1) / maxAllowances
		var some []allowance
		for i := 0; i < len(candidates); i += step {
			some = append(some, candidates[i])
		}
		candidates = some
	}
	t := &trial{}
	for _, a := range candidates {
		for _, now := range moments {
			try := a
			try.input = a.facts(now)
			v, err := ast.InterfaceToValue(try.input)
			if err != nil {
				return nil, fmt.Errorf("safety suite: %w", err)
			}
			d, err := c.snapshot.DecideInput(ctx, ast.NewTerm(v))
			if ctx.Err() != nil {
				return nil, fmt.Errorf("check policy %s: %w", c.src.Name, ctx.Err())
			}
			_, breached := errors.AsType[*engine.BreachError](err)
			switch {
			case errors.Is(err, engine.ErrTimeout): // of a busy machine, unless nothing else comes of it
				t.timeouts++
			case err != nil && !breached && t.failed == nil:
				t.failed, t.why = &try, err
			}
			if err == nil && d.Allowed {
				t.allowed = append(t.allowed, &try)
				break
			}
		}
	}
	c.permitted = t
	return t, nil
}

// String names the request as a scope, and who asks.
func (a *allowance) String() string {
	who := "a member in the role " + a.role
	if a.admin {
		who = "a platform admin"
	}
	return fmt.Sprintf("%s:%s:%s:%s by %s", a.domain, a.entityType, a.entity, a.operation, who)
}
