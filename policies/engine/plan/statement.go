package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// undefined is a statement that never holds.
func undefined(*evaluator, []*ast.Term) exit { return leave }

// statement compiles one statement; nil: there is nothing to do when it is reached.
func (c *funcCompiler) statement(stmt ir.Stmt) (step, error) {
	switch t := stmt.(type) {
	case *ir.NopStmt:
		return nil, nil
	case *ir.BlockStmt:
		return c.nested(t)
	case *ir.BreakStmt:
		x := exit(t.Index) + leave
		return func(*evaluator, []*ast.Term) exit { return x }, nil
	case *ir.NotStmt:
		return c.not(t)
	case *ir.ScanStmt:
		return c.scan(t)
	case *ir.WithStmt:
		return c.with(t)
	case *ir.CallStmt:
		return c.call(t)
	case *ir.CallDynamicStmt:
		return c.callDynamic(t)
	case *ir.DotStmt:
		return c.dot(t)
	case *returnTrue:
		yes := ast.InternedTerm(true)
		return func(ev *evaluator, _ []*ast.Term) exit {
			ev.value = yes
			return returned
		}, nil
	case *ir.ReturnLocalStmt:
		v := c.operand(ir.Operand{Value: t.Source})
		return func(ev *evaluator, locals []*ast.Term) exit {
			ev.value = v.get(ev, locals)
			return returned
		}, nil
	case *ir.ResultSetAddStmt:
		v := c.operand(ir.Operand{Value: t.Value})
		return func(ev *evaluator, locals []*ast.Term) exit {
			ev.results = append(ev.results, v.get(ev, locals))
			return next
		}, nil
	case *ir.EqualStmt:
		return c.equal(t.A, t.B, true), nil
	case *ir.NotEqualStmt:
		return c.equal(t.A, t.B, false), nil
	case *ir.IsDefinedStmt:
		return c.defined(t.Source, true), nil
	case *ir.IsUndefinedStmt:
		return c.defined(t.Source, false), nil
	case *ir.IsArrayStmt:
		return isType[*ast.Array](c, t.Source), nil
	case *ir.IsObjectStmt:
		return isType[ast.Object](c, t.Source), nil
	case *ir.IsSetStmt:
		return isType[ast.Set](c, t.Source), nil
	case *ir.LenStmt:
		v, target := c.operand(t.Source), c.local(t.Target)
		return func(ev *evaluator, locals []*ast.Term) exit {
			locals[target] = length(v.get(ev, locals))
			return next
		}, nil
	case *ir.ObjectMergeStmt:
		a, b, target := c.operand(ir.Operand{Value: t.A}), c.operand(ir.Operand{Value: t.B}), c.local(t.Target)
		return func(ev *evaluator, locals []*ast.Term) exit {
			locals[target] = merge(a.get(ev, locals), b.get(ev, locals))
			return next
		}, nil
	default:
		return c.assignment(stmt)
	}
}

func holds(test func(*evaluator, []*ast.Term) bool) step {
	return func(ev *evaluator, locals []*ast.Term) exit {
		if test(ev, locals) {
			return next
		}
		return leave
	}
}

// defined compiles the question whether a local has a value.
func (c *funcCompiler) defined(l ir.Local, want bool) step {
	v := c.value(ir.Operand{Value: l})
	switch {
	case v.constant != nil || v.node == c.rootNode() && v.node != nil:
		if want {
			return nil
		}
		return undefined
	case v.node != nil && v.slot < 0:
		c.need(v.node)
		return holds(func(ev *evaluator, _ []*ast.Term) bool { return ev.present(v.node) == want })
	case v.node != nil:
		c.need(v.node)
	}
	return holds(func(ev *evaluator, locals []*ast.Term) bool { return (v.get(ev, locals) != nil) == want })
}

// rootNode is the whole input, which is always there; nil if input is a local.
func (c *funcCompiler) rootNode() *node {
	if c.whole {
		return nil
	}
	return c.Shape.root
}

