package plan

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// Containers that are read in one way only need not be made.

// listable reports whether an array is only scanned. What it holds must then be the same
// when it is scanned as when it was added.
func (c *funcCompiler) listable(l ir.Local, v ast.Value) bool {
	u := c.survey.of(l, nil)
	if _, ok := v.(*ast.Array); !ok || !c.foldable(l) || len(u.reads) != u.scans {
		return false
	}
	for _, added := range u.adds {
		if local, ok := added.Value.(ir.Local); ok && !c.fixed(local) {
			return false
		}
	}
	return true
}

// fixed reports whether a local keeps its value once it has one.
func (c *funcCompiler) fixed(l ir.Local) bool {
	if _, ok := c.known[l]; ok {
		return true
	}
	u := c.survey.of(l, nil)
	return u.param || u.once() && len(u.mutates) == 0
}

// listOf begins a list with the elements of a constant.
func (c *funcCompiler) listOf(v ast.Value) known {
	k := known{listed: true}
	if array, ok := v.(*ast.Array); ok {
		array.Foreach(func(t *ast.Term) {
			k.values = append(k.values, operand{constant: t})
		})
	}
	return k
}

// scanList compiles a scan of an array that was not made.
func (c *funcCompiler) scanList(list []operand, key, value int, withKey bool, body block) step {
	return func(ev *evaluator, locals []*ast.Term) exit {
		for i := range list {
			if withKey {
				locals[key] = ast.InternedTerm(i)
			}
			if locals[value] = list[i].get(ev, locals); locals[value] == nil {
				continue
			}
			if x, stop := ev.around(body.run(ev, locals)); stop {
				return x
			}
		}
		return next
	}
}

// onlyFirst reports whether only the first element of an array is read, so that nothing
// needs to be looked for after it is found: nothing that would follow can fail.
func (c *funcCompiler) onlyFirst(l ir.Local, empty func() ast.Value) bool {
	if _, ok := empty().(*ast.Array); !ok {
		return false
	}
	u := c.survey.of(l, nil)
	if !u.once() || len(u.mutates) != 1 || len(u.reads) != 1 || len(u.gets) != 1 || u.reads[0] < u.mutates[0] || len(u.ways[0].levels) == 0 {
		return false
	}
	get, ok := u.gets[0].(*ir.DotStmt)
	if !ok || !c.isZero(get.Key) {
		return false
	}
	for _, at := range u.ways[0].levels {
		switch stmt := at.stmt.(type) {
		case *ir.ScanStmt:
		case *ir.BlockStmt:
			if len(stmt.Blocks) != 1 {
				return false
			}
		default:
			return false
		}
	}
	return c.cannotFail(u.ways[0].levels[0].inside)
}

// isZero reports whether an operand is the number 0, by the one statement that gives it
// to a local.
func (c *funcCompiler) isZero(o ir.Operand) bool {
	l, ok := o.Value.(ir.Local)
	if !ok {
		return false
	}
	u := c.survey.of(l, nil)
	if !u.once() || u.made == nil {
		return false
	}
	switch t := u.made.(type) {
	case *ir.MakeNumberIntStmt:
		return t.Value == 0
	case *ir.MakeNumberRefStmt:
		return c.policy.Static.Strings[t.Index].Value == "0"
	}
	return false
}

// addFirst notes the first element and leaves the loops around it.
func (c *funcCompiler) addFirst(l ir.Local, value operand) step {
	target, x := c.local(l), next
	for _, at := range c.survey.of(l, nil).ways[0].levels {
		if x++; isScan(at.stmt) {
			x++
		}
	}
	return func(ev *evaluator, locals []*ast.Term) exit {
		v := value.get(ev, locals)
		if v == nil {
			return leave
		}
		locals[target] = v
		return x
	}
}

func isScan(s ir.Stmt) bool {
	_, ok := s.(*ir.ScanStmt)
	return ok
}

