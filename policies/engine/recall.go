package engine

import (
	"encoding/binary"
	"hash/maphash"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
)

// recall remembers what the policy answered about proxied requests. A document
// has one value for one input, so that the same request need not be asked about
// twice; and of a request only those parts count that the document's rules can
// read, as the compiler knows them. With the default policy that leaves method,
// path, query and the names in the body, which the calls of one client share.
//
// It has a fixed number of places. Where a request's place is, nobody outside
// can tell; a newcomer takes the place of who was there.
type recall[V any] struct {
	parts  requestParts
	seed   maphash.Seed
	places []atomic.Pointer[recalled[V]]
}

type recalled[V any] struct {
	key   string
	value V
}

// DefaultRecall is the number of proxied requests that are remembered per document unless
// [WithRecall] says otherwise. They take 4 MiB at most.
const DefaultRecall = 4096

// recallMaxKey is the size, in bytes, from which on a request is not remembered.
const recallMaxKey = 1024

// newRecall returns a memory for a document whose rules read the given parts.
// Requests seldom have all their headers in common, so that a document that reads
// those is asked for each time.
func newRecall[V any](parts requestParts, places int) *recall[V] {
	m := &recall[V]{parts: parts, seed: maphash.MakeSeed()}
	if !parts.headers {
		m.places = make([]atomic.Pointer[recalled[V]], places)
	}
	return m
}

// place returns where r would be remembered, and the key that says whether it is;
// nil if nowhere. The key is in room if that is large enough.
func (m *recall[V]) place(r models.HTTPRequest, room []byte) (*atomic.Pointer[recalled[V]], []byte) {
	if len(m.places) == 0 {
		return nil, nil
	}
	key := m.parts.appendKey(room, r)
	if len(key) > recallMaxKey {
		return nil, nil
	}
	return &m.places[maphash.Bytes(m.seed, key)%uint64(len(m.places))], key
}

// get returns what is remembered of r.
func (m *recall[V]) get(r models.HTTPRequest) (value V, known bool) {
	var room [256]byte
	place, key := m.place(r, room[:0])
	if place == nil {
		return value, false
	}
	found := place.Load()
	if found == nil || found.key != string(key) {
		return value, false
	}
	return found.value, true
}

// put remembers the answer about r.
func (m *recall[V]) put(r models.HTTPRequest, value V) {
	if place, key := m.place(r, nil); place != nil {
		place.Store(&recalled[V]{key: string(key), value: value})
	}
}

// requestParts are parts of `input.http`.
type requestParts struct{ method, path, segments, query, headers, body bool }

// allParts is what a document reads if it cannot be told.
var allParts = requestParts{true, true, true, true, true, true}

// partsOf returns the parts of a request that the document at ref depends on.
func partsOf(c *ast.Compiler, ref ast.Ref) (parts requestParts) {
	eachInput(c, []ast.Ref{ref}, parts.add)
	return parts
}

// eachInput calls fn with each reference to the input in the rules that the documents at
// refs depend on.
func eachInput(c *ast.Compiler, refs []ast.Ref, fn func(ast.Ref)) {
	eachRule(c, refs, func(rule *ast.Rule) { eachInputOf(rule, fn) })
}

// eachInputOf calls fn with each reference to the input in a rule.
func eachInputOf(rule *ast.Rule, fn func(ast.Ref)) {
	ast.WalkRefs(rule, func(ref ast.Ref) bool {
		if ref.HasPrefix(ast.InputRootRef) {
			fn(ref)
		}
		return false
	})
}

// eachRule calls fn with each rule that the documents at refs depend on.
func eachRule(c *ast.Compiler, refs []ast.Ref, fn func(*ast.Rule)) {
	seen := map[*ast.Rule]bool{}
	var visit func(*ast.Rule)
	visit = func(rule *ast.Rule) {
		if seen[rule] {
			return
		}
		seen[rule] = true
		fn(rule)
		for dep := range c.Graph.Dependencies(rule) {
			if r, ok := dep.(*ast.Rule); ok {
				visit(r)
			}
		}
	}
	for _, ref := range refs {
		for _, rule := range c.GetRules(ref) {
			visit(rule)
		}
	}
}

// add adds what a reference to input reads.
func (p *requestParts) add(ref ast.Ref) {
	if len(ref) < 3 || !ref[1].Equal(key.http) {
		*p = allParts
		return
	}
	for _, part := range [...]struct {
		name *ast.Term
		read *bool
	}{
		{key.method, &p.method},
		{key.path, &p.path},
		{key.segments, &p.segments},
		{key.query, &p.query},
		{key.headers, &p.headers},
		{key.body, &p.body},
	} {
		if ref[2].Equal(part.name) {
			*part.read = true
			return
		}
	}
	*p = allParts
}

// appendKey appends those parts of r to b, in a form in which no two requests that
// differ in them are equal. Headers are not in it, see [newRecall].
func (p requestParts) appendKey(b []byte, r models.HTTPRequest) []byte {
	if p.method {
		b = appendText(b, r.Method)
	}
	if p.path {
		b = appendText(b, r.Path)
	}
	if p.segments {
		b = appendTexts(b, r.Segments)
	}
	if p.query {
		b = binary.AppendUvarint(b, uint64(len(r.Query)))
		for _, name := range slices.Sorted(maps.Keys(r.Query)) {
			b = appendTexts(appendText(b, name), r.Query[name])
		}
	}
	if p.body && r.Body != nil {
		b = binary.AppendUvarint(append(b, 1), uint64(len(r.Body.Fields)))
		for _, f := range r.Body.Fields {
			b = appendText(b, f.Name)
			if f.List {
				b = appendTexts(append(b, 1), f.Values)
			} else {
				b = appendText(append(b, 0), f.Value)
			}
		}
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTexts(b []byte, texts []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(texts)))
	for _, s := range texts {
		b = appendText(b, s)
	}
	return b
}
