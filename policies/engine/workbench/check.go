package workbench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/version"

	"patrol/policies/engine"
)

// The codes of findings that OPA has none for.
const (
	codeUnreadable = engine.Unreadable
	codeData       = "data_invalid"       // a data document is not as its schema says
	codeCompile    = "rego_compile_error" // as OPA's own
	codePrint      = "print_call"         // a policy prints
	codeEntrypoint = "entrypoint_invalid" // a document that is asked for is not there or not usable
	codeNoTests    = "tests_missing"
	codeTestFailed = "test_failed"
	codeTestError  = "test_error"
	codeTestScope  = "test_changes_policy" // a test file defines a rule of the policy
	codeVacuous    = "tests_vacuous"       // the tests pass whatever is decided
	codeCoverage   = "coverage_low"
	codeSafety     = "safety_violated"
	codeSkipped    = "test_skipped"
	codeWaived     = "safety_waived"
	codeNothing    = "nothing_allowed"
	codeFailsShut  = "safety_by_error"
)

// DefaultMinCoverage is the share of a policy that its tests must run, in percent of
// its lines, unless [CheckOptions] say otherwise.
const DefaultMinCoverage = 80

// DefaultTestTimeout bounds each test of a bundle unless [CheckOptions] say
// otherwise.
const DefaultTestTimeout = 30 * time.Second

// CheckOptions say how strict a check is. The zero value is the default.
type CheckOptions struct {
	// MinCoverage is in percent of the policy's lines; 0 is [DefaultMinCoverage],
	// less than 0 is no minimum.
	MinCoverage float64
	// InForce says that the policy was in force before: findings of kinds that earlier
	// versions did not look for are warnings then, so that an upgrade stops no server.
	InForce bool
	// TestTimeout bounds each test; 0 is [DefaultTestTimeout].
	TestTimeout time.Duration
	// Now is the time that the ends of exceptions are compared with; zero is the time of the check.
	Now time.Time
	// Kinds are the kinds of upstreams that names of models are judged for: literals
	// that no request has there give a warning.
	Kinds []string
	// Options are those that the policy will be loaded with.
	Options []engine.Option
}

// Report is the result of a check. Its JSON form is what commands print and the API
// answers.
type Report struct {
	Policy   string `json:"policy"` // the source's name
	Passed   bool   `json:"passed"`
	Revision string `json:"revision,omitempty"` // "" if the bundle could not be read
	Digest   string `json:"digest"`
	OPA      string `json:"opa_version"`

	Stages []StageResult `json:"stages"`
	// Findings say why it does not pass; Warnings are worth knowing.
	Findings []engine.Finding `json:"findings"`
	Warnings []engine.Finding `json:"warnings"`

	Tests    *TestReport     `json:"tests,omitempty"`    // nil if they did not run
	Coverage *CoverageReport `json:"coverage,omitempty"` // likewise
	Safety   []SafetyResult  `json:"safety,omitempty"`   // likewise
	// Departures are nil if the policy does not load.
	Departures *engine.Departures `json:"departures,omitempty"`
}

// StageResult is the result of a stage.
type StageResult struct {
	Stage   engine.Stage `json:"stage"`
	Outcome Outcome      `json:"outcome"`
}

// Outcome is the outcome of a stage, a test or a case of the safety suite.
type Outcome string

// The outcomes.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped" // an earlier failure stands in the way, or the author said so
	Waived  Outcome = "waived"  // it would have failed, and was waived by name
)

// Err returns the findings as one error, nil if the check passed.
func (r *Report) Err() error {
	if r.Passed {
		return nil
	}
	lines := make([]string, len(r.Findings))
	for i, f := range r.Findings {
		lines[i] = f.String()
	}
	return fmt.Errorf("policy %s: %s", r.Policy, strings.Join(lines, "\n"))
}

// Check holds a bundle, its tests included, against all that a policy must be
// before it may come into force; what passes is sure to [engine.Load]. It goes as far as it can, so
// that one check finds as much as possible. The error is not about the bundle: ctx
// ended, or an option is wrong.
//
// Rego that is evaluated here, tests above all, may use as much memory and time as
// it pleases until ctx ends. Whoever checks bundles of strangers does so in a process
// with limits.
func Check(ctx context.Context, src engine.Source, opts CheckOptions) (*Report, error) {
	if err := ValidateWaivers(src.Waive); err != nil {
		return nil, err
	}
	if opts.MinCoverage == 0 {
		opts.MinCoverage = DefaultMinCoverage
	}
	if opts.TestTimeout <= 0 {
		opts.TestTimeout = DefaultTestTimeout
	}
	c := &check{
		src: src, opts: opts,
		failed: map[engine.Stage]bool{}, ran: map[engine.Stage]bool{},
		report: &Report{
			Policy: src.Name, Digest: src.Digest(), OPA: version.Version,
			Findings: []engine.Finding{}, Warnings: []engine.Finding{},
		},
	}
	if err := c.run(ctx); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("check policy %s: %w", src.Name, err)
	}
	return c.finish(), nil
}

