package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// document is one document of the policy, ready to be asked for.
type document struct {
	ref      ast.Ref
	body     ast.Body // result = <ref>
	compiler ast.QueryCompiler
}

// resultVar is bound to the document in its query.
const resultVar = ast.Var("result")

func (s *Snapshot) prepare(ref ast.Ref) (document, error) {
	qc := s.compiler.QueryCompiler()
	body, err := qc.Compile(ast.NewBody(ast.Equality.Expr(ast.NewTerm(resultVar), ast.NewTerm(ref))))
	if err != nil {
		return document{}, fmt.Errorf("prepare %s: %w", ref, err)
	}
	return document{ref: ref, body: body, compiler: qc}, nil
}

// errUndefined is the error of [Snapshot.eval] for a document that has no value
// for the input.
var errUndefined = errors.New("undefined")

// ErrTimeout is in the chain of the error of an evaluation that took too long.
var ErrTimeout = errors.New("the policy took too long")

// eval returns the document's value for input. Whatever goes wrong inside OPA, a
// panic included, is an error. It stops when ctx ends or the snapshot's timeout
// is over; if ctx ended, ctx's error is in the chain.
func (s *Snapshot) eval(ctx context.Context, d document, input *ast.Term) (result ast.Value, err error) {
	stop := &deadline{ctx: ctx, at: time.Now().Add(s.timeout)}
	defer func() {
		if p := recover(); p != nil {
			result, err = nil, fmt.Errorf("evaluate %s: panic: %v", d.ref, p)
		}
	}()
	n := 0
	err = topdown.NewQuery(d.body).
		WithQueryCompiler(d.compiler).
		WithCompiler(s.compiler).
		WithStore(s.store).
		WithTransaction(s.txn).
		WithInput(input).
		WithStrictBuiltinErrors(true).
		WithIndexing(true).
		WithEarlyExit(true).
		WithMetrics(noMetrics).
		WithSeed(noRandom{}).
		WithTime(time.Unix(0, 0)).
		WithCancel(stop).
		Iter(ctx, func(r topdown.QueryResult) error {
			n++
			if t := r[resultVar]; t != nil {
				result = t.Value
			}
			return nil
		})
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("evaluate %s: %w", d.ref, context.Cause(ctx))
	case err != nil && stop.passed:
		return nil, fmt.Errorf("evaluate %s: %w: more than %s", d.ref, ErrTimeout, s.timeout)
	case err != nil:
		return nil, fmt.Errorf("evaluate %s: %w", d.ref, err)
	case n == 0:
		return nil, fmt.Errorf("evaluate %s: %w", d.ref, errUndefined)
	case n > 1 || result == nil:
		return nil, fmt.Errorf("evaluate %s: %d results", d.ref, n)
	}
	return result, nil
}

// deadline tells OPA when to stop. OPA asks before every expression, in the
// goroutine that evaluates, so that this needs neither timer nor goroutine; the
// clock is looked at only every so often.
type deadline struct {
	ctx    context.Context //nolint:containedctx // lives for one evaluation, as OPA's own hook for cancellation
	at     time.Time
	asked  uint
	passed bool
}

// Cancel is not called: nobody else holds the deadline.
func (d *deadline) Cancel() { d.passed = true }

// Cancelled reports whether the evaluation is to stop.
func (d *deadline) Cancelled() bool {
	const every = 64 // expressions, some 10 µs
	if d.asked++; d.asked%every == 0 && !d.passed {
		d.passed = d.ctx.Err() != nil || time.Now().After(d.at)
	}
	return d.passed
}

// noRandom stands in for the source of random numbers, which no policy has.
type noRandom struct{}

func (noRandom) Read([]byte) (int, error) { return 0, errors.New("policies have no random numbers") }
