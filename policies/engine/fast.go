package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/policies/engine/plan"
)

// Two evaluators answer the documents of a policy. Topdown is OPA's own: the reference,
// and the one that explains. The other runs OPA's plan of the policy, compiled
// (package plan), and is much faster. A document is answered by its plan once
// [Snapshot.Hasten] has held the two against each other, and by topdown where the plan
// finds anything but an answer. From then on both judge a share of the requests: if
// they ever disagree, the request is an error, and topdown answers alone.

// doubleCheck is the share of evaluations that both evaluators make: one in this many.
const doubleCheck = 100

// fast is the plan of one document.
type fast struct {
	program *plan.Program
	shape   *plan.Shape
	frames  sync.Pool // of *[]*ast.Term
	count   atomic.Uint64
}

// shapes say how the inputs of the documents are given in slots, as their schemas have
// them.
var shapes = struct{ decision, route func() (*plan.Shape, error) }{
	decision: sync.OnceValues(func() (*plan.Shape, error) {
		shape, err := shapeOf("authz_input")
		if err != nil {
			return nil, err
		}
		return shape.WithTree(scopeDepth, "token", "scopes")
	}),
	route: sync.OnceValues(func() (*plan.Shape, error) { return shapeOf("http_input") }),
}

// shapeOf gives each value that a schema names a slot. An object all of whose members
// the schema names is no such value, but its members are.
func shapeOf(schema string) (*plan.Shape, error) {
	all, err := schemas()
	if err != nil {
		return nil, err
	}
	var paths [][]string
	var walk func(at any, path []string)
	walk = func(at any, path []string) {
		s, _ := at.(object)
		properties, _ := s["properties"].(object)
		if len(path) > 0 && (s["additionalProperties"] != false || len(properties) == 0) {
			paths = append(paths, slices.Clone(path))
			return
		}
		for _, name := range slices.Sorted(maps.Keys(properties)) {
			walk(properties[name], append(path, name))
		}
	}
	walk(all[schema], nil)
	return plan.NewShape(paths...)
}

// compilePlan makes the plan of a document.
func (s *Snapshot) compilePlan(ctx context.Context, d document) (*fast, error) {
	of := shapes.route
	if d.isDecision() {
		of = shapes.decision
	}
	shape, err := of()
	if err != nil {
		return nil, err
	}
	policy, err := plan.Plan(ctx, s.compiler, d.ref)
	if err != nil {
		return nil, err
	}
	program, err := plan.Compile(policy, plan.Config{Ref: d.ref, Data: ast.NewTerm(s.documents.data), Shape: shape, Within: within, Without: heldName})
	if err != nil {
		return nil, err
	}
	f := &fast{program: program, shape: shape}
	f.frames.New = func() any { slots := make([]*ast.Term, shape.Len()); return &slots }
	return f, nil
}

func (d document) isDecision() bool { return d.ref.Equal(DecisionRef) }

// errUnfit says that topdown is to answer.
var errUnfit = errors.New("topdown is to answer")

// eval evaluates the plan. The error is [errUndefined], [plan.ErrStopped], or
// [errUnfit]: the input does not fit the shape, or the plan found an error, which
// topdown tells better.
func (f *fast) eval(ctx context.Context, q *question) (ast.Value, error) {
	if q.shape == f.shape && q.series != nil {
		v, err := q.series.Eval(ctx, plan.Input{Slots: q.slots, Tree: q.scopes}, q.changed, &q.limit)
		q.changed = plan.AllSlots // if it is begun once more
		return v, f.outcome(err, &q.limit)
	}
	if q.shape == f.shape {
		return f.run(ctx, plan.Input{Slots: q.slots, Tree: q.scopes, Document: q.doc, Read: q.watch()}, &q.limit)
	}
	slots := f.frames.Get().(*[]*ast.Term)
	defer func() {
		clear(*slots)
		f.frames.Put(slots)
	}()
	if !f.shape.Fill(*slots, q.document()) {
		return nil, errUnfit
	}
	in := plan.Input{Slots: *slots, Document: q.doc}
	if q.trial { // else it is not worth the memory for one evaluation
		in.Tree = f.shape.Tree(*slots)
	}
	return f.run(ctx, in, &q.limit)
}

func (f *fast) run(ctx context.Context, in plan.Input, limit *deadline) (ast.Value, error) {
	v, err := f.program.Eval(ctx, in, limit)
	return v, f.outcome(err, limit)
}

// outcome is the error of an evaluation in the terms of [fast.eval].
func (f *fast) outcome(err error, limit *deadline) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, plan.ErrUndefined):
		return errUndefined
	case errors.Is(err, plan.ErrStopped), limit.over():
		return plan.ErrStopped
	default:
		return errUnfit
	}
}

// DisagreementError says that the two evaluators answered a request differently.
type DisagreementError struct{ Document string }

func (e *DisagreementError) Error() string {
	return fmt.Sprintf("the two evaluators of %s disagree on this request; from now on only OPA's own answers for this policy", e.Document)
}

