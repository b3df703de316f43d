package workbench

import (
	"maps"
	"slices"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/policies/engine"
)

// literal is a value that a rule compares a part of input with.
type literal struct {
	path     []string
	value    any
	term     *ast.Term
	whole    bool   // it is compared with as a whole; else it is a part of it
	by       string // the function that compares
	not      bool   // the comparison is negated
	location *ast.Location
}

// reader knows what names in the rules of a bundle stand for: parts of input that are imported,
// that a rule is for, or that a function is called with, and rules that are constant.
type reader struct {
	parts     map[*ast.Module]map[ast.Var][]string
	data      map[*ast.Module]map[ast.Var][]string
	params    map[*ast.Rule]map[ast.Var][]string
	constants map[string][]*ast.Term // by package and name
}

func newReader(b *engine.Bundle) *reader {
	in := &reader{map[*ast.Module]map[ast.Var][]string{}, map[*ast.Module]map[ast.Var][]string{}, map[*ast.Rule]map[ast.Var][]string{}, map[string][]*ast.Term{}}
	helpers := map[string]map[ast.Var][]string{} // by package
	for _, m := range b.Modules {
		in.parts[m], in.data[m] = map[ast.Var][]string{}, map[ast.Var][]string{}
		for _, i := range m.Imports {
			ref, ok := i.Path.Value.(ast.Ref)
			switch {
			case !ok:
			case ref[0].Equal(ast.InputRootDocument):
				in.parts[m][i.Name()] = texts(ref[1:])
			case ref[0].Equal(ast.DefaultRootDocument):
				in.data[m][i.Name()] = texts(ref[1:])
			}
		}
		for _, r := range m.Rules {
			if name, ok := r.Head.Ref()[0].Value.(ast.Var); ok && isConstant(r) && len(r.Head.Ref()) == 1 {
				in.helper(m, name, r, helpers)
			}
		}
	}
	for range 3 { // what a part of a part is
		for _, m := range b.Modules {
			pkg := m.Package.Path.String()
			for name, path := range helpers[pkg] {
				if _, imported := in.parts[m][name]; !imported {
					in.parts[m][name] = path
				}
			}
			for _, r := range m.Rules {
				name, ok := r.Head.Ref()[0].Value.(ast.Var)
				if ok && isConstant(r) && len(r.Head.Ref()) == 1 && r.Head.Value != nil && helpers[pkg][name] == nil {
					if path := pathIn(r.Head.Value, in.parts[m]); path != nil {
						helpers[pkg] = grown(helpers[pkg], name, path)
					}
				}
			}
		}
	}
	in.calls(b)
	return in
}

func grown(m map[ast.Var][]string, name ast.Var, path []string) map[ast.Var][]string {
	if m == nil {
		m = map[ast.Var][]string{}
	}
	m[name] = path
	return m
}

// helper notes a rule that is one value: a part of input, or a constant.
func (in *reader) helper(m *ast.Module, name ast.Var, r *ast.Rule, helpers map[string]map[ast.Var][]string) {
	pkg := m.Package.Path.String()
	key := pkg + "." + string(name)
	switch {
	case r.Head.Value == nil && r.Head.Key != nil && ast.IsConstant(r.Head.Key.Value): // contains
		in.constants[key] = append(in.constants[key], r.Head.Key)
	case r.Head.Value == nil:
	case ast.IsConstant(r.Head.Value.Value), isTable(r.Head.Value):
		in.constants[key] = append(in.constants[key], r.Head.Value)
	default:
		if path := pathIn(r.Head.Value, in.parts[m]); path != nil {
			helpers[pkg] = grown(helpers[pkg], name, path)
		}
	}
}

// isTable reports whether a term is an object with keys that are constant.
func isTable(t *ast.Term) bool {
	obj, ok := t.Value.(ast.Object)
	return ok && !slices.ContainsFunc(obj.Keys(), func(k *ast.Term) bool { return !ast.IsConstant(k.Value) })
}

