package plan

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Program is a compiled plan of one document. It is immutable and safe for use by
// many goroutines.
type Program struct {
	shape *Shape
	main  *function
	funcs int     // whose values are remembered during an evaluation
	reads []Slots // of each of those; what all of them read, if that is not known
	pool  sync.Pool

	linear []Linear
}

// Linear returns the rules of which an evaluation goes through many bodies one by one.
func (p *Program) Linear() []Linear { return p.linear }

// function is a rule, a function of the policy, or the query.
type function struct {
	name   string
	memo   int // where its value is remembered; -1: nowhere
	size   int // number of locals
	first  int // the local of the first argument
	blocks []block
	needs  needs
	truth  int // the local that is true once the function is known to be; -1: it has other values
}

// Slots is a set of slots: bit i stands for slot i.
type Slots uint64

// AllSlots are all of them.
const AllSlots = ^Slots(0)

// needs are the slots that a function reads, directly or by what it calls.
type needs = Slots

// Errors of an evaluation.
var (
	// ErrUndefined says that the document has no value for the input.
	ErrUndefined = errors.New("undefined")
	// ErrStopped says that the limit ended the evaluation.
	ErrStopped = errors.New("stopped")
)

// Limit ends evaluations: Cancelled is asked every so often. Built-in functions that
// take long ask it as well.
type Limit = topdown.Cancel

// Input holds the input of one evaluation.
type Input struct {
	// Slots are in the order of the shape. nil: absent.
	Slots []*ast.Term
	// Tree is the value of the shape's slot for one, taken apart; nil: it is not given.
	Tree *Tree
	// Document is the same as one term; nil: it is built from the slots if something
	// needs it. A program without a shape reads nothing else.
	Document *ast.Term
	// Read is set to the slots that the evaluation looked at, filled or not; nil: it is not asked.
	Read *Slots
}

// Eval evaluates the program. It returns [ErrUndefined] if the document has no value,
// [ErrStopped] if the limit ended it, and the error of a built-in function or a
// conflict between rules as it is. The result may share terms with the input and with
// the policy's data: nobody may change them.
func (p *Program) Eval(ctx context.Context, in Input, limit Limit) (result ast.Value, err error) {
	ev := p.pool.Get().(*evaluator)
	result, err, ok := ev.eval(ctx, in, limit)
	if ok { // else it is not used again: its state is unknown
		ev.end()
		p.pool.Put(ev)
	}
	return result, err
}

func (ev *evaluator) eval(ctx context.Context, in Input, limit Limit) (result ast.Value, err error, ok bool) { //nolint:revive // ok says whether ev may be used again
	defer func() {
		if r := recover(); r != nil {
			result, err, ok = nil, fmt.Errorf("panic: %v", r), false
		}
	}()
	ev.begin(ctx, in, limit)
	t := ev.run(ev.program.main, ev.push(ev.program.main.size))
	if in.Read != nil {
		*in.Read = ev.read
	}
	switch {
	case ev.err != nil:
		return nil, ev.err, true
	case t == nil:
		return nil, ErrUndefined, true
	}
	return t.Value, nil, true
}

// conflict is the error of a rule or object that would have two values.
type conflict struct{ what, where string }

func (c *conflict) Error() string {
	return fmt.Sprintf("%s: %s must not have several values", c.where, c.what)
}

// capabilities are what built-in functions may ask about; made once, since each set is
// large.
var capabilities = sync.OnceValue(func() *ast.Capabilities { return ast.CapabilitiesForThisVersion() })

// zeroTime is the time of evaluations: `input.now` is the only clock.
var zeroTime = ast.NumberTerm("0")

// noMetadata tells built-in functions nothing about the request.
var noMetadata = map[string]any{}

func newBuiltinContext(ctx context.Context, limit Limit) topdown.BuiltinContext {
	return topdown.BuiltinContext{
		Context: ctx, Cancel: limit, Seed: noRandom{}, Time: zeroTime, RequestMetadata: noMetadata, Capabilities: capabilities(),
	}
}

// noRandom is the source of random numbers, which policies do not have.
type noRandom struct{}

func (noRandom) Read([]byte) (int, error) { return 0, errors.New("policies have no random numbers") }
