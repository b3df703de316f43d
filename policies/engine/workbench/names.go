package workbench

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
	"patrol/policies/engine"
)

// codeName is the code of warnings about names of models that no request has.
const codeName = "name_not_canonical"

// entityRef is the place of a model's canonical name in the input.
var entityRef = ast.MustParseRef("input.request.entity")

// names warns of literals that are compared with the entity of a request and that no
// model has in the form that is judged: a rule that denies `LAB-1` never applies where
// the upstream is an Ollama, which is asked for `lab-1`. Literals are looked for in
// every rule that mentions the entity, beside other parts of the input excepted, and
// in rules without a body that such a rule refers to: lists.
func (c *check) names() {
	if len(c.opts.Kinds) == 0 {
		return
	}
	n := nameCheck{c: c, lists: map[string][]*ast.Rule{}, seen: map[string]bool{}}
	for _, m := range c.bundle.Modules {
		for _, r := range m.Rules {
			if path := r.Ref().GroundPrefix().String(); isConstant(r) {
				n.lists[path] = append(n.lists[path], r)
			}
		}
	}
	for _, m := range c.bundle.Modules {
		n.pkg = m.Package.Path
		for _, r := range m.Rules {
			if mentions(r, entityRef) {
				n.rule(r)
			}
		}
	}
	slices.SortStableFunc(n.found, func(a, b engine.Finding) int {
		if by := strings.Compare(a.File, b.File); by != 0 {
			return by
		}
		return a.Line - b.Line
	})
	for _, f := range n.found {
		c.warn(f)
	}
}

type nameCheck struct {
	c     *check
	pkg   ast.Ref                // of the rule that is looked at
	lists map[string][]*ast.Rule // by path
	seen  map[string]bool        // by place
	found []engine.Finding
}

// isConstant reports whether a rule is a value that depends on nothing.
func isConstant(r *ast.Rule) bool {
	if len(r.Head.Args) > 0 || len(r.Body) != 1 {
		return false
	}
	on, ok := r.Body[0].Terms.(*ast.Term)
	return ok && on.Value.Compare(ast.Boolean(true)) == 0
}

func mentions(r *ast.Rule, ref ast.Ref) (found bool) {
	ast.WalkRefs(r, func(x ast.Ref) bool {
		found = found || x.HasPrefix(ref)
		return found
	})
	return found
}

// rule looks at the expressions of a rule that mentions the entity.
func (n *nameCheck) rule(r *ast.Rule) {
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		if aboutOther(e) {
			return false
		}
		around := func(s string) string { return s }
		var terms []*ast.Term
		switch t := e.Terms.(type) {
		case *ast.SomeDecl: // some name in list
			terms = t.Symbols
		case *ast.Every:
			terms = []*ast.Term{t.Domain}
		case *ast.Term:
			terms = []*ast.Term{t}
		case []*ast.Term:
			terms = t[1:]
			switch e.Operator().String() {
			case ast.StartsWith.Name:
				around = func(s string) string { return s + "x" }
			case ast.EndsWith.Name:
				around = func(s string) string { return "x" + s }
			case ast.Contains.Name:
				around = func(s string) string { return "x" + s + "x" }
			case ast.Equal.Name, ast.Equality.Name, ast.NotEqual.Name, ast.Assign.Name, ast.Member.Name, ast.MemberWithKey.Name:
			default:
				return false
			}
		}
		for _, t := range terms {
			n.term(t, around)
		}
		return false
	})
}

// aboutOther reports whether an expression looks at a part of the input beside the
// entity.
func aboutOther(e *ast.Expr) (other bool) {
	ast.WalkRefs(e, func(x ast.Ref) bool {
		other = other || x.HasPrefix(ast.InputRootRef) && !x.HasPrefix(entityRef)
		return other
	})
	return other
}

// term looks at the literals in a term, and in lists that it refers to.
func (n *nameCheck) term(t *ast.Term, around func(string) string) {
	ast.WalkTerms(t, func(x *ast.Term) bool {
		switch v := x.Value.(type) {
		case ast.String:
			n.literal(x, string(v), around)
		case ast.Ref:
			for _, list := range n.listsOf(v) {
				for _, part := range []*ast.Term{list.Head.Key, list.Head.Value} {
					if part != nil {
						n.term(part, around)
					}
				}
			}
			return true
		case ast.Var:
			for _, list := range n.listsOf(ast.Ref{x}) {
				for _, part := range []*ast.Term{list.Head.Key, list.Head.Value} {
					if part != nil {
						n.term(part, around)
					}
				}
			}
		}
		return false
	})
}

// listsOf are the constant rules that a reference in a rule of a package leads to.
func (n *nameCheck) listsOf(ref ast.Ref) []*ast.Rule {
	path := ref
	if !ref.HasPrefix(ast.DefaultRootRef) {
		head, ok := ref[0].Value.(ast.Var)
		if !ok {
			return nil
		}
		path = append(n.pkg.Copy(), ast.StringTerm(string(head)))
	}
	for end := len(path); end > 1; end-- {
		if rules := n.lists[path[:end].String()]; rules != nil {
			return rules
		}
	}
	return nil
}

// literal warns of a literal that is not in the form in which names are judged.
func (n *nameCheck) literal(t *ast.Term, text string, around func(string) string) {
	if text == "" || text == models.Any || t.Location == nil || n.seen[t.Location.String()+"\x00"+text] {
		return
	}
	whole := around(text)
	for _, kind := range n.c.opts.Kinds {
		name, ok := models.UpstreamKind(kind).ModelName(whole)
		var message string
		switch {
		case !ok && whole == text:
			message = fmt.Sprintf("%q is no name of one model to an upstream of the kind %s, so no request has it there", text, kind)
		case ok && name.Canonical != whole && whole == text:
			message = fmt.Sprintf("where the upstream is of the kind %s, this model is judged by the name %q, never by %q", kind, name.Canonical, text)
		case ok && name.Canonical != whole:
			message = fmt.Sprintf("where the upstream is of the kind %s, no name has %q there: names are judged in lower case and without default registry, namespace and tag", kind, text)
		default:
			continue
		}
		n.seen[t.Location.String()+"\x00"+text] = true
		n.found = append(n.found, engine.Finding{
			Stage: engine.StageCompile, File: t.Location.File, Line: t.Location.Row, Column: t.Location.Col, Code: codeName, Message: message,
		})
		return
	}
}
