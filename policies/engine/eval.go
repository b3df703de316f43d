package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// document is one document of the policy, ready to be asked for.
type document struct {
	ref      ast.Ref
	body     ast.Body // result = <ref>
	compiler ast.QueryCompiler
	fast     *atomic.Pointer[fast] // its plan, if that answers; see fast.go
}

// resultVar is bound to the document in its query.
const resultVar = ast.Var("result")

func (s *Snapshot) prepare(ref ast.Ref) (document, error) {
	qc := s.compiler.QueryCompiler()
	body, err := qc.Compile(ast.NewBody(ast.Equality.Expr(ast.NewTerm(resultVar), ast.NewTerm(ref))))
	if err != nil {
		return document{}, fmt.Errorf("prepare %s: %w", ref, err)
	}
	return document{ref: ref, body: body, compiler: qc, fast: new(atomic.Pointer[fast])}, nil
}

// errUndefined is the error of [Snapshot.eval] for a document that has no value
// for the input.
var errUndefined = errors.New("undefined")

// ErrTimeout is in the chain of the error of an evaluation that took too long.
var ErrTimeout = errors.New("the policy took too long")

// errStarved is [ErrTimeout] of an evaluation that had little of the time itself.
var errStarved = fmt.Errorf("%w, and had little of its time", ErrTimeout)

// eval returns the document's value for input. Whatever goes wrong inside OPA, a
// panic included, is an error. It stops when ctx ends or the snapshot's timeout
// is over; if ctx ended, ctx's error is in the chain. An evaluation that was kept from
// running until its time was over, by a burst of other work on the machine, is begun once more.
func (s *Snapshot) eval(ctx context.Context, d document, input *ast.Term) (ast.Value, error) {
	return s.evalOn(ctx, d, &question{doc: input})
}

// evalOn is eval on an input that may be given in slots.
func (s *Snapshot) evalOn(ctx context.Context, d document, q *question) (ast.Value, error) {
	v, err := s.evalOnce(ctx, d, q)
	if errors.Is(err, errStarved) {
		v, err = s.evalOnce(ctx, d, q)
	}
	return v, err
}

func (s *Snapshot) evalOnce(ctx context.Context, d document, q *question) (ast.Value, error) {
	at := time.Now().Add(s.timeout)
	if f := d.fast.Load(); f != nil {
		if v, err, ok := s.quick(ctx, d, f, q, at); ok {
			return v, err
		}
	}
	q.unwatched = true
	return s.topdownUntil(ctx, d, q.document(), at)
}

// topdown is topdownUntil with all the time that an evaluation has.
func (s *Snapshot) topdown(ctx context.Context, d document, input *ast.Term) (ast.Value, error) {
	return s.topdownUntil(ctx, d, input, time.Now().Add(s.timeout))
}

// topdownUntil is eval by OPA's evaluator. It is used as it is, and not OPA's package rego
// around it: the same semantics for half the allocations, and what a decision may
// depend on is in plain sight.
func (s *Snapshot) topdownUntil(ctx context.Context, d document, input *ast.Term, at time.Time) (result ast.Value, err error) {
	r := evaluations.Get().(*evaluation)
	r.deadline = deadline{ctx: ctx, at: at, eager: s.heavy}
	r.memo.init(s.constants)
	defer func() {
		if p := recover(); p != nil {
			// r is not used again: who knows what OPA still does with it.
			result, err = nil, fmt.Errorf("evaluate %s: panic: %v", d.ref, p)
			return
		}
		r.end()
		evaluations.Put(r)
	}()
	err = topdown.NewQuery(d.body).
		WithQueryCompiler(d.compiler).
		WithCompiler(s.compiler).
		WithStore(s.store).
		WithTransaction(s.txn).
		WithBaseCache(&s.documents).
		WithVirtualCache(&r.memo).
		WithInput(input).
		WithStrictBuiltinErrors(true).
		WithIndexing(true).
		WithEarlyExit(true).
		WithCancel(&r.deadline).
		WithMetrics(noMetrics).
		WithRequestMetadata(noMetadata).
		WithSeed(noRandom{}).
		WithTime(time.Unix(0, 0)). // input.now is the only clock
		Iter(ctx, r.collector)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("evaluate %s: %w", d.ref, ctx.Err())
	case err != nil && r.full:
		return nil, fmt.Errorf("evaluate %s: %w", d.ref, &heldError{err})
	case err != nil && r.passed:
		return nil, fmt.Errorf("evaluate %s: %w: more than %s", d.ref, r.late(s.timeout), s.timeout)
	case err != nil:
		return nil, fmt.Errorf("evaluate %s: %w", d.ref, err)
	case r.results == 0:
		return nil, fmt.Errorf("evaluate %s: %w", d.ref, errUndefined)
	case r.results > 1 || r.result == nil:
		return nil, fmt.Errorf("evaluate %s: %d results", d.ref, r.results)
	}
	return r.result, nil
}

