package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Config says what a plan is compiled for.
type Config struct {
	// Ref is the document that the program evaluates, e.g. data.patrol.authz.decision.
	// nil: the query that was planned, whose results are gathered in a set.
	Ref ast.Ref
	// Data is the base document. Nobody may change it.
	Data *ast.Term
	// Shape says what of the input is given in slots; nil: input is one document.
	Shape *Shape
	// Builtin returns a built-in function; nil: [topdown.GetBuiltin].
	Builtin func(name string) topdown.BuiltinFunc
	// Within says what a built-in function may be given, where Builtin's refuses other
	// arguments; nil, or nil for a function: anything.
	Within func(name string) func(args []*ast.Term) error
	// Without is a function without a result whose calls are left out.
	Without string
}

// Compile makes a program of a plan, which it changes. The plan's policies must not need more of OPA
// than the package's documentation says; otherwise the error names what.
func Compile(policy *ir.Policy, cfg Config) (p *Program, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("compile the plan: panic: %v", r)
		}
	}()
	if cfg.Builtin == nil {
		cfg.Builtin = topdown.GetBuiltin
	}
	if cfg.Within == nil {
		cfg.Within = func(string) func([]*ast.Term) error { return nil }
	}
	if cfg.Shape != nil && cfg.Shape.Len() > 63 {
		return nil, errors.New("compile the plan: a shape has at most 63 slots")
	}
	c := &compiler{
		Config: cfg, policy: policy,
		source: map[string]*ir.Func{}, done: map[string]*function{}, paths: map[string]string{}, builtins: map[string]*ir.BuiltinFunc{},
		whole: cfg.Shape == nil,
	}
	for _, f := range policy.Funcs.Funcs {
		leaveOut(cfg.Without, f.Blocks)
		c.source[f.Name] = f
		c.paths[strings.Join(f.Path, "\x00")] = f.Name
		c.whole = c.whole || replaces(f.Blocks)
	}
	for _, b := range policy.Static.BuiltinFuncs {
		c.builtins[b.Name] = b
	}
	main, err := c.main()
	if err != nil {
		return nil, fmt.Errorf("compile the plan: %w", err)
	}
	return c.program(main), nil
}

func (c *compiler) program(main *function) *Program {
	p := &Program{main: main, funcs: len(c.memos), shape: c.Shape, linear: c.linear}
	for _, f := range c.memos {
		if c.whole {
			f.needs = AllSlots // what is read of a local is not known
		}
		p.reads = append(p.reads, f.needs)
	}
	p.pool.New = func() any { return newEvaluator(p) }
	return p
}

// replaces reports whether something in the blocks replaces input or data by `with`.
func replaces(blocks []*ir.Block) (found bool) {
	for _, b := range blocks {
		for _, s := range b.Stmts {
			switch s := s.(type) {
			case *ir.WithStmt:
				return true
			case *ir.BlockStmt:
				found = found || replaces(s.Blocks)
			case *ir.NotStmt:
				found = found || replaces([]*ir.Block{s.Block})
			case *ir.ScanStmt:
				found = found || replaces([]*ir.Block{s.Block})
			}
		}
	}
	return found
}

// compiler makes a program.
type compiler struct {
	Config
	policy    *ir.Policy
	source    map[string]*ir.Func
	done      map[string]*function
	paths     map[string]string // names of functions by path
	builtins  map[string]*ir.BuiltinFunc
	whole     bool        // input and data are locals, since `with` replaces them or there is no shape
	memos     []*function // whose values are remembered
	under     []string    // the functions that are being compiled
	constants map[*function]*ast.Term
	linear    []Linear
}

func (c *compiler) main() (*function, error) {
	if c.Ref != nil {
		for _, f := range c.policy.Funcs.Funcs {
			if len(f.Params) == 2 && isPath(f.Path, c.Ref) {
				return c.entry(f.Name)
			}
		}
		return nil, fmt.Errorf("the plan has no function for %s", c.Ref)
	}
	if len(c.policy.Plans.Plans) != 1 {
		return nil, fmt.Errorf("there are %d plans, not one", len(c.policy.Plans.Plans))
	}
	c.whole = c.whole || replaces(c.policy.Plans.Plans[0].Blocks)
	f, err := c.function("the query", []ir.Local{ir.Input, ir.Data}, c.policy.Plans.Plans[0].Blocks)
	if err != nil {
		return nil, err
	}
	f.blocks = append(f.blocks, block{func(ev *evaluator, _ []*ast.Term) exit {
		ev.value = ast.NewTerm(ast.NewSet(ev.results...))
		return returned
	}})
	return c.begin(f), nil
}