// calls notes what functions are called with, where it is one part of input at each call.
func (in *reader) calls(b *engine.Bundle) {
	for range 2 { // functions that call functions
		for _, m := range b.Modules {
			given := map[ast.Var]map[int][]string{}
			unclear := map[ast.Var]map[int]bool{}
			look := func(parts map[ast.Var][]string, terms []*ast.Term) {
				ref, ok := terms[0].Value.(ast.Ref)
				if !ok || len(ref) != 1 {
					return
				}
				name, _ := ref[0].Value.(ast.Var)
				for i, t := range terms[1:] {
					path := pathIn(t, parts)
					if given[name] == nil {
						given[name], unclear[name] = map[int][]string{}, map[int]bool{}
					}
					if was, known := given[name][i]; path == nil || known && !slices.Equal(was, path) {
						unclear[name][i] = true
					}
					given[name][i] = path
				}
			}
			for _, r := range m.Rules {
				parts := in.names(m, r)
				ast.WalkExprs(r, func(e *ast.Expr) bool {
					if terms, ok := e.Terms.([]*ast.Term); ok {
						look(parts, terms)
					}
					return false
				})
				ast.WalkTerms(r, func(t *ast.Term) bool {
					if call, ok := t.Value.(ast.Call); ok {
						look(parts, call)
					}
					return false
				})
			}
			for _, r := range m.Rules {
				name, ok := r.Head.Ref()[0].Value.(ast.Var)
				for i, arg := range r.Head.Args {
					v, isVar := arg.Value.(ast.Var)
					if !isVar {
						v = argumentName(i)
					}
					if path := given[name][i]; ok && path != nil && !unclear[name][i] {
						in.params[r] = grown(in.params[r], v, path)
					}
				}
			}
		}
	}
}

// names returns the names of parts of input in a rule, without those that its body adds.
func (in *reader) names(m *ast.Module, r *ast.Rule) map[ast.Var][]string {
	named := map[ast.Var][]string{}
	maps.Copy(named, in.parts[m])
	for _, arg := range r.Head.Args {
		if v, ok := arg.Value.(ast.Var); ok {
			delete(named, v)
		}
	}
	maps.Copy(named, in.params[r])
	return named
}

// pathIn is the part of input that a term is, nil if it is none, or if the path to it is not
// all texts. object.get with constant keys is such a path.
func pathIn(t *ast.Term, named map[ast.Var][]string) []string {
	switch v := t.Value.(type) {
	case ast.Var:
		return named[v]
	case ast.Ref:
		var path []string
		head, _ := v[0].Value.(ast.Var)
		switch {
		case v[0].Equal(ast.InputRootDocument):
		case named[head] != nil:
			path = slices.Clone(named[head])
		default:
			return nil
		}
		for _, t := range v[1:] {
			text, ok := t.Value.(ast.String)
			if !ok {
				return nil
			}
			path = append(path, string(text))
		}
		return path
	case ast.Call:
		if len(v) != 4 || v[0].String() != ast.ObjectGet.Name {
			return nil
		}
		path := pathIn(v[1], named)
		if ref, ok := v[1].Value.(ast.Ref); path == nil && (!ok || len(ref) != 1 || !ref[0].Equal(ast.InputRootDocument)) {
			return nil
		}
		return keyed(slices.Clone(path), v[2])
	}
	return nil
}

// keyed is a path with the key, or the keys, of object.get.
func keyed(path []string, key *ast.Term) []string {
	switch k := key.Value.(type) {
	case ast.String:
		return append(path, string(k))
	case *ast.Array:
		for i := range k.Len() {
			text, ok := k.Elem(i).Value.(ast.String)
			if !ok {
				return nil
			}
			path = append(path, string(text))
		}
		return path
	}
	return nil
}

// values are the constants that a term stands for: it is one, or a rule is, or an element
// of a list is taken for it.
func (in *reader) values(m *ast.Module, t *ast.Term, bound map[ast.Var][]*ast.Term) []*ast.Term {
	if ast.IsConstant(t.Value) {
		return []*ast.Term{t}
	}
	v, ok := t.Value.(ast.Var)
	if ref, isRef := t.Value.(ast.Ref); isRef && len(ref) == 1 {
		v, ok = ref[0].Value.(ast.Var)
	}
	switch {
	case !ok:
		return nil
	case bound[v] != nil:
		return bound[v]
	}
	return in.constants[m.Package.Path.String()+"."+string(v)]
}

// elements are the constants in a list or a set, or the keys of an object.
func elements(all []*ast.Term, keys bool) (found []*ast.Term) {
	add := func(t *ast.Term) { found = append(found, t) }
	for _, t := range all {
		switch v := t.Value.(type) {
		case *ast.Array:
			if !keys {
				v.Foreach(add)
			}
		case ast.Set:
			v.Foreach(add)
		case ast.Object:
			v.Foreach(func(k, x *ast.Term) {
				if keys {
					add(k)
				} else {
					add(x)
				}
			})
		default:
			add(t) // a rule that contains it
		}
	}
	return found
}

