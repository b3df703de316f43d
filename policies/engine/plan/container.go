package plan

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// Empty containers, which everybody shares. A container is its own from the first value
// that is added to it.
var (
	noArray  = ast.NewArray()
	noSet    = ast.NewSet()
	noObject = ast.NewObject()
)

func emptyArray() ast.Value  { return ast.NewArray() }
func emptySet() ast.Value    { return ast.NewSet() }
func emptyObject() ast.Value { return ast.NewObject() }

// shared is the empty container of the same type that everybody shares.
func shared(v ast.Value) ast.Value {
	switch v.(type) {
	case *ast.Array:
		return noArray
	case ast.Set:
		return noSet
	default:
		return noObject
	}
}

// make compiles the statement that makes an empty container. One that gets only
// constants, before anything reads it, is a constant itself.
func (c *funcCompiler) make(l ir.Local, empty func() ast.Value) step {
	target := c.local(l)
	if c.onlyFirst(l, empty) {
		c.known[l] = known{first: true}
		return func(_ *evaluator, locals []*ast.Term) exit {
			locals[target] = nil
			return next
		}
	}
	if c.foldable(l) {
		c.known[l] = known{constant: ast.NewTerm(empty()), building: true}
		return nil
	}
	none := shared(empty())
	return func(ev *evaluator, locals []*ast.Term) exit {
		locals[target] = ev.term(none)
		return next
	}
}

// foldable reports whether all that is added to a container is added in the block that
// makes it, and before the container is read.
func (c *funcCompiler) foldable(l ir.Local) bool {
	u := c.survey.of(l, nil)
	if !u.once() {
		return false
	}
	first := u.end + 1
	for _, n := range u.reads {
		first = min(first, n)
	}
	for _, n := range u.mutates {
		if n >= first || !c.survey.direct[u.block][n] {
			return false
		}
	}
	return true
}

// add compiles a statement that adds to a container: a value to an array or a set, or
// a key and a value to an object. once: a key must not get a second value.
func (c *funcCompiler) add(l ir.Local, key, value operand, once bool) (step, error) {
	isObject := key != (operand{})
	if c.known[l].first {
		return c.addFirst(l, value), nil
	}
	if k := c.known[l]; k.listed {
		k.values = append(k.values, value)
		c.known[l] = k
		return nil, nil
	} else if k.literal != nil {
		return k.literal.add(c, l, key, value), nil
	} else if k.building {
		if value.constant != nil && (!isObject || key.constant != nil) {
			return nil, insert(k.constant, key.constant, value.constant, once, c.f.name)
		}
		if c.listable(l, k.constant.Value) {
			c.known[l] = c.listOf(k.constant.Value)
			return c.add(l, key, value, once)
		}
		if lit := c.literalOf(l, k.constant.Value); lit != nil {
			c.known[l] = known{literal: lit}
			return lit.add(c, l, key, value), nil
		}
		// The rest is not constant: go on from a copy.
		delete(c.known, l)
		target, start := c.local(l), k.constant
		rest, err := c.add(l, key, value, once)
		return func(ev *evaluator, locals []*ast.Term) exit {
			locals[target] = ev.term(shallow(start.Value))
			return rest(ev, locals)
		}, err
	} else if k.constant != nil {
		return nil, fmt.Errorf("%s adds to a constant", c.f.name)
	}
	target, where := c.local(l), c.f.name
	if !isObject {
		return func(ev *evaluator, locals []*ast.Term) exit {
			v := value.get(ev, locals)
			if v == nil {
				return leave
			}
			if !ev.hold(v) {
				return failed
			}
			addValue(locals[target], v)
			return next
		}, nil
	}
	return func(ev *evaluator, locals []*ast.Term) exit {
		k, v := key.get(ev, locals), value.get(ev, locals)
		if k == nil || v == nil {
			return leave
		}
		if !ev.hold(k) || !ev.hold(v) {
			return failed
		}
		if err := insert(locals[target], k, v, once, where); err != nil {
			return ev.fail(err)
		}
		return next
	}, nil
}

// addValue adds to an array or a set that nobody else has yet.
func addValue(t, value *ast.Term) {
	switch coll := t.Value.(type) {
	case *ast.Array:
		if coll == noArray {
			coll = ast.NewArrayWithCapacity(4)
		}
		t.Value = coll.Append(value)
	case ast.Set:
		if coll == noSet {
			coll = ast.NewSetWithCapacity(1)
			t.Value = coll
		}
		coll.Add(value)
	}
}

// insert adds to a container that nobody else has yet. key is nil for arrays and sets.
func insert(t, key, value *ast.Term, once bool, where string) error {
	switch coll := t.Value.(type) {
	case *ast.Array, ast.Set:
		addValue(t, value)
	case ast.Object:
		old := coll.Get(key)
		switch {
		case old == nil:
			if coll == noObject {
				coll = ast.NewObjectWithCapacity(2)
				t.Value = coll
			}
			coll.Insert(key, value)
		case equal(old, value):
		case once:
			return &conflict{"an object's key", where}
		default:
			// OPA's Insert loses other keys of the same hash when it replaces a value.
			replaced := ast.NewObjectWithCapacity(coll.Len())
			coll.Foreach(func(k, v *ast.Term) {
				if equal(k, key) {
					v = value
				}
				replaced.Insert(k, v)
			})
			t.Value = replaced
		}
	}
	return nil
}

// shallow copies a container, not what is in it.
func shallow(v ast.Value) ast.Value {
	switch v := v.(type) {
	case *ast.Array:
		cpy := ast.NewArrayWithCapacity(v.Len() + 2)
		v.Foreach(func(t *ast.Term) { cpy = cpy.Append(t) })
		return cpy
	case ast.Set:
		cpy := ast.NewSetWithCapacity(v.Len() + 2)
		v.Foreach(cpy.Add)
		return cpy
	case ast.Object:
		cpy := ast.NewObjectWithCapacity(v.Len() + 2)
		v.Foreach(cpy.Insert)
		return cpy
	}
	return v
}
