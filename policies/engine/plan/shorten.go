package plan

import (
	"github.com/open-policy-agent/opa/v1/ir"
)

// returnTrue ends a function whose only value is true.
type returnTrue struct{ ir.Location }

// shorten leaves out what the planner writes for rules in general and a function that can only be
// true does not need: such a function is true as soon as one of its rules holds. result is the
// local that it returns.
func shorten(blocks []*ir.Block, result ir.Local) []*ir.Block {
	short := make([]*ir.Block, 0, len(blocks))
	for i := 0; i < len(blocks); i++ {
		if i+1 < len(blocks) && concludes(blocks[i], blocks[i+1], result) {
			stmts := significant(blocks[i])
			stmts[len(stmts)-1] = &returnTrue{}
			short = append(short, &ir.Block{Stmts: stmts})
			i++
			continue
		}
		short = append(short, blocks[i])
	}
	return short
}

// concludes reports whether a rule ends with the value true for a local that is used for nothing
// else in it, and the block after it only makes that the result.
func concludes(rule, after *ir.Block, result ir.Local) bool {
	stmts, then := significant(rule), significant(after)
	if len(stmts) == 0 || len(then) != 2 {
		return false
	}
	last, ok1 := stmts[len(stmts)-1].(*ir.AssignVarOnceStmt)
	test, ok2 := then[0].(*ir.IsDefinedStmt)
	take, ok3 := then[1].(*ir.AssignVarOnceStmt)
	if !ok1 || !ok2 || !ok3 || last.Source.Value != ir.Val(ir.Bool(true)) || last.Target == result ||
		test.Source != last.Target || take.Source.Value != ir.Val(last.Target) || take.Target != result {
		return false
	}
	s := surveyBlocks([]*ir.Block{rule})
	u, r := s.of(last.Target, nil), s.of(result, nil)
	return u.writes == 1 && len(u.checks) == 1 && len(u.reads) == 0 && len(u.mutates) == 0 && r.mentions() == 0
}

// significant are the statements of a block that do something.
func significant(b *ir.Block) []ir.Stmt {
	stmts := make([]ir.Stmt, 0, len(b.Stmts))
	for _, s := range b.Stmts {
		if _, nop := s.(*ir.NopStmt); !nop {
			stmts = append(stmts, s)
		}
	}
	return stmts
}

// dropResets leaves out the statements that reset a local which no other names.
func dropResets(blocks []*ir.Block) {
	s := surveyBlocks(blocks)
	var drop func(bs []*ir.Block)
	drop = func(bs []*ir.Block) {
		for _, b := range bs {
			for i, stmt := range b.Stmts {
				switch t := stmt.(type) {
				case *ir.ResetLocalStmt:
					if u := s.of(t.Target, nil); u.mentions() == u.resets && !u.tested {
						b.Stmts[i] = &ir.NopStmt{}
					}
				case *ir.BlockStmt:
					drop(t.Blocks)
				case *ir.NotStmt:
					drop([]*ir.Block{t.Block})
				case *ir.ScanStmt:
					drop([]*ir.Block{t.Block})
				case *ir.WithStmt:
					drop([]*ir.Block{t.Block})
				}
			}
		}
	}
	drop(blocks)
}
