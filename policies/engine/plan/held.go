package plan

import (
	"errors"
	"slices"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// MostHeld bounds what an evaluation makes, as [Weigh] counts it.
const MostHeld = 12 << 20

// partWeight is what each part of a value counts, beside its text: about what it takes.
const partWeight = 48

// ErrHeld says that an evaluation made more than [MostHeld].
var ErrHeld = errors.New("values that are too large, counting what they share as often as it is there")

// Weigh adds the weight of a value to n, and stops where that is more than MostHeld: values
// share parts, so that a small one may take a very long time to go through.
func Weigh(t *ast.Term, n int) int {
	switch v := t.Value.(type) {
	case ast.String:
		return n + partWeight + len(v)
	case ast.Number:
		return n + partWeight + len(v)
	case ast.Boolean, ast.Null:
		return n + partWeight
	}
	s := scales.Get().(*scale)
	s.n = n
	s.add(t)
	n = s.n
	scales.Put(s)
	return n
}

// scale weighs. Its functions are made once, since each would be an allocation.
type scale struct {
	n    int
	add  func(*ast.Term) bool
	both func(_, _ *ast.Term) bool
}

var scales = sync.Pool{New: func() any {
	s := new(scale)
	s.add = func(t *ast.Term) bool {
		s.n += partWeight
		switch v := t.Value.(type) {
		case ast.String:
			s.n += len(v)
		case ast.Number:
			s.n += len(v)
		case *ast.Array:
			v.Until(s.add)
		case ast.Set:
			v.Until(s.add)
		case ast.Object:
			v.Until(s.both)
		}
		return s.n > MostHeld
	}
	s.both = func(k, v *ast.Term) bool { return s.add(k) || s.add(v) }
	return s
}}

// hold weighs what is put into a container that the evaluation makes. It reports whether the
// evaluation may go on, and has else set the error.
func (ev *evaluator) hold(t *ast.Term) bool {
	if ev.held = Weigh(t, ev.held); ev.held > MostHeld {
		ev.err = ErrHeld
		return false
	}
	return true
}

// leaveOut takes the calls of a function out of blocks.
func leaveOut(name string, blocks []*ir.Block) {
	for _, b := range blocks {
		b.Stmts = slices.DeleteFunc(b.Stmts, func(stmt ir.Stmt) bool {
			switch t := stmt.(type) {
			case *ir.CallStmt:
				return t.Func == name
			case *ir.BlockStmt:
				leaveOut(name, t.Blocks)
			case *ir.NotStmt:
				leaveOut(name, []*ir.Block{t.Block})
			case *ir.ScanStmt:
				leaveOut(name, []*ir.Block{t.Block})
			case *ir.WithStmt:
				leaveOut(name, []*ir.Block{t.Block})
			}
			return false
		})
	}
}
