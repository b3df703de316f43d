package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/bundles"
	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine"
	"patrol/server/ui"
)

// playgroundRoutes are where the policy team tries changes to a copy of the policy.
var playgroundRoutes = []route{
	{method: "POST", path: "/api/v1/policy/playground", by: policyTeam, do: (*Server).postPlayground, accepts: accepts{body: object}},
	{method: "GET", path: "/policy/playground", by: policyTeam, page: true, do: (*Server).pagePlayground, accepts: accepts{query: []string{"decision", "file"}}},
	{method: "POST", path: "/policy/playground", by: policyTeam, page: true, do: (*Server).formPlayground, accepts: accepts{form: []string{"do", "open", "new", "input", "decision", "replay", "check"}, lists: []string{"path", "text", "gone"}}},
}

// Playground tries policies; [bundles.Playground] is one.
type Playground interface {
	Try(ctx context.Context, t bundles.Trial) (*bundles.TrialResult, error)
}

// PlaygroundConfig bounds what each of the policy team may ask of the playground.
type PlaygroundConfig struct {
	// Timeout is how long a trial takes at most, which its answer has beyond the time of
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
	byUser *recent[string]
}

// mostTriers is how many users' trials are counted at a time.
const mostTriers = 1024

var errNoPlayground = models.NewError(models.CodeNotFound, "the playground is off here; the setting is playground.enabled")

// begin counts a trial, unless the user made too many.
func (t *trials) begin(user string, now time.Time, perMinute int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.byUser.get(user)
	if wait := w.wait(now, time.Minute, perMinute); wait > 0 {
		return waitFor(wait, fmt.Sprintf("at most %d policies can be tried in a minute", perMinute))
	}
	w.add(now, perMinute)
	return nil
}

// fullFor is when to come again if as many trials run as may.
const fullFor = 5 * time.Second

