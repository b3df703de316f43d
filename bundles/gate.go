package bundles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"patrol/bundles/sandbox"
	"patrol/policies/engine"
)

// The stages of a candidate's way through the gate that are no part of
// [engine.Check].
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

// Result is what the gate found out about a candidate.
type Result struct {
	Passed   bool             `json:"passed"`
	OPA      string           `json:"opa_version,omitempty"`
	Findings []engine.Finding `json:"findings"` // why not; the first [mostFindings]
	Warnings []engine.Finding `json:"warnings"`

	Tests    *Tests   `json:"tests,omitempty"`    // nil if they did not run
	Coverage *float64 `json:"coverage,omitempty"` // percent; likewise
	Safety   *Safety  `json:"safety,omitempty"`   // likewise
	Replay   *Replay  `json:"replay,omitempty"`   // nil if none is configured
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

// Replay counts recorded decisions, made again under the candidate.
type Replay struct {
	Decisions int `json:"decisions"`
	Allowed   int `json:"newly_allowed"`
	Denied    int `json:"newly_denied"`
}

// mostFindings is how many findings are kept. Who broke everything does not read
// all of it.
const mostFindings = 50

func shorten(found []engine.Finding) []engine.Finding {
	if found == nil {
		return []engine.Finding{}
	}
	return found[:min(len(found), mostFindings)]
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
	Waive       []string      // cases of the safety suite
	TestTimeout time.Duration // of one test
	Limits      sandbox.Limits
	// Replay makes recorded decisions again under a candidate, within the same
	// limits; nil: none are. At most MaxChanges may come out otherwise.
	Replay     func(context.Context, engine.Source) (Replay, error)
	MaxChanges int
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
	if err := engine.ValidateWaivers(cfg.Waive); err != nil {
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

// checkInput is what the job `check` is given.
type checkInput struct {
	Name        string            `json:"name"`
	Files       map[string][]byte `json:"files"`
	MinCoverage float64           `json:"min_coverage"`
	Waive       []string          `json:"waive"`
	TestTimeout time.Duration     `json:"test_timeout"`
}

// The names of the jobs.
const (
	jobCheck = "check"
	jobLoad  = "load"
)

// Jobs are what a child of this package does, for [sandbox.Main].
func Jobs() map[string]sandbox.Job {
	return map[string]sandbox.Job{
		jobCheck: func(ctx context.Context, input json.RawMessage) (any, error) {
			var in checkInput
			if err := json.Unmarshal(input, &in); err != nil {
				return nil, err
			}
			return engine.Check(ctx, engine.Source{Name: in.Name, Files: in.Files}, engine.CheckOptions{
				MinCoverage: in.MinCoverage, Waive: in.Waive, TestTimeout: in.TestTimeout,
				// Beside a busy server an evaluation may stand still for a while.
				Options: []engine.Option{engine.WithTimeout(checkTimeout)},
			})
		},
		jobLoad: func(ctx context.Context, input json.RawMessage) (any, error) {
			var in checkInput
			if err := json.Unmarshal(input, &in); err != nil {
				return nil, err
			}
			_, err := engine.Load(ctx, engine.Source{Name: in.Name, Files: in.Files}, engine.WithTimeout(checkTimeout))
			return nil, err
		},
	}
}

// checkTimeout bounds one evaluation in a check.
const checkTimeout = 2 * time.Second

// judge holds a candidate against everything but its signature, which was verified when it was
// read. The error is not about the candidate.
func (g *Gate) judge(ctx context.Context, src engine.Source) (Result, error) {
	in := checkInput{Name: src.Name, Files: src.Files, MinCoverage: g.cfg.MinCoverage, Waive: g.cfg.Waive, TestTimeout: g.cfg.TestTimeout}
	var report engine.Report
	if err := g.runner.Run(ctx, jobCheck, in, &report); err != nil {
		return limited("check", err)
	}
	r := resultOf(&report)
	if !r.Passed {
		return r, nil
	}
	if err := g.loader.Run(ctx, jobLoad, in, nil); err != nil {
		return limited("load", err)
	}
	if g.cfg.Replay == nil {
		return r, nil
	}
	replay, err := g.cfg.Replay(ctx, src)
	if err != nil {
		return limited("replay", err)
	}
	r.Replay = &replay
	if changed := replay.Allowed + replay.Denied; changed > g.cfg.MaxChanges {
		r.Passed = false
		r.Findings = append(r.Findings, engine.Finding{Stage: StageReplay, Code: codeReplay, Message: fmt.Sprintf(
			"it changes %d of %d recorded decisions (%d newly allowed, %d newly denied), and at most %d may change",
			changed, replay.Decisions, replay.Allowed, replay.Denied, g.cfg.MaxChanges)})
	}
	return r, nil
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
	if r.Replay != nil {
		s["replay"] = fmt.Sprintf("%d decisions, %d newly allowed, %d newly denied", r.Replay.Decisions, r.Replay.Allowed, r.Replay.Denied)
	}
	if len(r.Findings) > 0 {
		s["findings"] = strconv.Itoa(len(r.Findings))
		s["finding"] = string(r.Findings[0].Stage) + ": " + r.Findings[0].String()
	}
	return s
}

func resultOf(r *engine.Report) Result {
	out := Result{Passed: r.Passed, OPA: r.OPA, Findings: shorten(r.Findings), Warnings: shorten(r.Warnings)}
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
			case engine.Passed:
				out.Safety.Passed++
			case engine.Waived:
				out.Safety.Waived = append(out.Safety.Waived, s.Name)
			default:
				out.Safety.Failed++
			}
		}
	}
	return out
}
