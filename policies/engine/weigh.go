package engine

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
)

// Weigh has a compiler put calls of [heldName] into the rules, after all else was done with
// them, and refuse rules whose very types are too large to be compared.
func Weigh(c *ast.Compiler) *ast.Compiler {
	return c.
		WithStageAfterID(ast.StageCheckRecursion, ast.CompilerStageDefinition{Name: "MeasureTypes", MetricName: "measure_types", Stage: measure}).
		WithStageAfterID(ast.StageBuildRequiredCapabilities, ast.CompilerStageDefinition{Name: "Weigh", MetricName: "weigh", Stage: func(c *ast.Compiler) *ast.Error {
			for _, m := range c.Modules {
				for _, r := range m.Rules {
					for ; r != nil; r = r.Else {
						weighRule(c, r)
					}
				}
			}
			return nil
		}})
}

// weighRule adds to a body that the rule's value, and its key, are weighed.
func weighRule(c *ast.Compiler, r *ast.Rule) {
	body := weighBody(c, r.Body)
	var more []*ast.Term
	if !hasPlainValue(c, r) {
		more = leaves(more, r.Head.Value)
	}
	more = leaves(more, r.Head.Key)
	for _, t := range r.Head.Reference[min(1, len(r.Head.Reference)):] {
		more = leaves(more, t)
	}
	r.Body = withWeighing(body, more, r.Head.Location)
}

// hasPlainValue reports whether the rule's values have no parts, by their type. Texts are
// weighed where they are made.
func hasPlainValue(c *ast.Compiler, r *ast.Rule) bool {
	of := c.TypeEnv.GetByRef(r.Ref().GroundPrefix())
	if f, ok := of.(*types.Function); ok {
		of = f.Result()
	}
	return isPlain(of)
}

func isPlain(t types.Type) bool {
	switch t := t.(type) {
	case types.Boolean, types.Number, types.String, types.Null:
		return true
	case types.Any:
		for _, one := range t {
			if !isPlain(one) {
				return false
			}
		}
		return len(t) > 0
	}
	return false
}

// withWeighing appends to a body that terms are weighed.
func withWeighing(body ast.Body, terms []*ast.Term, l *ast.Location) ast.Body {
	for _, t := range terms {
		body.Append(weighing(t, l))
	}
	return body
}

func weighing(t *ast.Term, l *ast.Location) *ast.Expr {
	e := ast.NewExpr([]*ast.Term{heldOperator, t})
	e.Generated, e.Location = true, l
	return e
}

var heldOperator = ast.NewTerm(ast.MustParseRef(heldName))

// weighBody returns a body in which the containers that its expressions make are weighed:
// those that functions are given before, others after they are made.
func weighBody(c *ast.Compiler, body ast.Body) ast.Body {
	weighed := make([]*ast.Expr, 0, len(body))
	for _, e := range body {
		nested(c, e)
		calls := e.IsCall() && !e.IsEquality()
		var made []*ast.Term
		if terms, ok := e.Terms.([]*ast.Term); ok {
			given := terms[1:]
			if calls {
				if n := c.GetArity(e.Operator()); n >= 0 && n < len(given) {
					given = given[:n] // then comes where the result goes
				}
			}
			for _, t := range given {
				if isContainer(t) {
					made = leaves(made, t)
				}
			}
		}
		for _, w := range e.With {
			for _, t := range leaves(nil, w.Value) {
				weighed = append(weighed, weighing(t, e.Location))
			}
		}
		if calls {
			for _, t := range made {
				weighed = append(weighed, weighing(t, e.Location))
			}
		}
		weighed = append(weighed, e)
		if !calls && !e.Negated {
			for _, t := range made {
				weighed = append(weighed, weighing(t, e.Location))
			}
		}
	}
	return ast.NewBody(weighed...)
}

// nested does the same in the bodies inside an expression.
func nested(c *ast.Compiler, e *ast.Expr) {
	v := ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.ArrayComprehension:
			x.Body = withWeighing(weighBody(c, x.Body), leaves(nil, x.Term), x.Term.Location)
		case *ast.SetComprehension:
			x.Body = withWeighing(weighBody(c, x.Body), leaves(nil, x.Term), x.Term.Location)
		case *ast.ObjectComprehension:
			x.Body = withWeighing(weighBody(c, x.Body), leaves(leaves(nil, x.Key), x.Value), x.Key.Location)
		case *ast.Every:
			x.Body = weighBody(c, x.Body)
			return false
		case *ast.Not:
			x.Body = weighBody(c, x.Body)
		default:
			return false
		}
		return true
	})
	v.Walk(e)
}

func isContainer(t *ast.Term) bool {
	switch t.Value.(type) {
	case *ast.Array, ast.Object, ast.Set:
		return !t.IsGround()
	}
	return false
}