// check is a check under way.
type check struct {
	src    engine.Source
	opts   CheckOptions
	report *Report

	ran, failed map[engine.Stage]bool
	bundle      *engine.Bundle
	snapshot    *engine.Snapshot
	permitted   *trial // nil: not tried yet
	rulesOnly   bool   // it ends with that stage, and does not look at how fast rules are
	asWritten   map[string][]*ast.Rule
	conditions  *engine.Conditions
	dataFaulty  bool // data of one's own have reasons, exceptions or labels that are none
}

func (c *check) run(ctx context.Context) (err error) {
	c.ran[engine.StageRead] = true
	c.bundle, err = c.src.Parse()
	if c.fail(engine.StageRead, codeUnreadable, err) {
		return nil
	}
	c.report.Revision = c.bundle.Revision

	draft, err := engine.NewDraft(c.bundle, c.opts.Options...)
	if err != nil {
		return err
	}
	c.ran[engine.StageData] = true
	c.fail(engine.StageData, codeData, draft.ReadData(ctx))
	if err := draft.OpenData(ctx); c.fail(engine.StageData, codeData, err) && !draft.Opened() {
		return nil
	}
	own := c.own()
	c.compile(ctx, draft, len(own) > 0 && !c.opts.InForce)
	for _, f := range own {
		c.stricter(f)
	}
	c.names()
	if c.failed[engine.StageData] || c.failed[engine.StageCompile] {
		return nil
	}
	c.ran[engine.StageEntrypoints] = true
	if c.fail(engine.StageEntrypoints, codeEntrypoint, draft.Enter(ctx)) {
		return nil
	}
	s, err := draft.Try(ctx)
	if err != nil && len(own) > 0 && !c.opts.InForce { // which says where
		return nil
	}
	if c.fail(engine.StageEntrypoints, codeEntrypoint, err) {
		return nil
	}
	c.snapshot = s
	c.report.Departures = new(s.Departures())
	if err := c.rules(ctx); err != nil || c.rulesOnly {
		return err
	}
	if err := c.metadata(ctx); err != nil {
		return err
	}
	if err := c.test(ctx); err != nil {
		return err
	}
	return c.safety(ctx)
}

// compile runs the stage of that name. Besides what OPA's compiler finds it
// refuses print: what is printed would be somebody's request. told says that documents of
// one's own are found to be misshapen: then it says nothing of the rules that read them.
func (c *check) compile(ctx context.Context, draft *engine.Draft, told bool) {
	c.ran[engine.StageCompile] = true
	err := draft.Compile(ctx)
	if all, ok := errors.AsType[ast.Errors](err); ok && told {
		err = slices.DeleteFunc(all, func(e *ast.Error) bool {
			m := c.bundle.Modules[e.Location.File]
			return m != nil && m.Package.Path.Equal(authzPackage)
		})
		c.failed[engine.StageCompile] = true
	}
	c.fail(engine.StageCompile, codeCompile, err)
	for _, m := range c.bundle.Modules {
		ast.WalkExprs(m, func(e *ast.Expr) bool {
			if e.IsCall() && e.Operator().String() == ast.Print.Name {
				c.fail(engine.StageCompile, codePrint, engine.AtLocation(e.Location, errors.New("policies do not print: it would show what people ask for; tests may")))
			}
			return false
		})
	}
}

// fail records what err says about the bundle, if anything.
func (c *check) fail(stage engine.Stage, code string, err error) bool {
	found := engine.TidyFindings(engine.FindingsOf(stage, code, err))
	c.report.Findings = append(c.report.Findings, found...)
	if len(found) > 0 {
		c.failed[stage] = true
	}
	return len(found) > 0
}

func (c *check) warn(f engine.Finding) { c.report.Warnings = append(c.report.Warnings, f) }

// finish fills in what depends on everything else.
func (c *check) finish() *Report {
	for _, stage := range engine.Stages {
		outcome := Passed
		switch {
		case c.failed[stage]:
			outcome = Failed
		case !c.ran[stage]:
			outcome = Skipped
		}
		c.report.Stages = append(c.report.Stages, StageResult{stage, outcome})
	}
	c.report.Passed = !slices.ContainsFunc(c.report.Stages, func(s StageResult) bool { return s.Outcome != Passed })
	return c.report
}
