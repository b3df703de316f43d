package workbench

import (
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

// seeded returns an input with what a rule compares it with. ok is false where a place
// is not there to be changed.
func seeded(input object, changes []change) (object, bool) {
	out, _ := engine.Clone(input).(object)
	for _, c := range changes {
		out = engine.Edited(out, c.path, c.value)
	}
	return out, out != nil
}