// cannotFail reports whether nothing in a block can end in an error.
func (c *funcCompiler) cannotFail(b *ir.Block) bool {
	for _, stmt := range b.Stmts {
		switch t := stmt.(type) {
		case *ir.NopStmt, *ir.BreakStmt, *ir.DotStmt, *ir.EqualStmt, *ir.NotEqualStmt, *ir.LenStmt,
			*ir.IsArrayStmt, *ir.IsObjectStmt, *ir.IsSetStmt, *ir.IsDefinedStmt, *ir.IsUndefinedStmt,
			*ir.AssignVarStmt, *ir.AssignIntStmt, *ir.ResetLocalStmt, *ir.MakeNullStmt, *ir.MakeNumberIntStmt, *ir.MakeNumberRefStmt,
			*ir.MakeArrayStmt, *ir.MakeObjectStmt, *ir.MakeSetStmt, *ir.ArrayAppendStmt, *ir.SetAddStmt,
			*ir.ObjectInsertStmt:
		case *ir.BlockStmt:
			for _, inner := range t.Blocks {
				if !c.cannotFail(inner) {
					return false
				}
			}
		case *ir.ScanStmt:
			if !c.cannotFail(t.Block) {
				return false
			}
		case *ir.NotStmt:
			if !c.cannotFail(t.Block) {
				return false
			}
		case *ir.CallStmt:
			if !infallible[t.Func] && !c.getsFromObject(t) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// getsFromObject reports whether a call is object.get on what must be an object.
func (c *funcCompiler) getsFromObject(t *ir.CallStmt) bool {
	if t.Func != "object.get" || len(t.Args) != 3 {
		return false
	}
	l, ok := t.Args[0].Value.(ir.Local)
	if !ok {
		return false
	}
	u := c.survey.of(l, nil)
	_, made := u.made.(*ir.MakeObjectStmt)
	return made && u.once()
}

// infallible are the built-in functions that have an answer for all values.
var infallible = map[string]bool{
	"lt": true, "lte": true, "gt": true, "gte": true, "equal": true, "neq": true, "eq": true,
	"is_array": true, "is_boolean": true, "is_null": true, "is_number": true, "is_object": true, "is_set": true, "is_string": true,
	"type_name": true, "internal.member_2": true, "internal.member_3": true,
}

// onlyTrue returns the local that a function returns if true is all that it can be. The
// rules of such a function need not be looked at once one of them holds, as topdown does
// not either.
func onlyTrue(params []ir.Local, blocks []*ir.Block) (ir.Local, bool) {
	if len(blocks) < 2 || len(blocks[len(blocks)-1].Stmts) != 1 {
		return 0, false
	}
	result, ok := blocks[len(blocks)-1].Stmts[0].(*ir.ReturnLocalStmt)
	if !ok {
		return 0, false
	}
	values := map[ir.Local]bool{result.Source: true} // locals whose only values must be true
	for {
		before := len(values)
		if !allTrue(blocks, values) {
			return 0, false
		}
		if values[ir.Input] || values[ir.Data] || slices.ContainsFunc(params, func(l ir.Local) bool { return values[l] }) {
			return 0, false
		}
		if len(values) == before {
			return result.Source, true
		}
	}
}

// allTrue reports whether some locals are given nothing but true, or the value of another
// local, which it adds to them.
func allTrue(blocks []*ir.Block, values map[ir.Local]bool) bool {
	for _, b := range blocks {
		for _, stmt := range b.Stmts {
			ok := true
			switch t := stmt.(type) {
			case *ir.BlockStmt:
				ok = allTrue(t.Blocks, values)
			case *ir.ScanStmt:
				ok = !values[t.Key] && !values[t.Value] && allTrue([]*ir.Block{t.Block}, values)
			case *ir.NotStmt:
				ok = allTrue([]*ir.Block{t.Block}, values)
			case *ir.WithStmt:
				ok = !values[t.Local] && allTrue([]*ir.Block{t.Block}, values)
			case *ir.AssignVarOnceStmt:
				if values[t.Target] {
					switch v := t.Source.Value.(type) {
					case ir.Bool:
						ok = bool(v)
					case ir.Local:
						values[v] = true
					default:
						ok = false
					}
				}
			case *ir.ResetLocalStmt:
			default:
				ok = !slices.ContainsFunc(written(stmt), func(l ir.Local) bool { return values[l] })
			}
			if !ok {
				return false
			}
		}
	}
	return true
}

// written are the locals that a statement without blocks gives values to or adds to.
func written(stmt ir.Stmt) []ir.Local {
	s := surveyBlocks([]*ir.Block{{Stmts: []ir.Stmt{stmt}}})
	var ls []ir.Local
	for l, u := range s.locals {
		if u.writes > 0 || len(u.mutates) > 0 {
			ls = append(ls, l)
		}
	}
	return ls
}
