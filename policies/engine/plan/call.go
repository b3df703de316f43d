package plan

import (
	"errors"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// call compiles a call of a function of the policy, or of a built-in one.
func (c *funcCompiler) call(t *ir.CallStmt) (step, error) {
	if c.source[t.Func] == nil {
		return c.callBuiltin(t)
	}
	f, err := c.callee(t.Func)
	if err != nil {
		return nil, err
	}
	c.f.needs |= f.needs
	if !c.whole {
		if len(t.Args) < 2 || t.Args[0].Value != ir.Input || t.Args[1].Value != ir.Data {
			return nil, fmt.Errorf("%s is called with another input or data", t.Func)
		}
		if len(t.Args) == 2 && f.needs == 0 {
			if value, ok := c.constant(f); ok {
				if value == nil {
					return undefined, nil
				}
				return c.assign(t.Result, operand{constant: value}), nil
			}
		}
	}
	if f.memo >= 0 && !c.whole && c.notFalseNext(t.Result) {
		return func(ev *evaluator, _ []*ast.Term) exit {
			v := ev.remembered(f)
			if v == nil {
				return ev.missing()
			}
			if b, ok := v.Value.(ast.Boolean); ok && !bool(b) {
				return leave
			}
			return next
		}, nil
	}
	target := c.local(t.Result)
	if f.memo >= 0 && !c.whole {
		return func(ev *evaluator, locals []*ast.Term) exit {
			v := ev.remembered(f)
			if v == nil {
				return ev.missing()
			}
			locals[target] = v
			return next
		}, nil
	}
	args := c.operands(t.Args)
	if !c.whole {
		args = args[2:]
	}
	return func(ev *evaluator, locals []*ast.Term) exit {
		v := ev.apply(f, args, locals)
		if v == nil {
			return ev.missing()
		}
		locals[target] = v
		return next
	}, nil
}

// missing is the exit of a call without a value.
func (ev *evaluator) missing() exit {
	if ev.err != nil {
		return failed
	}
	return leave
}

// constant returns the value of a function that depends on nothing, nil for undefined;
// false if it cannot be had now.
func (c *compiler) constant(f *function) (*ast.Term, bool) {
	if c.constants == nil {
		c.constants = map[*function]*ast.Term{}
	}
	if v, ok := c.constants[f]; ok {
		return v, true
	}
	v, ok := c.evaluate(f)
	if ok {
		c.constants[f] = v
	}
	return v, ok
}

// remembered is the value of a function without arguments of its own, which is computed
// once in an evaluation.
func (ev *evaluator) remembered(f *function) *ast.Term {
	if ev.known[f.memo] {
		return ev.memo[f.memo]
	}
	if ev.tick() {
		return nil
	}
	v := ev.run(f, ev.push(f.size))
	if ev.err == nil {
		ev.known[f.memo], ev.memo[f.memo] = true, v
	}
	return v
}

// apply calls a function with arguments.
func (ev *evaluator) apply(f *function, args []operand, locals []*ast.Term) *ast.Term {
	if f.memo >= 0 && ev.known[f.memo] {
		return ev.memo[f.memo]
	}
	if ev.tick() {
		return nil
	}
	top := len(ev.stack)
	frame := ev.push(f.size)
	for i := range args {
		frame[i] = args[i].get(ev, locals)
	}
	v := ev.run(f, frame)
	ev.popTo(top)
	if f.memo >= 0 && ev.err == nil {
		ev.known[f.memo], ev.memo[f.memo] = true, v
	}
	return v
}

// callBuiltin compiles the call of a built-in function. One that answers several
// times (walk) gives the array of its answers.
func (c *funcCompiler) callBuiltin(t *ir.CallStmt) (step, error) {
	decl := c.builtins[t.Func]
	if decl == nil {
		return nil, fmt.Errorf("there is no function %s", t.Func)
	}
	void := decl.Decl.Result() == nil
	if s := c.getOfLiteral(t); s != nil {
		return s, nil
	}
	if s := c.test(t); s != nil {
		return s, nil
	}
	args, target := c.operands(t.Args), c.local(t.Result)
	f := c.Builtin(t.Func)
	if f == nil {
		return nil, fmt.Errorf("the built-in function %s does not exist", t.Func)
	}
	relation := ast.BuiltinMap[t.Func] != nil && ast.BuiltinMap[t.Func].Relation
	name := t.Func
	return c.unite(t, c.calculate(t, func(ev *evaluator, locals []*ast.Term) exit {
		if ev.tick() {
			return failed
		}
		top := len(ev.stack)
		operands := ev.push(len(args))
		for i := range args {
			if operands[i] = args[i].get(ev, locals); operands[i] == nil {
				ev.popTo(top)
				return leave
			}
		}
		ev.found = ev.found[:0]
		err := f(ev.builtinContext(), operands, ev.collect)
		ev.popTo(top)
		switch {
		case err != nil:
			return ev.fail(builtinError(name, err))
		case relation:
			locals[target] = ev.term(ast.NewArray(append([]*ast.Term(nil), ev.found...)...))
		case void:
		case len(ev.found) == 0:
			return leave
		default:
			locals[target] = ev.found[0]
		}
		return next
	})), nil
}

func builtinError(name string, err error) error {
	if halt, ok := errors.AsType[topdown.Halt](err); ok {
		err = halt.Err
	}
	if topdown.IsCancel(err) {
		return ErrStopped
	}
	return fmt.Errorf("%s: %w", name, err)
}

// callDynamic compiles a call of the function whose path is known only when it is
// reached. Where there is none, the plan goes on to look into the data; where there is
// one without a value, the whole reference is undefined, three blocks further out.
func (c *funcCompiler) callDynamic(t *ir.CallDynamicStmt) (step, error) {
	path, target := c.operands(t.Path), c.local(t.Result)
	for _, f := range c.policy.Funcs.Funcs {
		if len(f.Params) != 2 {
			continue
		}
		_, err := c.callee(f.Name)
		if err != nil && !errors.Is(err, errRecursive) { // none finds the one that it is called by
			return nil, err
		}
	}
	c.f.needs = AllSlots
	args := []operand{}
	if c.whole {
		args = append(args, c.operand(ir.Operand{Value: t.Args[0]}), c.operand(ir.Operand{Value: t.Args[1]}))
	}
	functions, names := c.done, c.paths
	return func(ev *evaluator, locals []*ast.Term) exit {
		parts := make([]string, len(path))
		for i := range path {
			t := path[i].get(ev, locals)
			if t == nil {
				return leave
			}
			s, ok := t.Value.(ast.String)
			if !ok {
				return leave
			}
			parts[i] = string(s)
		}
		f := functions[names[strings.Join(parts, "\x00")]]
		if f == nil {
			return leave
		}
		v := ev.apply(f, args, locals)
		if v == nil {
			return max(ev.missing(), 4)
		}
		locals[target] = v
		return next
	}, nil
}
