package plan

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ir"
)

// usage records the statements of a function that name one of its locals. Statements are numbered in the
// order in which they are written.
type usage struct {
	writes  int // statements that give it a value
	resets  int
	mutates []int // statements that add to the container in it
	reads   []int
	scans   int          // of the reads: by a scan, as its source
	gets    []ir.Stmt    // of the reads: by a statement that looks up in it
	adds    []ir.Operand // what is added
	keys    []ir.Operand // under which keys, if it is added to an object
	calls   []*ir.CallStmt
	param   bool
	made    ir.Stmt // the last statement that writes it, if that makes a number or an object
	tested  bool    // some statement asks whether it is defined

	spots  []spot // the statements that write or reset it
	checks []int  // those that look whether it is defined before they write it

	at, end int // the statement that writes it, and the last of the block which that is in
	block   *ir.Block
	ways    []way  // from that block to each statement that adds to it
	scope   *scope // the innermost scan body with all statements that name it; nil: none
	named   bool
}

// spot is the place of a statement.
type spot struct {
	at    int
	block *ir.Block
}

// way leads from a block into one that is nested in it.
type way struct {
	levels []level
}

// level is a statement with a nested block.
type level struct {
	stmt   ir.Stmt
	inside *ir.Block
}

// scope is the body of a scan.
type scope struct {
	parent *scope
	block  *ir.Block
}

// once reports whether the local has one value, which every statement that reads it
// sees: it is written by one statement, and all others that name it come later in the
// same block. It may then be replaced by what it stands for.
func (u *usage) once() bool {
	if u.writes != 1 || u.resets > 0 || u.tested {
		return false
	}
	for _, n := range u.reads {
		if n <= u.at || n > u.end {
			return false
		}
	}
	for _, n := range u.mutates {
		if n <= u.at || n > u.end {
			return false
		}
	}
	return true
}

// survey finds the usage of all locals of a function.
type survey struct {
	locals map[ir.Local]*usage
	count  int
	ends   map[*ir.Block]int
	direct map[*ir.Block]map[int]bool // the statements of a block itself
	levels []level                    // around the statement that is looked at
}

func surveyBlocks(blocks []*ir.Block) *survey {
	s := &survey{locals: map[ir.Local]*usage{}, direct: map[*ir.Block]map[int]bool{}, ends: map[*ir.Block]int{}}
	for _, b := range blocks {
		s.block(b, nil)
	}
	for _, u := range s.locals {
		if u.block != nil {
			u.end = s.ends[u.block]
		}
	}
	return s
}

func (s *survey) of(l ir.Local, in *scope) *usage {
	u := s.locals[l]
	if u == nil {
		u = &usage{}
		s.locals[l] = u
	}
	if !u.named {
		u.named, u.scope = true, in
	}
	for u.scope != nil && !in.within(u.scope) {
		u.scope = u.scope.parent
	}
	return u
}

func (in *scope) within(other *scope) bool {
	for ; in != nil; in = in.parent {
		if in == other {
			return true
		}
	}
	return false
}