// evaluation is the memory of one evaluation.
type evaluation struct {
	deadline
	memo    memo
	results int
	result  ast.Value

	collector func(topdown.QueryResult) error // collect, bound once
}

var evaluations = sync.Pool{New: func() any {
	r := new(evaluation)
	r.collector = r.collect
	return r
}}

// end drops everything, so that the pool keeps no client's data alive.
func (r *evaluation) end() { *r = evaluation{collector: r.collector} }

func (r *evaluation) collect(found topdown.QueryResult) error {
	r.results++
	if t := found[resultVar]; t != nil {
		r.result = t.Value
	}
	return nil
}

// documents answers OPA's reads of data. The data never changes, so that what
// stands in for OPA's cache of one evaluation can be the data itself, for all of
// them; it saves more than half the work of a look-up.
type documents struct{ data ast.Object }

// Get returns the document at ref, or nil. OPA then asks the store, which has the
// same data and so finds nothing either.
func (d *documents) Get(ref ast.Ref) ast.Value {
	v, err := d.data.Find(ref[1:])
	if err != nil {
		return nil
	}
	return v
}

// Put is not needed: all there is to read is there.
func (*documents) Put(ast.Ref, ast.Value) {}

// deadline tells OPA when to stop. OPA asks before every expression, in the
// goroutine that evaluates, so that this needs neither timer nor goroutine; the
// clock is looked at only every so often.
type deadline struct {
	ctx    context.Context //nolint:containedctx // lives for one evaluation, as OPA's own hook for cancellation
	at     time.Time
	asked  int64
	passed bool
	called bool // a function that may take long
	held   int  // of what was made; see hold
	most   int  // of what may be made; 0: plan.MaxHeld
	full   bool // more was made than may be
	eager  bool // the clock is looked at each time
}

// Cancel is not called: nobody else holds the deadline.
func (d *deadline) Cancel() { d.passed = true }

// heavy is of what weight one expression may take so long that the clock is looked at before
// each.
const heavy = 64 << 10

// every is after how many expressions, some 2 µs, the clock is looked at.
const every = 16

// late returns the error of an evaluation whose time is over. One that looked at the
// clock less than once in a millisecond, far less than is usual, was not running
// most of the time, unless it called functions that may take long or made large values.
func (d *deadline) late(timeout time.Duration) error {
	if !d.called && d.held <= heavy && time.Duration(d.asked/every)*time.Millisecond < timeout {
		return errStarved
	}
	return ErrTimeout
}

// Cancelled reports whether the evaluation is to stop.
func (d *deadline) Cancelled() bool {
	if d.asked++; (d.asked%every == 0 || d.eager || d.held > heavy) && !d.passed {
		d.passed = d.ctx.Err() != nil || time.Now().After(d.at)
	}
	return d.passed
}

// calls is asked before each call of a function that may take long, and looks at the clock
// each time: between two looks of [deadline.Cancelled] there may be many such calls.
func (d *deadline) calls(long bool) (over bool) {
	d.called = d.called || long
	d.passed = d.passed || d.ctx.Err() != nil || time.Now().After(d.at)
	return d.passed
}

// noMetadata and noMetrics spare OPA making its own.
var (
	noMetadata = map[string]any{}
	noMetrics  = metrics.NoOp()
)

// noRandom stands in for the source of random numbers, which no policy has.
type noRandom struct{}

func (noRandom) Read([]byte) (int, error) { return 0, errors.New("policies have no random numbers") }
