package plan

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

func (c *funcCompiler) equal(a, b ir.Operand, want bool) step {
	if n := c.isOther(a, b); n != nil {
		c.need(n)
		return holds(func(ev *evaluator, _ []*ast.Term) bool { return !want && ev.present(n) })
	}
	x, y := c.operand(a), c.operand(b)
	if x.constant != nil && y.constant != nil {
		if equal(x.constant, y.constant) == want {
			return nil
		}
		return undefined
	}
	if x.constant != nil {
		x, y = y, x
	}
	if y.constant != nil {
		if s, ok := y.constant.Value.(ast.String); ok {
			if want {
				c.lead.require(x, string(s))
			}
			return holds(func(ev *evaluator, locals []*ast.Term) bool {
				t := x.get(ev, locals)
				if t == nil {
					return false
				}
				v, ok := t.Value.(ast.String)
				return (ok && v == s) == want
			})
		}
	}
	return func(ev *evaluator, locals []*ast.Term) exit {
		v, w := x.get(ev, locals), y.get(ev, locals)
		switch {
		case v == nil || w == nil:
			return leave
		case !manageable(v, w):
			return ev.fail(errTooLarge)
		case equal(v, w) != want:
			return leave
		}
		return next
	}
}

// maxCompared bounds the parts of two values that are compared. Values share parts, so that a
// small one may take a very long time to go through.
const maxCompared = 1 << 17

var errTooLarge = fmt.Errorf("values of more than %d parts are not compared", maxCompared)

// manageable reports whether two values can be compared in reasonable time.
func manageable(a, b *ast.Term) bool {
	if a == b || isSmall(a.Value) || isSmall(b.Value) {
		return true
	}
	left := maxCompared
	return within(a, &left) && within(b, &left)
}

// isSmall reports whether a value has no parts.
func isSmall(v ast.Value) bool {
	switch v := v.(type) {
	case *ast.Array:
		return v.Len() == 0
	case ast.Object:
		return v.Len() == 0
	case ast.Set:
		return v.Len() == 0
	}
	return true
}

// within counts the parts of a value, as far as there are any left.
func within(t *ast.Term, left *int) bool {
	over := func(t *ast.Term) bool { return !within(t, left) }
	*left--
	if *left < 0 {
		return false
	}
	switch v := t.Value.(type) {
	case *ast.Array:
		return !v.Until(over)
	case ast.Set:
		return !v.Until(over)
	case ast.Object:
		return !v.Until(func(k, e *ast.Term) bool { return over(k) || over(e) })
	}
	return true
}
