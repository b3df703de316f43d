package manage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"patrol/api"
	"patrol/bundles"
	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
	"patrol/server/window"
)

// Playground tries policies; [bundles.Playground] is one.
type Playground interface {
	Try(ctx context.Context, t bundles.Trial) (*bundles.TrialResult, error)
}

// PlaygroundConfig bounds what each of the policy team may ask of the playground.
type PlaygroundConfig struct {
	// Timeout bounds a trial. Its answer has that much beyond the time of
	// others.
	Timeout   time.Duration
	PerMinute int   // trials of one user
	MaxBody   int64 // bytes of a request: a module may be larger than other bodies are
	MaxReplay int   // recorded decisions that a trial makes again at most
}

// Validate returns what is wrong with the section.
func (c PlaygroundConfig) Validate() error {
	if c.Timeout <= 0 || c.PerMinute < 1 || c.MaxBody < 4<<10 || c.MaxReplay < 0 {
		return errors.New("the playground's limits must be positive")
	}
	return nil
}

// trials counts what users try.
type trials struct {
	mu     sync.Mutex
	byUser *window.Recent[string]
}

// maxTriers bounds the users whose trials are counted at a time.
const maxTriers = 1024

// HasPlayground reports whether policies can be tried here.
func (s *Service) HasPlayground() bool { return s.playground != nil }

// ErrNoPlayground is the error where they cannot.
var ErrNoPlayground = models.NewError(models.CodeNotFound, "the playground is off here; the setting is playground.enabled")

// begin counts a trial, unless the user made too many.
func (t *trials) begin(user string, now time.Time, perMinute int, message string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.byUser.Get(user)
	if wait := w.Wait(now, time.Minute, perMinute); wait > 0 {
		return window.TooSoon(wait, fmt.Sprintf(message, perMinute))
	}
	w.Add(now, perMinute)
	return nil
}

// fullFor is the Retry-After while as many trials run as may.
const fullFor = 5 * time.Second

// Tried is the result of a trial.
type Tried struct {
	api.PlaygroundResult
	Explanation *workbench.Explanation // the answer once more, in the form of the engine
}

// TryPolicy tries changes to a copy of the policy in force, which stays as it is.
func (s *Service) TryPolicy(ctx context.Context, p models.Principal, in api.PlaygroundTrial) (*Tried, error) {
	if s.playground == nil {
		return nil, ErrNoPlayground
	}
	var v models.Invalid
	if in.Replay < 0 || in.Replay > s.cfg.Playground.MaxReplay {
		v.Add("replay", "must be from 0 to %d", s.cfg.Playground.MaxReplay)
	}
	if in.Replay > 0 && s.decided == nil {
		v.Add("replay", "decisions are not kept in a database here; the setting is decision_log.database")
	}
	if len(in.Input) > 0 && in.Decision != "" {
		v.Add("decision", "goes without input: it has its own")
	}
	base, err := s.PolicyInForce(ctx)
	if err != nil {
		return nil, err
	}
	edited := editedPolicy(base.Source, in.Files, &v)
	out := &Tried{PlaygroundResult: api.PlaygroundResult{Revision: base.Revision(), Digest: base.Digest(), Changed: []string{}}}
	input := s.trialInput(ctx, in, out, &v)
	if err := v.Err(); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(in.Files)) {
		before, there := base.Files[name]
		if after, kept := edited.Files[name]; there != kept || !bytes.Equal(before, after) {
			out.Changed = append(out.Changed, name)
		}
	}
	trial := bundles.Trial{Source: edited, Input: input, Check: in.Check}
	if in.Replay > 0 {
		trial.Base, trial.Events = &base.Source, RecordedEvents(s.decided, 0, in.Replay)
	}
	if err := s.trials.begin(p.User.ID, s.now(), s.cfg.Playground.PerMinute, "at most %d policies can be tried in a minute"); err != nil {
		return nil, err
	}
	result, err := s.playground.Try(ctx, trial)
	if errors.Is(err, bundles.ErrPlaygroundFull) {
		return nil, window.TooSoon(fullFor, "others try policies just now, as many as may at a time")
	}
	if err != nil {
		return nil, fmt.Errorf("try a policy: %w", err)
	}
	out.Explanation = result.Explanation
	if input != nil {
		out.InForce = s.answerInForce(ctx, input)
	}
	wireTrial(result, &out.PlaygroundResult)
	return out, nil
}

