package bundles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"patrol/bundles/sandbox"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

// The stages of a candidate's way through the gate that are no part of
// [workbench.Check].
const (
	StageSignature engine.Stage = "signature" // it is signed with a key of this server's
	StageLimits    engine.Stage = "limits"    // its check stays within time and memory
	StageReplay    engine.Stage = "replay"    // few enough recorded decisions change
)

// The codes of their findings.
const (
	codeUnreadable = "unreadable"
	codeSignature  = "signature_invalid"
	codeLimit      = "limit_exceeded"
	codeCrash      = "check_crashed"
	codeReplay     = "replay_changes"
)

// Result is the gate's result for a candidate.
type Result struct {
	Passed   bool             `json:"passed"`
	OPA      string           `json:"opa_version,omitempty"`
	Findings []engine.Finding `json:"findings"` // why not; the first [maxFindings]
	Warnings []engine.Finding `json:"warnings"`

	Tests    *Tests   `json:"tests,omitempty"`    // nil if they did not run
	Coverage *float64 `json:"coverage,omitempty"` // percent; likewise
	Safety   *Safety  `json:"safety,omitempty"`   // likewise
	// Replay compares recorded decisions under the candidate with those under
	// the policy in force; nil if none is configured.
	Replay *workbench.ReplayReport `json:"replay,omitempty"`
	// Departures lists its allowances in spite of a reason to deny; nil if it does not load.
	Departures *engine.Departures `json:"departures,omitempty"`
}

// Tests counts a candidate's tests.
type Tests struct {
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
}

// Safety counts the cases of the safety suite.
type Safety struct {
	Passed int      `json:"passed"`
	Failed int      `json:"failed"`
	Waived []string `json:"waived"`
}

// maxFindings bounds the findings that are kept. Somebody who broke everything does not read
// all of it.
const maxFindings = 50

func shorten(found []engine.Finding) []engine.Finding {
	if found == nil {
		return []engine.Finding{}
	}
	return found[:min(len(found), maxFindings)]
}

// refusal is the result of what is refused for one reason.
func refusal(stage engine.Stage, code string, err error) Result {
	return Result{
		Findings: []engine.Finding{{Stage: stage, Code: code, Message: err.Error()}}, Warnings: []engine.Finding{},
	}
}

// GateConfig says what a candidate must be to come into force.
type GateConfig struct {
	MinCoverage float64       // in percent; less than 0: none
	Waive       []string      // invariants that policies may waive
	TestTimeout time.Duration // of one test
	// Kinds are the kinds of the upstreams, see [workbench.CheckOptions].
	Kinds  []string
	Limits sandbox.Limits
	// Recorded are decisions that are made again under a candidate and under the
	// policy in force, within the same limits once more; nil: none are. Of at most
	// MaxChanges the outcome may be another.
	Recorded   Events
	MaxChanges int64
}

// Gate judges candidates in child processes; see package [sandbox].
type Gate struct {
	cfg    GateConfig
	runner *sandbox.Runner
	loader *sandbox.Runner
}

// loadLimits are those of loading alone, which the server itself does with what has
// passed.
var loadLimits = sandbox.Limits{Memory: 512 << 20, CPU: 15 * time.Second, Wall: time.Minute}

// NewGate returns a gate.
func NewGate(cfg GateConfig) (*Gate, error) {
	if err := workbench.ValidateWaivers(cfg.Waive); err != nil {
		return nil, err
	}
	runner, err := sandbox.New(cfg.Limits)
	if err != nil {
		return nil, err
	}
	within := loadLimits
	if cfg.Limits.Memory > 0 {
		within.Memory = min(within.Memory, cfg.Limits.Memory)
	}
	loader, err := sandbox.New(within)
	return &Gate{cfg: cfg, runner: runner, loader: loader}, err
}

// Permit returns a bundle with what this server lets policies waive.
func (g *Gate) Permit(src engine.Source) engine.Source {
	if g != nil { // who has no gate takes the bundle in the binary alone
		src.Waive = g.cfg.Waive
	}
	return src
}

// checkInput is the input of the job `check`.
type checkInput struct {
	jobSource
	MinCoverage float64       `json:"min_coverage"`
	TestTimeout time.Duration `json:"test_timeout"`
	Kinds       []string      `json:"kinds,omitempty"`
	InForce     bool          `json:"in_force,omitempty"`
}

