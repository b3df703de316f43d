package workbench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"

	"patrol/policies/engine"
)

// TestReport is the result of a bundle's own tests. A rule that makes a table of
// cases counts once for each case, as with `opa test`.
type TestReport struct {
	Passed  int          `json:"passed"`
	Failed  int          `json:"failed"`
	Skipped int          `json:"skipped"`
	Tests   []TestResult `json:"tests"`
}

// TestResult is the result of one test, or of one case of a test.
type TestResult struct {
	Package string  `json:"package"` // data.patrol.authz_test
	Name    string  `json:"name"`    // test_deny
	Case    string  `json:"case,omitempty"`
	Outcome Outcome `json:"outcome"`
	// The place of the test, or of its failure.
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	// Message says why it failed. Output is what the test printed.
	Message string `json:"message,omitempty"`
	Output  string `json:"output,omitempty"`
	// Seconds is the duration of the rule with all its cases.
	Seconds float64 `json:"seconds"`
	// errored tells a test that could not be judged from one that failed.
	errored bool
}

// Title is the test's name as people read it: test_deny[revoked].
func (t TestResult) Title() string {
	if t.Case == "" {
		return t.Name
	}
	return t.Name + "[" + t.Case + "]"
}

// TestOptions say how the tests of a bundle are run.
type TestOptions struct {
	// Run is a regular expression that picks tests by package and name, such as
	// data.patrol.authz_test.test_deny; "" is all.
	Run string
	// Timeout bounds each test; 0 is [DefaultTestTimeout].
	Timeout time.Duration
}

// RunTests runs the tests of a bundle and nothing else, for people who write them.
// Obstacles to running them come back as findings. The error is not about
// the bundle: ctx ended, or an option is wrong.
func RunTests(ctx context.Context, src engine.Source, opts TestOptions) (*TestReport, *CoverageReport, []engine.Finding, error) {
	if _, err := regexp.Compile(opts.Run); err != nil {
		return nil, nil, nil, fmt.Errorf("pick tests: %w", err)
	}
	c := &check{src: src, report: &Report{}, failed: map[engine.Stage]bool{}, ran: map[engine.Stage]bool{}}
	c.opts.TestTimeout = cmp.Or(max(opts.Timeout, 0), DefaultTestTimeout)
	var err error
	c.bundle, err = src.Parse()
	if c.fail(engine.StageRead, codeUnreadable, err) {
		return nil, nil, c.report.Findings, nil
	}
	suite, err := c.suite()
	if c.fail(engine.StageTests, codeUnreadable, err) {
		return nil, nil, c.report.Findings, nil
	}
	tests, coverage, err := suite.run(ctx, opts.Run)
	if ctx.Err() != nil {
		return nil, nil, nil, fmt.Errorf("test policy %s: %w", src.Name, ctx.Err())
	}
	if c.fail(engine.StageTests, codeCompile, err) {
		return nil, nil, c.report.Findings, nil
	}
	return tests, coverage, nil, nil
}

// test runs the stages tests and coverage.
func (c *check) test(ctx context.Context) error {
	c.ran[engine.StageTests] = true
	suite, err := c.suite()
	if c.fail(engine.StageTests, codeUnreadable, err) || c.fail(engine.StageTests, codeTestScope, suite.stayOut()) {
		return nil // it is about the bundle, and in the report
	}
	tests, coverage, err := suite.run(ctx, "")
	if ctx.Err() != nil {
		return fmt.Errorf("test policy %s: %w", c.src.Name, ctx.Err())
	}
	if c.fail(engine.StageTests, codeCompile, err) {
		return nil
	}
	c.report.Tests, c.report.Coverage = tests, coverage
	for _, t := range tests.Tests {
		f := engine.Finding{Stage: engine.StageTests, File: t.File, Line: t.Line, Column: t.Column, Code: codeTestFailed}
		switch f.Message = t.Title() + ": " + t.Message; {
		case t.Outcome == Skipped:
			f.Code, f.Message = codeSkipped, t.Title()+" is not run"
			c.warn(f)
			continue
		case t.Outcome == Passed:
			continue
		case t.errored:
			f.Code = codeTestError
		}
		c.failed[engine.StageTests] = true
		c.report.Findings = append(c.report.Findings, f)
	}
	switch {
	case tests.Passed+tests.Failed == 0:
		c.fail(engine.StageTests, codeNoTests, errors.New("the bundle has no tests: put rules whose names begin with test_ into files named …_test.rego"))
		return nil
	case tests.Failed > 0:
		return nil // what tests cover that do not pass is of no use
	}
	if err := suite.tryMutants(ctx, c); err != nil {
		return err
	}
	c.ran[engine.StageCoverage] = true
	if coverage.Percent < c.opts.MinCoverage {
		c.fail(engine.StageCoverage, codeCoverage, fmt.Errorf("the tests run %s%% of the policy's lines; %s%% are required",
			percent(coverage.Percent), percent(c.opts.MinCoverage)))
	}
	return nil
}