// literals finds the values that a rule, as it was parsed, compares input with.
func (in *reader) literals(m *ast.Module, r *ast.Rule) (found []literal) {
	named, bound, negated := in.names(m, r), map[ast.Var][]*ast.Term{}, false
	alternatives := map[ast.Var]*ast.Term{}
	note := func(ref *ast.Term, values []*ast.Term, whole bool, by string, l *ast.Location) {
		path := pathIn(ref, named)
		if len(path) == 0 || len(path) == 1 && path[0] != "now" {
			return
		}
		for _, value := range values {
			if otherwise := defaults(ref, alternatives); otherwise != nil && otherwise.Equal(value) {
				continue // what object.get gives where there is nothing
			}
			switch value.Value.(type) {
			case ast.String, ast.Number, ast.Boolean, ast.Null:
				at := l
				if value.Location != nil && value.Location.File != "" {
					at = value.Location
				}
				found = append(found, literal{path, constantOf(value), value, whole, by, negated, at})
			}
		}
	}
	for i, arg := range r.Head.Args { // f("value") := …
		note(ast.NewTerm(argumentName(i)), in.values(m, arg, bound), true, ast.Equality.Name, r.Location)
	}
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		l := e.Location
		if l == nil {
			l = r.Location
		}
		negated = e.Negated
		if bare, ok := e.Terms.(*ast.Term); ok { // input.user.admin
			path := pathIn(bare, named)
			f, known := factAt(path)
			if known && (f == nil && !e.Negated || f != nil && f.Type == "boolean") {
				note(bare, []*ast.Term{ast.BooleanTerm(!e.Negated)}, true, ast.Equality.Name, l)
			}
		}
		in.lookUps(m, e, bound, func(key *ast.Term, values []*ast.Term) { note(key, values, true, ast.Member.Name, l) })
		switch d := e.Terms.(type) {
		case *ast.Every:
			if v, ok := d.Value.Value.(ast.Var); ok {
				bound[v] = elements(in.values(m, d.Domain, bound), false)
			}
			return false
		case *ast.SomeDecl:
			if call, ok := d.Symbols[0].Value.(ast.Call); ok && len(call) >= 3 {
				if v, ok := call[len(call)-2].Value.(ast.Var); ok {
					bound[v] = elements(in.values(m, call[len(call)-1], bound), false)
				}
			}
			return false
		}
		terms, ok := e.Terms.([]*ast.Term)
		if !ok || len(terms) < 3 {
			return false
		}
		switch name := e.Operator().String(); name {
		case ast.Assign.Name, ast.Equality.Name, ast.Equal.Name, ast.NotEqual.Name:
			if v, isVar := terms[1].Value.(ast.Var); isVar && name != ast.NotEqual.Name {
				if path := pathIn(terms[2], named); path != nil {
					named[v], alternatives[v] = path, defaults(terms[2], alternatives)
				} else if name == ast.Assign.Name {
					delete(named, v)
					bound[v] = in.values(m, terms[2], bound)
				}
			}
			whole := name != ast.NotEqual.Name
			note(terms[1], in.values(m, terms[2], bound), whole, name, l)
			note(terms[2], in.values(m, terms[1], bound), whole, name, l)
		case ast.Member.Name:
			note(terms[1], elements(in.values(m, terms[2], bound), false), true, name, l)
		case ast.StartsWith.Name, ast.EndsWith.Name, ast.Contains.Name:
			note(terms[1], in.values(m, terms[2], bound), false, name, l)
		case ast.LessThan.Name, ast.LessThanEq.Name, ast.GreaterThan.Name, ast.GreaterThanEq.Name:
			note(terms[1], in.values(m, terms[2], bound), false, name, l)
			note(terms[2], in.values(m, terms[1], bound), false, name, l)
		}
		return false
	})
	negated = false
	for _, t := range []*ast.Term{r.Head.Key, r.Head.Value} {
		if t == nil {
			continue
		}
		ast.WalkTerms(t, func(x *ast.Term) bool {
			in.lookUps(m, ast.NewExpr(x), bound, func(key *ast.Term, values []*ast.Term) { note(key, values, true, ast.Member.Name, r.Location) })
			return false
		})
	}
	return found
}

// defaults returns the default of an object.get of the input; nil if the term is no such call.
func defaults(t *ast.Term, of map[ast.Var]*ast.Term) *ast.Term {
	switch v := t.Value.(type) {
	case ast.Var:
		return of[v]
	case ast.Call:
		if len(v) == 4 && v[0].String() == ast.ObjectGet.Name {
			return v[3]
		}
	}
	return nil
}

// argumentName returns the name of a constant argument.
func argumentName(i int) ast.Var { return ast.Var("argument " + strconv.Itoa(i)) }

// lookUps calls do with each part of input by which something constant is looked up.
func (in *reader) lookUps(m *ast.Module, e *ast.Expr, bound map[ast.Var][]*ast.Term, do func(key *ast.Term, values []*ast.Term)) {
	terms := []*ast.Term{}
	switch t := e.Terms.(type) {
	case *ast.Term:
		terms = append(terms, t)
	case []*ast.Term:
		terms = t
	}
	for _, t := range terms {
		if ref, ok := t.Value.(ast.Ref); ok && len(ref) > 1 {
			head := ref[0]
			if all := in.values(m, head, bound); len(all) > 0 {
				do(ref[1], elements(all, true))
			}
		}
	}
}
