package workbench

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
	"patrol/policies"
	"patrol/policies/engine"
)

// fact is a place in the input of decisions, as its schema says.
type fact struct {
	Type       string           `json:"type"`
	Properties map[string]*fact `json:"properties"`
}

var decisionInput = sync.OnceValue(func() *fact {
	var f fact
	content, err := policies.FS.ReadFile("schemas/authz_input.json")
	if err != nil || json.Unmarshal(content, &f) != nil {
		return &fact{}
	}
	return &f
})

// factAt returns what is at a path, nil where anything may be; ok is false where nothing is.
func factAt(path []string) (f *fact, ok bool) {
	f = decisionInput()
	for _, name := range path {
		if f == nil || f.Properties == nil {
			return nil, f == nil || f.Type == "object"
		}
		if f = f.Properties[name]; f == nil {
			return nil, false
		}
	}
	return f, true
}

// typeOf is the type that a schema has for a value.
func typeOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	}
	return "integer"
}

var typeNames = map[string]string{"integer": "a number", "string": "a text", "boolean": "true or false", "object": "an object", "null": "null"}

// neverTrue finds what cannot be: comparisons of input with what it never is, conditions that
// exclude each other, and data that there are not.
func (c *check) neverTrue(add finder) {
	catalog := c.snapshot.Catalog()
	var types, operations, roles []string
	for name, t := range catalog.EntityTypes {
		types = append(types, name)
		for operation := range t.Operations {
			operations = append(operations, operation)
		}
	}
	for name := range catalog.Roles {
		roles = append(roles, name)
	}
	known := map[string][]string{
		"request.entity_type": types, "request.operation": operations, "membership.role": roles,
		"domain.status": {string(models.DomainEnabled), string(models.DomainIsDisabled), string(models.DomainIsFrozen)},
	}
	in, given := newReader(c.bundle), ruledBy(c.bundle)
	for _, m := range c.modules {
		pkg := m.Package.Path
		aside := pkg.HasPrefix(ast.MustParseRef("data.patrol.http")) || pkg.HasPrefix(ast.MustParseRef("data.patrol.log"))
		for _, r := range m.Rules {
			if defaultRules()[r.String()] {
				continue
			}
			c.noData(add, in, given, m, r)
			if aside { // a document there may be undefined on purpose
				continue
			}
			impossible(add, r)
			if pkg.Equal(authzPackage) { // which judges facts of types that they should not have
				continue
			}
			for _, l := range in.literals(m, r) {
				neverEqual(add, l, known)
				spelled(add, l)
			}
			c.apart(add, in, m, r)
			c.byText(add, in, m, r)
			keysOfScopes(add, r)
			excluding(add, in, m, r, catalog)
			noFact(add, in, m, r)
		}
	}
}

// neverEqual reports a comparison with what a part of input cannot be.
func neverEqual(add finder, l literal, known map[string][]string) {
	at := strings.Join(l.path, ".")
	f, ok := factAt(l.path)
	text, isText := l.value.(string)
	names := known[at]
	switch {
	case !ok || f == nil: // which is told where it is read, or may be anything
	case f.Type != typeOf(l.value) && l.whole:
		add(codeNeverTrue, l.location, "input.%s is %s, never %v", at, typeNames[f.Type], l.term)
	case f.Type != typeOf(l.value) && l.by != ast.NotEqual.Name:
		add(codeNeverTrue, l.location, "input.%s is %s, and Rego orders it with %v by their types alone", at, typeNames[f.Type], l.term)
	case !isText || names == nil:
	case l.whole && !slices.Contains(names, text):
		add(codeNeverTrue, l.location, "input.%s is never %v: %s", at, l.term, neverHints[at])
	case !slices.ContainsFunc(names, func(name string) bool { return partOf(l.by, name, text) }):
		add(codeNeverTrue, l.location, "input.%s never has %v there: %s", at, l.term, neverHints[at])
	}
}

func partOf(by, name, part string) bool {
	switch by {
	case ast.StartsWith.Name:
		return strings.HasPrefix(name, part)
	case ast.EndsWith.Name:
		return strings.HasSuffix(name, part)
	case ast.Contains.Name:
		return strings.Contains(name, part)
	}
	return true
}

