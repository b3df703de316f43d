package engine

import (
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// perElement is added to the size of each element.
const perElement = 16

// size returns how much a value is, and stops counting beyond most: values share parts,
// so that one may be much larger than it looks.
func size(v ast.Value, most int) int {
	c := counters.Get().(*counter)
	c.n, c.most = 0, most
	c.count(v)
	n := c.n
	counters.Put(c)
	return n
}

// counter counts. Its functions are made once, since each would be an allocation.
type counter struct {
	n, most int
	add     func(*ast.Term) bool
	addBoth func(_, _ *ast.Term) bool
}

var counters = sync.Pool{New: func() any {
	c := new(counter)
	c.add = func(t *ast.Term) bool {
		c.n += perElement
		c.count(t.Value)
		return c.n > c.most
	}
	c.addBoth = func(k, x *ast.Term) bool { return c.add(k) || c.add(x) }
	return c
}}

func (c *counter) count(v ast.Value) {
	switch v := v.(type) {
	case ast.String:
		c.n += len(v)
	case ast.Number:
		c.n += len(v)
	case *ast.Array:
		v.Until(c.add)
	case ast.Set:
		v.Until(c.add)
	case ast.Object:
		v.Until(c.addBoth)
	}
}
