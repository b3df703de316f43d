package plan

import (
	"github.com/open-policy-agent/opa/v1/ir"
)

// propagate has the statements of a function read the original of each copy: the planner
// gives most values a second local. It changes the plan. The statements that copy stay,
// and do nothing.
func propagate(blocks []*ir.Block) {
	s := surveyBlocks(blocks)
	original := map[ir.Local]ir.Local{}
	var find func(bs []*ir.Block)
	find = func(bs []*ir.Block) {
		for _, b := range bs {
			for i, stmt := range b.Stmts {
				switch t := stmt.(type) {
				case *ir.BlockStmt:
					find(t.Blocks)
				case *ir.NotStmt:
					find([]*ir.Block{t.Block})
				case *ir.ScanStmt:
					find([]*ir.Block{t.Block})
				case *ir.WithStmt:
					find([]*ir.Block{t.Block})
				case *ir.AssignVarStmt:
					if from, ok := t.Source.Value.(ir.Local); ok && s.isCopy(t.Target, from) {
						if earlier, ok := original[from]; ok {
							from = earlier
						}
						original[t.Target] = from
						b.Stmts[i] = &ir.NopStmt{}
					}
				}
			}
		}
	}
	find(blocks)
	if len(original) > 0 {
		substitute(blocks, original)
	}
}

// isCopy reports whether a local has the value of another for as long as it is read.
func (s *survey) isCopy(l, from ir.Local) bool {
	to, of := s.of(l, nil), s.of(from, nil)
	if !to.once() || len(to.mutates) > 0 || of.resets > 0 || of.tested {
		return false
	}
	if of.writes == 0 {
		return from <= ir.Data || len(of.mutates) == 0 // an argument
	}
	if !of.once() {
		return false
	}
	for _, n := range of.mutates {
		if n > to.at {
			return false
		}
	}
	return true
}

// substitute replaces locals wherever they are read.
func substitute(blocks []*ir.Block, by map[ir.Local]ir.Local) {
	local := func(l *ir.Local) {
		if to, ok := by[*l]; ok {
			*l = to
		}
	}
	operand := func(o *ir.Operand) {
		if l, ok := o.Value.(ir.Local); ok {
			if to, ok := by[l]; ok {
				o.Value = to
			}
		}
	}
	for _, b := range blocks {
		for _, stmt := range b.Stmts {
			switch t := stmt.(type) {
			case *ir.ReturnLocalStmt:
				local(&t.Source)
			case *ir.ResultSetAddStmt:
				local(&t.Value)
			case *ir.CallStmt:
				for i := range t.Args {
					operand(&t.Args[i])
				}
			case *ir.CallDynamicStmt:
				for i := range t.Args {
					local(&t.Args[i])
				}
				for i := range t.Path {
					operand(&t.Path[i])
				}
			case *ir.BlockStmt:
				substitute(t.Blocks, by)
			case *ir.NotStmt:
				substitute([]*ir.Block{t.Block}, by)
			case *ir.ScanStmt:
				local(&t.Source)
				substitute([]*ir.Block{t.Block}, by)
			case *ir.WithStmt:
				operand(&t.Value)
				substitute([]*ir.Block{t.Block}, by)
			case *ir.DotStmt:
				operand(&t.Source)
				operand(&t.Key)
			case *ir.LenStmt:
				operand(&t.Source)
			case *ir.AssignVarStmt:
				operand(&t.Source)
			case *ir.AssignVarOnceStmt:
				operand(&t.Source)
			case *ir.EqualStmt:
				operand(&t.A)
				operand(&t.B)
			case *ir.NotEqualStmt:
				operand(&t.A)
				operand(&t.B)
			case *ir.IsArrayStmt:
				operand(&t.Source)
			case *ir.IsObjectStmt:
				operand(&t.Source)
			case *ir.IsSetStmt:
				operand(&t.Source)
			case *ir.ArrayAppendStmt:
				operand(&t.Value)
			case *ir.ObjectInsertStmt:
				operand(&t.Key)
				operand(&t.Value)
			case *ir.ObjectInsertOnceStmt:
				operand(&t.Key)
				operand(&t.Value)
			case *ir.ObjectMergeStmt:
				local(&t.A)
				local(&t.B)
			case *ir.SetAddStmt:
				operand(&t.Value)
			}
		}
	}
}
