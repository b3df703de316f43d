package plan_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/policies/engine/plan"
)

// TestRandomPolicies holds plans of made-up policies against topdown on made-up inputs.
// A plan may be refused, or fail and so leave the answer to topdown; one that answers
// must answer as topdown does.
func TestRandomPolicies(t *testing.T) {
	policies, inputs, seed := 400, 60, uint64(7)
	if testenv.Long() {
		policies, inputs, seed = 20_000, 100, rand.Uint64()
	}
	t.Logf("seed %d", seed)
	counts := map[string]int{}
	for i := range policies {
		g := &writer{random: rand.New(rand.NewPCG(seed, uint64(i)))}
		source := g.module()
		both, err := prepare(source)
		if err != nil {
			counts["not a policy"]++
			continue
		}
		if both.program == nil {
			counts["refused"]++
			t.Logf("policy %d: %v", i, both.refused)
			continue
		}
		for range inputs {
			input := ast.NewTerm(ast.MustInterfaceToValue(g.input()))
			outcome, detail := both.compare(t.Context(), input)
			counts[outcome]++
			require.NotEqual(t, "wrong", outcome, "seed %d, policy %d:\n%s\non input %s:\n%s", seed, i, source, input, detail)
		}
	}
	t.Logf("%v", counts)
	require.Less(t, counts["not a policy"], policies/2, "most of what is written must compile")
	require.Greater(t, counts["same"], policies*inputs/4, "most evaluations must be compared")
}

// both are the two evaluators of data.test.main.
type both struct {
	program *plan.Program
	shape   *plan.Shape
	refused error
	topdown rego.PreparedEvalQuery
}

var mainRef = ast.MustParseRef("data.test.main")

// base is the data of the made-up policies.
var base = map[string]any{
	"roles": map[string]any{"admin": map[string]any{"read": true, "write": true}, "viewer": map[string]any{"read": true}},
	"list":  []any{"a", "b", 1, 2.0},
}

func prepare(source string) (*both, error) {
	ctx := context.Background()
	compiler := ast.NewCompiler().WithDefaultRegoVersion(ast.RegoV1)
	module, err := ast.ParseModuleWithOpts("test.rego", source, ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, err
	}
	if compiler.Compile(map[string]*ast.Module{"test.rego": module}); compiler.Failed() {
		return nil, compiler.Errors
	}
	b := &both{}
	b.topdown, err = rego.New(
		rego.Compiler(compiler), rego.Query("x = data.test.main"), rego.Store(inmem.NewFromObject(base)), rego.StrictBuiltinErrors(true),
	).PrepareForEval(ctx)
	if err != nil {
		return nil, err
	}
	policy, err := plan.Plan(ctx, compiler, mainRef)
	if b.refused = err; err != nil {
		return b, nil //nolint:nilerr // a plan may be refused
	}
	if b.shape, err = plan.NewShape([]string{"request", "entity"}, []string{"request", "n"}, []string{"token"}, []string{"now"}, []string{"open"}); err != nil {
		return nil, err
	}
	if b.shape, err = b.shape.WithTree(2, "token"); err != nil {
		return nil, err
	}
	b.program, b.refused = plan.Compile(policy, plan.Config{Ref: mainRef, Data: ast.NewTerm(ast.MustInterfaceToValue(base)), Shape: b.shape})
	return b, nil
}

func (b *both) compare(ctx context.Context, input *ast.Term) (outcome, detail string) {
	slots := make([]*ast.Term, b.shape.Len())
	if !b.shape.Fill(slots, input) {
		return "unfit", ""
	}
	got, err := b.program.Eval(ctx, plan.Input{Slots: slots, Tree: b.shape.Tree(slots)}, topdown.NewCancel())
	if err != nil && err != plan.ErrUndefined { //nolint:errorlint // it is returned as it is
		return "failed", err.Error()
	}
	results, terr := b.topdown.Eval(ctx, rego.EvalParsedInput(input.Value))
	var want ast.Value
	if terr == nil && len(results) == 1 {
		want = ast.MustInterfaceToValue(results[0].Bindings["x"])
	}
	if got != nil { // as JSON has it, as topdown's answer was taken
		x, err := ast.JSON(got)
		if err != nil {
			return "wrong", err.Error()
		}
		got = ast.MustInterfaceToValue(x)
	}
	switch {
	case terr != nil:
		return "wrong", fmt.Sprintf("the plan answers %v, topdown fails with %v", got, terr)
	case got != nil && want != nil && got.Compare(want) != 0 && spelled(got).Compare(spelled(want)) == 0:
		return "spelling", ""
	case (got == nil) != (want == nil), got != nil && got.Compare(want) != 0:
		return "wrong", fmt.Sprintf("the plan answers %v, topdown %v", got, want)
	}
	return "same", ""
}