// percent renders a percentage, rounded down: what is below a minimum must not
// look as if it were not.
func percent(p float64) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", math.Floor(p*10)/10), ".0")
}

// suite is a bundle's policy and tests, ready to be run.
type suite struct {
	name         string // of the bundle
	policy       map[string]*ast.Module
	all          map[string]*ast.Module // with tests
	data         map[string]any
	capabilities *ast.Capabilities
	timeout      time.Duration
	facts        *engine.Snapshot // what the invariants are about, and nothing else
}

func (c *check) suite() (*suite, error) {
	s := &suite{name: c.src.Name, policy: c.bundle.Modules, all: maps.Clone(c.bundle.Modules), data: c.bundle.Data, timeout: c.opts.TestTimeout}
	s.facts = c.bundle.Invariants()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.src.Files)) {
		if !engine.IsTestFile(name) {
			continue
		}
		m, err := engine.ParseModule(name, c.src.Files[name])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.all[name] = m
	}
	var err error
	if s.capabilities, err = engine.CapabilitiesFor(c.bundle.Capabilities); err != nil {
		errs = append(errs, err)
	}
	return s, errors.Join(errs...)
}

// stayOut sees to it that the policy which is tested is the one that would be in
// force: tests may add rules of their own and none to the policy's.
func (s *suite) stayOut() error {
	owned := map[string]*ast.Location{}
	for _, m := range s.policy {
		for _, r := range m.Rules {
			owned[r.Ref().GroundPrefix().String()] = r.Location
		}
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.all)) {
		if !engine.IsTestFile(name) {
			continue
		}
		for _, r := range s.all[name].Rules {
			ref := r.Ref().GroundPrefix()
			if first, taken := owned[ref.String()]; taken {
				errs = append(errs, engine.AtLocation(r.Location, fmt.Errorf("a test file adds to %s, a rule of the policy (%s:%d): the tests would be of another policy",
					ref, first.File, first.Row)))
			}
		}
	}
	return errors.Join(errs...)
}

// each runs the tests in modules and hands over one result after the other, until
// found returns false. They run under the capabilities that the policy itself has.
// Errors of built-in functions are errors of the test, since they are errors of a
// decision.
//
// If they are upheld, a decision that allows what no policy may allow is an error of the
// test as well.
func (s *suite) each(ctx context.Context, modules map[string]*ast.Module, upheld bool, set func(*tester.Runner), found func(*tester.Result) bool) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	store := inmem.NewFromObjectWithOpts(s.data, inmem.OptRoundTripOnWrite(false))
	capabilities := s.capabilities
	if upheld {
		modules, capabilities = s.upheld(modules)
	}
	r := tester.NewRunner().
		SetCompiler(engine.Weigh(ast.NewCompiler().
			WithCapabilities(capabilities).
			WithEnablePrintStatements(true).
			WithDefaultRegoVersion(ast.RegoV1))).
		SetStore(store).
		SetModules(modules).
		AddCustomBuiltins(s.builtins()).
		SetTimeout(s.timeout).
		RaiseBuiltinErrors(true)
	set(r)
	return storage.Txn(ctx, store, storage.TransactionParams{}, func(txn storage.Transaction) error {
		ch, err := r.RunTests(ctx, txn)
		if err != nil {
			return err
		}
		wanted := true
		for result := range ch {
			if wanted = wanted && found(result); !wanted {
				stop()
			}
		}
		return nil
	})
}

