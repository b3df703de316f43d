// Package frozen is the default policy, and the evaluation of it, as they were before
// decisions were made by compiled plans (issue 16). Benchmarks measure against it what has
// been gained since. It is never changed.
package frozen

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/util"
)

//go:embed policy/authz.rego
var rules string

//go:embed policy/catalog.yaml
var catalog []byte

//go:embed policy/roles.yaml
var roles []byte

var decisionRef = ast.MustParseRef("data.patrol.authz.decision")

// resultVar is bound to the document in its query.
const resultVar = ast.Var("result")

const timeout = time.Minute

// Snapshot is the policy.
type Snapshot struct {
	revision  string
	compiler  *ast.Compiler
	documents documents
	store     storage.Store
	txn       storage.Transaction
	decision  document
}

type document struct {
	body     ast.Body
	compiler ast.QueryCompiler
}

// Load compiles the policy.
func Load(ctx context.Context) (*Snapshot, error) {
	s := &Snapshot{revision: "frozen"}
	data := map[string]any{}
	for name, content := range map[string][]byte{"catalog": catalog, "roles": roles} {
		var doc any
		if err := util.Unmarshal(content, &doc); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		data[name] = doc
	}
	v, err := ast.InterfaceToValue(map[string]any{"patrol": data})
	if err != nil {
		return nil, err
	}
	settle(v)
	object, ok := v.(ast.Object)
	if !ok {
		return nil, errors.New("the data is no object")
	}
	s.documents.data, s.store = object, inmem.NewFromASTObject(object)
	if s.txn, err = s.store.NewTransaction(ctx); err != nil {
		return nil, err
	}
	module, err := ast.ParseModuleWithOpts("authz.rego", rules, ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, err
	}
	s.compiler = ast.NewCompiler().WithStrict(true).WithDefaultRegoVersion(ast.RegoV1)
	if s.compiler.Compile(map[string]*ast.Module{"authz.rego": module}); s.compiler.Failed() {
		return nil, s.compiler.Errors
	}
	s.decision.compiler = s.compiler.QueryCompiler()
	s.decision.body, err = s.decision.compiler.Compile(ast.NewBody(ast.Equality.Expr(ast.NewTerm(resultVar), ast.NewTerm(decisionRef))))
	return s, err
}

var errUndefined = errors.New("undefined")

// eval is the evaluation by OPA's topdown.
func (s *Snapshot) eval(ctx context.Context, d document, input *ast.Term) (ast.Value, error) {
	r, _ := evaluations.Get().(*evaluation)
	r.deadline = deadline{ctx: ctx, at: time.Now().Add(timeout)}
	r.memo.init(nil)
	defer func() {
		*r = evaluation{collector: r.collector}
		evaluations.Put(r)
	}()
	err := topdown.NewQuery(d.body).
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
		WithTime(time.Unix(0, 0)).
		Iter(ctx, r.collector)
	switch {
	case err != nil:
		return nil, err
	case r.result == nil:
		return nil, errUndefined
	}
	return r.result, nil
}

type evaluation struct {
	deadline
	memo      memo
	result    ast.Value
	collector func(topdown.QueryResult) error
}

var evaluations = sync.Pool{New: func() any {
	r := new(evaluation)
	r.collector = func(found topdown.QueryResult) error {
		if t := found[resultVar]; t != nil {
			r.result = t.Value
		}
		return nil
	}
	return r
}}

type documents struct{ data ast.Object }

// Get returns the document at ref, or nil.
func (d *documents) Get(ref ast.Ref) ast.Value {
	v, err := d.data.Find(ref[1:])
	if err != nil {
		return nil
	}
	return v
}

// Put is not needed.
func (*documents) Put(ast.Ref, ast.Value) {}

type deadline struct {
	ctx    context.Context //nolint:containedctx // lives for one evaluation
	at     time.Time
	asked  int64
	passed bool
}

// Cancel is not called.
func (d *deadline) Cancel() { d.passed = true }

const every = 64

// Cancelled reports whether the evaluation is to stop.
func (d *deadline) Cancelled() bool {
	if d.asked++; d.asked%every == 0 && !d.passed {
		d.passed = d.ctx.Err() != nil || time.Now().After(d.at)
	}
	return d.passed
}

type constant struct {
	ref   ast.Ref
	value *ast.Term
}

var (
	noMetadata = map[string]any{}
	noMetrics  = metrics.NoOp()
)