// isPath reports whether a function's path, whose first part names a group of
// functions, stands for ref.
func isPath(path []string, ref ast.Ref) bool {
	return len(path) == len(ref) && slices.EqualFunc(path[1:], ref[1:], func(s string, t *ast.Term) bool {
		return t.Value == ast.String(s)
	})
}

func (c *compiler) entry(name string) (*function, error) {
	f, err := c.callee(name)
	if err != nil {
		return nil, err
	}
	return c.begin(f), nil
}

// begin gives the first function its input and data, if those are locals.
func (c *compiler) begin(f *function) *function {
	if !c.whole {
		return f
	}
	data := c.Data
	first := block{func(ev *evaluator, locals []*ast.Term) exit {
		locals[0], locals[1] = ev.input(nil), data
		return next
	}}
	g := *f
	g.blocks = append([]block{first}, f.blocks...)
	return &g
}

var errRecursive = errors.New("the function calls itself")

// callee compiles a function when it is first called.
func (c *compiler) callee(name string) (*function, error) {
	if f := c.done[name]; f != nil {
		return f, nil
	}
	src := c.source[name]
	if src == nil {
		return nil, fmt.Errorf("there is no function %s", name)
	}
	if slices.Contains(c.under, name) {
		return nil, fmt.Errorf("%s: %w", name, errRecursive)
	}
	if len(src.Params) < 2 || src.Params[0] != ir.Input || src.Params[1] != ir.Data {
		return nil, fmt.Errorf("%s does not begin with input and data", name)
	}
	c.under = append(c.under, name)
	f, err := c.function(name, src.Params, src.Blocks)
	c.under = c.under[:len(c.under)-1]
	if err != nil {
		return nil, err
	}
	if len(src.Params) == 2 {
		f.memo = len(c.memos)
		c.memos = append(c.memos, f)
	}
	c.done[name] = f
	return f, nil
}

func (c *compiler) function(name string, params []ir.Local, blocks []*ir.Block) (*function, error) {
	separate(params, blocks)
	propagate(blocks)
	truth, ok := onlyTrue(params[2:], blocks)
	if ok {
		blocks = shorten(blocks, truth)
	}
	dropResets(blocks)
	fc := &funcCompiler{
		compiler: c, f: &function{name: name, memo: -1, truth: -1}, survey: surveyBlocks(blocks),
		index: map[ir.Local]int{}, known: map[ir.Local]known{},
	}
	if !c.whole {
		fc.known[ir.Input] = known{node: c.Shape.root}
		fc.known[ir.Data] = known{constant: c.Data}
		params = params[2:]
	}
	for _, l := range params {
		fc.local(l)
		fc.survey.of(l, nil).writes++
		fc.survey.of(l, nil).scope, fc.survey.of(l, nil).param = nil, fc.survey.of(l, nil).writes == 1
	}
	if c.whole {
		fc.f.first = 2
	}
	if ok {
		fc.f.truth = fc.local(truth)
	}
	leads := make([]*lead, 0, len(blocks))
	for _, b := range blocks {
		begins := &lead{open: true, keys: map[int][]string{}}
		compiled, err := fc.block(b, begins)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		fc.f.blocks = append(fc.f.blocks, compiled)
		leads = append(leads, begins)
	}
	fc.f.blocks = fc.indexed(blocks, fc.f.blocks, leads)
	fc.f.size = len(fc.index)
	return fc.f, nil
}

// funcCompiler compiles one function.
type funcCompiler struct {
	*compiler
	f      *function
	survey *survey
	index  map[ir.Local]int
	known  map[ir.Local]known
	next   ir.Stmt // after the one that is compiled, in its block
	skip   ir.Stmt // compiled with an earlier one

	lead    *lead   // of the body of a rule that is compiled, for statements of the body itself
	present []*node // slots that statements found filled without which this one is not reached
}

// known describes the value of a local that is known when the plan is compiled.
type known struct {
	constant *ast.Term
	node     *node
	building bool // constant is a container to which more may be added
	// An array that is only scanned is not made at all: these are its values.
	values []operand
	listed bool
	// Of an array only whose first element is read, that is all there is.
	first bool
	// An object whose members are all written down.
	literal *literal
}

func (c *funcCompiler) local(l ir.Local) int {
	if k, ok := c.known[l]; ok && !k.first || !c.whole && l <= ir.Data {
		panic(fmt.Sprintf("local %d has no place: it is known what it stands for", l))
	}
	i, ok := c.index[l]
	if !ok {
		i = len(c.index)
		c.index[l] = i
	}
	return i
}

