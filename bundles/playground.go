package bundles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"patrol/bundles/sandbox"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

// PlaygroundConfig bounds what is tried in a playground.
type PlaygroundConfig struct {
	// Limits are of memory and CPU time for each part of a trial, and of wall time for all
	// of it.
	Limits sandbox.Limits
	// Running bounds the trials that run at a time. Others wait for Patience.
	Running  int
	Patience time.Duration
	// Gate says what a check holds a bundle against; its limits do not count here.
	Gate GateConfig
}

// Playground tries bundles that somebody edits, each in child processes with limits, see
// package [sandbox]. It knows nothing but what it is handed and keeps nothing: no trial
// has anything to do with the policy in force. It is safe for use by many goroutines.
type Playground struct {
	cfg    PlaygroundConfig
	runner *sandbox.Runner
	places chan struct{}
}

// playgroundOutput is the size that the answer of a child may have. A trace has each
// expression of a policy once.
const playgroundOutput = 2 << 20

// NewPlayground returns a playground.
func NewPlayground(cfg PlaygroundConfig) (*Playground, error) {
	if cfg.Running < 1 {
		return nil, errors.New("a playground needs room for at least one trial")
	}
	cfg.Limits.Output = playgroundOutput
	runner, err := sandbox.New(cfg.Limits)
	if err != nil {
		return nil, err
	}
	return &Playground{cfg: cfg, runner: runner, places: make(chan struct{}, cfg.Running)}, nil
}

// ErrPlaygroundFull says that as many trials run as may.
var ErrPlaygroundFull = errors.New("as many trials as may run at a time are running")

// Trial says which parts of a trial to run on a bundle.
type Trial struct {
	Source engine.Source
	// Input is a document in JSON to ask the policy about, as [engine.Snapshot.Explain]
	// takes it; nil: none.
	Input []byte
	// Events are recorded decisions to make again, and Base is the policy to compare them
	// with; nil: none, and what was decided.
	Events Events
	Base   *engine.Source
	Check  bool // as the gate does, but for recorded decisions
}

// TrialResult is the result of a trial. Parts that were not asked for are nil, as are those left
// undone because the bundle does not load or exceeded a limit.
type TrialResult struct {
	// Findings say why the bundle does not load; none: it does.
	Findings []engine.Finding
	// Explanation is the answer to the input, and Failed says why there is none.
	Explanation *workbench.Explanation
	Failed      []engine.Finding
	Replay      *workbench.ReplayReport
	Check       *Result
	// Exceeded says of the parts that exceeded a limit which one, or how they ended.
	Exceeded map[TrialPart]string
}

// TrialPart is a part of a trial.
type TrialPart string

// The parts of a trial.
const (
	PartAnswer TrialPart = "answer"
	PartReplay TrialPart = "replay"
	PartCheck  TrialPart = "check"
)

// Try tries a bundle. The error is ErrPlaygroundFull, ctx's, that of the events, or that no
// child could be started; all that a bundle can be to blame for is in the result.
func (p *Playground) Try(ctx context.Context, t Trial) (*TrialResult, error) {
	if err := p.enter(ctx); err != nil {
		return nil, err
	}
	defer func() { <-p.places }()
	t.Source.Waive = p.cfg.Gate.Waive
	if t.Base != nil {
		t.Base = new(*t.Base)
		t.Base.Waive = p.cfg.Gate.Waive
	}
	limits := p.cfg.Limits
	ctx, cancel := context.WithTimeoutCause(ctx, limits.Wall, &sandbox.LimitError{Resource: sandbox.Wall, Limits: limits})
	defer cancel()

	out := &TrialResult{Exceeded: map[TrialPart]string{}}
	// part reports whether a part could be done.
	part := func(name TrialPart, err error) (bool, error) {
		if err == nil {
			return true, nil
		}
		if limit, ok := errors.AsType[*sandbox.LimitError](context.Cause(ctx)); ok {
			err = limit // the time for all parts, wherever it ran out
		}
		refused, err := limited(string(name), err)
		if err != nil {
			return false, err
		}
		out.Exceeded[name] = refused.Findings[0].Message
		return false, nil
	}
	var answer answerOutput
	done, err := part(PartAnswer, p.runner.Run(ctx, jobAnswer, answerInput{jobSource(t.Source), t.Input}, &answer))
	out.Findings, out.Failed, out.Explanation = shorten(answer.Findings), shorten(answer.Failed), answer.Explanation
	if err != nil || !done || len(out.Findings) > 0 {
		return out, err
	}
	if t.Events != nil {
		report, err := Replay(ctx, t.Source, t.Events, ReplayOptions{Base: t.Base, Limits: limits})
		if done, err = part(PartReplay, err); err != nil {
			return out, err
		}
		if done {
			out.Replay = report
		}
	}
	if t.Check {
		var report workbench.Report
		gate := p.cfg.Gate
		in := checkInput{jobSource: jobSource(t.Source), MinCoverage: gate.MinCoverage, TestTimeout: gate.TestTimeout}
		if done, err = part(PartCheck, p.runner.Run(ctx, jobCheck, in, &report)); err != nil {
			return out, err
		}
		if done {
			out.Check = new(resultOf(&report))
		}
	}
	return out, nil
}