// run runs the tests whose names match filter, and measures what they cover.
func (s *suite) run(ctx context.Context, filter string) (*TestReport, *CoverageReport, error) {
	report := &TestReport{Tests: []TestResult{}}
	coverage := cover.New()
	var bad []*tester.Result
	err := s.each(ctx, s.all, true, func(r *tester.Runner) {
		r.Filter(filter).SetCoverageQueryTracer(coverage).SetCoverageRuns(nil)
	}, func(r *tester.Result) bool {
		report.Tests = append(report.Tests, s.resultsOf(r)...)
		if r.Fail {
			bad = append(bad, r)
		}
		return true
	})
	if err != nil {
		return nil, nil, err
	}
	s.findFailures(ctx, report.Tests, bad)
	slices.SortStableFunc(report.Tests, func(a, b TestResult) int {
		return cmp.Or(cmp.Compare(a.Package, b.Package), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Case, b.Case))
	})
	for _, t := range report.Tests {
		switch t.Outcome {
		case Passed:
			report.Passed++
		case Skipped:
			report.Skipped++
		default:
			report.Failed++
		}
	}
	return report, coverageOf(s.policy, coverage), nil
}

// resultsOf takes a result apart into its cases.
func (s *suite) resultsOf(r *tester.Result) []TestResult {
	t := TestResult{
		Package: r.Package, Name: r.Name, File: r.Location.File, Line: r.Location.Row, Column: r.Location.Col,
		Outcome: Passed, Output: string(r.Output), Seconds: r.Duration.Seconds(),
	}
	switch {
	case r.Skip:
		t.Outcome = Skipped
	case topdown.IsCancel(r.Error):
		t.Outcome, t.Message, t.errored = Failed, fmt.Sprintf("took longer than %s", s.timeout), true
	case r.Error != nil:
		t.Outcome, t.Message, t.errored = Failed, r.Error.Error(), true
		if e, ok := errors.AsType[*topdown.Error](r.Error); ok {
			t.Message = e.Message
			if e.Location != nil && e.Location.File != "" {
				t.File, t.Line, t.Column = e.Location.File, e.Location.Row, e.Location.Col
			}
		}
	case r.Fail:
		t.Outcome, t.Message = Failed, "does not hold"
	}
	var cases []TestResult
	for names, sub := range r.SubResults.Iter {
		if len(sub.SubResults) > 0 {
			continue
		}
		one := t
		one.Case, one.Outcome, one.Message = strings.Join(names, "/"), Passed, ""
		if sub.Fail {
			one.Outcome, one.Message = Failed, "does not hold"
		}
		cases = append(cases, one)
	}
	if len(cases) == 0 {
		return []TestResult{t}
	}
	return cases
}

// maxTraced is for how many failing tests it is worked out where they fail. Who
// broke everything does not read all of it.
const maxTraced = 20

// findFailures runs failing tests again to say on which line they failed.
func (s *suite) findFailures(ctx context.Context, all []TestResult, bad []*tester.Result) {
	if len(bad) == 0 {
		return
	}
	slices.SortFunc(bad, func(a, b *tester.Result) int { return a.Location.Compare(b.Location) })
	var names []string
	watch := failureWatch{tests: map[string]bool{}, last: map[string]*ast.Expr{}}
	for _, r := range bad[:min(len(bad), maxTraced)] {
		names = append(names, regexp.QuoteMeta(r.Package+"."+r.Name))
		watch.tests[ruleAt(r.Location)] = true
	}
	_ = s.each(ctx, s.all, true, func(r *tester.Runner) { // an error only leaves messages short
		r.SetCoverageQueryTracer(&watch).Filter("^(" + strings.Join(names, "|") + ")$").SetParallel(1)
	}, func(*tester.Result) bool { return true })
	at := map[string]*ast.Location{}
	for _, r := range bad {
		at[r.Package+"."+r.Name] = r.Location
	}
	for i := range all {
		t := &all[i]
		if t.Outcome != Failed || t.errored || at[t.Package+"."+t.Name] == nil {
			continue
		}
		if e := watch.last[ruleAt(at[t.Package+"."+t.Name])+" "+t.Case]; e != nil {
			t.Line, t.Column = e.Location.Row, e.Location.Col
			t.Message = "does not hold: " + firstLine(string(e.Location.Text))
		}
	}
}

