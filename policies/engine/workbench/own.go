package workbench

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/policies/engine"
)

// own looks at the documents of one's own before anything is compiled: rules and data that make
// no set, list or object where one must be, and reasons and exceptions in data.
func (c *check) own() (found []engine.Finding) {
	add := func(code string, l *ast.Location, format string, args ...any) {
		found = append(found, engine.FindingsOf(engine.StageRules, code, engine.AtLocation(l, fmt.Errorf(format, args...)))...)
	}
	for _, m := range c.modules {
		for _, r := range m.Rules {
			if why := misshapen(m, r); why != "" {
				add(codeMalformed, r.Location, "%s", why)
			}
		}
	}
	inRoot, _ := c.bundle.Data[engine.Root].(object)
	custom, _ := inRoot["custom"].(object)
	for _, name := range engine.OwnDocuments {
		value, ok := custom[name]
		if !ok {
			continue
		}
		v, err := ast.InterfaceToValue(value)
		if err != nil {
			continue
		}
		for _, f := range engine.OwnFaults(name, v) {
			c.dataFaulty = true
			code := codeMalformed
			if f.Reserved {
				code = codeReserved
			}
			add(code, c.dataAt(append([]string{"custom", name}, f.Keys...)), "%v", f.Err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(inRoot)) {
		if !slices.Contains(serverData, name) {
			c.codesInData(add, []string{name}, inRoot[name])
		}
	}
	at := map[string]bool{} // what is wrong with a reason is said once
	return slices.DeleteFunc(found, func(f engine.Finding) bool {
		again := at[f.Message+f.File]
		at[f.Message+f.File] = true
		return again
	})
}

// serverData are the documents in data.patrol that the server reads itself.
var serverData = []string{"catalog", "roles", "routes", "choosers"}

// dataAt is the place of a part of data.patrol in the bundle's files, nil if it is not known.
func (c *check) dataAt(keys []string) *ast.Location {
	if at, ok := errors.AsType[*engine.LocatedError](c.bundle.AtData(keys, errors.New(""))); ok {
		return ast.NewLocation(nil, at.File, at.Line, at.Column)
	}
	return nil
}

// codesInData looks at the codes of reasons and exceptions wherever they are in data.
func (c *check) codesInData(add finder, keys []string, v any) {
	switch of := v.(type) {
	case object:
		_, message := of["message"]
		_, because := of["because"]
		isOwn := len(keys) > 2 && keys[0] == "custom" && slices.Contains(engine.OwnDocuments, keys[1])
		if code, ok := of["code"]; ok && (message || because) && !isOwn {
			lookAtCode(add, code, of["message"], c.dataAt(append(slices.Clip(keys), "code")), engine.CustomPackage, because && !message)
		}
		for _, k := range slices.Sorted(maps.Keys(of)) {
			c.codesInData(add, append(slices.Clip(keys), k), of[k])
		}
	case []any:
		for i, e := range of {
			c.codesInData(add, append(slices.Clip(keys), fmt.Sprint(i)), e)
		}
	}
}

// misshapen returns the reason for which a rule cannot give its own document the type that it
// must have; "" if none is found.
func misshapen(m *ast.Module, r *ast.Rule) string {
	path := texts(append(m.Package.Path[1:].Copy(), headOf(r)...))
	if len(path) < 3 || path[0] != engine.Root || path[1] != "custom" || !slices.Contains(engine.OwnDocuments, path[2]) {
		return ""
	}
	name, whole := path[2], len(path) == 3 && r.Head.Ref().IsGround()
	isSet := name == "deny" || name == "waive"
	form := map[string]string{
		"deny": "`deny contains {\"code\": …, \"message\": …}`", "waive": "`waive contains {\"code\": …, \"because\": …, \"until\": …}`",
		"labels": "an object of texts", "reason": "one object of code and message",
	}[name]
	makes := func(what string) string {
		end := ""
		if name == "waive" {
			end = ": no exception is made"
		}
		return fmt.Sprintf("data.patrol.custom.%s is %s here and must be %s%s", name, what, form, end)
	}
	switch {
	case len(r.Head.Args) > 0:
		return makes("a function")
	case r.Head.RuleKind() == ast.MultiValue && isSet && whole:
		return ""
	case r.Head.RuleKind() == ast.MultiValue && (whole || name != "deny"):
		return makes("a set")
	case !whole && name == "waive":
		return makes("an object")
	case !whole: // a key of labels, or a reason of deny, which are found by asking
		return ""
	}
	for ; r != nil; r = r.Else {
		if r.Head.Value == nil {
			continue
		}
		if what := shapeOf(r.Head.Value); what != "" && !slices.Contains(strings.Split(map[bool]string{true: "a list, a set", false: "an object"}[isSet], ", "), what) {
			if r.Default && isSet && what == "true or false" {
				return makes("true or false")
			}
			return makes(what)
		}
	}
	return ""
}

// closedFacts are the parts of the input that have one of a few values, whoever asks.
var closedFacts = []string{"input.request.operation", "input.request.entity_type", "input.domain.status"}

// chosenCodes finds reason codes, and names of labels, that are what somebody chose.
func (c *check) chosenCodes(add finder) error {
	rules, err := c.resolved()
	if err != nil {
		return err
	}
	follow := func(name string, steps []step, what string) {
		f := flow{bundle: c.bundle, rules: rules, seen: map[string]bool{}, found: map[string]bool{}}
		f.moves = func(*ast.Location, string) {}
		f.constant = func(*ast.Location, ast.Number) {}
		f.text = func(l *ast.Location, code string) { lookAtCode(add, code, "", l, engine.CustomPackage, false) }
		f.input = func(l *ast.Location, ref ast.Ref) {
			at := ref.String() + " " + placeText(l)
			if !slices.Contains(closedFacts, ref.String()) && !f.found[at] {
				f.found[at] = true
				add(codeMalformed, l, "%s is made of %s, which is not one of a few values: write it down, in the rule or in data", what, ref)
			}
		}
		f.ref(engine.CustomPackage.Append(ast.StringTerm(name)), nil, steps, nil)
	}
	follow("deny", []step{{any: true}, {name: "code"}}, "the reason code")
	follow("reason", []step{{name: "code"}}, "the reason code")
	return nil
}

// shapeOf names what a term makes, "" where it does not show.
func shapeOf(t *ast.Term) string {
	switch t.Value.(type) {
	case ast.Boolean:
		return "true or false"
	case ast.String:
		return "a text"
	case ast.Number:
		return "a number"
	case ast.Null:
		return "null"
	case *ast.Array, *ast.ArrayComprehension:
		return "a list"
	case ast.Set, *ast.SetComprehension:
		return "a set"
	case ast.Object, *ast.ObjectComprehension:
		return "an object"
	}
	return ""
}

// unread finds data that no rule reads which the server asks for, nor a test.
func (c *check) unread(add finder) {
	reads := []ast.Ref{}
	note := func(x any) {
		ast.WalkRefs(x, func(ref ast.Ref) bool {
			if ref[0].Equal(ast.DefaultRootDocument) {
				reads = append(reads, ref)
			}
			return false
		})
	}
	for r := range c.reachable() {
		note(&ast.Rule{Head: r.Head, Body: r.Body})
	}
	for _, name := range slices.Sorted(maps.Keys(c.src.Files)) {
		if !engine.IsTestFile(name) {
			continue
		}
		if m, err := engine.ParseModule(name, c.src.Files[name]); err == nil {
			ast.WalkWiths(m, func(w *ast.With) bool { // what is put in place is not read
				w.Target = ast.NewTerm(ast.InputRootRef)
				return false
			})
			note(m)
		}
	}
	var visit func(keys []string, v any)
	visit = func(keys []string, v any) {
		at := append([]string{engine.Root}, keys...)
		within := false
		for _, ref := range reads {
			read := texts(ref[1:])
			ground := len(read) == len(ref)-1
			n := min(len(read), len(at))
			switch {
			case !slices.Equal(read[:n], at[:n]):
			case len(read) <= len(at), !ground && len(read) == n:
				return // all of it
			default:
				within = true
			}
		}
		of, isObject := v.(object)
		if !within || !isObject && len(keys) > 1 {
			if within {
				return
			}
			text := fmt.Sprintf("data.%s does nothing: no rule reads it that the server asks for", strings.Join(at, "."))
			if len(keys) > 1 && keys[0] == "custom" {
				text += "; data of your own that the policy asks for are deny, waive and labels"
			}
			add(codeUnreachable, c.dataAt(keys), "%s", text)
			return
		}
		for _, k := range slices.Sorted(maps.Keys(of)) {
			visit(append(slices.Clip(keys), k), of[k])
		}
	}
	inRoot, _ := c.bundle.Data[engine.Root].(object)
	for _, name := range slices.Sorted(maps.Keys(inRoot)) {
		if slices.Contains(serverData, name) {
			continue
		}
		of, isObject := inRoot[name].(object)
		if name != "custom" || !isObject {
			visit([]string{name}, inRoot[name])
			continue
		}
		for _, k := range slices.Sorted(maps.Keys(of)) {
			visit([]string{name, k}, of[k])
		}
	}
}
