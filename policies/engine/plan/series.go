package plan

import (
	"context"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Series evaluates a program on one input after another. What rules found stands for as
// long as nothing changes that they read, so that inputs which differ in one part cost
// only the rules that depend on it. It is for one goroutine.
type Series struct {
	program *Program
	ev      *evaluator
}

// Series begins one. End it after use.
func (p *Program) Series() *Series { return &Series{program: p} }

// Eval is [Program.Eval]. changed are the slots that may have another value than they had
// when Eval was called before.
func (s *Series) Eval(ctx context.Context, in Input, changed Slots, limit Limit) (ast.Value, error) {
	if s.ev == nil {
		s.ev = s.program.pool.Get().(*evaluator)
	} else {
		s.ev.again(changed)
	}
	v, err, ok := s.ev.eval(ctx, in, limit)
	switch {
	case !ok:
		s.ev = nil
	case err != nil: // what was found on the way to an error is found again
		s.ev.again(AllSlots)
	}
	return v, err
}

// End gives the memory back.
func (s *Series) End() {
	if s.ev != nil {
		s.ev.end()
		s.program.pool.Put(s.ev)
		s.ev = nil
	}
}

// again forgets what depends on slots that changed.
func (ev *evaluator) again(changed Slots) {
	memo, known := ev.memo, ev.known
	ev.memo, ev.known = nil, nil
	ev.end()
	ev.memo, ev.known = memo, known
	for i, reads := range ev.program.reads {
		if reads&changed != 0 {
			ev.memo[i], ev.known[i] = nil, false
		}
	}
}