// quick answers a document by its plan. ok is false if topdown is to answer.
func (s *Snapshot) quick(ctx context.Context, d document, f *fast, q *question, at time.Time) (v ast.Value, err error, ok bool) { //nolint:revive // ok says whether v and err count
	q.limit = deadline{ctx: ctx, at: at, eager: s.heavy}
	v, err = f.eval(ctx, q)
	switch {
	case errors.Is(err, errUnfit):
		return nil, nil, false
	case errors.Is(err, plan.ErrStopped):
		if ctx.Err() != nil {
			return nil, fmt.Errorf("evaluate %s: %w", d.ref, ctx.Err()), true
		}
		return nil, fmt.Errorf("evaluate %s: %w: more than %s", d.ref, q.limit.late(s.timeout), s.timeout), true
	}
	if f.count.Add(1)%doubleCheck == 0 {
		want, terr := s.topdown(ctx, d, q.document())
		switch {
		case errors.Is(terr, ErrTimeout) || errors.Is(terr, errHeld) || ctx.Err() != nil: // topdown had no time to say, or no room
		case !agree(v, err, want, terr):
			disagreements.Add(1)
			s.slowDown(d, errDisagree)
			remember(s.digest, errDisagree) // for when it comes into force again
			return nil, &DisagreementError{d.ref.String()}, true
		}
	}
	if err != nil {
		err = fmt.Errorf("evaluate %s: %w", d.ref, err)
	}
	return v, err, true
}

var errDisagree = errors.New("its plan and topdown disagreed on a request")

// agree reports whether two evaluations had the same outcome.
func agree(a ast.Value, aerr error, b ast.Value, berr error) bool {
	if aerr != nil || berr != nil {
		return errors.Is(aerr, errUndefined) && errors.Is(berr, errUndefined)
	}
	return a.Compare(b) == 0
}

// slowDown has topdown answer a document for as long as the policy is in force.
func (s *Snapshot) slowDown(d document, why error) {
	d.fast.Store(nil)
	reason := fmt.Sprintf("%s: %v", d.ref, why)
	s.standing.slow.CompareAndSwap(nil, &reason)
}

// standing records whether the plans of a policy may answer.
type standing struct {
	slow atomic.Pointer[string] // why topdown answers for good, at least for some document
}

// disagreements counts the requests on which the two evaluators disagreed, of all
// policies.
var disagreements atomic.Int64

// hastened remembers, by what a policy consists of, how its plans held out against
// topdown: nil, or why they did not. Policies are exchanged for one another and back.
var hastened = struct {
	sync.Mutex
	outcome map[string]error
}{outcome: map[string]error{}}

// hastenedMost bounds how many policies are remembered.
const hastenedMost = 64

// Hasten compiles the plans of the policy's documents, holds them against topdown on
// trials inputs each, and has those that agree on all of them answer from then on. It
// takes some CPU and may be run beside requests, which topdown answers meanwhile. The
// error is ctx's, or says why topdown goes on to answer; [Snapshot.Slow] tells that as
// well.
func (s *Snapshot) Hasten(ctx context.Context, trials int) error {
	hastened.Lock()
	known, ok := hastened.outcome[s.digest]
	hastened.Unlock()
	var errs []error
	for _, d := range []document{s.decision, s.request, s.hints} {
		f, err := s.compilePlan(ctx, d)
		if err == nil && !ok {
			err = s.prove(ctx, d, f, trials)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err = errors.Join(err, known); err != nil {
			s.slowDown(d, err)
			errs = append(errs, fmt.Errorf("%s: %w", d.ref, err))
			continue
		}
		d.fast.Store(f)
	}
	err := errors.Join(errs...)
	if !ok {
		remember(s.digest, err)
	}
	return err
}

// SlowDocument is a document whose plan cannot answer, and why.
type SlowDocument struct {
	Ref ast.Ref
	Err error
}

// TryPlans compiles the plans and holds them against topdown on trials inputs each, as [Snapshot.Hasten]
// does, and changes nothing. It returns the documents that topdown would answer, and the rules
// of which each evaluation goes through many bodies. The error is ctx's.
func (s *Snapshot) TryPlans(ctx context.Context, trials int) (slow []SlowDocument, linear []plan.Linear, err error) {
	for _, d := range []document{s.decision, s.request, s.hints} {
		f, err := s.compilePlan(ctx, d)
		if err == nil {
			for _, rule := range f.program.Linear() {
				if !slices.ContainsFunc(linear, func(l plan.Linear) bool { return l.Path == rule.Path }) {
					linear = append(linear, rule)
				}
			}
			err = s.prove(ctx, d, f, trials)
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if err != nil {
			slow = append(slow, SlowDocument{d.ref, err})
		}
	}
	return slow, linear, nil
}

func remember(digest string, outcome error) {
	hastened.Lock()
	defer hastened.Unlock()
	if len(hastened.outcome) >= hastenedMost {
		clear(hastened.outcome)
	}
	hastened.outcome[digest] = outcome
}

// Slow says why topdown answers for good, at least for some document; "" if it does
// not.
func (s *Snapshot) Slow() string {
	if reason := s.standing.slow.Load(); reason != nil {
		return *reason
	}
	return ""
}

// Fast reports whether the decision's plan answers.
func (s *Snapshot) Fast() bool { return s.decision.fast.Load() != nil }

// Disagreements counts the requests on which the two evaluators of some policy of this
// process disagreed.
func Disagreements() int64 { return disagreements.Load() }

// over reports whether the time is up.
func (d *deadline) over() bool { return d.ctx.Err() != nil || time.Now().After(d.at) }