func isType[T ast.Value](c *funcCompiler, o ir.Operand) step {
	v := c.operand(o)
	return holds(func(ev *evaluator, locals []*ast.Term) bool {
		t := v.get(ev, locals)
		if t == nil {
			return false
		}
		_, ok := t.Value.(T)
		return ok
	})
}

// assignment compiles statements that give a local a value or add to it.
func (c *funcCompiler) assignment(stmt ir.Stmt) (step, error) {
	switch t := stmt.(type) {
	case *ir.AssignVarStmt:
		v := c.value(t.Source)
		if v.node != nil && v.slot >= 0 {
			c.need(v.node)
		}
		return c.assign(t.Target, v), nil
	case *ir.AssignVarOnceStmt:
		v, target := c.operand(t.Source), c.local(t.Target)
		where := c.f.name
		return func(ev *evaluator, locals []*ast.Term) exit {
			x := v.get(ev, locals)
			if old := locals[target]; old != nil && x != nil && !equal(old, x) {
				return ev.fail(&conflict{"the rule", where})
			}
			locals[target] = x
			return next
		}, nil
	case *ir.ResetLocalStmt:
		target := c.local(t.Target)
		return func(_ *evaluator, locals []*ast.Term) exit {
			locals[target] = nil
			return next
		}, nil
	case *ir.AssignIntStmt:
		return c.assign(t.Target, operand{constant: integer(t.Value)}), nil
	case *ir.MakeNumberIntStmt:
		return c.assign(t.Target, operand{constant: integer(t.Value)}), nil
	case *ir.MakeNumberRefStmt:
		return c.assign(t.Target, operand{constant: ast.NumberTerm(json.Number(c.policy.Static.Strings[t.Index].Value))}), nil
	case *ir.MakeNullStmt:
		return c.assign(t.Target, operand{constant: ast.NullTerm()}), nil
	case *ir.MakeArrayStmt:
		return c.make(t.Target, emptyArray), nil
	case *ir.MakeObjectStmt:
		return c.make(t.Target, emptyObject), nil
	case *ir.MakeSetStmt:
		return c.make(t.Target, emptySet), nil
	case *ir.ArrayAppendStmt:
		return c.add(t.Array, operand{}, c.operand(t.Value), false)
	case *ir.SetAddStmt:
		return c.add(t.Set, operand{}, c.operand(t.Value), false)
	case *ir.ObjectInsertStmt:
		return c.add(t.Object, c.operand(t.Key), c.operand(t.Value), false)
	case *ir.ObjectInsertOnceStmt:
		return c.add(t.Object, c.operand(t.Key), c.operand(t.Value), true)
	default:
		return nil, fmt.Errorf("unknown statement %T", stmt)
	}
}

// assign gives a local a value. A local that has only this one stands for it.
func (c *funcCompiler) assign(l ir.Local, v operand) step {
	if u := c.survey.of(l, nil); u.once() && len(u.mutates) == 0 {
		switch {
		case v.constant != nil:
			c.known[l] = known{constant: v.constant}
			return nil
		case v.node != nil && v.slot < 0:
			c.known[l] = known{node: v.node}
			return nil
		}
	}
	if v.node != nil {
		c.need(v.node)
	}
	target := c.local(l)
	if v.constant != nil {
		constant := v.constant
		return func(_ *evaluator, locals []*ast.Term) exit {
			locals[target] = constant
			return next
		}
	}
	return func(ev *evaluator, locals []*ast.Term) exit {
		locals[target] = v.get(ev, locals)
		return next
	}
}