// enter waits for a place.
func (p *Playground) enter(ctx context.Context) error {
	select {
	case p.places <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(p.cfg.Patience)
	defer timer.Stop()
	select {
	case p.places <- struct{}{}:
		return nil
	case <-timer.C:
		return ErrPlaygroundFull
	case <-ctx.Done():
		return fmt.Errorf("wait for the playground: %w", context.Cause(ctx))
	}
}

// Edited returns a bundle with some files others: a nil content takes a file out. The
// error says which file cannot be in a bundle, or why there are too many.
func Edited(src engine.Source, files map[string][]byte) (engine.Source, error) {
	out := engine.Source{Name: src.Name, Files: maps.Clone(src.Files), Waive: src.Waive}
	if out.Files == nil {
		out.Files = map[string][]byte{}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		clean, err := entryName(name)
		switch {
		case err != nil:
			return src, &EditError{name, err.Error()}
		case clean != name || len(name) > maxEditedName:
			return src, &EditError{name, "is not a path inside the bundle, such as authz/authz.rego"}
		case files[name] == nil:
			if _, there := src.Files[name]; !there {
				return src, &EditError{name, "is not in the bundle"}
			}
			delete(out.Files, name)
			continue
		case !engine.IsPolicyFile(name) && !engine.IsTestFile(name):
			return src, &EditError{name, "would be passed over: a policy is made of .rego modules, data.yaml, data.json, .manifest and capabilities.json"}
		case len(files[name]) > maxFile:
			return src, &EditError{name, fmt.Sprintf("is larger than %d MiB", maxFile>>20)}
		}
		out.Files[name] = files[name]
	}
	if len(out.Files) > maxFiles {
		return src, fmt.Errorf("the bundle would have more than %d files", maxFiles)
	}
	return out, nil
}

// maxEditedName bounds a path in bytes.
const maxEditedName = 512

// EditError says what is wrong with an edited file.
type EditError struct{ File, Problem string }

// Error names the file and the problem.
func (e *EditError) Error() string { return fmt.Sprintf("%.80q %s", e.File, e.Problem) }

// answerInput is the input of the job `answer`.
type answerInput struct {
	Source jobSource `json:"source"`
	Input  []byte    `json:"input"`
}

// answerOutput is its output.
type answerOutput struct {
	Findings    []engine.Finding       `json:"findings"`
	Failed      []engine.Finding       `json:"failed"`
	Explanation *workbench.Explanation `json:"explanation"`
}

// The stages of what a trial finds beside a check.
const (
	stageLoad     engine.Stage = "load"     // all that must be right before anything can be asked
	stageEvaluate engine.Stage = "evaluate" // the answer to the input
)

func staged(stage engine.Stage, err error) []engine.Finding {
	found := engine.Findings(err)
	for i := range found {
		found[i].Stage = stage
	}
	return found
}

// answerTrial loads a bundle and asks it about an input.
func answerTrial(ctx context.Context, input json.RawMessage, _ io.Reader) (any, error) {
	var in answerInput
	if err := json.Unmarshal(input, &in); err != nil {
		return nil, err
	}
	snapshot, err := in.Source.load(ctx, checkTimeout)
	if err != nil {
		return answerOutput{Findings: staged(stageLoad, err)}, nil
	}
	if in.Input == nil {
		return answerOutput{}, nil
	}
	explanation, err := workbench.Explain(ctx, snapshot, in.Input)
	if err != nil {
		return answerOutput{Failed: staged(stageEvaluate, err)}, nil
	}
	return answerOutput{Explanation: explanation}, nil
}