// PolicyInForce is the bundle in force, with its tests.
func (s *Service) PolicyInForce(ctx context.Context) (*bundles.Bundle, error) {
	archive, _, _ := s.policy.Archive()
	b, err := bundles.Unpack(ctx, s.policy.Status().Active.Source, archive, nil) // it is in force: its signature was good
	if err != nil {
		return nil, fmt.Errorf("read the policy in force: %w", err)
	}
	return b, nil
}

// editedPolicy is the policy with files as somebody edited them.
func editedPolicy(src engine.Source, files map[string]*string, v *models.Invalid) engine.Source {
	edits := make(map[string][]byte, len(files))
	for name, content := range files {
		edits[name] = nil
		if content != nil {
			edits[name] = []byte(*content)
		}
	}
	edited, err := bundles.Edited(src, edits)
	if bad, ok := errors.AsType[*bundles.EditError](err); ok {
		v.Add(fmt.Sprintf("files[%.80q]", bad.File), "%s", bad.Problem)
	} else if err != nil {
		v.Add("files", "%s", err)
	}
	edited.Name = "the edited policy"
	return edited
}

// trialInput returns the input of a trial, nil for none.
func (s *Service) trialInput(ctx context.Context, in api.PlaygroundTrial, out *Tried, v *models.Invalid) []byte {
	if in.Decision == "" {
		input := bytes.TrimSpace(in.Input)
		switch {
		case len(input) == 0 || string(input) == "null":
			return nil
		case input[0] != '{' || !json.Valid(input):
			v.Add("input", "must be a JSON object")
		}
		return input
	}
	input, masked, err := s.RecordedInput(ctx, in.Decision)
	if err != nil {
		text := err.Error()
		if e, ok := errors.AsType[*models.Error](err); ok {
			text = e.Message
		}
		v.Add("decision", "%s", text)
		return nil
	}
	out.Input, out.Masked = input, masked
	return input
}

var errNoInput = models.NewError(models.CodeNotFound, "was made without the policy, or its input is not kept: there is nothing to ask")

// RecordedInput is the input of a decision of the log, and what a mask has changed in
// it.
func (s *Service) RecordedInput(ctx context.Context, id string) (input json.RawMessage, masked []string, err error) {
	d, err := s.Decision(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if d.Input == nil {
		return nil, nil, errNoInput
	}
	return d.AppendInput(nil), d.MaskedInput(), nil
}

var noLabels = []byte(`{}`)

// RecordedEvents hands out the latest decisions of a log that can be made again, at most
// limit, of the time since so long ago; 0: however old.
func RecordedEvents(log *store.Decisions, ago time.Duration, limit int) bundles.Events {
	return func(ctx context.Context, yield func([]byte) error) error {
		var filter store.DecisionFilter
		if ago > 0 {
			filter.Since = time.Now().Add(-ago)
		}
		var room []byte
		return log.Latest(ctx, filter, limit, func(l models.LoggedDecision) error {
			room = l.AppendEvent(room[:0], noLabels)
			return yield(room)
		})
	}
}

// answerInForce has the policy in force answer an input. What it cannot judge it
// denies.
func (s *Service) answerInForce(ctx context.Context, input []byte) *api.PolicyAnswer {
	policy := s.engine.Current()
	answer, err := policy.Evaluate(ctx, input)
	if err != nil {
		return &api.PolicyAnswer{Kind: string(engine.KindDecision), Revision: policy.Revision(), Reasons: models.Deny(models.PolicyError).Reasons}
	}
	out := wireAnswer(*answer)
	if len(out.Requests) == 1 {
		out.Request = &out.Requests[0]
	}
	return &out
}
