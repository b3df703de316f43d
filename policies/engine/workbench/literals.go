package workbench

import (
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/policies"
	"patrol/policies/engine"
)

// literal is a value that a rule compares a part of input with.
type literal struct {
	path     []string
	value    any
	term     *ast.Term
	whole    bool // it is compared with as a whole; else it is a part of it
	location *ast.Location
}

// literalsOf finds the values that a rule, as it was parsed, compares input with.
func literalsOf(r *ast.Rule) (found []literal) {
	named := map[ast.Var][]string{} // local names of parts of input
	refOf := func(t *ast.Term) []string {
		ref, ok := t.Value.(ast.Ref)
		if v, isVar := t.Value.(ast.Var); isVar {
			return named[v]
		}
		if !ok {
			return nil
		}
		var path []string
		head, _ := ref[0].Value.(ast.Var)
		switch {
		case ref[0].Equal(ast.InputRootDocument):
		case named[head] != nil:
			path = slices.Clone(named[head])
		default:
			return nil
		}
		for _, t := range ref[1:] {
			text, ok := t.Value.(ast.String)
			if !ok {
				return nil
			}
			path = append(path, string(text))
		}
		return path
	}
	note := func(ref, value *ast.Term, whole bool, l *ast.Location) {
		path := refOf(ref)
		if len(path) < 2 || !ast.IsConstant(value.Value) {
			return
		}
		switch value.Value.(type) {
		case ast.String, ast.Number, ast.Boolean, ast.Null:
			found = append(found, literal{path, constantOf(value), value, whole, l})
		}
	}
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		terms, ok := e.Terms.([]*ast.Term)
		if !ok || len(terms) < 3 {
			return false
		}
		l := e.Location
		if l == nil {
			l = r.Location
		}
		switch name := e.Operator().String(); name {
		case ast.Assign.Name, ast.Equality.Name, ast.Equal.Name, ast.NotEqual.Name:
			if v, isVar := terms[1].Value.(ast.Var); isVar && name != ast.NotEqual.Name {
				if path := refOf(terms[2]); path != nil {
					named[v] = path
				}
			}
			whole := name != ast.NotEqual.Name
			note(terms[1], terms[2], whole, l)
			note(terms[2], terms[1], whole, l)
		case ast.Member.Name:
			each := func(t *ast.Term) { note(terms[1], t, true, l) }
			switch list := terms[2].Value.(type) {
			case *ast.Array:
				list.Foreach(each)
			case ast.Set:
				list.Foreach(each)
			}
		case ast.StartsWith.Name, ast.EndsWith.Name, ast.Contains.Name,
			ast.LessThan.Name, ast.LessThanEq.Name, ast.GreaterThan.Name, ast.GreaterThanEq.Name:
			note(terms[1], terms[2], false, l)
			note(terms[2], terms[1], false, l)
		}
		return false
	})
	return found
}

// seed holds the values that a rule compares input with, all at once.
type seed struct {
	changes []change
	rule    *ast.Rule
}

// maxSeeds bounds how many rules' literals are tried.
const maxSeeds = 60

// defaultRules are the rules of the default policy that decide, as text.
var defaultRules = sync.OnceValue(func() map[string]bool {
	texts := map[string]bool{}
	const file = "authz/authz.rego"
	content, err := policies.FS.ReadFile(file)
	if err != nil {
		return texts
	}
	if m, err := engine.ParseModule(file, content); err == nil {
		for _, r := range m.Rules {
			texts[r.String()] = true
		}
	}
	return texts
})

// seedsOf are the literals of each rule that has any. Where a rule compares one place
// with several values, the first is taken for one seed, the second for another.
func seedsOf(b *engine.Bundle) (seeds []seed) {
	c := check{bundle: b}
	known := map[string]bool{}
	for _, m := range c.modules {
		if m.Package.Path.HasPrefix(ast.MustParseRef("data.patrol.http")) || m.Package.Path.HasPrefix(ast.MustParseRef("data.patrol.log")) {
			continue
		}
		for _, r := range m.Rules {
			if defaultRules()[r.String()] {
				continue // which its own cases are about
			}
			for round := 0; ; round++ {
				counts := map[string]int{}
				var changes []change
				more, label := false, ""
				for _, l := range literalsOf(r) {
					at := "." + strings.Join(l.path, ".")
					counts[at]++
					switch {
					case counts[at] == round+1, round == 0 && counts[at] == 1:
						changes = append(changes, put(l.value, l.path...))
						label += at + "=" + l.term.String() + ";"
					case counts[at] > round+1:
						more = true
					}
				}
				if len(changes) > 0 && !known[label] {
					known[label] = true
					seeds = append(seeds, seed{changes, r})
				}
				if !more || round > 8 || len(seeds) >= maxSeeds {
					break
				}
			}
			if len(seeds) >= maxSeeds {
				return seeds
			}
		}
	}
	return seeds
}

// seeded returns an input with what a rule compares it with. ok is false where a place
// is not there to be changed.
func seeded(input object, changes []change) (object, bool) {
	out, _ := engine.Clone(input).(object)
	for _, c := range changes {
		out = engine.Edited(out, c.path, c.value)
	}
	return out, out != nil
}
