package engine

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// OPA's sets and objects find elements by a hash that is easily the same for many: a number's
// is its whole part, an array's the sum of those of its elements. In a set each element
// then takes the next free place, so that to make a set of n such elements takes n² looks.
// While a rule makes one, the clock is looked at after each element; a built-in function
// makes it in one go. So the looks that it would take are counted beforehand.
const (
	maxLooks = 1 << 17
	// fewElements take no more looks than maxLooks, whatever their hashes are.
	fewElements = 512
)

// crowded bounds functions that put the elements of sets, or the keys of objects, into a
// new one, or look one up in the other. deep is for sets of sets, and arrays of objects.
func crowded(deep bool) bound {
	return func(args []*ast.Term) error {
		all := args
		if deep {
			all = elementsOf(args[0])
		}
		n := 0
		for _, t := range all {
			n += length(t)
		}
		if n <= fewElements {
			return nil
		}
		elements := make([]hashed, 0, n)
		for _, t := range all {
			eachElement(t, func(x *ast.Term) { elements = append(elements, hashed{x.Hash(), x}) })
		}
		return looks(elements)
	}
}

// hashed is an element with its hash.
type hashed struct {
	hash int
	*ast.Term
}

// looks bounds what a set of these elements takes, in whatever order they come. Where one
// is there twice, it is found at its place.
func looks(elements []hashed) error {
	slices.SortFunc(elements, func(a, b hashed) int { return cmp.Compare(a.hash, b.hash) })
	n, next := 0, 0
	for i, x := range elements {
		if i > 0 && x.hash == elements[i-1].hash && same(x.Term, elements[i-1].Term) {
			continue
		}
		if i == 0 || x.hash > next {
			next = x.hash
		}
		if n += next - x.hash; n > maxLooks {
			return tooMuch("looks at elements with like hashes", maxLooks)
		}
		next++
	}
	return nil
}

// same reports whether two elements are one number or text.
func same(a, b *ast.Term) bool {
	switch v := a.Value.(type) {
	case ast.Number:
		return v == b.Value
	case ast.String:
		return v == b.Value
	}
	return false
}

// eachElement calls do with the elements of an array or set, and the keys of an object.
func eachElement(t *ast.Term, do func(*ast.Term)) {
	switch v := t.Value.(type) {
	case *ast.Array:
		v.Foreach(do)
	case ast.Set:
		for _, x := range v.Slice() {
			do(x)
		}
	case ast.Object:
		v.Foreach(func(k, _ *ast.Term) { do(k) })
	}
}

func elementsOf(t *ast.Term) (all []*ast.Term) {
	eachElement(t, func(x *ast.Term) { all = append(all, x) })
	return all
}

// merged bounds the union of objects, which goes down into them.
func merged(args []*ast.Term) error {
	const small = fewElements / 2 * perElement
	if !slices.ContainsFunc(args, func(t *ast.Term) bool { return size(t.Value, small) > small }) {
		return nil // it has few parts; most calls end here, and allocate nothing
	}
	n := 0
	var count func(o ast.Object)
	count = func(o ast.Object) {
		if o.Len() > fewElements/2 {
			at := map[int]int{}
			o.Foreach(func(k, _ *ast.Term) {
				h := k.Hash()
				at[h]++
				n += at[h]
			})
			n -= o.Len()
		}
		o.Foreach(func(_, v *ast.Term) {
			if inner, ok := v.Value.(ast.Object); ok && n <= maxLooks {
				count(inner)
			}
		})
	}
	for _, t := range args {
		switch v := t.Value.(type) {
		case ast.Object:
			count(v)
		case *ast.Array:
			v.Foreach(func(x *ast.Term) {
				if o, ok := x.Value.(ast.Object); ok && n <= maxLooks {
					count(o)
				}
			})
		}
	}
	if n > maxLooks/4 {
		return tooMuch("looks at keys with like hashes", maxLooks/4)
	}
	return nil
}

