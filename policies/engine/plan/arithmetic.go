package plan

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// arithmetic are the functions of two numbers that are computed here if both are whole
// and small: OPA's do the same then.
var arithmetic = map[string]func(x, y int64) int64{
	"plus":  func(x, y int64) int64 { return x + y },
	"minus": func(x, y int64) int64 { return x - y },
	"mul":   func(x, y int64) int64 { return x * y },
}

// small reads a whole number of 32 bits.
func small(t *ast.Term) (int64, bool) {
	n, ok := t.Value.(ast.Number)
	if !ok || len(n) > 11 {
		return 0, false
	}
	i, ok := n.Int64()
	return i, ok && i >= -1<<31 && i <= 1<<31-1
}

// calculate compiles a call of such a function, which is otherwise made by full.
func (c *funcCompiler) calculate(t *ir.CallStmt, full step) step {
	do := arithmetic[t.Func]
	if do == nil || len(t.Args) != 2 {
		return full
	}
	a, b, target := c.operand(t.Args[0]), c.operand(t.Args[1]), c.local(t.Result)
	return func(ev *evaluator, locals []*ast.Term) exit {
		x, y := a.get(ev, locals), b.get(ev, locals)
		if x == nil || y == nil {
			return leave
		}
		n, ok1 := small(x)
		m, ok2 := small(y)
		if !ok1 || !ok2 {
			return full(ev, locals)
		}
		if ev.tick() {
			return failed
		}
		text := strconv.FormatInt(do(n, m), 10)
		if known := ast.InternedIntNumberTermFromString(text); known != nil {
			locals[target] = known
			return next
		}
		locals[target] = ev.term(ast.Number(json.Number(text)))
		return next
	}
}

// unite compiles a call of object.union, which is otherwise made by full: a union with
// nothing is the object.
func (c *funcCompiler) unite(t *ir.CallStmt, full step) step {
	if t.Func != "object.union" || len(t.Args) != 2 {
		return full
	}
	a, b, target, within := c.operand(t.Args[0]), c.operand(t.Args[1]), c.local(t.Result), c.Within(t.Func)
	return func(ev *evaluator, locals []*ast.Term) exit {
		x, y := a.get(ev, locals), b.get(ev, locals)
		if x == nil || y == nil {
			return leave
		}
		_, ok := x.Value.(ast.Object)
		nothing, isObject := y.Value.(ast.Object)
		if !ok || !isObject || nothing.Len() > 0 {
			return full(ev, locals)
		}
		if within != nil {
			top := len(ev.stack)
			operands := ev.push(2)
			operands[0], operands[1] = x, y
			err := within(operands)
			ev.popTo(top)
			if err != nil {
				return full(ev, locals)
			}
		}
		locals[target] = x
		return next
	}
}

func integer(n int64) *ast.Term {
	if t := ast.InternedIntNumberTermFromString(strconv.FormatInt(n, 10)); t != nil {
		return t
	}
	return ast.NumberTerm(json.Number(strconv.FormatInt(n, 10)))
}

// length is the number of elements, or of characters; nil if there is none.
func length(t *ast.Term) *ast.Term {
	if t == nil {
		return nil
	}
	switch v := t.Value.(type) {
	case ast.String:
		return ast.InternedTerm(utf8.RuneCountInString(string(v)))
	case interface{ Len() int }:
		return ast.InternedTerm(v.Len())
	}
	return nil
}
