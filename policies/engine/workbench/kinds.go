package workbench

import (
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
	"patrol/policies/engine"
)

// The bounds of times in the input, in Unix seconds: 2020, and the end of 9999.
const (
	firstSecond = 1577836800
	lastSecond  = 253402300799
)

// span is a range of numbers.
type span struct{ low, high float64 }

// spanOf returns the range of a number in the input.
func spanOf(path []string) (s span, ok bool) {
	switch strings.Join(path, ".") {
	case "now":
		return span{firstSecond, lastSecond}, true
	case "token.created_at", "token.expires_at":
		return span{0, lastSecond}, true
	case "domain.limits.max_lifetime":
		return span{0, lastSecond}, true
	}
	return span{}, false
}

// spanOfCall returns the range of the numbers that a function returns.
func spanOfCall(t *ast.Term, named map[ast.Var][]string) (s span, what string, ok bool) {
	call, isCall := t.Value.(ast.Call)
	if !isCall || len(call) < 2 {
		return span{}, "", false
	}
	switch call[0].String() {
	case ast.Count.Name:
		if f, known := factAt(pathIn(call[1], named)); known && f != nil && f.Type == "string" {
			return span{1, 400}, "what count returns of a text that is never empty", true
		}
		return span{0, lastSecond}, "what count returns", true
	case ast.StringCount.Name:
		return span{0, lastSecond}, "what strings.count returns", true
	case ast.IndexOf.Name:
		return span{-1, 400000}, "what indexof returns", true
	}
	return span{}, "", false
}

// narrow is the part of a span that a comparison leaves; ok is false if that is nothing.
func (s span) narrow(by string, n float64) (span, bool) {
	switch by {
	case ast.LessThan.Name:
		if n <= s.low {
			return s, false
		}
		s.high = min(s.high, n-1)
	case ast.LessThanEq.Name:
		s.high = min(s.high, n)
	case ast.GreaterThan.Name:
		if n >= s.high {
			return s, false
		}
		s.low = max(s.low, n+1)
	case ast.GreaterThanEq.Name:
		s.low = max(s.low, n)
	case ast.Equality.Name, ast.Equal.Name:
		if n < s.low || n > s.high {
			return s, false
		}
		s.low, s.high = n, n
	}
	return s, s.low <= s.high
}

var turned = map[string]string{
	ast.LessThan.Name: ast.GreaterThan.Name, ast.LessThanEq.Name: ast.GreaterThanEq.Name,
	ast.GreaterThan.Name: ast.LessThan.Name, ast.GreaterThanEq.Name: ast.LessThanEq.Name,
	ast.Equality.Name: ast.Equality.Name, ast.Equal.Name: ast.Equal.Name, ast.NotEqual.Name: ast.NotEqual.Name,
}