// subset bounds object.subset: an array is looked for at each place of another.
func subset(args []*ast.Term) error {
	_, ok1 := args[0].Value.(ast.Set)
	_, ok2 := args[1].Value.(ast.Set)
	if ok1 && ok2 {
		return crowded(false)(args)
	}
	if err := merged(args); err != nil {
		return err
	}
	if n, m := inLists(args[0], maxPairs), inLists(args[1], maxPairs); m > 0 && n > maxPairs/m {
		return tooMuch("comparisons", maxPairs)
	}
	return nil
}

// inLists counts the elements of all arrays and sets in a value, up to most.
func inLists(t *ast.Term, most int) (n int) {
	switch v := t.Value.(type) {
	case *ast.Array:
		n = v.Len()
		v.Until(func(x *ast.Term) bool { n += inLists(x, most-n); return n > most })
	case ast.Set:
		n = v.Len()
	case ast.Object:
		v.Until(func(_, x *ast.Term) bool { n += inLists(x, most-n); return n > most })
	}
	return n
}

// patches bounds json.patch: each operation may move all of an array, or copy it.
func patches(args []*ast.Term) error {
	n := 1 + inLists(args[0], maxPairs) + inLists(args[1], maxPairs)
	if ops := length(args[1]); n > maxPairs/max(ops, 1) {
		return tooMuch("elements times operations", maxPairs)
	}
	return nil
}

// sought bounds a search for a text within a text that is not ASCII, which compares at each
// place.
func sought(args []*ast.Term) error {
	text, part := textAt(args, 0), textAt(args, 1)
	for i := range len(text) {
		if text[i] >= 0x80 {
			return products(args)
		}
	}
	for i := range len(part) {
		if part[i] >= 0x80 {
			return products(args)
		}
	}
	return nil
}

// matches bounds net.cidr_contains_matches by what it finds, which is a set of pairs.
func matches(args []*ast.Term) error {
	if n := length(args[0]) * length(args[1]); n > maxNetworkPairs {
		return tooMuch("comparisons of networks", maxNetworkPairs)
	} else if n <= fewElements {
		return nil
	}
	ones, others := networksOf(args[0]), networksOf(args[1])
	var found []hashed
	for _, one := range ones {
		for _, other := range others {
			if one.Overlaps(other.Prefix) {
				found = append(found, hashed{one.hash + other.hash, ast.NullTerm()})
			}
		}
	}
	return looks(found)
}

// maxNetworkPairs bounds how many networks are compared with each other.
const maxNetworkPairs = 1 << 14

// network is a network, with the hash of what it is known by in a result.
type network struct {
	netip.Prefix
	hash int
}

// networksOf reads what net.cidr_contains_matches takes. It leaves out what is no network:
// the function fails there.
func networksOf(t *ast.Term) (all []network) {
	add := func(x, by *ast.Term) {
		if list, ok := x.Value.(*ast.Array); ok && list.Len() > 0 {
			x = list.Elem(0)
		}
		text := string(textOfValue(x.Value))
		p, err := netip.ParsePrefix(text)
		if err != nil {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		all = append(all, network{netip.PrefixFrom(p.Addr().Unmap().WithZone(""), unmapped(p)), by.Hash()})
	}
	switch v := t.Value.(type) {
	case *ast.Array:
		for i := range v.Len() {
			add(v.Elem(i), ast.InternedTerm(i))
		}
	case ast.Object:
		v.Foreach(func(k, x *ast.Term) { add(x, k) })
	default:
		eachElement(t, func(x *ast.Term) { add(x, x) })
	}
	return all
}

// unmapped is the length of a prefix, where an IPv4 address may be written as one of IPv6.
func unmapped(p netip.Prefix) int {
	if p.Addr().Is4In6() {
		return max(p.Bits()-96, 0)
	}
	return p.Bits()
}

// reached bounds graph.reachable: the nodes that it has been at are a set.
func reached(args []*ast.Term) error {
	n, texts := length(args[1]), true
	count := func(x *ast.Term) {
		n++
		if _, ok := x.Value.(ast.String); !ok {
			texts = false
		}
	}
	if graph, ok := args[0].Value.(ast.Object); ok {
		graph.Foreach(func(k, to *ast.Term) {
			count(k)
			eachElement(to, count)
		})
	}
	if !texts && n > fewElements {
		return tooMuch("nodes that are no texts", fewElements)
	}
	return nil
}
