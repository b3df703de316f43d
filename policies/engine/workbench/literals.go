package workbench

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/policies"
	"patrol/policies/engine"
)

// seed holds the values that a rule compares input with, all at once.
type seed struct {
	changes []change
	rule    *ast.Rule
}

// maxSeeds bounds how many rules' literals are tried.
const maxSeeds = 60

// defaultRules are the rules of the default policy, as text.
var defaultRules = sync.OnceValue(func() map[string]bool {
	texts := map[string]bool{}
	for _, file := range []string{"authz/authz.rego", "http/http.rego", "log/mask.rego"} {
		content, err := policies.FS.ReadFile(file)
		if err != nil {
			continue
		}
		if m, err := engine.ParseModule(file, content); err == nil {
			for _, r := range m.Rules {
				texts[r.String()] = true
			}
		}
	}
	return texts
})

// seedsOf are the literals of each rule that has any. Where a rule compares one place
// with several values, the first is taken for one seed, the second for another.
func seedsOf(b *engine.Bundle) (seeds []seed) {
	c := check{bundle: b}
	in := newReader(b)
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
				for _, l := range in.literals(m, r) {
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

// maxPairs bounds how many pairs of rules are tried together.
const maxPairs = 60

// pairsOf are the conditions of two rules of one name together, where each gives one value: an
// input on which both hold has no answer.
func pairsOf(b *engine.Bundle) (seeds []seed) {
	c := check{bundle: b}
	in := newReader(b)
	for _, rules := range c.ownComplete() {
		for i, second := range rules {
			for _, first := range rules[:i] {
				if len(seeds) >= maxPairs {
					return seeds
				}
				at := map[string]change{}
				fits := true
				for _, r := range []*ast.Rule{first, second} {
					mine := map[string]bool{} // of several values for one place, the first
					for _, l := range in.literals(c.moduleOf(r), r) {
						place := strings.Join(l.path, ".")
						if l.not || l.by == ast.NotEqual.Name || mine[place] {
							continue
						}
						mine[place] = true
						if was, ok := at[place]; ok && was.value != l.value {
							fits = false
						}
						at[place] = put(l.value, l.path...)
					}
				}
				if !fits {
					continue
				}
				s := seed{rule: second}
				for _, place := range slices.Sorted(maps.Keys(at)) {
					s.changes = append(s.changes, at[place])
				}
				seeds = append(seeds, s)
			}
		}
	}
	return seeds
}

// ownComplete are the rules of one's own that give one value, in groups of one name.
func (c *check) ownComplete() (groups [][]*ast.Rule) {
	at := map[string]int{}
	for _, m := range c.modules {
		for _, r := range m.Rules {
			if len(r.Head.Args) > 0 || r.Head.RuleKind() == ast.MultiValue || r.Default || defaultRules()[r.String()] {
				continue
			}
			name := m.Package.Path.String() + "." + r.Head.Ref().String()
			i, ok := at[name]
			if !ok {
				i = len(groups)
				at[name] = i
				groups = append(groups, nil)
			}
			groups[i] = append(groups[i], r)
		}
	}
	return slices.DeleteFunc(groups, func(g []*ast.Rule) bool { return len(g) < 2 })
}

func (c *check) moduleOf(r *ast.Rule) *ast.Module { return c.bundle.Modules[r.Location.File] }

// seeded returns an input with what a rule compares it with. ok is false where a place
// is not there to be changed.
func seeded(input object, changes []change) (object, bool) {
	out, _ := engine.Clone(input).(object)
	for _, c := range changes {
		out = engine.Edited(out, c.path, c.value)
	}
	return out, out != nil
}
