package plan

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// literal is an object whose members are written down one after the other, each under a
// text of its own. It is made at once, where the last is added; or not at all, if all
// that is done with it is to look for a member.
type literal struct {
	local  int
	keys   []*ast.Term
	values []operand
	more   int  // members that are still to be added
	elided bool // not made
	made   bool
}

// maxMembers bounds literals.
const maxMembers = 16

// literalOf begins a literal with the members of a constant; nil: the object is none. What is
// added must be the same when the object is made as where it was added.
func (c *funcCompiler) literalOf(l ir.Local, begun ast.Value) *literal {
	obj, ok := begun.(ast.Object)
	u := c.survey.of(l, nil)
	if !ok || len(u.mutates) > maxMembers {
		return nil
	}
	texts := map[ast.String]bool{}
	for i, added := range u.adds {
		key, ok := u.keys[i].Value.(ir.StringIndex)
		if !ok {
			return nil
		}
		texts[ast.String(c.policy.Static.Strings[key].Value)] = true
		if local, ok := added.Value.(ir.Local); ok && !c.fixed(local) {
			return nil
		}
	}
	if len(texts) != len(u.adds) {
		return nil
	}
	lit := &literal{more: len(u.adds) - obj.Len(), elided: c.onlyAsked(u)}
	obj.Foreach(func(k, v *ast.Term) {
		lit.keys, lit.values = append(lit.keys, k), append(lit.values, operand{constant: v})
	})
	if !lit.elided {
		delete(c.known, l)
		lit.local = c.local(l)
	}
	return lit
}

// onlyAsked reports whether all that reads an object is object.get.
func (c *funcCompiler) onlyAsked(u *usage) bool {
	for _, call := range u.calls {
		if call.Func != "object.get" || len(call.Args) != 3 || call.Args[1].Value == call.Args[0].Value || call.Args[2].Value == call.Args[0].Value {
			return false
		}
	}
	return len(u.calls) > 0 && len(u.calls) == len(u.reads)
}

func (lit *literal) add(c *funcCompiler, l ir.Local, key, value operand) step {
	lit.keys, lit.values = append(lit.keys, key.constant), append(lit.values, value)
	lit.more--
	lit.made = lit.more == 0
	if !lit.made || lit.elided {
		// An undefined member makes all undefined, at once.
		if value.constant != nil {
			return nil
		}
		return holds(func(ev *evaluator, locals []*ast.Term) bool { return value.get(ev, locals) != nil })
	}
	c.known[l] = known{literal: lit}
	return func(ev *evaluator, locals []*ast.Term) exit {
		var room [maxMembers][2]*ast.Term
		members := room[:len(lit.keys)]
		for i := range members {
			members[i] = [2]*ast.Term{lit.keys[i], lit.values[i].get(ev, locals)}
			if members[i][1] == nil {
				return leave
			}
			if !ev.hold(members[i][1]) {
				return failed
			}
		}
		locals[lit.local] = ev.term(ast.NewObject(members...))
		return next
	}
}

// getOfLiteral compiles object.get on an object that was not made; nil: it is none.
func (c *funcCompiler) getOfLiteral(t *ir.CallStmt) step {
	if t.Func != "object.get" || len(t.Args) != 3 {
		return nil
	}
	l, ok := t.Args[0].Value.(ir.Local)
	if !ok || c.known[l].literal == nil || !c.known[l].literal.elided {
		return nil
	}
	lit := c.known[l].literal
	key, otherwise, target := c.operand(t.Args[1]), c.operand(t.Args[2]), c.local(t.Result)
	return func(ev *evaluator, locals []*ast.Term) exit {
		k, v := key.get(ev, locals), otherwise.get(ev, locals)
		if k == nil || v == nil {
			return leave
		}
		if path, ok := k.Value.(*ast.Array); ok { // of a member's members
			if path.Len() == 0 {
				return ev.fail(errPath)
			}
			found := lit.get(ev, locals, path.Elem(0))
			for i := 1; i < path.Len() && found != nil; i++ {
				found = found.Get(path.Elem(i))
			}
			if found != nil {
				v = found
			}
		} else if found := lit.get(ev, locals, k); found != nil {
			v = found
		}
		locals[target] = v
		return next
	}
}

func (lit *literal) get(ev *evaluator, locals []*ast.Term, key *ast.Term) *ast.Term {
	text, ok := key.Value.(ast.String)
	if !ok {
		return nil
	}
	for i, k := range lit.keys {
		if k.Value == text {
			return lit.values[i].get(ev, locals)
		}
	}
	return nil
}