// impossible reports conditions of a rule that do not hold whatever the input is.
func impossible(add finder, r *ast.Rule) {
	for ; r != nil; r = r.Else {
		for _, e := range r.Body {
			if len(e.With) > 0 {
				continue
			}
			switch t := e.Terms.(type) {
			case *ast.Term:
				if is, ok := t.Value.(ast.Boolean); ok && bool(is) == e.Negated {
					add(codeNeverTrue, placeIn(e, r), "this never holds")
				}
			case []*ast.Term:
				if len(t) != 3 || e.Negated {
					continue
				}
				name := e.Operator().String()
				equal := name == ast.Equality.Name || name == ast.Equal.Name
				if equal && ast.IsConstant(t[1].Value) && ast.IsConstant(t[2].Value) && !t[1].Equal(t[2]) {
					add(codeNeverTrue, placeIn(e, r), "%v is never %v", t[1], t[2])
				}
				if equal || name == ast.Member.Name {
					cased(add, e, r, t[1], t[2])
					cased(add, e, r, t[2], t[1])
				}
			}
		}
	}
}

// cased reports a text in lower case that is compared with one that has capitals, and the
// other way round.
func cased(add finder, e *ast.Expr, r *ast.Rule, call, with *ast.Term) {
	of, ok := call.Value.(ast.Call)
	if !ok || len(of) != 2 || !ast.IsConstant(with.Value) {
		return
	}
	for _, t := range elements([]*ast.Term{with}, false) {
		text, _ := t.Value.(ast.String)
		switch name := of[0].String(); {
		case name == ast.Lower.Name && strings.ToLower(string(text)) != string(text):
			add(codeNeverTrue, placeIn(e, r), "what lower returns is never %v, which has capitals", t)
		case name == ast.Upper.Name && strings.ToUpper(string(text)) != string(text):
			add(codeNeverTrue, placeIn(e, r), "what upper returns is never %v, which has small letters", t)
		}
	}
}

func placeIn(e *ast.Expr, r *ast.Rule) *ast.Location {
	if e.Location != nil {
		return e.Location
	}
	return r.Location
}

// excluding reports conditions of one rule that exclude each other: one place that must be two
// values, and an operation that the entity type has not.
func excluding(add finder, in *reader, m *ast.Module, r *ast.Rule, catalog models.Catalog) {
	for ; r != nil; r = r.Else {
		is, named := map[string]*ast.Term{}, in.names(m, r)
		for _, e := range r.Body {
			t, ok := e.Terms.([]*ast.Term)
			if !ok || len(t) != 3 || e.Negated || len(e.With) > 0 {
				continue
			}
			if v, isVar := t[1].Value.(ast.Var); isVar && e.Operator().String() == ast.Assign.Name {
				delete(named, v)
				if path := pathIn(t[2], named); path != nil {
					named[v] = path
				}
				continue
			}
			if name := e.Operator().String(); name != ast.Equality.Name && name != ast.Equal.Name {
				continue
			}
			for _, pair := range [][2]*ast.Term{{t[1], t[2]}, {t[2], t[1]}} {
				path := pathIn(pair[0], named)
				if len(path) < 2 || !ast.IsConstant(pair[1].Value) {
					continue
				}
				at := strings.Join(path, ".")
				if was := is[at]; was != nil && !was.Equal(pair[1]) {
					add(codeNeverTrue, placeIn(e, r), "input.%s is not %v and %v at once", at, was, pair[1])
				}
				is[at] = pair[1]
				if at != "request.entity_type" && at != "request.operation" || is["request.entity_type"] == nil || is["request.operation"] == nil {
					continue
				}
				kind, _ := is["request.entity_type"].Value.(ast.String)
				what, _ := is["request.operation"].Value.(ast.String)
				if of, ok := catalog.EntityTypes[string(kind)]; ok {
					if _, has := of.Operations[string(what)]; !has {
						add(codeNeverTrue, placeIn(e, r), "the entity type %s of the catalog has no operation %s", kind, what)
					}
				}
			}
		}
	}
}

