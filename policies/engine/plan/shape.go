package plan

import (
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Shape says at which paths of `input` the slots of an evaluation stand. It is
// immutable.
type Shape struct {
	root  *node
	paths [][]string
	nodes int // that are objects, but for the root
	tree  int // the slot that may be given as a [Tree] too; -1: none
	depth int // of that tree
}

// node is an object of the input that contains slots, or a slot.
type node struct {
	slot     int // -1: an object
	number   int // of the object; 0: the root
	from, to int // the slots in it
	path     []*ast.Term
	children map[string]*node
	names    []*ast.Term // of the children, in the order of the paths
}

// NewShape returns the shape with one slot for each path. An object above slots exists
// in an input in which one of its slots is filled. No path may be empty or a prefix of
// another, and those with a common beginning must follow one another.
func NewShape(paths ...[]string) (*Shape, error) {
	s := &Shape{root: newNode(nil, 0), paths: paths, tree: -1}
	for i, path := range paths {
		at := s.root
		for depth, name := range path {
			last := depth == len(path)-1
			child := at.children[name]
			switch {
			case child == nil:
				child = at.add(name, i)
			case last || child.slot >= 0:
				return nil, fmt.Errorf("slot %d: %v is a prefix of another path, or has one", i, path)
			case child.to != i:
				return nil, fmt.Errorf("slot %d: %v does not follow the others in %s", i, path, name)
			}
			switch child.to = i + 1; {
			case last:
				child.slot = i
			case child.number == 0:
				s.nodes++
				child.number = s.nodes
			}
			at = child
		}
		if len(path) == 0 {
			return nil, fmt.Errorf("slot %d: the path is empty", i)
		}
		s.root.to = i + 1
	}
	return s, nil
}

func newNode(path []*ast.Term, from int) *node {
	return &node{slot: -1, from: from, path: path, children: map[string]*node{}}
}

func (n *node) add(name string, from int) *node {
	t := ast.StringTerm(name)
	c := newNode(append(slices.Clip(slices.Clone(n.path)), t), from)
	n.children[name] = c
	n.names = append(n.names, t)
	return c
}

func (n *node) child(name *ast.Term) *node { return n.children[string(name.Value.(ast.String))] }

// Len returns the number of slots.
func (s *Shape) Len() int { return len(s.paths) }

// WithTree returns the shape in which the value at a path may be given as a tree of a depth, too.
func (s *Shape) WithTree(depth int, path ...string) (*Shape, error) {
	from, to, ok := s.Range(path...)
	if !ok || to != from+1 || depth < 1 || depth > maxDepth {
		return nil, fmt.Errorf("there is no single value at %v for a tree of depth %d", path, depth)
	}
	t := *s
	t.tree, t.depth = from, depth
	return &t, nil
}

// Tree is the value of the slot for a tree, taken apart; nil: there is none that can be.
func (s *Shape) Tree(slots []*ast.Term) *Tree {
	if s.tree < 0 {
		return nil
	}
	return NewTree(slots[s.tree], s.depth)
}

// Range returns the first slot of the object or value at a path, and the one after its
// last.
func (s *Shape) Range(path ...string) (from, to int, ok bool) {
	at := s.root
	for _, name := range path {
		if at = at.children[name]; at == nil {
			return 0, 0, false
		}
	}
	return at.from, at.to, true
}

// Document builds the input document of the slots. Empty slots are absent from it.
func (s *Shape) Document(slots []*ast.Term) *ast.Term {
	if t := s.root.document(slots); t != nil {
		return t
	}
	return ast.NewTerm(ast.NewObject())
}

func (n *node) document(slots []*ast.Term) *ast.Term {
	if n.slot >= 0 {
		return slots[n.slot]
	}
	if !n.present(slots) {
		return nil
	}
	obj := ast.NewObjectWithCapacity(len(n.names))
	for _, name := range n.names {
		if t := n.child(name).document(slots); t != nil {
			obj.Insert(name, t)
		}
	}
	return ast.NewTerm(obj)
}

// slots are those of the node.
func (n *node) slots() Slots { return 1<<n.to - 1<<n.from }

// present reports whether the object exists.
func (n *node) present(slots []*ast.Term) bool {
	for _, t := range slots[n.from:n.to] {
		if t != nil {
			return true
		}
	}
	return false
}

// Fill takes the object at a path apart, into the slots of its range. It reports false
// if the object has something that the shape has no place for, or an object with
// slots is empty: that object cannot be given in slots.
func (s *Shape) Fill(slots []*ast.Term, object *ast.Term, path ...string) bool {
	at := s.root
	for _, name := range path {
		if at = at.children[name]; at == nil {
			return false
		}
	}
	return at.fill(object, slots)
}

func (n *node) fill(t *ast.Term, slots []*ast.Term) bool {
	if n.slot >= 0 {
		slots[n.slot] = t
		return true
	}
	obj, ok := t.Value.(ast.Object)
	if !ok || obj.Len() == 0 {
		return false
	}
	found := 0
	for _, name := range n.names {
		member := obj.Get(name)
		if member == nil {
			continue
		}
		found++
		if !n.child(name).fill(member, slots) {
			return false
		}
	}
	return found == obj.Len()
}
