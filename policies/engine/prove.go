package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/policies/engine/plan"
)

// DefaultTrials is the number of inputs that a plan is held against topdown on before it answers.
// With the default policy they take less than a second of CPU.
const DefaultTrials = 10_000

// trialTime bounds how long one trial may take either evaluator. A policy that needs
// longer gains nothing from its plan.
const trialTime = time.Second

// prove holds a plan against topdown on made-up inputs: what is known of such policies,
// mostly with something broken in it, and with the values that the policy itself is
// written about. Whatever one of them finds, the other must find, but for what topdown
// cannot answer in time.
func (s *Snapshot) prove(ctx context.Context, d document, f *fast, trials int) error {
	g, err := s.trialInputs(d)
	if err != nil {
		return err
	}
	for range trials {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		doc := g.next()
		v, err := ast.InterfaceToValue(doc)
		if err != nil {
			return fmt.Errorf("make an input: %w", err)
		}
		input := ast.NewTerm(v)
		q := &question{doc: input, trial: true, limit: deadline{ctx: ctx, at: time.Now().Add(trialTime)}}
		got, gerr := f.eval(ctx, q)
		if errors.Is(gerr, errUnfit) {
			continue // topdown answers these
		}
		if errors.Is(gerr, plan.ErrStopped) { // a busy machine, perhaps
			q.limit = deadline{ctx: ctx, at: time.Now().Add(trialTime)}
			got, gerr = f.eval(ctx, q)
		}
		want, werr := s.topdown(ctx, d, input)
		if errors.Is(werr, ErrTimeout) || errors.Is(werr, errHeld) {
			continue
		}
		if !agree(got, gerr, want, werr) && ctx.Err() == nil {
			return fmt.Errorf("its plan answers %s and topdown %s, on the input %s", outcome(got, gerr), outcome(want, werr), input)
		}
	}
	return nil
}

func outcome(v ast.Value, err error) string {
	if err != nil {
		return "with " + err.Error()
	}
	return v.String()
}

// trials makes inputs.
type trials struct {
	random *rand.Rand
	bases  []object
	values []any // to put somewhere
	keys   []string
}

func (s *Snapshot) trialInputs(d document) (*trials, error) {
	// The same inputs for the same policy: what is found can be found again.
	g := &trials{random: rand.New(rand.NewPCG(1, 2))} //nolint:gosec // no secret is made of it
	g.values = []any{nil, true, false, 0, 1, -1, 2.5, "", "*", []any{}, []any{"*"}, object{}, object{"*": "x"}}
	if d.isDecision() {
		known, err := KnownDecisions(s.catalog, s.catalog)
		if err != nil {
			return nil, err
		}
		for _, k := range known {
			g.bases = append(g.bases, k.Input)
		}
	} else {
		requests, err := s.trialRequests()
		if err != nil {
			return nil, err
		}
		g.bases = requests
	}
	for _, m := range s.compiler.Modules {
		ast.WalkTerms(m, func(t *ast.Term) bool {
			switch v := t.Value.(type) {
			case ast.String:
				if len(v) <= 256 {
					g.values = append(g.values, string(v))
					g.keys = append(g.keys, string(v))
				}
			case ast.Number:
				n, ok := v.Int64()
				if ok {
					g.values = append(g.values, n, n-1, n+1)
				}
			}
			return false
		})
	}
	slices.Sort(g.keys)
	g.keys = slices.Compact(g.keys)
	for _, name := range slices.Sorted(maps.Keys(s.catalog.Roles)) {
		g.values = append(g.values, name)
	}
	return g, nil
}

// next makes an input: a known one with up to four places changed. It shares what is not
// changed with others.
func (g *trials) next() any {
	var doc any = g.bases[g.random.IntN(len(g.bases))]
	for range g.random.IntN(5) {
		doc = g.change(doc)
	}
	return doc
}

// change returns a copy with one place changed, at any depth.
func (g *trials) change(at any) any {
	switch v := at.(type) {
	case object:
		v = maps.Clone(v)
		if len(v) == 0 || g.random.IntN(8) == 0 {
			if len(g.keys) > 0 {
				v[g.keys[g.random.IntN(len(g.keys))]] = g.value()
			}
			return v
		}
		keys := slices.Sorted(maps.Keys(v))
		key := keys[g.random.IntN(len(keys))]
		switch g.random.IntN(10) {
		case 0:
			delete(v, key)
		case 1:
			v[key] = g.value()
		default:
			v[key] = g.change(v[key])
		}
		return v
	case []any:
		if len(v) == 0 || g.random.IntN(4) == 0 {
			return append(slices.Clone(v), g.value())
		}
		changed := slices.Clone(v)
		i := g.random.IntN(len(v))
		changed[i] = g.change(changed[i])
		return changed
	default:
		return g.value()
	}
}

func (g *trials) value() any { return g.values[g.random.IntN(len(g.values))] }

// trialRequests are proxied requests: those that the routes' patterns map and those that
// are known, with what bodies, queries and headers may hold.
func (s *Snapshot) trialRequests() ([]object, error) {
	var patterns []string
	if t := lookUpData(s.documents.data, Root, "routes"); t != nil {
		if routes, ok := t.(ast.Object); ok {
			routes.Foreach(func(k, _ *ast.Term) {
				if pattern, ok := k.Value.(ast.String); ok {
					patterns = append(patterns, string(pattern))
				}
			})
		}
	}
	lines, err := requestLines(patterns)
	if err != nil {
		return nil, err
	}
	var bases []object
	for _, line := range lines {
		method, path, _ := strings.Cut(line, " ")
		segments := []any{}
		for segment := range strings.SplitSeq(path, "/") {
			if segment != "" {
				segments = append(segments, segment)
			}
		}
		for _, body := range trialBodies {
			http := object{
				"method": method, "path": path, "segments": segments,
				"query": object{"q": []any{"1"}}, "headers": object{"content-type": "application/json"},
			}
			if body != nil {
				http["body"] = body
			}
			bases = append(bases, object{"http": http})
		}
	}
	return bases, nil
}

// trialBodies are the possible readings of a body: nothing, one name, several, lists.
var trialBodies = []object{
	nil,
	{"model": KnownModel},
	{"model": KnownModel, "models": []any{KnownModel, "other"}},
	{"model": KnownModel, "from": "other"},
	{"name": KnownModel, "source": KnownModel, "destination": "other"},
}

func lookUpData(data ast.Object, path ...string) ast.Value {
	var at ast.Value = data
	for _, name := range path {
		o, ok := at.(ast.Object)
		if !ok {
			return nil
		}
		t := o.Get(ast.StringTerm(name))
		if t == nil {
			return nil
		}
		at = t.Value
	}
	return at
}
