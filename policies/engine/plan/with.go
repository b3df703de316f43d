package plan

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// with compiles a block that is evaluated with another input, other data, or a part of
// them replaced. What was remembered outside does not count inside.
func (c *funcCompiler) with(t *ir.WithStmt) (step, error) {
	value, target := c.operand(t.Value), c.local(t.Local)
	path := make([]*ast.Term, len(t.Path))
	for i, s := range t.Path {
		path[i] = ast.InternedTerm(c.policy.Static.Strings[s].Value)
	}
	body, err := c.block(t.Block, nil)
	if err != nil {
		return nil, err
	}
	if !c.whole {
		return nil, fmt.Errorf("%s replaces a document that is not a local", c.f.name)
	}
	return func(ev *evaluator, locals []*ast.Term) exit {
		v := value.get(ev, locals)
		if v == nil && len(path) > 0 {
			return leave
		}
		if v != nil && !ev.hold(v) {
			return failed
		}
		saved, memo, known := locals[target], ev.memo, ev.known
		ev.memo, ev.known = make([]*ast.Term, len(memo)), make([]bool, len(known))
		locals[target] = upsert(saved, path, v)
		x := body.run(ev, locals)
		locals[target], ev.memo, ev.known = saved, memo, known
		if x == leave {
			return leave // what is undefined inside is undefined outside
		}
		return outer(x)
	}, nil
}

// upsert returns a document like t with v at the path.
func upsert(t *ast.Term, path []*ast.Term, v *ast.Term) *ast.Term {
	if len(path) == 0 {
		return v
	}
	obj := ast.NewObject()
	var below *ast.Term
	if t != nil {
		if old, ok := t.Value.(ast.Object); ok {
			old.Foreach(func(k, x *ast.Term) {
				if equal(k, path[0]) {
					below = x
				} else {
					obj.Insert(k, x)
				}
			})
		}
	}
	obj.Insert(path[0], upsert(below, path[1:], v))
	return ast.NewTerm(obj)
}
