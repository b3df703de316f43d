package workbench

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// failureWatch is a tracer that keeps, of everything that tests do, the expression
// that failed last in the file and the case of each. A whole trace of a test that
// tries every route takes more memory than a check may.
type failureWatch struct {
	tests   map[string]bool // the rules of tests, by place
	last    map[string]*ast.Expr
	file    string // of the test that runs
	test    string
	current string // the test and its case, the key of last
}

// Enabled is part of [topdown.QueryTracer].
func (w *failureWatch) Enabled() bool { return true }

// Config is part of [topdown.QueryTracer].
func (w *failureWatch) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent is part of [topdown.QueryTracer].
func (w *failureWatch) TraceEvent(event topdown.Event) {
	switch event.Op {
	case topdown.EnterOp:
		if rule, ok := event.Node.(*ast.Rule); ok && rule.Location != nil && w.tests[ruleAt(rule.Location)] {
			w.file, w.test = rule.Location.File, ruleAt(rule.Location)
			w.current = w.test + " "
		}
	case topdown.TestCaseOp:
		if e, ok := event.Node.(*ast.Expr); ok {
			w.current = w.test + " " + caseName(e)
		}
	case topdown.FailOp:
		if e, ok := event.Node.(*ast.Expr); ok && e.Location != nil && e.Location.File == w.file && w.file != "" {
			w.last[w.current] = e
		}
	}
}

// caseName returns the name that OPA's tester gives a case, from the expression that announces it.
func caseName(announced *ast.Expr) string {
	names, ok := announced.Operand(0).Value.(*ast.Array)
	if !ok {
		return ""
	}
	var parts []string
	names.Foreach(func(t *ast.Term) {
		if text, ok := t.Value.(ast.String); ok {
			parts = append(parts, string(text))
		} else {
			parts = append(parts, t.String())
		}
	})
	return strings.Join(parts, "/")
}