func (c *funcCompiler) nested(t *ir.BlockStmt) (step, error) {
	blocks := make([]block, 0, len(t.Blocks))
	for _, b := range t.Blocks {
		compiled, err := c.block(b, nil)
		if err != nil {
			return nil, err
		}
		if len(compiled) > 0 {
			blocks = append(blocks, compiled)
		}
	}
	switch len(blocks) {
	case 0:
		return nil, nil
	case 1:
		only := blocks[0]
		return func(ev *evaluator, locals []*ast.Term) exit { return outer(only.run(ev, locals)) }, nil
	}
	return func(ev *evaluator, locals []*ast.Term) exit {
		for _, b := range blocks {
			if x := outer(b.run(ev, locals)); x != next {
				return x
			}
		}
		return next
	}, nil
}

func (c *funcCompiler) not(t *ir.NotStmt) (step, error) {
	if s, err := c.notCall(t.Block); s != nil || err != nil {
		return s, err
	}
	body, err := c.block(t.Block, nil)
	if err != nil {
		return nil, err
	}
	return func(ev *evaluator, locals []*ast.Term) exit {
		switch x := body.run(ev, locals); x {
		case next:
			return leave
		case leave:
			return next
		default:
			return outer(x)
		}
	}, nil
}

// notCall compiles the body of a not that is nothing but a rule without arguments; nil: it is
// something else.
func (c *funcCompiler) notCall(b *ir.Block) (step, error) {
	stmts := significant(b)
	if len(stmts) != 2 || c.whole {
		return nil, nil
	}
	call, ok := stmts[0].(*ir.CallStmt)
	if !ok || len(call.Args) != 2 || call.Args[0].Value != ir.Val(ir.Input) || call.Args[1].Value != ir.Val(ir.Data) || c.source[call.Func] == nil {
		return nil, nil
	}
	f, err := c.callee(call.Func)
	if err != nil {
		return nil, err
	}
	if c.next = stmts[1]; f.needs == 0 || !c.notFalseNext(call.Result) {
		return nil, nil
	}
	c.f.needs |= f.needs
	return func(ev *evaluator, _ []*ast.Term) exit {
		v := ev.remembered(f)
		switch {
		case v == nil && ev.err != nil:
			return failed
		case v == nil || v.Value == ast.Value(ast.Boolean(false)):
			return next
		default:
			return leave
		}
	}, nil
}

// dot compiles target := source[key].
func (c *funcCompiler) dot(t *ir.DotStmt) (step, error) {
	if l, ok := t.Source.Value.(ir.Local); ok && c.known[l].first {
		from, target := c.local(l), c.local(t.Target)
		return func(_ *evaluator, locals []*ast.Term) exit {
			if locals[from] == nil {
				return leave
			}
			locals[target] = locals[from]
			return next
		}, nil
	}
	source, key := c.value(t.Source), c.operand(t.Key)
	if source.node != nil && source.slot < 0 {
		if key.constant != nil {
			name, _ := key.constant.Value.(ast.String)
			child := source.node.children[string(name)]
			if child == nil {
				return undefined, nil
			}
			return c.readNode(t.Target, child), nil
		}
	}
	if source.node != nil {
		c.need(source.node)
	}
	if source.constant != nil && key.constant != nil {
		found := lookUp(source.constant, key.constant)
		if found == nil {
			return func(ev *evaluator, _ []*ast.Term) exit { return ev.absent(source.constant, key.constant) }, nil
		}
		return c.assign(t.Target, operand{constant: found}), nil
	}
	target := c.local(t.Target)
	return func(ev *evaluator, locals []*ast.Term) exit {
		from, k := source.get(ev, locals), key.get(ev, locals)
		if from == nil || k == nil {
			return leave
		}
		found := lookUp(from, k)
		if found == nil {
			return ev.absent(from, k)
		}
		locals[target] = found
		return next
	}, nil
}

// absent is the exit of a look-up that finds nothing. In the data, topdown also takes a
// number for the text of a key.
func (ev *evaluator) absent(from, key *ast.Term) exit {
	if _, ok := key.Value.(ast.Number); ok {
		if _, ok := from.Value.(ast.Object); ok {
			return ev.fail(errNumberKey)
		}
	}
	return leave
}

