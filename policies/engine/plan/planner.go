package plan

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
	"github.com/open-policy-agent/opa/v1/rego"
)

// target is the name under which OPA hands plans to this package. OPA's planner is
// reached in no other way.
const target = "patrol-plan"

var register = sync.OnceFunc(func() { rego.RegisterPlugin(target, receiver{}) })

// Plan has OPA plan the document ref of compiled policies.
func Plan(ctx context.Context, compiler *ast.Compiler, ref ast.Ref) (*ir.Policy, error) {
	return PlanQuery(ctx, rego.Compiler(compiler), rego.ParsedQuery(ast.NewBody(ast.Equality.Expr(ast.VarTerm("result"), ast.NewTerm(ref)))))
}

// PlanQuery has OPA plan a query. A panic of the planner is an error.
func PlanQuery(ctx context.Context, opts ...func(*rego.Rego)) (policy *ir.Policy, err error) {
	defer func() {
		if r := recover(); r != nil {
			policy, err = nil, fmt.Errorf("plan: panic: %v", r)
		}
	}()
	register()
	_, err = rego.New(append(opts, rego.Target(target))...).PrepareForEval(context.WithValue(ctx, hand{}, &policy))
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	if policy == nil {
		return nil, errors.New("plan: OPA made none")
	}
	return policy, nil
}

// hand is the key of the context's value that receives the plan.
type hand struct{}

type receiver struct{}

func (receiver) IsTarget(name string) bool { return name == target }

func (receiver) PrepareForEval(ctx context.Context, policy *ir.Policy, _ ...rego.PrepareOption) (rego.TargetPluginEval, error) {
	to, ok := ctx.Value(hand{}).(**ir.Policy)
	if !ok {
		return nil, errors.New("plans are made by PlanQuery")
	}
	*to = policy
	return receiver{}, nil
}

func (receiver) Eval(context.Context, *rego.EvalContext, ast.Value) (ast.Value, error) {
	return nil, errors.New("plans are evaluated by Program.Eval")
}