// value resolves an operand.
func (c *funcCompiler) value(o ir.Operand) operand {
	switch v := o.Value.(type) {
	case ir.StringIndex:
		return operand{constant: ast.InternedTerm(c.policy.Static.Strings[v].Value)}
	case ir.Bool:
		return operand{constant: ast.InternedTerm(bool(v))}
	case ir.Local:
		return c.read(v)
	default:
		panic(fmt.Sprintf("operand %T", v))
	}
}

func (c *funcCompiler) read(l ir.Local) operand {
	k, ok := c.known[l]
	switch {
	case !ok:
		return operand{local: c.local(l)}
	case k.node != nil:
		return operand{node: k.node, slot: k.node.slot}
	case k.listed || k.first || k.literal != nil && (k.literal.elided || !k.literal.made):
		panic("an elided container is read")
	case k.literal != nil:
		return operand{local: k.literal.local}
	}
	if k.building {
		Settle(k.constant.Value)
		c.known[l] = known{constant: k.constant}
	}
	return operand{constant: k.constant}
}

// need notes that the function reads everything at a node of the input.
func (c *funcCompiler) need(n *node) {
	if n.slot >= 0 {
		c.f.needs |= 1 << n.slot
		return
	}
	for _, child := range n.children {
		c.need(child)
	}
}

func (c *funcCompiler) operand(o ir.Operand) operand {
	v := c.value(o)
	if v.node != nil {
		c.need(v.node)
	}
	return v
}

func (c *funcCompiler) operands(os []ir.Operand) []operand {
	vs := make([]operand, len(os))
	for i, o := range os {
		vs[i] = c.operand(o)
	}
	return vs
}

// block compiles a block. What a rule's body begins with is noted in begins; nil: it is no such body.
func (c *funcCompiler) block(b *ir.Block, begins *lead) (block, error) {
	found := len(c.present)
	defer func() { c.present = c.present[:found] }()
	var steps block
	for i := 0; i < len(b.Stmts); i++ {
		stmt := b.Stmts[i]
		if stmt == c.skip {
			continue
		}
		if s, n, err := c.descent(b.Stmts[i:]); n > 0 || err != nil {
			if err != nil {
				return nil, err
			}
			steps = append(steps, s)
			i += n - 1
			continue
		}
		c.next = nil
		if i+1 < len(b.Stmts) {
			c.next = b.Stmts[i+1]
		}
		c.lead = nil
		switch stmt.(type) {
		case *ir.EqualStmt, *ir.CallStmt: // these have no blocks
			c.lead = begins
		}
		s, err := c.statement(stmt)
		if err != nil {
			return nil, err
		}
		if begins != nil {
			begins.open = begins.open && c.cannotFail(&ir.Block{Stmts: []ir.Stmt{stmt}})
		}
		if s != nil {
			steps = append(steps, s)
		}
	}
	return steps, nil
}

// body compiles the body of a scan. A local that only the body names begins each run
// of it undefined: what an earlier run left there must not be seen by a later one
// (OPA 1.22 does not reset the condition of a `not` with a body).
func (c *funcCompiler) body(b *ir.Block) (block, error) {
	var resets []int
	for l, u := range c.survey.locals {
		if u.scope != nil && u.scope.block == b && u.tested {
			resets = append(resets, c.local(l))
		}
	}
	steps, err := c.block(b, nil)
	if err != nil || len(resets) == 0 {
		return steps, err
	}
	slices.Sort(resets)
	return append(block{func(_ *evaluator, locals []*ast.Term) exit {
		for _, l := range resets {
			locals[l] = nil
		}
		return next
	}}, steps...), nil
}

// Settle makes a constant safe to share: OPA's objects and sets sort their keys when
// they are first iterated over, which must not happen in two goroutines.
func Settle(v ast.Value) {
	switch v := v.(type) {
	case ast.Object:
		v.Foreach(func(k, x *ast.Term) { Settle(k.Value); Settle(x.Value) })
	case *ast.Array:
		v.Foreach(func(x *ast.Term) { Settle(x.Value) })
	case ast.Set:
		v.Foreach(func(x *ast.Term) { Settle(x.Value) })
	}
}

// evaluate evaluates a function that reads nothing of the input.
func (c *compiler) evaluate(f *function) (t *ast.Term, ok bool) {
	defer func() {
		if recover() != nil {
			t, ok = nil, false
		}
	}()
	ev := newEvaluator(c.program(f))
	budget := &steps{left: 1 << 22}
	ev.begin(context.Background(), Input{}, budget)
	t = ev.run(f, ev.push(f.size))
	if ev.err != nil {
		return nil, false
	}
	if t != nil {
		Settle(t.Value)
	}
	return t, true
}

// steps is a limit on the number of times that an evaluation asks for it.
type steps struct{ left int }

func (s *steps) Cancel() {}

func (s *steps) Cancelled() bool { s.left--; return s.left < 0 }