// TryPolicy tries changes to a copy of the policy in force, which stays as it is.
func (s *Server) TryPolicy(ctx context.Context, p models.Principal, in api.PlaygroundTrial) (*ui.Tried, error) {
	if s.playground == nil {
		return nil, errNoPlayground
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
	base, err := s.policyInForce(ctx)
	if err != nil {
		return nil, err
	}
	edited := editedPolicy(base.Source, in.Files, &v)
	out := &ui.Tried{PlaygroundResult: api.PlaygroundResult{Revision: base.Revision(), Digest: base.Digest(), Changed: []string{}}}
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
	if err := s.trials.begin(p.User.ID, s.now(), s.cfg.Playground.PerMinute); err != nil {
		return nil, err
	}
	result, err := s.playground.Try(ctx, trial)
	if errors.Is(err, bundles.ErrPlaygroundFull) {
		return nil, waitFor(fullFor, "others try policies just now, as many as may at a time")
	}
	if err != nil {
		return nil, fmt.Errorf("try a policy: %w", err)
	}
	out.Explanation = result.Explanation
	if input != nil {
		out.InForce = s.answerInForce(ctx, input)
	}
	return out, wireTrial(result, &out.PlaygroundResult)
}

// policyInForce is the bundle in force, with its tests.
func (s *Server) policyInForce(ctx context.Context) (*bundles.Bundle, error) {
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

// trialInput is what the policy is to be asked, nil for nothing.
func (s *Server) trialInput(ctx context.Context, in api.PlaygroundTrial, out *ui.Tried, v *models.Invalid) []byte {
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
	input, masked, err := s.recordedInput(ctx, in.Decision)
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

// recordedInput is the input of a decision of the log, and what a mask has changed in
// it.
func (s *Server) recordedInput(ctx context.Context, id string) (input json.RawMessage, masked []string, err error) {
	d, err := s.Decision(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if d.Input == nil {
		return nil, nil, errNoInput
	}
	var event struct{ Input json.RawMessage }
	if err := json.Unmarshal(d.AppendEvent(nil, noLabels), &event); err != nil {
		return nil, nil, fmt.Errorf("read the input of decision %s: %w", d.ID, err)
	}
	return event.Input, d.MaskedInput(), nil
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

// answerInForce is how the policy in force answers an input. What it cannot judge it
// denies.
func (s *Server) answerInForce(ctx context.Context, input []byte) *api.PolicyAnswer {
	policy := s.engine.Current()
	answer, err := policy.Evaluate(ctx, input)
	if err != nil {
		return &api.PolicyAnswer{Kind: string(engine.KindDecision), Revision: policy.Revision(), Reasons: models.Deny(models.PolicyError).Reasons}
	}
	out := &api.PolicyAnswer{
		Kind: string(answer.Kind), Revision: answer.Revision, Allowed: answer.Allowed, Reasons: answer.Reasons, ScopeID: answer.ScopeID, Headers: answer.Headers,
		Labels: answer.Labels, Waived: wireWaived(answer.Waived), Warnings: answer.Warnings,
	}
	for _, req := range answer.Requests {
		out.Requests = append(out.Requests, api.PolicyRequest(req))
	}
	if len(out.Requests) == 1 {
		out.Request = &out.Requests[0]
	}
	return out
}

// wireTrial puts a result in the form of the API, which is that of the engine.
func wireTrial(r *bundles.TrialResult, out *api.PlaygroundResult) error {
	explained := r.Explanation
	if explained != nil { // times are written in another form
		explained = new(*explained)
		explained.Waived = nil
	}
	for _, part := range [...]struct{ from, to any }{
		{r.Findings, &out.Findings},
		{r.Failed, &out.Failed},
		{explained, &out.Answer},
		{r.Replay, &out.Replay},
		{r.Check, &out.Check},
		{r.Exceeded, &out.Exceeded},
	} {
		text, err := json.Marshal(part.from)
		if err == nil {
			err = json.Unmarshal(text, part.to)
		}
		if err != nil {
			return fmt.Errorf("write the result of a trial: %w", err)
		}
	}
	if out.Answer != nil {
		out.Answer.Waived = wireWaived(r.Explanation.Waived)
	}
	for _, list := range [...]*[]api.PolicyFinding{&out.Findings, &out.Failed} {
		if *list == nil {
			*list = []api.PolicyFinding{}
		}
	}
	return nil
}

func (s *Server) postPlayground(c *gin.Context, p models.Principal) error {
	if s.playground == nil {
		return errNoPlayground
	}
	var in api.PlaygroundTrial
	if err := readJSON(c.Writer, c.Request, s.cfg.Playground.MaxBody, &in); err != nil {
		return err
	}
	s.allowTrial(c)
	tried, err := s.TryPolicy(c.Request.Context(), p, in)
	if err != nil {
		return err
	}
	writeJSON(c.Writer, http.StatusOK, tried.PlaygroundResult)
	return nil
}

// allowTrial gives the answer to a request the time that a trial takes. A connection
// without deadlines has none to move.
func (s *Server) allowTrial(c *gin.Context) {
	_ = http.NewResponseController(c.Writer).SetWriteDeadline(time.Now().Add(s.cfg.Playground.Timeout + s.cfg.HTTP.WriteTimeout))
}

func (s *Server) pagePlayground(c *gin.Context, p models.Principal) error {
	var form ui.PlaygroundForm
	if id := c.Query("decision"); id != "" {
		form.Do, form.Decision = ui.DoRecorded, id
	}
	if file := c.Query("file"); file != "" {
		form.Do, form.Open = ui.DoOpen, file
	}
	return s.showPlayground(c, p, form)
}

func (s *Server) formPlayground(c *gin.Context, p models.Principal) error {
	values, err := s.formUpTo(c, s.cfg.Playground.MaxBody)
	if err != nil {
		return err
	}
	form, err := ui.DecodePlayground(values)
	if err != nil {
		return err
	}
	return s.showPlayground(c, p, form)
}

// showPlayground does what the form says and shows it again. All that is edited goes to
// and fro: the server keeps none of it.
func (s *Server) showPlayground(c *gin.Context, p models.Principal, form ui.PlaygroundForm) error {
	if s.playground == nil {
		return s.show(c, p, http.StatusOK, ui.Playground{Off: true})
	}
	ctx := c.Request.Context()
	base, err := s.policyInForce(ctx)
	if err != nil {
		return err
	}
	page := ui.Playground{
		PlaygroundForm: form, Revision: base.Revision(), Names: slices.Sorted(maps.Keys(base.Files)), Logged: s.decided != nil, Most: s.cfg.Playground.MaxReplay,
	}
	failed := s.editPlayground(ctx, base, &page)
	if failed == nil && form.Do == ui.DoTry {
		s.allowTrial(c)
		page.Tried, failed = s.TryPolicy(ctx, p, form.Trial())
	}
	for i := range page.Files {
		_, page.Files[i].Own = base.Files[page.Files[i].Path]
	}
	if failed == nil {
		return s.show(c, p, http.StatusOK, page)
	}
	var ok bool
	if page.Problems, ok = ui.PlaygroundProblems(failed); !ok {
		return failed
	}
	return s.again(c, p, failed, page)
}

// editPlayground does what is not to try.
func (s *Server) editPlayground(ctx context.Context, base *bundles.Bundle, page *ui.Playground) error {
	var v models.Invalid
	do, argument, _ := strings.Cut(page.Do, ":")
	switch do += ":"; do {
	case ui.DoClose, ui.DoPutBack:
		page.Close(argument)
	case ui.DoTakeOut:
		page.Close(argument)
		page.Gone = append(page.Gone, argument)
	case ui.DoSample:
		page.Input, page.Decision = ui.PlaygroundSample(argument, s.now()), ""
	}
	switch page.Do {
	case ui.DoOpen:
		content, there := base.Files[page.Open]
		if !there {
			v.Add("open", "is not a file of the policy in force")
			break
		}
		page.Close(page.Open)
		page.Files = append(page.Files, ui.EditedFile{Path: page.Open, Text: string(content)})
	case ui.DoNew:
		if _, err := bundles.Edited(base.Source, map[string][]byte{page.New: {}}); err != nil {
			bad, ok := errors.AsType[*bundles.EditError](err)
			if !ok {
				return err
			}
			v.Add("new", "%s", bad.Problem)
			break
		}
		content, there := base.Files[page.New]
		if !there {
			content = []byte(ui.NewModule(page.New))
		}
		page.Close(page.New)
		page.Files = append(page.Files, ui.EditedFile{Path: page.New, Text: string(content)})
		page.New = ""
	case ui.DoRecorded:
		input, _, err := s.recordedInput(ctx, page.Decision)
		if models.CodeOf(err) == models.CodeNotFound {
			v.Add("decision", "is not in the log, or was made without the policy")
			break
		}
		if err != nil {
			return err
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, input, "", "  "); err != nil {
			return fmt.Errorf("read the input of a decision: %w", err)
		}
		page.Input = indented.String() + "\n"
	}
	return v.Err()
}