// The names of the jobs.
const (
	jobCheck  = "check"
	jobLoad   = "load"
	jobReplay = "replay"
	jobJudge  = "judge"
	jobAnswer = "answer"
)

// Jobs are the jobs of a child process of this package, for [sandbox.Main].
func Jobs() map[string]sandbox.Job {
	return map[string]sandbox.Job{
		jobCheck: func(ctx context.Context, input json.RawMessage, _ io.Reader) (any, error) {
			var in checkInput
			if err := json.Unmarshal(input, &in); err != nil {
				return nil, err
			}
			return workbench.Check(ctx, engine.Source(in.jobSource), workbench.CheckOptions{
				MinCoverage: in.MinCoverage, TestTimeout: in.TestTimeout, Kinds: in.Kinds, InForce: in.InForce,
				// Beside a busy server an evaluation may stand still for a while.
				Options: []engine.Option{engine.WithTimeout(checkTimeout)},
			})
		},
		jobLoad: func(ctx context.Context, input json.RawMessage, _ io.Reader) (any, error) {
			var in jobSource
			if err := json.Unmarshal(input, &in); err != nil {
				return nil, err
			}
			_, err := in.load(ctx, checkTimeout)
			return nil, err
		},
		jobReplay: replayEvents,
		jobJudge:  judgeEvents,
		jobAnswer: answerTrial,
	}
}

// checkTimeout bounds one evaluation in a check.
const checkTimeout = 2 * time.Second

// check holds a candidate against everything but its signature, which was verified
// when it was read, and recorded decisions. The error is not about the candidate.
//
// Of a policy that was in force before, findings of kinds that are new in this version are
// warnings.
func (g *Gate) check(ctx context.Context, src engine.Source, inForce bool) (Result, error) {
	in := checkInput{jobSource: jobSource(g.Permit(src)), InForce: inForce, MinCoverage: g.cfg.MinCoverage, TestTimeout: g.cfg.TestTimeout, Kinds: g.cfg.Kinds}
	var report workbench.Report
	if err := g.runner.Run(ctx, jobCheck, in, &report); err != nil {
		return limited("check", err)
	}
	r := resultOf(&report)
	if !r.Passed {
		return r, nil
	}
	if err := g.loader.Run(ctx, jobLoad, in.jobSource, nil); err != nil {
		return limited("load", err)
	}
	return r, nil
}

// The bounds of what is kept of a replay.
const (
	keptGroups   = 10
	keptExamples = 3
)

// replay adds to a good result what the candidate changes, compared with base, which is
// the policy in force, or, if nil, with what was decided. The error is not about the
// candidate.
//
// The log goes back to before the policy in force, and what that one changed is
// settled: to count it again would hold against a candidate what was let through
// already. Both are asked, though one revision decides the same twice, so that
// masked inputs, denials of an overloaded server and revisions with a name twice
// make no difference.
func (g *Gate) replay(ctx context.Context, src engine.Source, base *engine.Source, r Result) (Result, error) {
	if g.cfg.Recorded == nil {
		return r, nil
	}
	if base != nil {
		base = new(g.Permit(*base))
	}
	report, err := Replay(ctx, g.Permit(src), g.cfg.Recorded, ReplayOptions{Base: base, Examples: keptExamples, Groups: keptGroups, Limits: g.cfg.Limits})
	if err != nil {
		refused, err := limited("replay", err)
		refused.OPA, refused.Tests, refused.Coverage, refused.Safety, refused.Departures = r.OPA, r.Tests, r.Coverage, r.Safety, r.Departures
		return refused, err
	}
	r.Replay = report
	if changed := report.NewlyAllowed + report.NewlyDenied; changed > g.cfg.MaxChanges {
		r.Passed = false
		r.Findings = append(r.Findings, engine.Finding{Stage: StageReplay, Code: codeReplay, Message: fmt.Sprintf(
			"it changes %d of %d recorded decisions (%d newly allowed, %d newly denied), and at most %d may change%s",
			changed, report.Replayed, report.NewlyAllowed, report.NewlyDenied, g.cfg.MaxChanges, largestGroups(report))})
	}
	return r, nil
}