// spelled writes numbers that are keys, which are texts in JSON, in one way. Topdown remembers
// what a function gave for an equal argument: after f(1.0), f(1) may be 1.0.
func spelled(v ast.Value) ast.Value {
	switch v := v.(type) {
	case ast.Object:
		o := ast.NewObject()
		v.Foreach(func(k, x *ast.Term) {
			if name, ok := k.Value.(ast.String); ok {
				if n, err := strconv.ParseFloat(string(name), 64); err == nil {
					k = ast.StringTerm(strconv.FormatFloat(n, 'g', -1, 64))
				}
			}
			o.Insert(k, ast.NewTerm(spelled(x.Value)))
		})
		return o
	case *ast.Array:
		a := ast.NewArray()
		v.Foreach(func(x *ast.Term) { a = a.Append(ast.NewTerm(spelled(x.Value))) })
		return a
	}
	return v
}

// writer writes policies and inputs.
type writer struct {
	random *rand.Rand
	vars   []string // in scope
	rules  []string // that may be referred to
	next   int
	depth  int
}

func (g *writer) pick(from ...string) string { return from[g.random.IntN(len(from))] }

func (g *writer) fresh() string {
	g.next++
	return fmt.Sprintf("v%d", g.next)
}

// module writes a policy. Each rule refers to those before it only.
func (g *writer) module() string {
	var b strings.Builder
	// What goes through a member of data has no type for the compiler, which would refuse
	// most of what is written here.
	b.WriteString("package test\n\nplain(x) := object.get({\"x\": x}, object.get(input, \"x\", \"x\"), null)\n\n")
	for i := range 2 + g.random.IntN(5) {
		name := fmt.Sprintf("r%d", i)
		b.WriteString(g.rule(name))
		g.rules = append(g.rules, name)
	}
	b.WriteString(g.rule("main"))
	return b.String()
}

func (g *writer) rule(name string) string {
	g.vars = nil
	switch g.random.IntN(6) {
	case 0: // a set
		return fmt.Sprintf("%s contains %s if {\n%s}\n\n%s contains x if {\n%s\tx := %s\n}\n\n", name, g.scalar(), g.body(), name, g.body(), g.term())
	case 1: // an object
		return fmt.Sprintf("%s[k] := 1 if {\n%s\tk := %s\n}\n\n", name, g.body(), g.scalarOrRef())
	case 2: // a default, with else
		return fmt.Sprintf("default %s := false\n\n%s := %s if {\n%s} else := %s if {\n%s}\n\n", name, name, g.scalar(), g.body(), g.scalar(), g.body())
	case 3: // a comprehension
		return fmt.Sprintf("%s := %s\n\n", name, g.comprehension())
	case 4: // several bodies of one value
		return fmt.Sprintf("%s if {\n%s}\n\n%s if {\n%s}\n\n", name, g.body(), name, g.body())
	default:
		return fmt.Sprintf("%s := x if {\n%s\tx := %s\n}\n\n", name, g.body(), g.term())
	}
}

func (g *writer) body() string {
	var b strings.Builder
	for range 1 + g.random.IntN(3) {
		b.WriteString("\t" + g.expression() + "\n")
	}
	return b.String()
}

func (g *writer) expression() string {
	if g.depth > 2 {
		return fmt.Sprintf("%s == %s", g.scalarOrRef(), g.scalarOrRef())
	}
	g.depth++
	defer func() { g.depth-- }()
	switch g.random.IntN(14) {
	case 0:
		v := g.fresh()
		text := fmt.Sprintf("some %s in %s", v, g.collection())
		g.vars = append(g.vars, v)
		return text
	case 1:
		v := g.fresh()
		text := fmt.Sprintf("%s := %s", v, g.term())
		g.vars = append(g.vars, v)
		return text
	case 2:
		return "not " + g.simple()
	case 3:
		return fmt.Sprintf("every e in %s { e != %s }", g.collection(), g.scalarOrRef())
	case 4:
		return fmt.Sprintf("%s in %s", g.scalarOrRef(), g.collection())
	case 5:
		return fmt.Sprintf("not %s in %s", g.scalarOrRef(), g.collection())
	case 6:
		return fmt.Sprintf("count(%s) %s %d", g.collection(), g.pick("==", ">", "<", "!="), g.random.IntN(3))
	case 7:
		v := g.fresh()
		text := fmt.Sprintf("some k%s, %s in %s", v, v, g.collection())
		g.vars = append(g.vars, v, "k"+v)
		return text
	case 8:
		return fmt.Sprintf("%s[_] == %s", g.pick("data.list", "input.token", "input.open"), g.scalarOrRef())
	case 9:
		return fmt.Sprintf("%s with input.now as %s", g.simple(), g.scalar())
	default:
		return g.simple()
	}
}

