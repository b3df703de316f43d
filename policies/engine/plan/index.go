package plan

import (
	"cmp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// minIndexed is the smallest number of bodies for which an index is made.
const minIndexed = 16

// Linear is a rule with many bodies that an evaluation goes through one by one.
type Linear struct {
	Path   string // e.g. data.patrol.custom.deny
	Bodies int
	File   string // of the first of them
	Row    int
}

// lead describes the beginning of a rule's body.
type lead struct {
	open bool             // nothing before it can fail
	keys map[int][]string // the texts that a slot must have one of
}

// require notes that the body holds only if a slot has one of some texts.
func (l *lead) require(o operand, texts ...string) {
	if l == nil || !l.open || o.node == nil || o.slot < 0 || l.keys[o.slot] != nil {
		return
	}
	l.keys[o.slot] = texts
}

// textsOf are the elements of a constant set or array, if all are texts.
func textsOf(t *ast.Term) (texts []string, ok bool) {
	ok = true
	add := func(e *ast.Term) {
		s, text := e.Value.(ast.String)
		ok = ok && text
		texts = append(texts, string(s))
	}
	switch v := t.Value.(type) {
	case ast.Set:
		v.Foreach(add)
	case *ast.Array:
		v.Foreach(add)
	default:
		return nil, false
	}
	slices.Sort(texts)
	return slices.Compact(texts), ok && len(texts) > 0
}

// indexed has the bodies of a rule which hold only for some texts of one slot looked up by that text,
// where their order means nothing. The others stay as they are. blocks are the sources of the
// compiled ones.
func (c *funcCompiler) indexed(blocks []*ir.Block, compiled []block, leads []*lead) []block {
	first, ok := bodies(blocks)
	if !ok {
		return compiled
	}
	list := slices.Clone(compiled[:first])
	rest := make([]int, 0, len(compiled)-first)
	for i := first; i < len(compiled)-1; i++ {
		rest = append(rest, i)
	}
	for {
		slot, n := maxRequired(leads, rest)
		if n < minIndexed {
			break
		}
		table, others := map[ast.String][]block{}, rest[:0:0]
		for _, i := range rest {
			texts := leads[i].keys[slot]
			if texts == nil {
				others = append(others, i)
			}
			for _, text := range texts {
				table[ast.String(text)] = append(table[ast.String(text)], compiled[i])
			}
		}
		rest = others
		list = append(list, block{lookIn(table, slot)})
	}
	if len(rest) >= minIndexed {
		c.noteLinear(blocks[rest[0]], len(rest))
	}
	for _, i := range rest {
		list = append(list, compiled[i])
	}
	return append(list, compiled[len(compiled)-1])
}

func lookIn(table map[ast.String][]block, slot int) step {
	return func(ev *evaluator, locals []*ast.Term) exit {
		t := ev.slot(slot)
		if t == nil {
			return next
		}
		text, ok := t.Value.(ast.String)
		if !ok {
			return next
		}
		for _, b := range table[text] {
			if x := b.run(ev, locals); x > leave {
				return x
			}
		}
		return next
	}
}

// maxRequired is the slot that most of the bodies require a text of.
func maxRequired(leads []*lead, of []int) (slot, n int) {
	counts := map[int]int{}
	for _, i := range of {
		for s := range leads[i].keys {
			counts[s]++
		}
	}
	for s, k := range counts {
		if c := cmp.Compare(k, n); c > 0 || c == 0 && s < slot {
			slot, n = s, k
		}
	}
	return slot, n
}

// bodies reports whether the blocks of a function are independent bodies of one rule, after what may make an
// empty container, and before what returns it: they have nothing in common but that they
// add to that container. first is the first of them.
func bodies(blocks []*ir.Block) (first int, ok bool) {
	if len(blocks) < minIndexed+1 {
		return 0, false
	}
	end := significant(blocks[len(blocks)-1])
	if len(end) != 1 {
		return 0, false
	}
	result, ok := end[0].(*ir.ReturnLocalStmt)
	if !ok {
		return 0, false
	}
	if begin := significant(blocks[0]); len(begin) == 1 {
		if made, ok := begin[0].(*ir.MakeSetStmt); ok && made.Target == result.Source {
			first = 1
		}
	}
	of := map[ir.Local]int{}
	for i, b := range blocks[first : len(blocks)-1] {
		for l, u := range surveyBlocks([]*ir.Block{b}).locals {
			switch before, seen := of[l]; {
			case l <= ir.Data:
			case l == result.Source:
				if u.mentions() != len(u.mutates) {
					return 0, false
				}
			case seen && before != i:
				return 0, false
			default:
				of[l] = i
			}
		}
	}
	return first, true
}

func (c *funcCompiler) noteLinear(b *ir.Block, n int) {
	_, path, _ := strings.Cut(c.f.name, ".") // after the group of functions
	l := Linear{Path: path, Bodies: n}
	for _, s := range significant(b) {
		if at := s.GetLocation(); at.Row > 0 && at.File < len(c.policy.Static.Files) {
			l.File, l.Row = c.policy.Static.Files[at.File].Value, at.Row
			break
		}
	}
	c.linear = append(c.linear, l)
}
