package workbench

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/policies/engine"
)

// endless finds exceptions whose end is not written down in the policy: an end that moves
// with the clock, or that a caller may choose, is none. It also finds ends that are too far
// away, and tells those that are over.
func (c *check) endless(add finder) error {
	if !c.snapshot.DefinesExceptions() {
		return nil
	}
	rules, err := c.resolved()
	if err != nil || len(rules) == 0 {
		return err
	}
	now := c.opts.Now
	if now.IsZero() {
		now = time.Now()
	}
	f := flow{bundle: c.bundle, rules: rules, seen: map[string]bool{}, found: map[string]bool{}}
	f.moves = func(l *ast.Location, what string) {
		add(codeEndless, l, "%s, so that the exception does not end: write the time down, in Unix seconds, here or in data", what)
	}
	f.input = func(l *ast.Location, ref ast.Ref) { f.report(l, fmt.Sprintf("the end depends on %s", ref)) }
	f.constant = func(l *ast.Location, n ast.Number) {
		at, ok := n.Int64()
		if !ok {
			return
		}
		switch end := time.Unix(at, 0).UTC(); {
		case end.After(now.Add(engine.MaxException)):
			add(codeEndless, l, "the exception ends at %s, more than %d days from now: make it for %d days at most, and anew if it must be",
				end.Format(time.RFC3339), engine.MaxException/(24*time.Hour), engine.MaxException/(24*time.Hour))
		case !end.After(now):
			finding := engine.FindingsOf(engine.StageRules, codeEnded, engine.AtLocation(l, fmt.Errorf("the exception ended at %s: take it out", end.Format(time.RFC3339))))[0]
			c.warn(finding)
		}
	}
	f.ref(engine.ExceptionsRef, nil, []step{{any: true}, {name: "until"}}, nil)
	return nil
}

// resolved are the rules with their references resolved and all else as it is written, by
// what they define.
func (c *check) resolved() (map[string][]*ast.Rule, error) {
	if c.asWritten != nil {
		return c.asWritten, nil
	}
	capabilities, err := engine.CapabilitiesFor(c.bundle.Capabilities)
	if err != nil {
		return nil, err
	}
	modules := map[string]*ast.Module{}
	for name, m := range c.modules {
		modules[name] = m.Copy()
	}
	rules := map[string][]*ast.Rule{}
	compiler := ast.NewCompiler().WithCapabilities(capabilities).WithDefaultRegoVersion(ast.RegoV1)
	compiler.WithStageAfterID(ast.StageResolveRefs, ast.CompilerStageDefinition{
		Name: "flow", MetricName: "flow",
		Stage: func(c *ast.Compiler) *ast.Error {
			for _, m := range c.Modules {
				for _, r := range m.Rules {
					of := r.Ref().GroundPrefix().String()
					rules[of] = append(rules[of], r)
				}
			}
			return ast.NewError(ast.CompileErr, nil, "enough") // nothing else is wanted
		},
	})
	compiler.Compile(modules)
	c.asWritten = rules
	return rules, nil
}

// step leads into a value: to the member of a name, or to any.
type step struct {
	name string
	any  bool
}

// flow follows where a value comes from.
type flow struct {
	rules    map[string][]*ast.Rule
	bundle   *engine.Bundle
	seen     map[string]bool
	found    map[string]bool
	input    func(*ast.Location, ast.Ref)    // it depends on a part of the input
	moves    func(*ast.Location, string)     // it depends on the input, or is one of a series
	constant func(*ast.Location, ast.Number) // it may be this
	text     func(*ast.Location, string)     // likewise; nil where nobody asks
}

// scope says where the variables of a rule get their values from.
type scope map[ast.Var][]source

type source struct {
	term  *ast.Term
	scope scope
	steps []step
}

func (f *flow) report(l *ast.Location, what string) {
	at := what
	if l != nil {
		at += placeOf(l)
	}
	if !f.found[at] {
		f.found[at] = true
		f.moves(l, what)
	}
}

