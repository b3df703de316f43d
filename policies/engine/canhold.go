package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// maxResidue bounds the time for one question of [Conditions.CanHold], with room for a busy
// machine; after maxResidues such it is sure of nothing any more.
const (
	maxResidue  = 5 * time.Second
	maxResidues = 3
)

// Conditions evaluates conditions of which only a part of the input is known.
type Conditions struct {
	policy   *Snapshot
	compiler *ast.Compiler
	late     int
}

// Conditions compiles the policy once more for that: what is not evaluated to its end makes no
// large values, and OPA's types do not know the function by which they are weighed.
func (s *Snapshot) Conditions(ctx context.Context, b *Bundle) (*Conditions, error) {
	again := &Snapshot{store: s.store, txn: s.txn}
	if err := again.compileWith(ctx, b, func(c *ast.Compiler) *ast.Compiler { return c }); err != nil {
		return nil, err
	}
	return &Conditions{policy: s, compiler: again.compiler}, nil
}

// Compiler returns the compiled modules, which callers must not change.
func (c *Conditions) Compiler() *ast.Compiler { return c.compiler }

// CanHold reports whether conditions of a compiled rule may hold on some input, of which only a
// part is known. It is sure only where it says no.
func (c *Conditions) CanHold(ctx context.Context, body ast.Body, input *ast.Term, unknown []*ast.Term) (may bool, err error) {
	if c.late >= maxResidues {
		return true, nil
	}
	limit := &deadline{ctx: ctx, at: time.Now().Add(maxResidue), eager: true}
	defer func() {
		if p := recover(); p != nil {
			may, err = true, nil // OPA could not tell
		}
	}()
	rest, _, err := topdown.NewQuery(body).
		WithQueryCompiler(c.compiler.QueryCompiler()).
		WithCompiler(c.compiler).
		WithStore(c.policy.store).
		WithTransaction(c.policy.txn).
		WithInput(input).
		WithUnknowns(unknown).
		WithStrictBuiltinErrors(true).
		WithIndexing(true).
		WithCancel(limit).
		WithMetrics(noMetrics).
		WithSeed(noRandom{}).
		WithTime(time.Unix(0, 0)).
		PartialRun(ctx)
	switch {
	case ctx.Err() != nil:
		return true, fmt.Errorf("evaluate conditions: %w", ctx.Err())
	case err != nil:
		if limit.passed {
			c.late++
		}
		return true, nil // which another finding is about, or it took too long
	}
	return len(rest) > 0, nil
}
