package plan

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// maxDepth bounds trees.
const maxDepth = 8

// Tree is an object of objects, down to leaves at one depth, in which a leaf is found by all its
// keys at once: a token's scopes are looked up so. It takes a few lines of the processor's
// cache where the objects take some for each level. It is immutable.
type Tree struct {
	depth  int
	hashes []uint64    // of the keys of each leaf
	rows   []*ast.Term // the keys of each leaf, and the leaf
}

// NewTree takes an object apart. nil: a key in it is no text, or it ends before depth.
func NewTree(t *ast.Term, depth int) *Tree {
	if t == nil || depth < 1 || depth > maxDepth {
		return nil
	}
	tree := &Tree{depth: depth}
	if !tree.add(t, make([]*ast.Term, 0, depth)) {
		return nil
	}
	return tree
}

func (tree *Tree) add(t *ast.Term, path []*ast.Term) bool {
	if len(path) == tree.depth {
		tree.hashes = append(tree.hashes, hashOf(path))
		tree.rows = append(append(tree.rows, path...), t)
		return true
	}
	obj, ok := t.Value.(ast.Object)
	if !ok {
		return false
	}
	return !obj.Until(func(k, v *ast.Term) (stop bool) {
		_, text := k.Value.(ast.String)
		return !text || !tree.add(v, append(path, k))
	})
}

// hashOf is the hash of keys, which are texts.
func hashOf(keys []*ast.Term) (h uint64) {
	for _, k := range keys {
		h = mix(h, k)
	}
	return h
}

// mix adds a key to a hash. It is quick and need not be good: what it finds is compared.
func mix(h uint64, key *ast.Term) uint64 {
	h = (h ^ ending(string(key.Value.(ast.String)))) * 0x9e3779b97f4a7c15
	return h ^ h>>32
}

// ending is the length and the last bytes of a text: names differ rather there than at their beginning.
func ending(s string) (w uint64) {
	n := len(s)
	if n >= 8 {
		s = s[n-8:]
		w = uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	} else {
		for i := range len(s) {
			w = w<<8 | uint64(s[i])
		}
	}
	return w ^ uint64(n)<<57
}

// Find returns the leaf under keys, one for each level, or nil. Keys that are no texts find
// nothing.
func (tree *Tree) Find(keys ...*ast.Term) *ast.Term {
	if len(keys) != tree.depth {
		return nil
	}
	h := uint64(0)
	for _, k := range keys {
		if k == nil {
			return nil
		}
		if _, ok := k.Value.(ast.String); !ok {
			return nil
		}
		h = mix(h, k)
	}
	for i, have := range tree.hashes {
		if have != h {
			continue
		}
		if row := tree.rows[i*(tree.depth+1):][:tree.depth+1]; same(row, keys) {
			return row[tree.depth]
		}
	}
	return nil
}

func same(a, b []*ast.Term) bool {
	for i, k := range b {
		if k != a[i] && k.Value.(ast.String) != a[i].Value.(ast.String) {
			return false
		}
	}
	return true
}

// descent compiles the statements that look a leaf of the tree up, level by level, into one. n is
// the number of them; 0: the statements at hand do something else.
func (c *funcCompiler) descent(stmts []ir.Stmt) (s step, n int, err error) {
	if c.whole || c.Shape.tree < 0 {
		return nil, 0, nil
	}
	var dots []*ir.DotStmt
	for _, stmt := range stmts {
		if _, ok := stmt.(*ir.NopStmt); !ok {
			dot, ok := stmt.(*ir.DotStmt)
			if !ok || !c.follows(dots, dot) {
				break
			}
			dots = append(dots, dot)
		}
		n++
		if len(dots) == c.Shape.depth {
			s, err = c.leaf(dots)
			return s, n, err
		}
	}
	return nil, 0, nil
}

// follows reports whether a look-up is in what those before it found, which nothing else reads;
// or in the tree, if it is the first.
func (c *funcCompiler) follows(dots []*ir.DotStmt, dot *ir.DotStmt) bool {
	from, ok := dot.Source.Value.(ir.Local)
	switch {
	case !ok:
		return false
	case len(dots) == 0:
		at := c.known[from].node
		return at != nil && at.slot == c.Shape.tree
	}
	u := c.survey.of(from, nil)
	return dots[len(dots)-1].Target == from && u.once() && len(u.reads) == 1 && len(u.mutates) == 0
}

func (c *funcCompiler) leaf(dots []*ir.DotStmt) (step, error) {
	keys := make([]operand, len(dots))
	var levels block
	for i, dot := range dots {
		keys[i] = c.operand(dot.Key)
		s, err := c.dot(dot)
		if err != nil {
			return nil, err
		}
		levels = append(levels, s)
	}
	target := c.local(dots[len(dots)-1].Target)
	return func(ev *evaluator, locals []*ast.Term) exit {
		if ev.tree == nil {
			return levels.run(ev, locals)
		}
		var room [maxDepth]*ast.Term
		path := room[:len(keys)]
		for i := range keys {
			k := keys[i].get(ev, locals)
			if k == nil {
				return leave
			}
			if _, ok := k.Value.(ast.String); !ok { // a number is looked up in a way of its own
				return levels.run(ev, locals)
			}
			path[i] = k
		}
		found := ev.tree.Find(path...)
		if found == nil {
			return leave
		}
		locals[target] = found
		return next
	}, nil
}
