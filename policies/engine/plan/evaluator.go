package plan

import (
	"context"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// exit says how a statement ended. 0: go on with the next. n > 0: leave n blocks, the
// innermost first; a statement that is undefined leaves one.
type exit int

const (
	next     exit = 0
	leave    exit = 1
	returned exit = 1 << 30 // the function has its value
	failed   exit = returned + 1
)

// step is a compiled statement. locals are those of the function that it is in.
type step func(ev *evaluator, locals []*ast.Term) exit

type block []step

func (b block) run(ev *evaluator, locals []*ast.Term) exit {
	for _, s := range b {
		if x := s(ev, locals); x != next {
			return x
		}
	}
	return next
}

// outer is what an exit of a nested block means to the statement around it, whose own
// level is one less.
func outer(x exit) exit {
	if x == next || x >= returned {
		return x
	}
	return x - 1
}

// evaluator is the memory of one evaluation.
type evaluator struct {
	program  *Program
	slots    []*ast.Term
	tree     *Tree // of the slot for one
	document *ast.Term
	parts    []*ast.Term // of the document, by the numbers of their nodes
	stack    []*ast.Term
	memo     []*ast.Term
	known    []bool // of memo: computed, maybe to undefined
	value    *ast.Term
	results  []*ast.Term
	err      error
	held     int   // of what was made; see hold
	read     Slots // what rules looked at, filled or not

	limit   Limit
	builtin topdown.BuiltinContext
	found   []*ast.Term // what a built-in function answered
	collect func(*ast.Term) error
	ctx     context.Context //nolint:containedctx // of this evaluation; for built-in functions
	called  bool            // builtin is made
	room    []ast.Term      // for terms of this evaluation
}

// roomFor is for how many terms room is made at once.
const roomFor = 8

// term is a new term.
func (ev *evaluator) term(v ast.Value) *ast.Term {
	if len(ev.room) == 0 {
		ev.room = make([]ast.Term, roomFor)
	}
	t := &ev.room[0]
	ev.room = ev.room[1:]
	t.Value = v
	return t
}

// builtinContext is passed to built-in functions; the first call makes it.
func (ev *evaluator) builtinContext() topdown.BuiltinContext {
	if !ev.called {
		ev.called = true
		ev.builtin = newBuiltinContext(ev.ctx, ev.limit)
	}
	return ev.builtin
}

func newEvaluator(p *Program) *evaluator {
	ev := &evaluator{
		program: p,
		stack:   make([]*ast.Term, 0, 256),
		memo:    make([]*ast.Term, p.funcs),
		known:   make([]bool, p.funcs),
	}
	ev.collect = func(t *ast.Term) error { ev.found = append(ev.found, t); return nil }
	return ev
}

func (ev *evaluator) begin(ctx context.Context, in Input, limit Limit) {
	ev.slots, ev.tree, ev.document, ev.limit, ev.ctx, ev.held = in.Slots, in.Tree, in.Document, limit, ctx, 0
	ev.read = 0
}

// end drops what the evaluation made, so that the pool keeps no client's data alive.
func (ev *evaluator) end() {
	clear(ev.stack)
	ev.stack = ev.stack[:0]
	clear(ev.memo)
	clear(ev.known)
	clear(ev.parts)
	ev.slots, ev.tree, ev.document, ev.limit, ev.value, ev.results, ev.err, ev.ctx, ev.room = nil, nil, nil, nil, nil, nil, nil, nil, nil
	if ev.called {
		clear(ev.found[:cap(ev.found)])
		ev.found, ev.called, ev.builtin = ev.found[:0], false, topdown.BuiltinContext{}
	}
}

// push returns n undefined locals. popTo gives them back; those of rules without arguments, which
// run once, are given back together when the evaluation ends.
func (ev *evaluator) push(n int) []*ast.Term {
	top := len(ev.stack)
	if top+n > cap(ev.stack) {
		// Frames in use keep the old memory; nothing is shared between frames. A copy of
		// them would be what later frames begin with.
		ev.stack = make([]*ast.Term, top, 2*(top+n))
	}
	ev.stack = ev.stack[:top+n]
	return ev.stack[top : top+n : top+n]
}

// popTo gives back what was pushed since the stack had this length.
func (ev *evaluator) popTo(length int) {
	clear(ev.stack[length:])
	ev.stack = ev.stack[:length]
}

// run evaluates f, whose arguments are in locals. It returns nil for undefined, and for an
// error, which is in ev.err.
func (ev *evaluator) run(f *function, locals []*ast.Term) *ast.Term {
	var t *ast.Term
	for _, b := range f.blocks {
		if x := b.run(ev, locals); x > leave {
			if x == returned {
				t, ev.value = ev.value, nil
			}
			break
		}
		if f.truth >= 0 && locals[f.truth] != nil {
			t = locals[f.truth] // what other rules say cannot change it
			break
		}
	}
	return t
}

// tick reports whether the evaluation is to stop, and has then set the error. It is
// asked at each call and in each iteration.
func (ev *evaluator) tick() bool {
	if ev.limit != nil && ev.limit.Cancelled() {
		ev.err = ErrStopped
		return true
	}
	return false
}

func (ev *evaluator) fail(err error) exit {
	ev.err = err
	return failed
}

// slot returns what is in a slot.
func (ev *evaluator) slot(i int) *ast.Term {
	ev.read |= 1 << i
	return ev.slots[i]
}

// present reports whether a slot of the node is filled.
func (ev *evaluator) present(n *node) bool {
	ev.read |= n.slots()
	return n.present(ev.slots)
}

// input returns the document at a node of the shape; of the whole input for nil.
func (ev *evaluator) input(n *node) *ast.Term {
	shape := ev.program.shape
	if n == nil {
		ev.read = AllSlots
	} else {
		ev.read |= n.slots()
	}
	if n != nil && n.number > 0 {
		if ev.parts == nil {
			ev.parts = make([]*ast.Term, shape.nodes+1)
		}
		if ev.parts[n.number] == nil {
			ev.parts[n.number] = n.document(ev.slots)
		}
		return ev.parts[n.number]
	}
	if ev.document == nil && shape != nil {
		ev.document = shape.Document(ev.slots)
	}
	return ev.document
}

// lookUp is container[key], nil if there is none.
func lookUp(container, key *ast.Term) *ast.Term {
	switch c := container.Value.(type) {
	case ast.Object:
		return c.Get(key)
	case *ast.Array:
		return c.Get(key)
	case ast.Set:
		if c.Contains(key) {
			return key
		}
	}
	return nil
}

func equal(a, b *ast.Term) bool {
	if a == b {
		return true
	}
	if x, ok := a.Value.(ast.String); ok {
		y, ok := b.Value.(ast.String)
		return ok && x == y
	}
	return ast.ValueEqual(a.Value, b.Value)
}

// operand describes where a statement reads a value.
type operand struct {
	constant *ast.Term
	node     *node // of the input
	slot     int   // of the node; -1: it is an object
	local    int   // if constant and node are nil
}

func (o *operand) get(ev *evaluator, locals []*ast.Term) *ast.Term {
	switch {
	case o.constant != nil:
		return o.constant
	case o.node == nil:
		return locals[o.local]
	case o.slot >= 0:
		return ev.slot(o.slot)
	default:
		return ev.input(o.node)
	}
}
