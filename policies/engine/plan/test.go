package plan

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// Built-in functions that answer true or false for any values, and cannot fail, are
// evaluated here. Each answers what OPA's does.

// unaryTests ask of what type a value is.
var unaryTests = map[string]func(ast.Value) bool{
	"is_number":  isOf[ast.Number],
	"is_string":  isOf[ast.String],
	"is_boolean": isOf[ast.Boolean],
	"is_array":   isOf[*ast.Array],
	"is_set":     isOf[ast.Set],
	"is_object":  isOf[ast.Object],
	"is_null":    isOf[ast.Null],
}

func isOf[T ast.Value](v ast.Value) bool {
	_, ok := v.(T)
	return ok
}

// binaryTests compare two values of any types, or look for one in the other.
var binaryTests = map[string]func(a, b *ast.Term) bool{
	"lt":                func(a, b *ast.Term) bool { return compare(a.Value, b.Value) < 0 },
	"lte":               func(a, b *ast.Term) bool { return compare(a.Value, b.Value) <= 0 },
	"gt":                func(a, b *ast.Term) bool { return compare(a.Value, b.Value) > 0 },
	"gte":               func(a, b *ast.Term) bool { return compare(a.Value, b.Value) >= 0 },
	"equal":             equal,
	"neq":               func(a, b *ast.Term) bool { return !equal(a, b) },
	"internal.member_2": member,
}

// compare is [ast.Value.Compare], faster for what is compared most.
func compare(a, b ast.Value) int {
	if x, ok := a.(ast.Number); ok {
		if y, ok := b.(ast.Number); ok {
			return ast.NumberCompare(x, y)
		}
	}
	return a.Compare(b)
}

func member(v, in *ast.Term) bool {
	switch c := in.Value.(type) {
	case ast.Set:
		return c.Contains(v)
	case *ast.Array:
		for i := range c.Len() {
			if equal(v, c.Elem(i)) {
				return true
			}
		}
	case ast.Object:
		return c.Until(func(_, x *ast.Term) bool { return equal(v, x) })
	}
	return false
}

// test compiles the call of such a function; nil: it is none. Where the answer is only
// held against false, that is compiled with it.
func (c *funcCompiler) test(t *ir.CallStmt) step {
	unary, binary := unaryTests[t.Func], binaryTests[t.Func]
	if (unary == nil || len(t.Args) != 1) && (binary == nil || len(t.Args) != 2) {
		return nil
	}
	if v, known := c.typed(t); known != nil {
		if c.notFalseNext(t.Result) {
			return holds(func(ev *evaluator, _ []*ast.Term) bool { return v && ev.present(known) })
		}
		target, answer := c.local(t.Result), ast.InternedTerm(v)
		return func(ev *evaluator, locals []*ast.Term) exit {
			if !ev.present(known) {
				return leave
			}
			locals[target] = answer
			return next
		}
	}
	args := c.operands(t.Args)
	a := args[0]
	var ask func(ev *evaluator, locals []*ast.Term) (holds, defined bool)
	if unary != nil {
		ask = func(ev *evaluator, locals []*ast.Term) (bool, bool) {
			x := a.get(ev, locals)
			return x != nil && unary(x.Value), x != nil
		}
	} else {
		b := args[1]
		ask = func(ev *evaluator, locals []*ast.Term) (bool, bool) {
			x, y := a.get(ev, locals), b.get(ev, locals)
			if x == nil || y == nil {
				return false, false
			}
			if !manageable(x, y) {
				ev.err = errTooLarge
				return false, false
			}
			return binary(x, y), true
		}
	}
	if c.notFalseNext(t.Result) {
		if t.Func == "internal.member_2" && args[1].constant != nil {
			if texts, ok := textsOf(args[1].constant); ok {
				c.lead.require(a, texts...)
			}
		}
		return func(ev *evaluator, locals []*ast.Term) exit {
			if ok, _ := ask(ev, locals); !ok {
				return ev.missing()
			}
			return next
		}
	}
	target := c.local(t.Result)
	return func(ev *evaluator, locals []*ast.Term) exit {
		ok, defined := ask(ev, locals)
		if !defined {
			return ev.missing()
		}
		locals[target] = ast.InternedTerm(ok)
		return next
	}
}

// typed answers a test whose outcome depends only on whether there is an object of the
// input; nil: it depends on more.
func (c *funcCompiler) typed(t *ir.CallStmt) (answer bool, of *node) {
	if unary := unaryTests[t.Func]; unary != nil {
		if n := c.objectNode(t.Args[0]); n != nil {
			return unary(noObject), c.reads(n)
		}
		return false, nil
	}
	if t.Func != "equal" && t.Func != "neq" {
		return false, nil
	}
	n := c.isOther(t.Args[0], t.Args[1])
	if n == nil {
		return false, nil
	}
	return t.Func == "neq", c.reads(n)
}

// isOther is the object of the input that is compared with a constant that is no object.
func (c *funcCompiler) isOther(a, b ir.Operand) *node {
	for _, pair := range [][2]ir.Operand{{a, b}, {b, a}} {
		if n := c.objectNode(pair[0]); n != nil {
			if v := c.value(pair[1]); v.constant != nil && !isOf[ast.Object](v.constant.Value) {
				return n
			}
		}
	}
	return nil
}

func (c *funcCompiler) reads(n *node) *node {
	c.need(n)
	return n
}

// objectNode is the object of the input, but not the whole of it, that an operand is
// known to be.
func (c *funcCompiler) objectNode(o ir.Operand) *node {
	if l, ok := o.Value.(ir.Local); ok {
		if n := c.known[l].node; n != nil && n.number > 0 {
			return n
		}
	}
	return nil
}

// notFalseNext reports whether a local is read by the next statement alone, which asks
// that it not be false. That statement is then not compiled.
func (c *funcCompiler) notFalseNext(l ir.Local) bool {
	u := c.survey.of(l, nil)
	n, ok := c.next.(*ir.NotEqualStmt)
	if !ok || !u.once() || len(u.reads) != 1 || len(u.mutates) > 0 {
		return false
	}
	a, isLocal := n.A.Value.(ir.Local)
	b, isBool := n.B.Value.(ir.Bool)
	if !isLocal || a != l || !isBool || bool(b) {
		return false
	}
	c.skip = n
	return true
}