func (g *writer) simple() string {
	switch g.random.IntN(6) {
	case 0:
		return g.reference()
	case 1:
		return fmt.Sprintf("%s(%s)", g.pick("is_string", "is_number", "is_object", "is_array"), g.scalarOrRef())
	case 2:
		return fmt.Sprintf("startswith(input.request.entity, %s)", g.pick(`"a"`, `""`))
	default:
		return fmt.Sprintf("%s %s %s", g.scalarOrRef(), g.pick("==", "!=", "<", ">", "<=", ">="), g.scalarOrRef())
	}
}

func (g *writer) scalar() string {
	if g.random.IntN(2) == 0 {
		return "plain(" + g.literal() + ")"
	}
	return g.literal()
}

func (g *writer) literal() string {
	return g.pick(`"a"`, `"b"`, `"read"`, "1", "1.0", "2", "true", "false", "null", `""`)
}

func (g *writer) reference() string {
	refs := []string{
		"input.request.entity", "input.request.n", "input.now", "input.token.a", "input.token.b[0]", "input.open", "input.missing", "input.request", "input.token",
		"data.roles.admin", "data.roles[input.request.entity].read", "data.list[0]", "data.list[input.request.n]", "data.roles.admin[input.request.entity]", "input",
	}
	refs = append(refs, g.vars...)
	for _, r := range g.rules {
		refs = append(refs, r, "plain("+r+")")
	}
	return g.pick(refs...)
}

func (g *writer) scalarOrRef() string {
	if g.random.IntN(3) == 0 {
		return g.scalar()
	}
	return g.reference()
}

func (g *writer) collection() string {
	switch g.random.IntN(6) {
	case 0:
		return fmt.Sprintf("[%s, %s]", g.scalarOrRef(), g.scalarOrRef())
	case 1:
		return fmt.Sprintf("{%s, %s}", g.scalarOrRef(), g.scalarOrRef())
	case 2:
		return g.comprehension()
	default:
		return g.reference()
	}
}

func (g *writer) comprehension() string {
	if g.depth > 1 {
		return "[1]"
	}
	g.depth++
	defer func() { g.depth-- }()
	vars := len(g.vars)
	defer func() { g.vars = g.vars[:vars] }()
	v := g.fresh()
	from := g.reference()
	g.vars = append(g.vars, v)
	switch g.random.IntN(4) {
	case 0:
		return fmt.Sprintf("[%s | some %s in %s; %s][0]", v, v, from, g.simple())
	case 1:
		return fmt.Sprintf("{%s | some %s in %s; not %s}", v, v, from, g.simple())
	case 2:
		return fmt.Sprintf("{%s: %s | some %s in %s}", v, g.scalarOrRef(), v, from)
	default:
		return fmt.Sprintf("[x | some %s in %s; x := %s]", v, from, g.scalarOrRef())
	}
}

func (g *writer) term() string {
	switch g.random.IntN(6) {
	case 0:
		return g.collection()
	case 1:
		return fmt.Sprintf(`{"a": %s, "b": %s}`, g.scalarOrRef(), g.scalarOrRef())
	case 2:
		return fmt.Sprintf(`object.get({"a": %s}, %s, %s)`, g.scalarOrRef(), g.scalarOrRef(), g.scalar())
	case 3:
		return fmt.Sprintf("{%s: 1, %s: 2}", g.scalarOrRef(), g.scalarOrRef())
	default:
		return g.scalarOrRef()
	}
}

func (g *writer) value(depth int) any {
	switch n := g.random.IntN(12); {
	case n == 0 && depth > 0:
		return map[string]any{"a": g.value(depth - 1), "b": g.value(depth - 1)}
	case n == 1 && depth > 0:
		return []any{g.value(depth - 1), g.value(depth - 1)}
	case n == 2:
		return nil
	case n < 5:
		return g.random.IntN(3)
	case n == 5:
		return g.random.IntN(2) == 0
	default:
		return g.pick("a", "b", "read", "admin", "viewer", "")
	}
}

func (g *writer) input() any {
	input := map[string]any{}
	for _, name := range []string{"token", "now", "open"} {
		if g.random.IntN(5) > 0 {
			input[name] = g.value(2)
		}
	}
	request := map[string]any{}
	for _, name := range []string{"entity", "n"} {
		if g.random.IntN(6) > 0 {
			request[name] = g.value(1)
		}
	}
	if len(request) > 0 {
		input["request"] = request
	}
	return input
}