// apart reports conditions of one rule that no number, time or text can meet.
func (c *check) apart(add finder, in *reader, m *ast.Module, r *ast.Rule) {
	hides := c.hides(m.Package.Path, r)
	for ; r != nil; r = r.Else {
		named, bound := in.names(m, r), map[ast.Var][]*ast.Term{}
		spans, is, isNot := map[string]span{}, map[string]*ast.Term{}, map[string]*ast.Term{}
		said, walked := map[string]*ast.Expr{}, map[ast.Var][]string{}
		for _, e := range r.Body {
			l := placeIn(e, r)
			if len(e.With) > 0 {
				continue
			}
			positive := e.Copy()
			positive.Negated, positive.Index = false, 0
			key := positive.String()
			if was := said[key]; was != nil && was.Negated != e.Negated && len(positive.Vars(ast.SafetyCheckVisitorParams)) == 0 {
				add(codeNeverTrue, l, "this holds exactly where %s:%d does not", l.File, placeIn(was, r).Row)
			}
			said[key] = e
			t, isList := e.Terms.([]*ast.Term)
			if !isList || e.Negated || len(t) < 2 {
				continue
			}
			by := e.Operator().String()
			kinds(add, named, t, l)
			if len(t) != 3 {
				continue
			}
			if pair, ok := t[2].Value.(*ast.Array); by == ast.WalkBuiltin.Name && ok && pair.Len() == 2 {
				base := pathIn(t[1], named)
				if v, isVar := pair.Elem(0).Value.(ast.Var); isVar && (base != nil || t[1].Equal(ast.InputRootDocument) || t[1].Value.Compare(ast.InputRootRef) == 0) {
					walked[v] = append([]string{}, base...)
				}
			}
			walkedTo(add, walked, t, by, l)
			if v, isVar := t[1].Value.(ast.Var); isVar && by == ast.Assign.Name {
				delete(named, v)
				if path := pathIn(t[2], named); path != nil {
					named[v] = path
				}
				continue
			}
			if by == ast.Member.Name {
				c.nothingIn(add, in, m, t[2], bound, l)
				c.noKey(add, in, m, t[1], t[2], l)
			}
			if turned[by] == "" {
				continue
			}
			a, b := pathIn(t[1], named), pathIn(t[2], named)
			if len(a) > 0 && len(b) > 0 {
				inOrder(add, hides, a, b, by, l)
				inOrder(add, hides, b, a, turned[by], l)
				continue
			}
			for i, pair := range [][2]*ast.Term{{t[1], t[2]}, {t[2], t[1]}} {
				way := by
				if i == 1 {
					way = turned[by]
				}
				values := in.values(m, pair[1], bound)
				if len(values) != 1 {
					continue
				}
				path := pathIn(pair[0], named)
				at := strings.Join(path, ".")
				if way == ast.NotEqual.Name {
					if at != "" {
						if was := is[at]; was != nil && was.Equal(values[0]) {
							add(codeNeverTrue, l, "input.%s is %v, and here it must not be", at, was)
						}
						isNot[at] = values[0]
					}
					continue
				}
				if at != "" && (way == ast.Equality.Name || way == ast.Equal.Name) {
					if was := isNot[at]; was != nil && was.Equal(values[0]) {
						add(codeNeverTrue, l, "input.%s must not be %v, and here it must be", at, was)
					}
					is[at] = values[0]
				}
				number, isNumber := values[0].Value.(ast.Number)
				n, fits := number.Float64()
				if !isNumber || !fits {
					continue
				}
				if s, what, ok := spanOfCall(pair[0], named); ok {
					if _, ok := s.narrow(way, n); !ok {
						add(codeNeverTrue, l, "%s is never so", what)
					}
					continue
				}
				s, known := spans[at]
				if !known {
					if s, known = spanOf(path); !known {
						if f, ok := factAt(path); at == "" || !ok || f == nil || f.Type != "integer" {
							continue
						}
						s = span{-1e300, 1e300}
					}
				}
				left, ok := s.narrow(way, n)
				if !ok {
					why := ""
					if _, isTime := spanOf(path); isTime && at != "domain.limits.max_lifetime" {
						why = ": times are Unix seconds, such as 1790500000"
					}
					add(codeNeverTrue, l, "input.%s is never so, together with the conditions above%s", at, why)
				}
				spans[at] = left
			}
		}
	}
}

// walkedTo reports paths that walk never finds.
func walkedTo(add finder, walked map[ast.Var][]string, t []*ast.Term, by string, l *ast.Location) {
	if by != ast.Equality.Name && by != ast.Equal.Name {
		return
	}
	for _, pair := range [][2]*ast.Term{{t[1], t[2]}, {t[2], t[1]}} {
		v, isVar := pair[0].Value.(ast.Var)
		base, known := walked[v]
		to, isList := pair[1].Value.(*ast.Array)
		if !isVar || !known || !isList {
			continue
		}
		path := slices.Clone(base)
		for i := range to.Len() {
			name, ok := to.Elem(i).Value.(ast.String)
			if !ok {
				return
			}
			path = append(path, string(name))
		}
		if _, ok := factAt(path); !ok {
			add(codeNeverTrue, l, "there is no input.%s", strings.Join(path, "."))
		}
	}
}

// inOrder reports times that are compared in an order in which they never are.
func inOrder(add finder, hides bool, a, b []string, by string, l *ast.Location) {
	from, to := strings.Join(a, "."), strings.Join(b, ".")
	switch after := by == ast.GreaterThan.Name || by == ast.GreaterThanEq.Name; {
	case !after:
	case from == "token.created_at" && to == "token.expires_at":
		add(codeNeverTrue, l, "no token expires before it is made")
	case from == "now" && to == "token.expires_at" && hides:
		add(codeNeverTrue, l, "where a token has expired, that alone is told")
	}
}

// noKey reports keys that a data document does not have.
func (c *check) noKey(add finder, in *reader, m *ast.Module, key, of *ast.Term, l *ast.Location) {
	call, isCall := of.Value.(ast.Call)
	name, isText := key.Value.(ast.String)
	if !isCall || !isText || len(call) != 2 || call[0].String() != ast.ObjectKeys.Name {
		return
	}
	v, ok := c.dataFor(in, m, call[1])
	if obj, isObject := v.(object); ok && isObject {
		if _, has := obj[string(name)]; !has {
			add(codeNeverTrue, l, "there is no %v in %v", key, call[1])
		}
	}
}