// term follows the part of a term that steps lead to; nil steps are all of it.
func (f *flow) term(t *ast.Term, in scope, steps []step, l *ast.Location) {
	if t.Location != nil && t.Location.File != "" {
		l = t.Location
	}
	id := fmt.Sprintf("%p %v", t, steps)
	if f.seen[id] {
		return
	}
	f.seen[id] = true
	switch v := t.Value.(type) {
	case ast.Number:
		f.constant(l, v)
	case ast.String:
		if f.text != nil {
			f.text(l, string(v))
		}
	case ast.Var:
		for _, s := range in[v] {
			f.term(s.term, s.scope, slices.Concat(s.steps, steps), l)
		}
	case ast.Ref:
		f.ref(v, in, steps, l)
	case *ast.Array:
		i := 0
		v.Foreach(func(e *ast.Term) {
			if len(steps) == 0 || steps[0].any || steps[0].name == strconv.Itoa(i) {
				f.term(e, in, rest(steps), l)
			}
			i++
		})
	case ast.Set:
		v.Foreach(func(e *ast.Term) { f.term(e, in, rest(steps), l) })
	case ast.Object:
		v.Foreach(func(k, e *ast.Term) {
			name, isText := k.Value.(ast.String)
			if len(steps) == 0 || steps[0].any || !isText || steps[0].name == string(name) {
				f.term(e, in, rest(steps), l)
			}
		})
	case *ast.ArrayComprehension:
		f.term(v.Term, f.binds(v.Body, in), rest(steps), l)
	case *ast.SetComprehension:
		f.term(v.Term, f.binds(v.Body, in), rest(steps), l)
	case *ast.ObjectComprehension:
		f.term(v.Value, f.binds(v.Body, in), rest(steps), l)
	case ast.Call:
		f.call(v, in, steps, l)
	}
}

func rest(steps []step) []step { return steps[min(1, len(steps)):] }

// call follows what a function makes.
func (f *flow) call(call ast.Call, in scope, steps []step, l *ast.Location) {
	ref, _ := call[0].Value.(ast.Ref)
	if rules := f.rules[ref.String()]; len(rules) > 0 {
		for _, r := range rules {
			for ; r != nil; r = r.Else {
				body := f.binds(r.Body, nil)
				for i, arg := range r.Head.Args {
					if i+1 < len(call) {
						f.bind(body, arg, source{term: call[i+1], scope: in})
					}
				}
				if r.Head.Value != nil {
					f.term(r.Head.Value, body, steps, r.Location)
				}
			}
		}
		return
	}
	if name := ref.String(); name == ast.NumbersRange.Name || name == ast.NumbersRangeStep.Name {
		f.report(l, "the end is one of a series of times")
		return
	}
	made := *f // of what goes into a function it is not known what comes out
	made.constant, made.text = func(*ast.Location, ast.Number) {}, nil
	made.seen = map[string]bool{}
	for _, arg := range call[1:] {
		made.term(arg, in, nil, l)
	}
}

// ref follows a reference.
func (f *flow) ref(ref ast.Ref, in scope, steps []step, l *ast.Location) {
	into := make([]step, 0, len(ref))
	for _, t := range ref[1:] {
		switch v := t.Value.(type) {
		case ast.String:
			into = append(into, step{name: string(v)})
		case ast.Number:
			into = append(into, step{name: v.String()})
		default:
			into = append(into, step{any: true})
		}
	}
	all := slices.Concat(into, steps)
	switch {
	case ref[0].Equal(ast.InputRootDocument):
		f.input(l, ref)
		return
	case !ref[0].Equal(ast.DefaultRootDocument):
		f.term(ref[0], in, all, l)
		return
	}
	f.base(f.bundle.Data, all, nil, l)
	for i := 1; i <= len(into); i++ {
		for _, r := range f.rules[ref[:i+1].String()] {
			taken := len(r.Ref()) - 1 // of the steps, by what the rule's name says
			for ; r != nil; r = r.Else {
				within := all[min(taken, len(all)):]
				body := f.binds(r.Body, nil)
				switch {
				case r.Head.RuleKind() == ast.MultiValue && r.Head.Key != nil:
					f.term(r.Head.Key, body, rest(within), r.Location)
				case r.Head.Value != nil:
					f.term(r.Head.Value, body, within, r.Location)
				}
			}
		}
	}
	for i := range into { // data.patrol[x].until: whatever is there
		if into[i].any {
			prefix := ref[:i+1].String() + "."
			for name := range f.rules {
				if len(name) > len(prefix) && name[:len(prefix)] == prefix {
					f.report(l, fmt.Sprintf("the end is what %s finds", ref))
					return
				}
			}
			return
		}
	}
}

