package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/topdown"
)

// tracedSlower is the factor by which tracing extends the deadline of an evaluation.
const tracedSlower = 20

// Trace evaluates the document that answers in, and reports every step to tracer.
func (s *Snapshot) Trace(ctx context.Context, in *Input, tracer topdown.QueryTracer) error {
	d := s.decision
	if in.Kind == KindRoute {
		d = s.request
	}
	known := topdown.NewVirtualCache()
	for _, c := range s.constants {
		known.Put(c.ref, c.value)
	}
	stop := &deadline{ctx: ctx, at: time.Now().Add(tracedSlower * s.timeout)}
	err := topdown.NewQuery(d.body).
		WithQueryCompiler(d.compiler).
		WithCompiler(s.compiler).
		WithStore(s.store).
		WithTransaction(s.txn).
		WithVirtualCache(known).
		WithInput(in.Term).
		WithStrictBuiltinErrors(true).
		WithIndexing(true).
		WithEarlyExit(true).
		WithCancel(stop).
		WithMetrics(noMetrics).
		WithRequestMetadata(noMetadata).
		WithSeed(noRandom{}).
		WithTime(time.Unix(0, 0)).
		WithQueryTracer(tracer).
		Iter(ctx, func(topdown.QueryResult) error { return nil })
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("trace %s: %w", d.ref, ctx.Err())
	case err != nil:
		return fmt.Errorf("trace %s: %w", d.ref, err)
	}
	return nil
}
