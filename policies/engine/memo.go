package engine

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// memo remembers the values of rules during one evaluation, for OPA to ask
// instead of evaluating them again. It does what OPA's own [topdown.VirtualCache]
// does and hands over to one when there is much to remember; but a decision
// evaluates a dozen rules, and to find one among them, a list is faster than a
// tree of maps and takes none of the tree's fifty allocations.
//
// Frames are as with OPA: under `with`, rules have other values, so that only
// what was put since the last Push is seen until Pop.
type memo struct {
	entries []memoEntry
	terms   []*ast.Term // the entries' references, one after the other
	frames  []memoFrame // begun by Push and not ended by Pop

	constants []constant // known from the start, outside of frames

	many topdown.VirtualCache // in charge if not nil

	// Room for an ordinary decision.
	entriesRoom [24]memoEntry
	termsRoom   [4 * 24]*ast.Term
}

// memoEntry is the value of the rule at terms[from:to]; nil is undefined.
type memoEntry struct {
	from, to int
	value    *ast.Term
}

// memoFrame is the beginning of a frame.
type memoFrame struct{ entries, terms int }

// memoMost is the number of entries from which on a tree is faster.
const memoMost = 64

func (m *memo) init(constants []constant) {
	m.entries, m.terms, m.constants = m.entriesRoom[:0], m.termsRoom[:0], constants
}

// Push begins a frame.
func (m *memo) Push() {
	if m.many != nil {
		m.many.Push()
		return
	}
	m.frames = append(m.frames, memoFrame{len(m.entries), len(m.terms)})
}

// Pop ends the last frame and forgets what was put in it.
func (m *memo) Pop() {
	if m.many != nil {
		m.many.Pop()
		return
	}
	last := m.frames[len(m.frames)-1]
	m.frames = m.frames[:len(m.frames)-1]
	m.entries, m.terms = m.entries[:last.entries], m.terms[:last.terms]
}

// Get returns the value of the rule at ref, or whether it is known to be
// undefined.
func (m *memo) Get(ref ast.Ref) (value *ast.Term, undefined bool) {
	if m.many != nil {
		return m.many.Get(ref)
	}
	if e := m.find(ref); e != nil {
		return e.value, e.value == nil
	}
	if len(m.frames) == 0 {
		for i := range m.constants {
			if c := &m.constants[i]; sameRef(c.ref, ref) {
				return c.value, false
			}
		}
	}
	return nil, false
}

// Put remembers the value of the rule at ref; nil is undefined.
func (m *memo) Put(ref ast.Ref, value *ast.Term) {
	if m.many == nil && len(m.entries) == memoMost {
		m.handOver()
	}
	if m.many != nil {
		m.many.Put(ref, value)
		return
	}
	if e := m.find(ref); e != nil {
		e.value = value
		return
	}
	from := len(m.terms)
	m.terms = append(m.terms, ref...) // OPA goes on to use ref's memory
	m.entries = append(m.entries, memoEntry{from: from, to: len(m.terms), value: value})
}

// Keys returns the rules whose values are known.
func (m *memo) Keys() (keys []ast.Ref) {
	if m.many != nil {
		return m.many.Keys()
	}
	for _, e := range m.entries[m.start():] {
		if e.value != nil {
			keys = append(keys, m.ref(e))
		}
	}
	return keys
}

func (m *memo) start() int {
	if len(m.frames) == 0 {
		return 0
	}
	return m.frames[len(m.frames)-1].entries
}

func (m *memo) ref(e memoEntry) ast.Ref { return slices.Clone(m.terms[e.from:e.to]) }

func (m *memo) find(ref ast.Ref) *memoEntry {
	for i := m.start(); i < len(m.entries); i++ {
		if e := &m.entries[i]; sameRef(m.terms[e.from:e.to], ref) {
			return e
		}
	}
	return nil
}

// sameRef compares from the end: references to rules begin alike.
func sameRef(a []*ast.Term, b ast.Ref) bool {
	if len(a) != len(b) {
		return false
	}
	for i, term := range slices.Backward(a) {
		if term != b[i] && !term.Equal(b[i]) {
			return false
		}
	}
	return true
}

func (m *memo) handOver() {
	m.many = topdown.NewVirtualCache()
	for _, c := range m.constants {
		m.many.Put(c.ref, c.value)
	}
	next := 0
	for _, f := range append(slices.Clone(m.frames), memoFrame{entries: len(m.entries)}) {
		for ; next < f.entries; next++ {
			m.many.Put(m.ref(m.entries[next]), m.entries[next].value)
		}
		m.many.Push()
	}
	m.many.Pop() // the last one was no frame
}
