package plan

import (
	"errors"
	"slices"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// MaxHeld bounds what an evaluation makes, as [Weigh] counts it.
const MaxHeld = 12 << 20

// partWeight is the weight of each part of a value without its text, in bytes: about the
// memory that it takes.
const partWeight = 48

// ErrHeld is the error of an evaluation that made more than [MaxHeld].
var ErrHeld = errors.New("values that are too large, counting what they share as often as it is there")

// Weigh adds the weight of a value to n, and stops where that is more than MaxHeld: values
// share parts, so that a small one may take a very long time to go through.
func Weigh(t *ast.Term, n int) int {
	n += partWeight
	if n > MaxHeld {
		return n
	}
	return n + Size(t.Value, partWeight, MaxHeld-n)
}

// Size returns the size of a value, in bytes: its text, and part for each of its parts at any
// depth, counted as if nothing were shared. It stops where the size is more than most.
func Size(v ast.Value, part, most int) int {
	switch v := v.(type) {
	case ast.String:
		return len(v)
	case ast.Number:
		return len(v)
	case ast.Boolean, ast.Null:
		return 0
	}
	s := scales.Get().(*scale)
	s.n, s.part, s.most = 0, part, most
	s.count(v)
	n := s.n
	scales.Put(s)
	return n
}

// scale counts. Its functions are made once, since each would be an allocation.
type scale struct {
	n, part, most int
	add           func(*ast.Term) bool
	both          func(_, _ *ast.Term) bool
}

var scales = sync.Pool{New: func() any {
	s := new(scale)
	s.add = func(t *ast.Term) bool {
		s.n += s.part
		s.count(t.Value)
		return s.n > s.most
	}
	s.both = func(k, v *ast.Term) bool { return s.add(k) || s.add(v) }
	return s
}}

func (s *scale) count(v ast.Value) {
	switch v := v.(type) {
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
}

// hold weighs what is put into a container that the evaluation makes. It reports whether the
// evaluation may go on, and has else set the error.
func (ev *evaluator) hold(t *ast.Term) bool {
	if ev.held = Weigh(t, ev.held); ev.held > MaxHeld {
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