func ruleAt(l *ast.Location) string { return fmt.Sprintf("%s:%d", l.File, l.Row) }

func firstLine(text string) string {
	line, _, more := strings.Cut(strings.TrimSpace(text), "\n")
	if more {
		line += " …"
	}
	return line
}

// mutants are policies that no suite of tests may take for right. If one passes,
// the tests assert nothing about what the server asks for.
var mutants = []struct {
	ref   ast.Ref
	value string // in Rego; "" is undefined
	does  string
}{
	{engine.DecisionRef, `{"allow": true, "reasons": [], "scope": "any"}`, "allows everything"},
	{engine.DecisionRef, `{"allow": false, "reasons": [{"code": "never", "message": "Never."}]}`, "denies everything"},
	{engine.RequestRef, `{"domain": "", "entity_type": "any", "entity": "*", "operation": "any"}`, "takes every request for the same"},
	{engine.RequestRef, "", "maps no request"},
	{engine.RequestsRef, `[{"domain": "", "entity_type": "any", "entity": "*", "operation": "any"}]`, "takes every request for the same"},
	{engine.RequestsRef, "", "maps no request"},
}

// tryMutants fails the check if the tests pass on a policy that is plainly wrong.
func (s *suite) tryMutants(ctx context.Context, c *check) error {
	for _, m := range mutants {
		if !s.defines(m.ref) || m.ref.Equal(engine.RequestRef) && s.defines(engine.RequestsRef) {
			continue // nobody asks for it
		}
		modules, location := s.mutate(m.ref, m.value)
		noticed := false
		err := s.each(ctx, modules, false, func(*tester.Runner) {}, func(r *tester.Result) bool {
			noticed = noticed || r.Fail || r.Error != nil
			return !noticed
		})
		if ctx.Err() != nil {
			return fmt.Errorf("test policy %s: %w", s.name, ctx.Err())
		}
		if err != nil {
			noticed = true // what does not even compile does not pass
		}
		if !noticed {
			c.fail(engine.StageTests, codeVacuous, engine.AtLocation(location, fmt.Errorf("all tests pass even if %s %s: they assert nothing about it", m.ref, m.does)))
		}
	}
	return nil
}

// defines reports whether the suite's modules have a rule for ref.
func (s *suite) defines(ref ast.Ref) bool {
	for _, m := range s.all {
		if slices.ContainsFunc(m.Rules, func(r *ast.Rule) bool { return r.Ref().Equal(ref) }) {
			return true
		}
	}
	return false
}

// mutate returns the suite's modules with another value for the rule at ref.
func (s *suite) mutate(ref ast.Ref, value string) (map[string]*ast.Module, *ast.Location) {
	modules := make(map[string]*ast.Module, len(s.all))
	var location *ast.Location
	for _, name := range slices.Sorted(maps.Keys(s.all)) {
		m := s.all[name].Copy()
		m.Rules = slices.DeleteFunc(m.Rules, func(r *ast.Rule) bool {
			if !r.Ref().Equal(ref) {
				return false
			}
			if location != nil {
				return true
			}
			location = r.Location
			r.Default, r.Else = false, nil
			if value == "" {
				// Of no particular type, for other rules may look into it.
				r.Head.Value = ast.MustParseTerm("input")
				r.Body = ast.MustParseBody("false")
				return false
			}
			r.Head.Value = ast.MustParseTerm(value)
			r.Body = ast.MustParseBody("true")
			return false
		})
		modules[name] = m
	}
	return modules, location
}

// CoverageReport says how much of a policy its tests run. Tests do not count.
type CoverageReport struct {
	Percent   float64        `json:"percent"`
	Covered   int            `json:"covered_lines"`
	Uncovered int            `json:"uncovered_lines"`
	Files     []FileCoverage `json:"files"`
}

// FileCoverage is the part of a [CoverageReport] about one module.
type FileCoverage struct {
	File      string      `json:"file"`
	Percent   float64     `json:"percent"`
	Covered   int         `json:"covered_lines"`
	Uncovered []LineRange `json:"uncovered"`
}

// LineRange is From the first line To the last one, counted from 1.
type LineRange struct {
	From int `json:"from"`
	To   int `json:"to"`
}