// nothingIn reports membership in what is empty.
func (c *check) nothingIn(add finder, in *reader, m *ast.Module, of *ast.Term, bound map[ast.Var][]*ast.Term, l *ast.Location) {
	if values := in.values(m, of, bound); len(values) == 1 {
		if list, ok := values[0].Value.(interface{ Len() int }); ok && list.Len() == 0 {
			add(codeNeverTrue, l, "nothing is in %v, which is empty", of)
		}
		return
	}
	if v, ok := c.dataFor(in, m, of); ok {
		if list, isList := v.([]any); isList && len(list) == 0 {
			c.warn(engine.FindingsOf(engine.StageRules, codeOff, engine.AtLocation(l, errOff(of)))[0])
		}
	}
}

// dataFor is the data document that a reference leads to.
func (c *check) dataFor(in *reader, m *ast.Module, t *ast.Term) (v any, ok bool) {
	ref, isRef := t.Value.(ast.Ref)
	if !isRef {
		return nil, false
	}
	var path []string
	head, _ := ref[0].Value.(ast.Var)
	switch {
	case ref[0].Equal(ast.DefaultRootDocument):
	case in.data[m][head] != nil:
		path = slices.Clone(in.data[m][head])
	default:
		return nil, false
	}
	rest := texts(ref[1:])
	if len(rest) != len(ref)-1 {
		return nil, false
	}
	v = c.bundle.Data
	for _, name := range append(path, rest...) {
		of, isObject := v.(object)
		if !isObject {
			return nil, false
		}
		if v, ok = of[name]; !ok {
			return nil, false
		}
	}
	return v, true
}

// typeTests are functions that tell a type, with that of the schema.
var typeTests = map[string]string{
	"is_string": "string", "is_number": "integer", "is_boolean": "boolean", "is_object": "object", "is_null": "null", "is_array": "array", "is_set": "set",
}

// kinds reports tests of types that facts never have, texts in the wrong case, and what functions
// look for in the input that is not there.
func kinds(add finder, named map[ast.Var][]string, t []*ast.Term, l *ast.Location) {
	by := t[0].String()
	typed := func(of *ast.Term, want string) {
		path := pathIn(of, named)
		if f, ok := factAt(path); len(path) > 0 && ok && f != nil && f.Type != "" && f.Type != want {
			add(codeNeverTrue, l, "input.%s is %s, never of another type", strings.Join(path, "."), typeNames[f.Type])
		}
	}
	if want := typeTests[by]; want != "" {
		typed(t[1], want)
	}
	if len(t) != 3 {
		return
	}
	for _, pair := range [][2]*ast.Term{{t[1], t[2]}, {t[2], t[1]}} {
		call, isCall := pair[0].Value.(ast.Call)
		text, isText := pair[1].Value.(ast.String)
		if isCall && isText && len(call) == 2 && call[0].String() == "type_name" && (by == ast.Equal.Name || by == ast.Equality.Name) {
			want := string(text)
			if want == "number" {
				want = "integer"
			}
			typed(call[1], want)
		}
	}
	pattern, isText := t[1].Value.(ast.String)
	if letters := lettersOf(pathIn(t[2], named)); by == ast.RegexMatch.Name && isText && letters != nil {
		if re, err := syntax.Parse(string(pattern), syntax.Perl); err == nil && !possible(re, letters) {
			add(codeNeverTrue, l, "input.%s never has what %v looks for", strings.Join(pathIn(t[2], named), "."), t[1])
		}
	}
	switch by {
	case ast.StartsWith.Name, ast.EndsWith.Name, ast.Contains.Name:
		call, isCall := t[1].Value.(ast.Call)
		text, isText := t[2].Value.(ast.String)
		if !isCall || !isText || len(call) != 2 {
			return
		}
		switch name := call[0].String(); {
		case name == ast.Lower.Name && strings.ToLower(string(text)) != string(text):
			add(codeNeverTrue, l, "what lower returns never has %v in it, which has capitals", t[2])
		case name == ast.Upper.Name && strings.ToUpper(string(text)) != string(text):
			add(codeNeverTrue, l, "what upper returns never has %v in it, which has small letters", t[2])
		}
	}
}

