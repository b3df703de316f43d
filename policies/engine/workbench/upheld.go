package workbench

import (
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/types"

	"patrol/policies/engine"
)

// upheldName is a function that only tests of a policy have, and they do not see it: it
// stands between data.patrol.authz.decision and whoever asks for it, and holds
// allowances against the invariants, as the engine does outside of tests.
const (
	upheldName  = "patrol.upheld"
	laterName   = "patrol.later"        // the input when every exception of now has ended
	writtenName = "decision as written" // no name that Rego could have for a rule
)

var upheldDecl = &ast.Builtin{Name: upheldName, Decl: types.NewFunction(types.Args(types.A, types.A, types.A, types.A, types.A, types.A), types.A)}

var laterDecl = &ast.Builtin{Name: laterName, Decl: types.NewFunction(types.Args(types.A), types.A)}

// upheld returns modules in which the decision is held against the invariants, and the
// capabilities that they need.
func (s *suite) upheld(modules map[string]*ast.Module) (map[string]*ast.Module, *ast.Capabilities) {
	held := maps.Clone(modules)
	var in *ast.Package
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		if !slices.ContainsFunc(modules[name].Rules, isDecision) {
			continue
		}
		m := modules[name].Copy()
		in = m.Package
		for _, r := range m.Rules {
			if isDecision(r) {
				for ; r != nil; r = r.Else {
					r.Head.Name = writtenName
					r.Head.Reference = ast.Ref{ast.VarTerm(writtenName)}
				}
			}
		}
		held[name] = m
	}
	if in == nil {
		return modules, s.capabilities
	}
	written := ast.NewTerm(engine.DecisionRef[:len(engine.DecisionRef)-1].Append(ast.StringTerm(writtenName)))
	made := func(at *ast.Term) *ast.Term { // the exceptions, on the input or on another
		of := ast.Equality.Expr(ast.VarTerm("e"), ast.RefTerm(append(slices.Clone(engine.ExceptionsRef), ast.VarTerm("i"))...))
		if at != nil {
			of.With = []*ast.With{{Target: ast.NewTerm(ast.InputRootRef), Value: at}}
		}
		return ast.SetComprehensionTerm(ast.VarTerm("e"), ast.NewBody(of))
	}
	of := func(name string) *ast.Term { // a document, as whoever asks has put it in place
		return ast.SetComprehensionTerm(ast.VarTerm("d"), ast.NewBody(ast.Equality.Expr(ast.VarTerm("d"), ast.NewTerm(engine.DecisionRef[:2].Append(ast.StringTerm(name))))))
	}
	call := func(name string, terms ...*ast.Term) *ast.Expr {
		return ast.NewExpr(append([]*ast.Term{ast.NewTerm(ast.MustParseRef(name))}, terms...))
	}
	value, later := ast.VarTerm("held"), ast.VarTerm("later")
	body := ast.NewBody(
		call(laterName, ast.NewTerm(ast.InputRootRef), later),
		call(upheldName, written, ast.NewTerm(ast.InputRootRef), made(nil), made(later), of("catalog"), of("roles"), value),
	)
	const module = "invariants"
	rule := &ast.Rule{
		Head: ast.RefHead(ast.Ref{ast.VarTerm("decision")}, value), Body: body, Location: ast.NewLocation(nil, "", 1, 1),
	}
	m := &ast.Module{Package: in.Copy(), Rules: []*ast.Rule{rule}}
	rule.Module = m
	held[module] = m
	capabilities := *s.capabilities
	capabilities.Builtins = append(slices.Clone(capabilities.Builtins), upheldDecl, laterDecl)
	return held, &capabilities
}

// onlyOne returns what a set has; nil if there is nothing in it.
func onlyOne(t *ast.Term) ast.Value {
	if set, ok := t.Value.(ast.Set); ok && set.Len() == 1 {
		return set.Slice()[0].Value
	}
	return nil
}

func isDecision(r *ast.Rule) bool { return r.Ref().Equal(engine.DecisionRef) }

// builtins are the functions that tests have beside the policy's.
func (s *suite) builtins() []*tester.Builtin {
	return []*tester.Builtin{
		{Decl: upheldDecl, Func: rego.FunctionDyn(
			&rego.Function{Name: upheldName, Decl: upheldDecl.Decl},
			func(bctx rego.BuiltinContext, args []*ast.Term) (*ast.Term, error) {
				decision, input, exceptions, later := args[0], args[1], args[2], args[3]
				d, err := engine.ReadDecision(decision.Value)
				if err != nil {
					return decision, nil //nolint:nilerr // a test may try what a malformed one is
				}
				facts := s.facts.On(onlyOne(args[4]), onlyOne(args[5]))
				if !d.Allowed {
					return decision, facts.UnforgedOn(bctx.Context, input.Value, &d)
				}
				return decision, facts.UpholdOn(input.Value, exceptions.Value, later.Value, &d)
			},
		)},
		{Decl: laterDecl, Func: rego.Function1(
			&rego.Function{Name: laterName, Decl: laterDecl.Decl},
			func(_ rego.BuiltinContext, input *ast.Term) (*ast.Term, error) {
				return ast.NewTerm(engine.LaterInput(input.Value)), nil
			},
		)},
	}
}
