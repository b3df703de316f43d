package models

import (
	"bytes"
	"iter"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// HTTPRequest is a proxied request as the route policy sees it: canonical, and
// without anything secret.
type HTTPRequest struct {
	Method   string
	Path     string   // decoded once, cleaned, starting with /
	Segments []string // of Path, none of them empty
	// Escaped is the number, counted from 1, of the first segment that the client joined to the
	// next with an encoded slash; 0: there is none. A policy sees plain segments.
	Escaped int
	Query   map[string][]string // decoded; tokens masked
	// Headers returns the headers: names in lower case, values joined with ", ",
	// credentials and cookies absent. It is called if the policy looks at them, which
	// few do. nil: there are none.
	Headers func() map[string]string
	// HeaderNames are the names of all headers, as they came. nil: there are none.
	HeaderNames iter.Seq[string]
	Body        *HTTPBody // nil if there was none to look at
}

// HTTPBody is all that a policy learns of a request body: the fields that the route
// declares, as far as the body has them.
type HTTPBody struct {
	// Fields are the declared fields that the body has, in the order of the
	// declaration. A field that is the empty string names nothing and is left out.
	Fields []HTTPField
	// ContentType is the media type of the body as it was read, in the one spelling that every
	// reader takes for that. Whoever forwards the body says so, whatever the client said.
	ContentType string
}

// HTTPField is a declared field of a body.
type HTTPField struct {
	Name   string
	Value  string   // of a field that names one thing
	List   bool     // it names several
	Values []string // of a field that names several
}

// Field returns the value of a field that names one thing, "" if the body has none.
func (b *HTTPBody) Field(name string) string {
	for _, f := range b.Fields {
		if f.Name == name && !f.List {
			return f.Value
		}
	}
	return ""
}

// Model returns the one name that the fields give which name one thing, "" if they
// give none or several.
func (b *HTTPBody) Model() string {
	model := ""
	for _, f := range b.Fields {
		switch {
		case f.List:
		case model == "":
			model = f.Value
		case f.Value != model:
			return ""
		}
	}
	return model
}

// BodyNeed is the way in which a route reads a request's entity from its body.
type BodyNeed struct {
	Format BodyFormat
	// Fields are JSON keys or multipart part names, each of which may hold a name.
	Fields []string
	// Each are JSON keys which may hold several names: a list of strings, a list of
	// objects that name each theirs in one of Fields, or an object of strings. `tools[].model`
	// stands for the member `model` of each object in the list `tools`, where it is there.
	Each []string
	// Absent are patterns of keys that must not be there, see [Names]; `tools[].model` is as
	// above, and `tools[].parameters.model` the `model` of an object that is the member
	// `parameters` of one of those.
	Absent []string
	// Agree says that all of Fields must give the same name.
	Agree bool

	refused, declared *Names
	lists             map[string]*BodyList
}

// BodyList is a member of a JSON body that may hold several names.
type BodyList struct {
	Whole   bool              // its elements are names, or objects that name one
	Members map[string]string // of its objects, those that hold a name; and the entry of Each that says so
	Absent  *Names            // of its objects, those that must not be there
	members *Names
	within  []innerNames
}

// innerNames are names that must not be in an object, which is a member of an object in a list.
type innerNames struct{ member, absent *Names }

// Refuses reports whether an object in the list must not have a member of this name, which is
// not one of Members.
func (l *BodyList) Refuses(name string) bool { return l.Absent.Has(name) || l.members.Has(name) }

// Compiled returns need with what its other methods go by: itself
// if it has that.
func (n *BodyNeed) Compiled() *BodyNeed {
	if n.lists != nil {
		return n
	}
	compiled := *n
	compiled.compile()
	return &compiled
}

// RefusesIn reports whether an object that is this member of an object in the list must not have
// a member of this name. With the name "" it reports whether there are such names.
func (l *BodyList) RefusesIn(member, name string) bool {
	return slices.ContainsFunc(l.within, func(in innerNames) bool {
		return in.member.Has(member) && (name == "" || in.absent.Has(name))
	})
}

func (n *BodyNeed) compile() {
	n.lists = map[string]*BodyList{}
	list := func(name string) *BodyList {
		if n.lists[name] == nil {
			n.lists[name] = &BodyList{Members: map[string]string{}}
		}
		return n.lists[name]
	}
	for _, name := range n.Each {
		if of, member, ok := strings.Cut(name, membersOf); ok {
			list(of).Members[member] = name
		} else {
			list(name).Whole = true
		}
	}
	refused, within := []string{}, map[string][]string{}
	for _, name := range n.Absent {
		if of, member, ok := strings.Cut(name, membersOf); ok {
			list(of)
			within[of] = append(within[of], member)
		} else {
			refused = append(refused, name)
		}
	}
	for name, l := range n.lists {
		var own []string
		for _, pattern := range within[name] {
			if member, inner, ok := strings.Cut(pattern, "."); ok {
				l.within = append(l.within, innerNames{NewNames([]string{member}), NewNames([]string{inner})})
			} else {
				own = append(own, pattern)
			}
		}
		l.Absent, l.members = NewNames(own), NewNames(slices.Collect(maps.Keys(l.Members)))
	}
	n.refused, n.declared = NewNames(refused), NewNames(slices.Concat(n.Fields, slices.Collect(maps.Keys(n.lists))))
}

// membersOf stands between the name of a list and that of a member of its objects.
const membersOf = "[]."

// List returns how a member of a body is read that may hold several names, nil if name is none.
func (n *BodyNeed) List(name string) *BodyList { return n.lists[name] }

// Refuses reports whether some reader takes name for one of Absent.
func (n *BodyNeed) Refuses(name string) bool { return n.refused.Has(name) }

// Confuses reports whether some reader takes name for one of Fields or Each.
func (n *BodyNeed) Confuses(name string) bool { return n.declared.Has(name) }

// Confused returns which of Fields and Each some reader takes name for.
func (n *BodyNeed) Confused(name string) string {
	for _, field := range slices.Concat(n.Fields, n.Each) {
		if field, _, _ = strings.Cut(field, membersOf); NewNames([]string{field}).Has(name) {
			return field
		}
	}
	return ""
}

// Looks reports whether some reader takes name for one of Fields, Each or Absent.
func (n *BodyNeed) Looks(name string) bool { return n != nil && (n.Refuses(name) || n.Confuses(name)) }

// BodyFormat is the encoding that a route's upstream reads bodies in. It is the
// route that decides, never the request's Content-Type.
type BodyFormat string

// The body formats that are understood.
const (
	BodyJSON      BodyFormat = "json"
	BodyMultipart BodyFormat = "multipart"
)

// Names is a set of names of headers, query parameters or fields, to the most generous
// of readers: one that ignores case and everything but letters and digits, and takes what
// follows a bracket, a dot or a NUL for no part of it. Its patterns may begin and end with `*`,
// which stands for anything; one that begins with `!` is an exception. The zero value
// and nil have no names.
type Names struct {
	except   map[string]bool
	exact    map[string]bool
	prefixes [][]byte
	suffixes [][]byte
	parts    [][]byte
}

// NewNames returns the set of the patterns. One without a letter or digit is not in it.
func NewNames(patterns []string) *Names {
	n := &Names{exact: make(map[string]bool, len(patterns)), except: map[string]bool{}}
	for _, p := range patterns {
		before, after := strings.HasPrefix(p, "*"), strings.HasSuffix(p, "*")
		name := FoldName(nil, p)
		switch {
		case len(name) == 0:
		case p[0] == '!':
			n.except[string(name)] = true
		case before && after:
			n.parts = append(n.parts, name)
		case before:
			n.suffixes = append(n.suffixes, name)
		case after:
			n.prefixes = append(n.prefixes, name)
		default:
			n.exact[string(name)] = true
		}
	}
	return n
}

// Has reports whether some reader could take name for one of the set.
func (n *Names) Has(name string) bool {
	if n == nil {
		return false
	}
	var room [64]byte
	folded := FoldName(room[:0], name)
	if n.except[string(folded)] {
		return false
	}
	if n.hasFolded(folded) {
		return true
	}
	if at := strings.IndexAny(name, "[.\x00"); at > 0 {
		return n.hasFolded(FoldName(room[:0], name[:at]))
	}
	return false
}

func (n *Names) hasFolded(name []byte) bool {
	if n.exact[string(name)] {
		return true
	}
	for _, p := range n.parts {
		if bytes.Contains(name, p) {
			return true
		}
	}
	for _, p := range n.prefixes {
		if bytes.HasPrefix(name, p) {
			return true
		}
	}
	for _, p := range n.suffixes {
		if bytes.HasSuffix(name, p) {
			return true
		}
	}
	return false
}

// FoldName appends name to b without what readers ignore: case, by Unicode's simple
// folding, and all but letters and digits.
func FoldName(b []byte, name string) []byte {
	for _, r := range name {
		switch {
		case 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
			b = append(b, byte(r)) //nolint:gosec // ASCII
		case 'A' <= r && r <= 'Z':
			b = append(b, byte(r)+'a'-'A')
		case r < 0x80:
		case unicode.IsLetter(r) || unicode.IsDigit(r):
			b = append(b, string(smallestFold(r))...)
		}
	}
	return b
}

// smallestFold returns the one character that stands for all that r is another case of:
// the lower-case ASCII letter if there is one, so that the Kelvin sign is k and the long s is s.
func smallestFold(r rune) rune {
	lowest := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		lowest = min(lowest, f)
	}
	return unicode.ToLower(lowest)
}