// largestGroups tells the largest groups of changed outcomes.
func largestGroups(r *workbench.ReplayReport) string {
	const told = 3
	var texts []string
	for _, g := range r.Groups {
		if g.Kind != workbench.NewlyAllowed && g.Kind != workbench.NewlyDenied || len(texts) == told {
			continue
		}
		codes := make([]string, len(g.Reasons))
		for i, reason := range g.Reasons {
			codes[i] = string(reason.Code)
		}
		text := fmt.Sprintf("%d newly denied as %s", g.Count, strings.Join(codes, ", "))
		if g.Kind == workbench.NewlyAllowed {
			text = fmt.Sprintf("%d newly allowed that were denied as %s", g.Count, strings.Join(codes, ", "))
		}
		if len(g.Examples) > 0 {
			text += ", such as " + g.Examples[0].Request + " (decision " + g.Examples[0].ID + ")"
		}
		texts = append(texts, text)
	}
	if len(texts) == 0 {
		return ""
	}
	return ": " + strings.Join(texts, "; ")
}

// limited makes a refusal of an error that the candidate is to blame for.
func limited(what string, err error) (Result, error) {
	if limit, ok := errors.AsType[*sandbox.LimitError](err); ok {
		return refusal(StageLimits, codeLimit, fmt.Errorf("%s: %w", what, limit)), nil
	}
	if crash, ok := errors.AsType[*sandbox.CrashError](err); ok {
		return refusal(StageLimits, codeCrash, fmt.Errorf("%s: %w", what, crash)), nil
	}
	return Result{}, fmt.Errorf("%s a policy: %w", what, err)
}

// Summary tells the result in few words, for a log.
func (r Result) Summary() map[string]string {
	s := map[string]string{}
	if r.Tests != nil {
		s["tests"] = fmt.Sprintf("%d passed, %d failed, %d skipped", r.Tests.Passed, r.Tests.Failed, r.Tests.Skipped)
	}
	if r.Coverage != nil {
		s["coverage"] = fmt.Sprintf("%.1f%%", *r.Coverage)
	}
	if r.Safety != nil {
		s["safety"] = fmt.Sprintf("%d passed, %d failed", r.Safety.Passed, r.Safety.Failed)
		if len(r.Safety.Waived) > 0 {
			s["waived"] = strings.Join(r.Safety.Waived, ", ")
		}
	}
	if d := r.Departures; d != nil && len(d.Waives) > 0 {
		s["waives"] = joined(d.Waives)
	}
	if d := r.Departures; d != nil && len(d.Exceptions) > 0 {
		s["exceptions"] = strconv.Itoa(len(d.Exceptions))
	}
	if r.Replay != nil {
		s["replay"] = fmt.Sprintf("%d decisions, %d newly allowed, %d newly denied",
			r.Replay.Replayed, r.Replay.NewlyAllowed, r.Replay.NewlyDenied)
	}
	if len(r.Findings) > 0 {
		s["findings"] = strconv.Itoa(len(r.Findings))
		s["finding"] = string(r.Findings[0].Stage) + ": " + r.Findings[0].String()
	}
	return s
}

func resultOf(r *workbench.Report) Result {
	out := Result{Passed: r.Passed, OPA: r.OPA, Findings: shorten(r.Findings), Warnings: shorten(r.Warnings), Departures: r.Departures}
	if r.Tests != nil {
		out.Tests = &Tests{Passed: r.Tests.Passed, Failed: r.Tests.Failed, Skipped: r.Tests.Skipped}
	}
	if r.Coverage != nil {
		out.Coverage = new(r.Coverage.Percent)
	}
	if r.Safety != nil {
		out.Safety = &Safety{Waived: []string{}}
		for _, s := range r.Safety {
			switch s.Outcome {
			case workbench.Passed:
				out.Safety.Passed++
			case workbench.Waived:
				out.Safety.Waived = append(out.Safety.Waived, s.Name)
			default:
				out.Safety.Failed++
			}
		}
	}
	return out
}

func joined[T ~string](list []T) string {
	texts := make([]string, len(list))
	for i, one := range list {
		texts[i] = string(one)
	}
	return strings.Join(texts, ", ")
}