// base looks at data; v is the value under keys.
func (f *flow) base(v any, steps []step, keys []string, l *ast.Location) {
	if len(steps) > 0 {
		switch of := v.(type) {
		case map[string]any:
			for k, e := range of {
				if steps[0].any || steps[0].name == k {
					f.base(e, steps[1:], append(slices.Clip(keys), k), l)
				}
			}
		case []any:
			for i, e := range of {
				if steps[0].any || steps[0].name == strconv.Itoa(i) {
					f.base(e, steps[1:], append(slices.Clip(keys), strconv.Itoa(i)), l)
				}
			}
		}
		return
	}
	if n, err := ast.InterfaceToValue(v); err == nil {
		if n, ok := n.(ast.Number); ok {
			if at, ok := errors.AsType[*engine.LocatedError](f.bundle.AtData(keys[1:], errors.New(""))); ok {
				l = ast.NewLocation(nil, at.File, at.Line, at.Column)
			}
			f.constant(l, n)
		}
	}
}

// binds says where the variables of a body get their values from, those of what is around
// it included.
func (f *flow) binds(body ast.Body, around scope) scope {
	in := scope{}
	for v, s := range around {
		in[v] = slices.Clone(s)
	}
	ast.WalkExprs(body, func(e *ast.Expr) bool {
		terms, _ := e.Terms.([]*ast.Term)
		switch some, isSome := e.Terms.(*ast.SomeDecl); {
		case isSome && len(some.Symbols) == 1:
			if call, ok := some.Symbols[0].Value.(ast.Call); ok {
				of := call[len(call)-1]
				f.bind(in, call[len(call)-2], source{of, in, []step{{any: true}}})
				if len(call) == 4 {
					f.bind(in, call[1], source{term: of, scope: in})
				}
			}
		case len(terms) == 3 && (e.IsAssignment() || e.IsEquality()):
			f.bind(in, terms[1], source{term: terms[2], scope: in})
			if e.IsEquality() {
				f.bind(in, terms[2], source{term: terms[1], scope: in})
			}
		case len(terms) > 1 && e.IsCall(): // f(x, y, result)
			if b := ast.BuiltinMap[e.Operator().String()]; b == nil || len(terms)-1 > len(b.Decl.FuncArgs().Args) {
				f.bind(in, terms[len(terms)-1], source{term: ast.NewTerm(ast.Call(terms[:len(terms)-1])), scope: in})
			}
		}
		for _, w := range e.With { // what is asked for with other facts is made of them
			ast.WalkVars(e, func(v ast.Var) bool {
				in[v] = append(in[v], source{term: w.Value, scope: in})
				return false
			})
		}
		return false
	})
	ast.WalkRefs(body, func(ref ast.Ref) bool { // data.x[i]: i is one of its keys
		for i, t := range ref[1:] {
			if v, ok := t.Value.(ast.Var); ok && in[v] == nil {
				in[v] = append(in[v], source{term: ast.NewTerm(ref[:i+1]), scope: in})
			}
		}
		return false
	})
	return in
}

// bind notes where the variables of a pattern get their values from.
func (f *flow) bind(in scope, pattern *ast.Term, from source) {
	switch v := pattern.Value.(type) {
	case ast.Var:
		in[v] = append(in[v], from)
	case *ast.Array:
		i := 0
		v.Foreach(func(e *ast.Term) {
			f.bind(in, e, source{from.term, from.scope, append(slices.Clip(from.steps), step{name: strconv.Itoa(i)})})
			i++
		})
	case ast.Object:
		v.Foreach(func(k, e *ast.Term) {
			at := step{any: true}
			if name, ok := k.Value.(ast.String); ok {
				at = step{name: string(name)}
			}
			f.bind(in, e, source{from.term, from.scope, append(slices.Clip(from.steps), at)})
		})
	}
}