func (s *survey) block(b *ir.Block, in *scope) {
	s.direct[b] = map[int]bool{}
	for _, stmt := range b.Stmts {
		s.count++
		n := s.count
		s.direct[b][n] = true
		read := func(ls ...ir.Local) {
			for _, l := range ls {
				u := s.of(l, in)
				u.reads = append(u.reads, n)
			}
		}
		operand := func(os ...ir.Operand) {
			for _, o := range os {
				if l, ok := o.Value.(ir.Local); ok {
					read(l)
				}
			}
		}
		write := func(l ir.Local) {
			u := s.of(l, in)
			u.writes++
			u.at, u.block = n, b
			u.spots = append(u.spots, spot{n, b})
		}
		mutate := func(l ir.Local, added ir.Operand) {
			u := s.of(l, in)
			u.adds = append(u.adds, added)
			u.mutates = append(u.mutates, n)
			u.ways = append(u.ways, s.wayFrom(u.block))
		}
		test := func(l ir.Local) { s.of(l, in).tested = true }
		switch t := stmt.(type) {
		case *ir.ReturnLocalStmt:
			read(t.Source)
		case *ir.ResultSetAddStmt:
			read(t.Value)
		case *ir.CallStmt:
			operand(t.Args...)
			for _, o := range t.Args {
				if l, ok := o.Value.(ir.Local); ok {
					s.of(l, in).calls = append(s.of(l, in).calls, t)
				}
			}
			write(t.Result)
		case *ir.CallDynamicStmt:
			read(t.Args...)
			operand(t.Path...)
			write(t.Result)
		case *ir.BlockStmt:
			for _, inner := range t.Blocks {
				s.nested(t, inner, in)
			}
		case *ir.NotStmt:
			s.nested(t, t.Block, in)
		case *ir.ScanStmt:
			read(t.Source)
			body := &scope{parent: in, block: t.Block}
			s.of(t.Source, in).scans++
			s.loop(t, n, body)
			s.nested(t, t.Block, body)
		case *ir.WithStmt:
			operand(t.Value)
			write(t.Local)
			write(t.Local) // replaced, and put back
			s.nested(t, t.Block, in)
		case *ir.DotStmt:
			if l, ok := t.Source.Value.(ir.Local); ok {
				s.of(l, in).gets = append(s.of(l, in).gets, t)
			}
			operand(t.Source, t.Key)
			write(t.Target)
		case *ir.LenStmt:
			operand(t.Source)
			write(t.Target)
		case *ir.AssignVarStmt:
			operand(t.Source)
			write(t.Target)
		case *ir.AssignVarOnceStmt:
			operand(t.Source)
			test(t.Target)
			s.of(t.Target, in).checks = append(s.of(t.Target, in).checks, n)
			write(t.Target)
		case *ir.AssignIntStmt:
			write(t.Target)
		case *ir.ResetLocalStmt:
			u := s.of(t.Target, in)
			u.resets++
			u.spots = append(u.spots, spot{n, b})
		case *ir.MakeNullStmt:
			write(t.Target)
		case *ir.MakeNumberIntStmt:
			write(t.Target)
			s.of(t.Target, in).made = t
		case *ir.MakeNumberRefStmt:
			write(t.Target)
			s.of(t.Target, in).made = t
		case *ir.MakeArrayStmt:
			write(t.Target)
		case *ir.MakeObjectStmt:
			write(t.Target)
			s.of(t.Target, in).made = t
		case *ir.MakeSetStmt:
			write(t.Target)
		case *ir.EqualStmt:
			operand(t.A, t.B)
		case *ir.NotEqualStmt:
			operand(t.A, t.B)
		case *ir.IsArrayStmt:
			operand(t.Source)
		case *ir.IsObjectStmt:
			operand(t.Source)
		case *ir.IsSetStmt:
			operand(t.Source)
		case *ir.IsDefinedStmt:
			read(t.Source)
			test(t.Source)
		case *ir.IsUndefinedStmt:
			read(t.Source)
			test(t.Source)
		case *ir.ArrayAppendStmt:
			operand(t.Value)
			mutate(t.Array, t.Value)
		case *ir.ObjectInsertStmt:
			operand(t.Key, t.Value)
			mutate(t.Object, t.Value)
			s.of(t.Object, in).keys = append(s.of(t.Object, in).keys, t.Key)
		case *ir.ObjectInsertOnceStmt:
			operand(t.Key, t.Value)
			mutate(t.Object, t.Value)
			s.of(t.Object, in).keys = append(s.of(t.Object, in).keys, t.Key)
		case *ir.ObjectMergeStmt:
			read(t.A, t.B)
			write(t.Target)
		case *ir.SetAddStmt:
			operand(t.Value)
			mutate(t.Set, t.Value)
		}
	}
	s.ends[b] = s.count
}

func (s *survey) nested(stmt ir.Stmt, b *ir.Block, in *scope) {
	s.levels = append(s.levels, level{stmt, b})
	s.block(b, in)
	s.levels = s.levels[:len(s.levels)-1]
}

// wayFrom is how the current statement is reached from a block around it; no levels if
// it is in the block itself, or the block is not around it.
func (s *survey) wayFrom(b *ir.Block) way {
	for i, at := range slices.Backward(s.levels) {
		if at.inside == b {
			return way{slices.Clone(s.levels[i+1:])}
		}
	}
	return way{slices.Clone(s.levels)}
}

// loop notes that a scan gives its key and value anew before each run of its body.
func (s *survey) loop(t *ir.ScanStmt, n int, body *scope) {
	for _, l := range []ir.Local{t.Key, t.Value} {
		u := s.of(l, body)
		u.writes++
		u.at, u.block = n, t.Block
		u.spots = append(u.spots, spot{n, t.Block})
	}
}
