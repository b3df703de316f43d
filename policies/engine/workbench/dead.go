package workbench

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
	"patrol/policies/engine"
)

// A rule is dead if its conditions hold on no input. Most of the input may be anything, but some
// facts have one of a few values: for each combination of these OPA evaluates the conditions in
// part, with all else unknown, and what is left over says whether they may hold.

// maxDead bounds how many rules are looked at, and maxWorlds how many combinations of facts for each.
const (
	maxDead   = 500
	maxWorlds = 12000
)

// dead finds rules that hold on no input.
func (c *check) dead(ctx context.Context, add finder, told map[string]bool) error {
	if !c.hasOwnRules() {
		return nil
	}
	conditions, err := c.snapshot.Conditions(ctx, c.bundle)
	if err != nil {
		return fmt.Errorf("compile the policy once more: %w", err)
	}
	c.conditions = conditions
	n := 0
	for _, m := range c.compiled {
		pkg := m.Package.Path
		if pkg.HasPrefix(ast.MustParseRef("data.patrol.http")) || pkg.HasPrefix(ast.MustParseRef("data.patrol.log")) {
			continue
		}
		for _, r := range m.Rules {
			parsed := c.parsedAt(r.Location)
			if parsed == nil || len(r.Head.Args) > 0 || r.Default || defaultRules()[parsed.String()] {
				continue
			}
			for ; r != nil; r = r.Else {
				if n++; n > maxDead || r.Location == nil || isConstant(r) {
					continue
				}
				if err := c.deadRule(ctx, add, pkg, r, told); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// compiled goes through the compiled modules by name.
func (c *check) compiled(yield func(name string, m *ast.Module) bool) {
	modules := c.conditions.Compiler().Modules
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		if !yield(name, modules[name]) {
			return
		}
	}
}

func (c *check) parsedAt(l *ast.Location) *ast.Rule {
	if l == nil || c.bundle.Modules[l.File] == nil {
		return nil
	}
	for _, r := range c.bundle.Modules[l.File].Rules {
		if r.Location.Equal(l) {
			return r
		}
	}
	return nil
}

func (c *check) deadRule(ctx context.Context, add finder, pkg ast.Ref, r *ast.Rule, told map[string]bool) error {
	worlds := c.worldsFor(pkg, r)
	may := func(body ast.Body, unknown []*ast.Term) (bool, error) {
		for _, w := range worlds {
			if may, err := c.conditions.CanHold(ctx, body, w, unknown); may || err != nil {
				return true, err
			}
		}
		return false, nil
	}
	alive, err := may(r.Body, c.unknown(worlds))
	if alive || err != nil {
		return err
	}
	at := r.Location
	for end := range r.Body { // the first condition with which nothing is left
		if alive, err := may(r.Body[:end+1], c.unknown(worlds)); err != nil {
			return err
		} else if !alive {
			if l := r.Body[end].Location; l != nil && l.File != "" {
				at = l
			}
			break
		}
	}
	if told[placeText(at)] {
		return nil
	}
	off, err := may(r.Body, append(c.unknown(worlds), c.ownData()...))
	if err != nil {
		return err
	}
	if off {
		f := engine.FindingsOf(engine.StageRules, codeOff, engine.AtLocation(at, errOff(ast.NewTerm(r.Ref()))))
		c.warn(f[0])
		return nil
	}
	add(codeNeverTrue, at, "there is no request for which this condition of %s holds, together with those above%s", r.Ref(), c.hidden(pkg, r))
	return nil
}

// errOff says that a rule does nothing for now.
func errOff(what *ast.Term) error {
	return fmt.Errorf("with the data as they are this never holds, for what %v is", what)
}

// hidden is a note for rules whose reasons are never reported; "" if they are.
func (c *check) hidden(pkg ast.Ref, r *ast.Rule) string {
	reads, _ := c.readsOf(r)
	if !c.hides(pkg, r) || !slices.Contains(reads, "token.revoked") && !slices.Contains(reads, "user.disabled") {
		return ""
	}
	return " (where a token is revoked or its owner disabled, that alone is told)"
}

// hides reports whether a rule gives reasons or exceptions that count only where who asks is
// proven.
func (c *check) hides(pkg ast.Ref, r *ast.Rule) bool {
	ref := r.Ref()
	if !pkg.Equal(engine.CustomPackage) || !slices.Contains([]string{"deny", "waive", "reason"}, lastOf(ref[:len(pkg)+1])) {
		return false
	}
	kept := 0
	for _, m := range c.modules {
		for _, r := range m.Rules {
			if name := r.Ref().String(); (name == "data.patrol.authz.reasons" || name == "data.patrol.authz.answer" || name == engine.DecisionRef.String()) && defaultRules()[r.String()] {
				kept++
			}
		}
	}
	return kept == 3
}

// ownData are the documents of the bundle that rules read.
func (c *check) ownData() (refs []*ast.Term) {
	var visit func(ref ast.Ref, v any, depth int)
	visit = func(ref ast.Ref, v any, depth int) {
		of, isObject := v.(object)
		if !isObject || depth == 0 {
			refs = append(refs, ast.NewTerm(ref))
			return
		}
		for _, k := range slices.Sorted(maps.Keys(of)) {
			visit(ref.Append(ast.StringTerm(k)), of[k], depth-1)
		}
	}
	inRoot, _ := c.bundle.Data[engine.Root].(object)
	for _, name := range slices.Sorted(maps.Keys(inRoot)) {
		if name != "routes" && name != "choosers" {
			depth := 3
			if slices.Contains(serverData, name) {
				depth = 0
			}
			visit(ast.MustParseRef("data.patrol").Append(ast.StringTerm(name)), inRoot[name], depth)
		}
	}
	return refs
}

// hasOwnData reports whether data.patrol.custom has a document.
func (c *check) hasOwnData(name string) bool {
	inRoot, _ := c.bundle.Data[engine.Root].(object)
	custom, _ := inRoot["custom"].(object)
	return custom[name] != nil
}

// unknown are the facts that may be anything, for some worlds.
func (c *check) unknown(worlds []*ast.Term) (refs []*ast.Term) {
	in := decisionInput()
	first := worlds[0]
	for _, name := range slices.Sorted(maps.Keys(in.Properties)) {
		f := in.Properties[name]
		if len(f.Properties) == 0 {
			if v, _ := first.Value.Find(ast.Ref{ast.StringTerm(name)}); v == nil {
				refs = append(refs, ast.NewTerm(ast.InputRootRef.Append(ast.StringTerm(name))))
			}
			continue
		}
		for _, part := range slices.Sorted(maps.Keys(f.Properties)) {
			if v, _ := first.Value.Find(ast.Ref{ast.StringTerm(name), ast.StringTerm(part)}); v == nil && name+"."+part != "membership.role" {
				refs = append(refs, ast.NewTerm(ast.InputRootRef.Append(ast.StringTerm(name)).Append(ast.StringTerm(part))))
			}
		}
	}
	for _, name := range engine.OwnDocuments { // which a policy need not have
		ref := engine.CustomPackage.Append(ast.StringTerm(name))
		if len(c.conditions.Compiler().GetRules(ref)) == 0 && !c.hasOwnData(name) {
			refs = append(refs, ast.NewTerm(ref))
		}
	}
	if v, _ := first.Value.Find(ast.Ref{ast.StringTerm("user"), ast.StringTerm("admin")}); v == nil { // nor is it known who asks
		refs = append(refs, ast.MustParseTerm("input.membership.role"))
	}
	return refs
}

// worldsFor are the combinations of facts with few values that a rule can tell apart.
func (c *check) worldsFor(pkg ast.Ref, r *ast.Rule) (worlds []*ast.Term) {
	reads, calls := c.readsOf(r)
	read := func(path string) bool {
		return slices.ContainsFunc(reads, func(p string) bool {
			return p == path || strings.HasPrefix(p, path+".") || strings.HasPrefix(path, p+".") || p == ""
		})
	}
	all := []object{{}}
	vary := func(fact []object) {
		if len(all)*len(fact) > maxWorlds || len(fact) == 0 {
			return
		}
		var next []object
		for _, w := range all {
			for _, f := range fact {
				next = append(next, merged(w, f))
			}
		}
		all = next
	}
	catalog := c.snapshot.Catalog()
	if read("request.entity_type") || read("request.operation") {
		var fact []object
		for entityType, operation := range operations(catalog) {
			fact = append(fact, object{"request": object{"entity_type": entityType, "operation": operation}})
		}
		vary(fact)
	}
	if read("membership.role") || read("user.admin") {
		fact := []object{{"user": object{"admin": true}}}
		for _, role := range append(slices.Sorted(maps.Keys(catalog.Roles)), "a role of before") {
			fact = append(fact, object{"user": object{"admin": false}, "membership": object{"role": role}}, object{"user": object{"admin": true}, "membership": object{"role": role}})
		}
		fact = append(fact, object{"user": object{"admin": false}})
		vary(fact)
	}
	if read("domain.status") {
		var fact []object
		for _, status := range []models.DomainStatus{models.DomainEnabled, models.DomainIsDisabled, models.DomainIsFrozen} {
			fact = append(fact, object{"domain": object{"status": string(status)}})
		}
		vary(fact)
	}
	if c.hides(pkg, r) {
		vary([]object{{"token": object{"revoked": false}, "user": object{"disabled": false}}})
	}
	if read("now") && weekly(calls) {
		var fact []object
		for hour := range 7 * 24 {
			fact = append(fact, object{"now": moments[0] + int64(hour)*3600})
		}
		if len(all)*7*1440 <= maxWorlds {
			for minute := range 7 * 1440 {
				fact = append(fact, object{"now": moments[0] + int64(minute)*60})
			}
		}
		vary(fact)
	}
	for _, w := range all {
		if v, err := ast.InterfaceToValue(w); err == nil {
			worlds = append(worlds, ast.NewTerm(v))
		}
	}
	return worlds
}

func merged(a, b object) object {
	out := maps.Clone(a)
	for k, v := range b {
		was, isObject := out[k].(object)
		of, both := v.(object)
		if isObject && both {
			v = merged(was, of)
		}
		out[k] = v
	}
	return out
}

// weekly reports whether functions tell nothing of a time but its place in a week.
func weekly(calls map[string]bool) bool {
	known := false
	for name := range calls {
		if strings.HasPrefix(name, "time.") {
			if name != ast.Weekday.Name && name != ast.Clock.Name {
				return false
			}
			known = true
		}
	}
	return known
}

// readsOf are the parts of the input that a rule and what it depends on read, "" for all of it,
// and the functions that they call.
func (c *check) readsOf(r *ast.Rule) (paths []string, calls map[string]bool) {
	calls = map[string]bool{}
	seen := map[*ast.Rule]bool{}
	var visit func(*ast.Rule)
	visit = func(r *ast.Rule) {
		for ; r != nil; r = r.Else {
			if seen[r] {
				return
			}
			seen[r] = true
			own := &ast.Rule{Head: r.Head, Body: r.Body}
			ast.WalkRefs(own, func(ref ast.Ref) bool {
				if ref[0].Equal(ast.InputRootDocument) {
					paths = append(paths, strings.Join(texts(ref[1:]), "."))
				}
				return false
			})
			ast.WalkExprs(own, func(e *ast.Expr) bool {
				if e.IsCall() {
					calls[e.Operator().String()] = true
				}
				return false
			})
			ast.WalkTerms(own, func(t *ast.Term) bool {
				if call, ok := t.Value.(ast.Call); ok {
					calls[call[0].String()] = true
				}
				return false
			})
			for dep := range c.conditions.Compiler().Graph.Dependencies(r) {
				if next, ok := dep.(*ast.Rule); ok {
					visit(next)
				}
			}
		}
	}
	visit(r)
	return paths, calls
}
