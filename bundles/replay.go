package bundles

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"patrol/bundles/sandbox"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

// Events hands out decisions one after the other, each as an event of OPA's decision log on
// one line, until there is none left or yield returns an error, which it passes
// on. What it hands out may change when yield has returned.
type Events func(ctx context.Context, yield func(event []byte) error) error

// ReplayOptions say how decisions are made again.
type ReplayOptions struct {
	// Base, if not nil, is the policy to compare with, in place of what was decided.
	Base     *engine.Source
	Examples int // of each group of changes; default: 5
	Groups   int // of changes that are reported, the largest; default: 50
	Limits   sandbox.Limits
}

// replayTimeout bounds one evaluation of a replay. Nobody waits for it, so a busy
// machine must not make a difference.
const replayTimeout = 5 * time.Second

// defaultGroups is the number of groups of changes that are reported.
const defaultGroups = 50

// Replay makes recorded decisions again under a candidate, in a child process with
// limits, and reports what would be decided otherwise. The events pass through: however
// many there are, they take no memory to speak of. The error is that of
// [sandbox.Runner.Feed], a *[sandbox.LimitError] if the candidate takes too much, or that of events.
func Replay(ctx context.Context, candidate engine.Source, events Events, opts ReplayOptions) (*workbench.ReplayReport, error) {
	runner, err := sandbox.New(opts.Limits)
	if err != nil {
		return nil, err
	}
	in := replayInput{Candidate: jobSource(candidate), Examples: opts.Examples, Groups: opts.Groups}
	if in.Groups <= 0 {
		in.Groups = defaultGroups
	}
	if opts.Base != nil {
		in.Base = new(jobSource(*opts.Base))
	}
	var report workbench.ReplayReport
	err = runner.Feed(ctx, jobReplay, in, func(ctx context.Context, w io.Writer) error {
		return events(ctx, func(event []byte) error {
			_, err := w.Write(event)
			if err == nil {
				_, err = w.Write(lineBreak)
			}
			return err
		})
	}, &report)
	if err != nil {
		return nil, err
	}
	return &report, nil
}

var lineBreak = []byte{'\n'}

// jobSource is a bundle as a job is given it.
type jobSource struct {
	Name  string            `json:"name"`
	Files map[string][]byte `json:"files"`
	Waive []string          `json:"waive,omitempty"`
}

func (s jobSource) load(ctx context.Context, timeout time.Duration) (*engine.Snapshot, error) {
	return engine.Load(ctx, engine.Source(s), engine.WithTimeout(timeout))
}

// replayInput is the input of the job `replay`. The events follow it, one to a line.
type replayInput struct {
	Candidate jobSource  `json:"candidate"`
	Base      *jobSource `json:"base,omitempty"`
	Examples  int        `json:"examples"`
	Groups    int        `json:"groups"`
}

func replayEvents(ctx context.Context, input json.RawMessage, events io.Reader) (any, error) {
	var in replayInput
	if err := json.Unmarshal(input, &in); err != nil {
		return nil, err
	}
	candidate, err := in.Candidate.load(ctx, replayTimeout)
	if err != nil {
		return nil, err
	}
	opts := workbench.ReplayOptions{Examples: in.Examples, Groups: in.Groups}
	if in.Base != nil {
		if opts.Base, err = in.Base.load(ctx, replayTimeout); err != nil {
			return nil, err
		}
	}
	return workbench.ReplayEvents(ctx, candidate, events, opts)
}