// noFact reports parts of input that there are not, where OPA's types do not show it: behind
// object.get, and behind the arguments of functions.
func noFact(add finder, in *reader, m *ast.Module, r *ast.Rule) {
	named := in.names(m, r)
	ast.WalkTerms(r, func(t *ast.Term) bool {
		path := []string{}
		switch v := t.Value.(type) {
		case ast.Call:
			path = pathIn(t, named)
			for _, p := range filtered(v) {
				if _, ok := factAt(p); !ok {
					add(codeNeverTrue, r.Location, "there is no input.%s", strings.Join(p, "."))
				}
			}
		case ast.Ref:
			head, _ := v[0].Value.(ast.Var)
			if named[head] == nil {
				return false
			}
			path = append(slices.Clone(named[head]), texts(v[1:])...)
		}
		if _, ok := factAt(path); !ok {
			l := t.Location
			if l == nil {
				l = r.Location
			}
			add(codeNeverTrue, l, "there is no input.%s", strings.Join(path, "."))
		}
		return false
	})
}

// filtered are the parts of the input that json.filter or json.remove is given.
func filtered(call ast.Call) (paths [][]string) {
	name := call[0].String()
	if name != ast.JSONFilter.Name && name != ast.JSONRemove.Name || len(call) < 3 || !call[1].Equal(ast.NewTerm(ast.InputRootRef)) && !call[1].Equal(ast.InputRootDocument) {
		return nil
	}
	for _, t := range elements([]*ast.Term{call[2]}, false) {
		if text, ok := t.Value.(ast.String); ok {
			paths = append(paths, strings.Split(strings.Trim(string(text), "/"), "/"))
		}
	}
	return paths
}

// noData reports data that no document and no rule gives.
func (c *check) noData(add finder, in *reader, given ruled, m *ast.Module, r *ast.Rule) {
	ast.WalkRefs(r, func(ref ast.Ref) bool {
		head, _ := ref[0].Value.(ast.Var)
		var path []string
		switch {
		case ref[0].Equal(ast.DefaultRootDocument):
			path = texts(ref[1:])
		case in.data[m][head] != nil:
			path = append(slices.Clone(in.data[m][head]), texts(ref[1:])...)
		}
		if len(path) == 0 || c.hasData(given, path) {
			return false
		}
		l := ref[0].Location
		if l == nil {
			l = r.Location
		}
		add(codeNeverTrue, l, "there is no data.%s: no document has it, and no rule gives it", strings.Join(path, "."))
		return false
	})
}

// ruled holds the paths of data that rules give, and those above them.
type ruled struct{ rules, within map[string]bool }

func ruledBy(b *engine.Bundle) ruled {
	given := ruled{map[string]bool{}, map[string]bool{}}
	for _, m := range b.Modules {
		for _, r := range m.Rules {
			path := texts(append(m.Package.Path[1:].Copy(), headOf(r)...))
			given.rules[strings.Join(path, "/")] = true
			for end := range path {
				given.within[strings.Join(path[:end+1], "/")] = true
			}
		}
	}
	return given
}

// hasData reports whether something may be at a path of data.
func (c *check) hasData(given ruled, path []string) bool {
	for _, name := range []string{"deny", "waive", "labels", "reason"} {
		if len(path) >= 3 && path[0] == engine.Root && path[1] == "custom" && path[2] == name {
			return true // which may or may not be there
		}
	}
	if given.within[strings.Join(path, "/")] {
		return true
	}
	for end := range path {
		if given.rules[strings.Join(path[:end+1], "/")] {
			return true
		}
	}
	var at any = c.bundle.Data
	for _, name := range path {
		in, ok := at.(map[string]any)
		if !ok {
			_, isList := at.([]any)
			return isList
		}
		if at, ok = in[name]; !ok {
			return false
		}
	}
	return true
}

// headOf is the reference of a rule within its package, with its name as a text.
func headOf(r *ast.Rule) ast.Ref {
	ref := r.Head.Ref().GroundPrefix().Copy()
	if name, ok := ref[0].Value.(ast.Var); ok {
		ref[0] = ast.StringTerm(string(name))
	}
	return ref
}