// lettersOf returns the characters that a fact can have; nil: any.
func lettersOf(path []string) func(rune) bool {
	switch strings.Join(path, ".") {
	case "request.entity":
		return func(r rune) bool { return r > ' ' && r < 0x7f && r != '"' && r != '\\' }
	case "request.domain", "domain.id":
		return func(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' }
	case "user.email":
		return func(r rune) bool { return r >= ' ' && (r < 'A' || r > 'Z') }
	}
	return nil
}

// possible reports whether something that a regular expression matches can be made of letters.
func possible(re *syntax.Regexp, letters func(rune) bool) bool {
	sub := func(re *syntax.Regexp) bool { return possible(re, letters) }
	switch re.Op {
	case syntax.OpNoMatch:
		return false
	case syntax.OpLiteral:
		return !slices.ContainsFunc(re.Rune, func(r rune) bool {
			if re.Flags&syntax.FoldCase == 0 {
				return !letters(r)
			}
			for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
				if letters(f) {
					return false
				}
			}
			return !letters(r)
		})
	case syntax.OpCharClass:
		for i := 0; i+1 < len(re.Rune); i += 2 {
			for r := re.Rune[i]; r <= min(re.Rune[i+1], 0x17f); r++ {
				if letters(r) {
					return true
				}
			}
			if re.Rune[i+1] > 0x17f && letters(max(re.Rune[i], 0x180)) {
				return true
			}
		}
		return false
	case syntax.OpConcat:
		return !slices.ContainsFunc(re.Sub, func(re *syntax.Regexp) bool { return !sub(re) })
	case syntax.OpAlternate:
		return slices.ContainsFunc(re.Sub, sub)
	case syntax.OpCapture, syntax.OpPlus:
		return sub(re.Sub[0])
	case syntax.OpRepeat:
		return re.Min == 0 || sub(re.Sub[0])
	}
	return true
}

// spelled reports texts that a fact never has, as the server spells it.
func spelled(add finder, l literal) {
	text, ok := l.value.(string)
	if !ok || l.by == ast.NotEqual.Name {
		return
	}
	switch at := strings.Join(l.path, "."); at {
	case "request.domain", "domain.id":
		var v models.Invalid
		id := text
		if !l.whole {
			id = "a" + text
		}
		if models.ValidateDomainID("id", id, &v); v.Err() != nil && (l.whole || text != "") {
			add(codeNeverTrue, l.location, "no domain has %q in its id: those are of a-z, 0-9 and -", text)
		}
	case "request.entity":
		if (models.Request{Domain: "a", EntityType: "a", Operation: "a", Entity: text}).Validate() != nil && (l.whole || text != "") {
			add(codeNeverTrue, l.location, "no entity has %q in its name: those are of printable ASCII without space, quote and backslash", text)
		}
	case "user.email":
		if models.NormalizeEmail(text) != text && strings.TrimSpace(text) == text || l.whole && !strings.Contains(text, "@") {
			add(codeNeverTrue, l.location, "no user has %q in their address: those have small letters and an @", text)
		}
	}
}

// scopeKeys are the parts of a request by which scopes are found, level by level.
var scopeKeys = [][]string{{"domain", "entity"}, {"entity_type"}, {"operation"}, {"entity", "domain"}}

// keysOfScopes reports scopes that are looked up by the wrong part of the request.
func keysOfScopes(add finder, r *ast.Rule) {
	ast.WalkRefs(r, func(ref ast.Ref) bool {
		scopes := ast.MustParseRef("input.token.scopes")
		if !ref.HasPrefix(scopes) {
			return false
		}
		for i, t := range ref[len(scopes):] {
			key, ok := t.Value.(ast.Ref)
			if !ok || i >= len(scopeKeys) || len(key) != 3 || !key.HasPrefix(ast.MustParseRef("input.request")) {
				continue
			}
			if name := lastOf(key); !slices.Contains(scopeKeys[i], name) {
				l := ref[0].Location
				if l == nil {
					l = r.Location
				}
				add(codeNeverTrue, l, "scopes are found by domain, entity type, operation and entity, in this order, and input.request.%s is key %d here", name, i+1)
				return false
			}
		}
		return false
	})
}

// byText reports lists that are looked up by a text.
func (c *check) byText(add finder, in *reader, m *ast.Module, r *ast.Rule) {
	named := in.names(m, r)
	ast.WalkRefs(r, func(ref ast.Ref) bool {
		for i := 1; i < len(ref); i++ {
			path := pathIn(ref[i], named)
			f, known := factAt(path)
			if len(path) == 0 || !known || f == nil || f.Type != "string" {
				continue
			}
			if v, ok := c.dataFor(in, m, ast.NewTerm(ref[:i])); ok {
				if _, isList := v.([]any); isList {
					l := ref[0].Location
					if l == nil {
						l = r.Location
					}
					add(codeNeverTrue, l, "%s is a list, which has no element %s: write `input.%s in %s`", ref[:i], ref[i], strings.Join(path, "."), ref[:i])
				}
			}
		}
		return false
	})
}
