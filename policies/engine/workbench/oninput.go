package workbench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"patrol/models"
	"patrol/policies/engine"
)

// contextValue is a value that a caller can send.
type contextValue struct {
	name  string
	value any
}

// contextValues are one of each type that a caller can send, with objects that have what a
// rule looks for.
func contextValues(keys []string) []contextValue {
	of := func(v any) object {
		o := object{"x": v}
		for _, key := range keys {
			o[key] = v
		}
		return o
	}
	return []contextValue{
		{"null", nil},
		{"a boolean", true},
		{"a number", 7},
		{"a fraction", -0.5},
		{"zero", 0},
		{"a huge number", 1 << 53},
		{"a text", "x"},
		{"an empty text", ""},
		{"a text of signs", `([{*%\`},
		{"an array", []any{1, "x"}},
		{"an array of texts", []any{"x"}},
		{"an object", of(1)},
		{"an object of texts", of("x")},
		{"an array of objects", []any{of(1)}},
		{"an array of objects of texts", []any{of("x")}},
		{"an empty array", []any{}},
	}
}

// The bounds of what is tried.
const (
	maxContextPaths = 64
	maxContextBases = 40
)

// chosen are the places, beside the context, in which callers choose a text.
var chosen = [][]string{{"client", "user_agent"}, {"http", "path"}, {"http", "headers"}}

// isChosen reports whether path leads to such a place, and to a value there.
func isChosen(path []string) bool {
	return slices.ContainsFunc(chosen, func(c []string) bool {
		return len(path) >= len(c) && slices.Equal(path[:len(c)], c) && (c[1] != "headers" || len(path) > len(c))
	})
}

// contextPath is a place in the context of a request that a rule reads, or another in which
// callers choose a text.
type contextPath struct {
	path     []string
	keys     []string   // which the rule looks for in what is there
	others   [][]string // that have the same value
	texts    bool       // only texts get there
	rule     *ast.Rule
	location *ast.Location
}

// contextPaths are the places in the context that the policy reads.
func (c *check) contextPaths() (paths []contextPath) {
	in := newReader(c.bundle)
	known := map[string]bool{}
	for _, m := range c.modules {
		for _, r := range m.Rules {
			named := in.names(m, r)
			var keys []string
			add := func(path []string, l *ast.Location) {
				only := isChosen(path)
				if !only && (len(path) < 2 || path[0] != "request" || path[1] != "context") || len(paths) >= maxContextPaths {
					return
				}
				if len(path) == 2 { // all of it
					path = append(slices.Clone(path), "x")
				}
				if at := strings.Join(path, "/"); !known[at] {
					known[at] = true
					if l == nil {
						l = r.Location
					}
					paths = append(paths, contextPath{path: path, rule: r, location: l, texts: only})
				}
			}
			from := len(paths)
			for _, e := range r.Body {
				if terms, ok := e.Terms.([]*ast.Term); ok && len(terms) == 3 {
					if v, isVar := terms[1].Value.(ast.Var); isVar {
						if path := pathIn(terms[2], named); path != nil {
							named[v] = path
						}
					}
				}
			}
			ast.WalkTerms(r, func(t *ast.Term) bool {
				switch v := t.Value.(type) {
				case ast.Call:
					add(pathIn(t, named), t.Location)
				case ast.Ref:
					path := texts(v[1:])
					head, isVar := v[0].Value.(ast.Var)
					switch {
					case v[0].Equal(ast.InputRootDocument):
					case isVar && named[head] != nil:
						path = append(slices.Clone(named[head]), path...)
					default:
						keys = append(keys, path...)
						return false
					}
					for _, part := range v[1:] { // what comes behind a variable
						if text, ok := part.Value.(ast.String); ok {
							keys = append(keys, string(text))
						}
					}
					add(path, v[0].Location)
				}
				return false
			})
			for i := range paths[from:] {
				paths[from+i].keys = keys
			}
		}
	}
	return paths
}

// texts are the first parts of a reference, as far as they are texts.
func texts(ref ast.Ref) (path []string) {
	for _, t := range ref {
		text, ok := t.Value.(ast.String)
		if !ok {
			break
		}
		path = append(path, string(text))
	}
	return path
}

// onInput tries each place in the context that the policy reads with every type of value.
// Such a rule lets any caller make the evaluation fail.
func (c *check) onInput(ctx context.Context) (found []engine.Finding, err error) {
	tried, err := c.tryPermitted(ctx)
	if err != nil {
		return nil, err
	}
	if found, err = c.undecided(ctx, tried); err != nil {
		return nil, err
	}
	if len(found) == 0 {
		if found, err = c.hostile(ctx, tried); err != nil {
			return nil, err
		}
	}
	paths := c.contextPaths()
	allowed, seeds := tried.allowed, seedsOf(c.bundle)
	inContext := slices.DeleteFunc(slices.Clone(paths), func(p contextPath) bool { return p.texts })
	if len(inContext) > 1 { // all of them at once, as conditions that hold together
		all := contextPath{rule: inContext[0].rule, location: inContext[0].location}
		for _, p := range inContext {
			all.others = append(all.others, p.path)
			all.keys = append(all.keys, p.keys...)
		}
		all.path = inContext[0].path
		paths = append(paths, all)
	}
	for _, p := range paths {
		bases := []object{}
		for _, a := range allowed {
			for _, s := range seeds {
				if s.rule == p.rule && len(bases) < maxContextBases {
					if input, ok := seeded(a.input, s.changes); ok {
						bases = append(bases, withScope(input))
					}
				}
			}
		}
		for _, a := range allowed[:min(len(allowed), maxContextBases)] {
			bases = append(bases, a.input)
		}
		f, err := c.failsOn(ctx, p, bases)
		if err != nil {
			return nil, err
		}
		found = append(found, f...)
	}
	return found, nil
}

// undecided reports a policy that cannot decide an ordinary request: everybody who makes one
// would have a policy_error.
func (c *check) undecided(ctx context.Context, t *trial) ([]engine.Finding, error) {
	l := c.decisionPlace()
	switch {
	case t.failed != nil:
		v, err := ast.InterfaceToValue(t.failed.input)
		if err != nil {
			return nil, fmt.Errorf("try an input: %w", err)
		}
		for _, m := range c.modules { // what adds to the decision in its own package
			if !m.Package.Path.Equal(authzPackage) {
				continue
			}
			own := slices.DeleteFunc(slices.Clone(m.Rules), func(r *ast.Rule) bool { return defaultRules()[r.String()] })
			hold, err := c.snapshot.HoldOn(ctx, own, ast.NewTerm(v))
			if err != nil {
				return nil, err
			}
			if len(hold) > 0 {
				l = hold[0].Location
			}
		}
		return c.blame(ctx, ast.NewTerm(v), t.why, fmt.Sprintf("on %s, which the roles permit", t.failed), l)
	case len(t.allowed) == 0 && t.timeouts > 0:
		return engine.FindingsOf(engine.StageRules, codeOnInput, engine.AtLocation(l, errors.New("the policy decides nothing that the roles permit within its time"))), nil
	}
	return nil, nil
}

// failedAt returns where an evaluation failed, which is l if the error does not say, and why.
func failedAt(err error, l *ast.Location) (*ast.Location, string) {
	e, ok := errors.AsType[*topdown.Error](err)
	switch {
	case !ok:
		return l, err.Error()
	case e.Location != nil && e.Location.File != "":
		return e.Location, e.Message
	}
	return l, e.Message
}

func (c *check) failsOn(ctx context.Context, p contextPath, bases []object) ([]engine.Finding, error) {
	for _, base := range bases {
		for _, try := range contextValues(p.keys) {
			if _, text := try.value.(string); p.texts && !text {
				continue
			}
			input := engine.Edited(base, p.path, try.value)
			for _, other := range p.others {
				input = engine.Edited(input, other, try.value)
			}
			v, err := ast.InterfaceToValue(input)
			if err != nil {
				return nil, fmt.Errorf("try a context: %w", err)
			}
			_, err = c.snapshot.DecideInput(ctx, ast.NewTerm(v))
			if ctx.Err() != nil {
				return nil, fmt.Errorf("check policy %s: %w", c.src.Name, ctx.Err())
			}
			if _, breached := errors.AsType[*engine.BreachError](err); err == nil || breached {
				continue
			}
			return c.blame(ctx, ast.NewTerm(v), err, fmt.Sprintf("where input.%s is %s, as any caller can have it", strings.Join(p.path, "."), try.name), p.location)
		}
	}
	return nil, nil
}

// withScope is an input with the domain that it is about, and a scope for what it asks.
func withScope(input object) object {
	ask := requestIn(input)
	if ask.Validate() != nil {
		return input
	}
	input = engine.Edited(input, []string{"token", "scopes"}, object{ask.Domain: object{ask.EntityType: object{ask.Operation: object{ask.Entity: "s"}}}})
	return engine.Edited(input, []string{"domain", "id"}, ask.Domain)
}

// seededRequests are inputs that rules of either policy compare with, for the known
// decisions.
func seededRequests(bundles [2]*engine.Bundle, catalogs ...models.Catalog) (all []engine.KnownDecision) {
	in := func(b *engine.Bundle) map[string]bool {
		texts := map[string]bool{}
		for _, m := range b.Modules {
			for _, r := range m.Rules {
				texts[m.Package.String()+r.String()] = true
			}
		}
		return texts
	}
	known := map[string]bool{}
	both := [2]map[string]bool{in(bundles[0]), in(bundles[1])}
	for i, b := range bundles {
		for _, s := range seedsOf(b) {
			if s.rule.Module != nil && both[1-i][s.rule.Module.Package.String()+s.rule.String()] {
				continue // the same in both
			}
			asked := map[[2]string]bool{}
			for _, catalog := range catalogs {
				for entityType, operation := range operations(catalog) {
					asked[[2]string{entityType, operation}] = true
				}
			}
			for _, of := range slices.SortedFunc(maps.Keys(asked), func(a, b [2]string) int { return strings.Compare(a[0]+a[1], b[0]+b[1]) }) {
				for _, role := range []string{"", "member"} {
					input := engine.KnownInput(of[0], of[1])
					if role == "" {
						input["user"] = engine.KnownUser(true)
					} else {
						input["membership"] = object{"role": role}
					}
					input, ok := seeded(input, s.changes)
					if !ok {
						continue
					}
					input = withScope(input) // with a scope for what the rule is about
					text := fmt.Sprint(input)
					if known[text] {
						continue
					}
					known[text] = true
					where := ""
					if s.rule.Location != nil {
						where = fmt.Sprintf("%s:%d", s.rule.Location.File, s.rule.Location.Row)
					}
					all = append(all, engine.KnownDecision{Name: "what " + where + " is about", Input: input})
				}
			}
		}
	}
	return all
}