var (
	errNumberKey = errors.New("a number is used as the key of an object")
	errPath      = errors.New("the empty path of an object that was not made")
)

// readNode gives a local the value at a node of the input.
func (c *funcCompiler) readNode(l ir.Local, n *node) step {
	if n.slot < 0 {
		if then, ok := c.next.(*ir.DotStmt); ok && then.Source.Value == ir.Val(l) {
			if step := c.assign(l, operand{node: n, slot: -1}); step == nil {
				return nil // what is read of it next exists only if it does
			}
		}
		// Whether the object exists depends on all that is in it.
		c.need(n)
		rest := c.assign(l, operand{node: n, slot: -1})
		return func(ev *evaluator, locals []*ast.Term) exit {
			switch {
			case !ev.present(n):
				return leave
			case rest == nil:
				return next
			default:
				return rest(ev, locals)
			}
		}
	}
	c.need(n)
	slot := n.slot
	seen := slices.Contains(c.present, n)
	c.present = append(c.present, n)
	if u := c.survey.of(l, nil); u.once() && len(u.mutates) == 0 {
		c.known[l] = known{node: n}
		if seen {
			return nil
		}
		return holds(func(ev *evaluator, _ []*ast.Term) bool { return ev.slot(slot) != nil })
	}
	target := c.local(l)
	return func(ev *evaluator, locals []*ast.Term) exit {
		locals[target] = ev.slot(slot)
		if locals[target] == nil {
			return leave
		}
		return next
	}
}

func (c *funcCompiler) scan(t *ir.ScanStmt) (step, error) {
	list := c.known[t.Source]
	var source operand
	if !list.listed {
		source = c.operand(ir.Operand{Value: t.Source})
	}
	key, value := c.local(t.Key), c.local(t.Value)
	withKey := len(c.survey.of(t.Key, nil).reads) > 0 || c.survey.of(t.Key, nil).tested
	body, err := c.body(t.Block)
	if err != nil {
		return nil, err
	}
	if list.listed {
		return c.scanList(list.values, key, value, withKey, body), nil
	}
	return func(ev *evaluator, locals []*ast.Term) exit {
		from := source.get(ev, locals)
		if from == nil {
			return next
		}
		result := next
		switch coll := from.Value.(type) {
		case *ast.Array:
			for i := range coll.Len() {
				if withKey {
					locals[key] = ast.InternedTerm(i)
				}
				locals[value] = coll.Elem(i)
				x, stop := ev.around(body.run(ev, locals))
				if stop {
					return x
				}
			}
		case ast.Object:
			coll.Until(func(k, v *ast.Term) (stop bool) {
				locals[key], locals[value] = k, v
				result, stop = ev.around(body.run(ev, locals))
				return stop
			})
		case ast.Set:
			coll.Until(func(v *ast.Term) (stop bool) {
				locals[key], locals[value] = v, v
				result, stop = ev.around(body.run(ev, locals))
				return stop
			})
		}
		return result
	}, nil
}

// around is what an end of a scan's body means to the scan, and whether it ends the
// scan: the body stands in two blocks, the iteration and the scan.
func (ev *evaluator) around(x exit) (exit, bool) {
	switch {
	case ev.tick():
		return failed, true
	case x <= leave:
		return next, false
	case x >= returned:
		return x, true
	default:
		return x - 2, true
	}
}

// merge returns b laid under a: of two objects the members of both, else a.
func merge(a, b *ast.Term) *ast.Term {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	x, ok := a.Value.(ast.Object)
	if !ok {
		return a
	}
	y, ok := b.Value.(ast.Object)
	if !ok {
		return a
	}
	merged := ast.NewObjectWithCapacity(x.Len() + y.Len())
	x.Foreach(func(k, v *ast.Term) { merged.Insert(k, merge(v, y.Get(k))) })
	y.Foreach(func(k, v *ast.Term) {
		if x.Get(k) == nil {
			merged.Insert(k, v)
		}
	})
	return ast.NewTerm(merged)
}