// leaves appends the variables of a term, as often as they are there.
func leaves(all []*ast.Term, t *ast.Term) []*ast.Term {
	if t == nil {
		return all
	}
	switch v := t.Value.(type) {
	case ast.Var:
		if !v.IsWildcard() {
			all = append(all, t)
		}
	case *ast.Array:
		v.Foreach(func(e *ast.Term) { all = leaves(all, e) })
	case ast.Set:
		v.Foreach(func(e *ast.Term) { all = leaves(all, e) })
	case ast.Object:
		v.Foreach(func(k, e *ast.Term) { all = leaves(leaves(all, k), e) })
	}
	return all
}

// maxTypes bounds what the values of all rules and expressions consist of, by their text, with
// what they take from other rules as often as they take it: for each part of the policy's text
// this many, and as many more for all of it.
const (
	maxTypes        = 1 << 18
	maxTypesForPart = 16
)

// measure refuses rules whose types would take the compiler too long to compare.
func measure(c *ast.Compiler) *ast.Error {
	m := measuring{compiler: c, rules: map[*ast.Rule]int{}, most: maxTypes}
	for _, mod := range c.Modules {
		ast.WalkTerms(mod, func(*ast.Term) bool { m.most += maxTypesForPart; return false })
	}
	for _, mod := range c.Modules {
		for _, r := range mod.Rules {
			for of := r; of != nil; of = of.Else {
				m.rule(of)
			}
		}
	}
	return m.err
}

type measuring struct {
	compiler *ast.Compiler
	rules    map[*ast.Rule]int
	most     int
	all      int
	err      *ast.Error
}

// rule returns how many parts a rule's value has.
func (m *measuring) rule(r *ast.Rule) int {
	if n, ok := m.rules[r]; ok {
		return n
	}
	m.rules[r] = 1
	vars := map[ast.Var]int{}
	m.body(r.Body, vars)
	n := m.check(m.term(r.Head.Key, vars)+m.term(r.Head.Value, vars), r.Location)
	m.rules[r] = n
	return n
}

func (m *measuring) check(n int, l *ast.Location) int {
	if m.all = min(m.all+n, m.most+1); m.all > m.most {
		if m.err == nil {
			m.err = ast.NewError(ast.CompileErr, l, "this holds other values so often that it is too large, counting what they share as often as it is there")
		}
	}
	return min(n, m.most)
}

func (m *measuring) body(body ast.Body, vars map[ast.Var]int) {
	for _, e := range body {
		terms, ok := e.Terms.([]*ast.Term)
		if every, isEvery := e.Terms.(*ast.Every); isEvery {
			m.body(every.Body, vars)
		}
		if not, isNot := e.Terms.(*ast.Not); isNot {
			m.body(not.Body, vars)
		}
		if !ok {
			continue
		}
		switch {
		case e.IsEquality():
			for i := range 2 {
				if v, ok := terms[1+i].Value.(ast.Var); ok {
					vars[v] = max(vars[v], m.check(m.term(terms[2-i], vars), e.Location))
				}
			}
		case e.IsCall():
			n := 1
			for _, r := range m.compiler.GetRules(e.Operator()) {
				for ; r != nil; r = r.Else {
					n += m.rule(r)
				}
			}
			for _, t := range terms[1:] {
				m.check(m.term(t, vars), e.Location)
			}
			if v, ok := terms[len(terms)-1].Value.(ast.Var); ok {
				vars[v] = max(vars[v], m.check(n, e.Location))
			}
		}
	}
}

func (m *measuring) term(t *ast.Term, vars map[ast.Var]int) int {
	if t == nil {
		return 0
	}
	n := 1
	add := func(t *ast.Term) { n = min(n+m.term(t, vars), m.most+1) }
	switch v := t.Value.(type) {
	case ast.Var:
		n = max(n, vars[v])
	case *ast.Array:
		v.Foreach(add)
	case ast.Set:
		v.Foreach(add)
	case ast.Object:
		v.Foreach(func(k, e *ast.Term) { add(k); add(e) })
	case *ast.ArrayComprehension:
		m.body(v.Body, vars)
		add(v.Term)
	case *ast.SetComprehension:
		m.body(v.Body, vars)
		add(v.Term)
	case *ast.ObjectComprehension:
		m.body(v.Body, vars)
		add(v.Key)
		add(v.Value)
	case ast.Ref:
		n = m.ref(v, vars)
	}
	return n
}

// ref returns the size of the largest value that a reference may yield: all below it, or the
// value of a rule on its path.
func (m *measuring) ref(ref ast.Ref, vars map[ast.Var]int) int {
	n := 1
	if v, ok := ref[0].Value.(ast.Var); ok {
		n = max(n, vars[v])
	}
	if !ref[0].Equal(ast.DefaultRootDocument) {
		return n
	}
	for _, r := range m.compiler.GetRules(ref.GroundPrefix()) {
		for ; r != nil; r = r.Else {
			n = min(n+m.rule(r), m.most+1)
		}
	}
	return n
}
