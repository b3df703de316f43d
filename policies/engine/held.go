package engine

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"

	"patrol/policies/engine/plan"
)

// Values share parts: twelve rules that each hold the one before ten times are a value of
// 10^12 parts in a few hundred bytes, and to compare it, to hash it or to write it down
// takes as long as if nothing were shared; OPA looks at no deadline meanwhile. So all that
// an evaluation makes is weighed as if nothing were shared, and has one bound
// ([plan.MaxHeld]). The plan weighs where it makes a container. For topdown the compiler
// puts calls of [heldName] into the rules ([Weigh]), wherever a value comes to be that may
// be larger than what it is made of; what built-in functions make is weighed where they are
// wrapped.

// heldName is the function that weighs its argument. No policy can name it: it is in no
// list of capabilities.
const heldName = "patrol.held"

// heldDecl says that it has no result, so that it is never undefined.
var heldDecl = &ast.Builtin{Name: heldName, Decl: types.NewFunction(types.Args(types.A), nil)}

// errHeld is in the chain of the error of an evaluation that made too much.
var errHeld = fmt.Errorf("the policy makes %w", plan.ErrHeld)

// heldError tells where.
type heldError struct{ error }

func (*heldError) Is(target error) bool { return target == errHeld }
func (e *heldError) Unwrap() error      { return e.error }

// hold weighs a value that an evaluation made, and reports whether it may.
func (d *deadline) hold(t *ast.Term) bool {
	return d.add(plan.Weigh(t, 0))
}

func (d *deadline) add(weight int) bool {
	d.held += weight
	d.full = d.full || weight > plan.MaxHeld || d.held > max(d.most, plan.MaxHeld)
	return !d.full
}

// maxInTests bounds the values of one test, in bytes: a test may ask for many decisions.
const maxInTests = 16 * plan.MaxHeld

// heldKey is the context key for the weight of an evaluation by OPA's own tools.
type heldKey struct{}

// holderOf returns the deadline that an evaluation is held to, or what stands in for it where
// OPA's own tools evaluate, as tests.
func holderOf(bctx topdown.BuiltinContext) *deadline {
	if d, ok := bctx.Cancel.(*deadline); ok {
		return d
	}
	if bctx.Cache == nil {
		return nil
	}
	if d, ok := bctx.Cache.Get(heldKey{}); ok {
		of, _ := d.(*deadline)
		return of
	}
	d := &deadline{most: maxInTests}
	bctx.Cache.Put(heldKey{}, d)
	return d
}

func tooHeavy(l *ast.Location) error {
	return topdown.Halt{Err: &topdown.Error{Code: topdown.BuiltinErr, Message: errHeld.Error(), Location: l}}
}

// held is the function.
func held(bctx topdown.BuiltinContext, args []*ast.Term, iter func(*ast.Term) error) error {
	if h := holderOf(bctx); h != nil && !h.hold(args[0]) {
		return tooHeavy(bctx.Location)
	}
	return iter(nil)
}

// weighed has what a built-in function makes weighed before anybody gets it.
func weighedResults(f topdown.BuiltinFunc) topdown.BuiltinFunc {
	return func(bctx topdown.BuiltinContext, args []*ast.Term, iter func(*ast.Term) error) error {
		h := holderOf(bctx)
		if h == nil {
			return f(bctx, args, iter)
		}
		return f(bctx, args, func(t *ast.Term) error {
			if t != nil && !h.hold(t) {
				return tooHeavy(bctx.Location)
			}
			return iter(t)
		})
	}
}

// weighedPaths does it for walk, which gives each part of a value with its path. The parts
// are not its own.
func weighedPaths(f topdown.BuiltinFunc) topdown.BuiltinFunc {
	return func(bctx topdown.BuiltinContext, args []*ast.Term, iter func(*ast.Term) error) error {
		d := holderOf(bctx)
		if d == nil {
			return f(bctx, args, iter)
		}
		return f(bctx, args, func(t *ast.Term) error {
			weight := perElement
			if pair, ok := t.Value.(*ast.Array); ok && pair.Len() > 0 {
				if path, ok := pair.Elem(0).Value.(*ast.Array); ok {
					weight += perElement * path.Len()
				}
			}
			if !d.add(weight) {
				return tooHeavy(bctx.Location)
			}
			return iter(t)
		})
	}
}

// makes reports whether a built-in function may make a text or a container. Those that give
// a part of what they are given do not.
func makes(name string) bool {
	switch name {
	case "object.get", "min", "max", "internal.member_2", "internal.member_3", "rego.metadata.rule", "rego.metadata.chain":
		return false
	}
	decl := ast.BuiltinMap[name]
	if decl == nil || decl.Decl.Result() == nil {
		return false
	}
	switch decl.Decl.Result().(type) {
	case types.Boolean, types.Number, types.Null:
		return false
	}
	return true
}
