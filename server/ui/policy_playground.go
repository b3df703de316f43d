package ui

import (
	"encoding/json"
	"errors"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"patrol/api"
	"patrol/models"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

// Tried is the result of a trial in the playground.
type Tried struct {
	api.PlaygroundResult
	Explanation *workbench.Explanation // the answer once more, as the engine has it
}

// PlaygroundForm is the form of the playground. It holds all that is edited,
// since the server keeps nothing of it.
type PlaygroundForm struct {
	Files    []EditedFile
	Gone     []string // files that are taken out
	Input    string
	Decision string // id of one in the log whose input is to be taken
	Replay   int
	Check    bool

	Do        string // what is to be done, one of the constants or of those followed by an argument
	Open, New string // names of files
}

// The actions of the playground.
const (
	DoTry      = "try"
	DoOpen     = "open"
	DoNew      = "new"
	DoRecorded = "recorded"
	DoSample   = "sample:"  // with the name of a sample
	DoClose    = "close:"   // with a path
	DoTakeOut  = "takeout:" // likewise
	DoPutBack  = "putback:" // likewise
)

// EditedFile is a file that is open.
type EditedFile struct {
	Path, Text string
	// Own says that the policy in force has it.
	Own bool
}

// Numbers are the numbers of the lines beside the text, with some to spare.
func (f EditedFile) Numbers() string {
	var b strings.Builder
	for n := range f.Rows() {
		b.WriteString(strconv.Itoa(n+1) + "\n")
	}
	return b.String()
}

// Rows is the height of the text in lines.
func (f EditedFile) Rows() int { return strings.Count(f.Text, "\n") + 4 }

// ID is the id of the text.
func (f EditedFile) ID() string { return fieldID("file-" + f.Path) }

// DecodePlayground reads the form.
func DecodePlayground(form url.Values) (f PlaygroundForm, err error) {
	// Browsers send lines with both of the characters that end them.
	lines := strings.NewReplacer("\r\n", "\n", "\r", "\n")
	paths, texts := form["path"], form["text"]
	if len(paths) != len(texts) {
		return f, models.NewError(models.CodeMalformed, "the form could not be read: each file has a path and a text")
	}
	for i, path := range paths {
		if !slices.ContainsFunc(f.Files, func(e EditedFile) bool { return e.Path == path }) {
			f.Files = append(f.Files, EditedFile{Path: path, Text: lines.Replace(texts[i])})
		}
	}
	get := func(name string) string { return strings.TrimSpace(form.Get(name)) }
	f.Gone, f.Input, f.Decision = form["gone"], lines.Replace(form.Get("input")), get("decision")
	f.Replay, _ = strconv.Atoi(get("replay")) // one of a list; anything else is none
	f.Check, f.Do, f.Open, f.New = get("check") != "", get("do"), get("open"), get("new")
	return f, nil
}

// Trial returns the trial that the form asks for.
func (f PlaygroundForm) Trial() api.PlaygroundTrial {
	t := api.PlaygroundTrial{Files: map[string]*string{}, Replay: f.Replay, Check: f.Check}
	for _, path := range f.Gone {
		t.Files[path] = nil
	}
	for _, file := range f.Files {
		t.Files[file.Path] = &file.Text
	}
	if input := strings.TrimSpace(f.Input); input != "" {
		t.Input = json.RawMessage(input)
	}
	return t
}

// Close drops what was done to a file.
func (f *PlaygroundForm) Close(path string) {
	f.Files = slices.DeleteFunc(f.Files, func(e EditedFile) bool { return e.Path == path })
	f.Gone = slices.DeleteFunc(f.Gone, func(gone string) bool { return gone == path })
}

// Playground is the page on which changes to a copy of the policy are tried.
type Playground struct {
	PlaygroundForm
	Off      bool     // there is none
	Revision string   // of the policy in force
	Names    []string // of its files
	Logged   bool     // there is a decision log to take from
	Most     int      // decisions that can be made again
	Tried    *Tried   // nil: nothing yet
	Problems Problems
}

// Title implements [Page].
func (Playground) Title() string    { return "Playground" }
func (Playground) template() string { return "policy-playground" }
func (Playground) section() section { return policyPlayground }
func (Playground) top() bool        { return true }
func (Playground) fetches() bool    { return true }
func (Playground) keepsForm() bool  { return true } // of which the address would hold too little
func (p Playground) failed() bool   { return p.Problems.Any() }

// PlaygroundPath is the address of the page, with a decision to begin with unless that
// is "".
func PlaygroundPath(decision string) string {
	const path = "/policy/playground"
	if decision == "" {
		return path
	}
	return path + "?" + url.Values{"decision": {decision}}.Encode()
}

// Closed are the files that can be opened.
func (p Playground) Closed() (names []string) {
	for _, name := range p.Names {
		if !slices.ContainsFunc(p.Files, func(f EditedFile) bool { return f.Path == name }) && !slices.Contains(p.Gone, name) {
			names = append(names, name)
		}
	}
	return names
}

// Replays are the choices of how many decisions are made again.
func (p Playground) Replays() []Option {
	options := []Option{{Value: "0", Label: "None"}}
	for _, n := range [...]int{100, 1000, 10_000, 100_000} {
		if n <= p.Most {
			options = append(options, Option{Value: strconv.Itoa(n), Label: "The latest " + strconv.Itoa(n), Selected: p.Replay == n})
		}
	}
	return options
}

// Findings say why the copy does not load.
func (p Playground) Findings() []PlaygroundFinding { return p.located(p.Tried.Findings) }

// Failures say why it gave no answer.
func (p Playground) Failures() []PlaygroundFinding { return p.located(p.Tried.Failed) }

// CheckFindings say why it would not pass.
func (p Playground) CheckFindings() []PlaygroundFinding { return p.located(p.Tried.Check.Findings) }

// PlaygroundFinding is a finding with the text that it is in, if that is open.
type PlaygroundFinding struct {
	Place, Message string
	ID             string // of the text; "" if it is not open
	Line           int
}

func (p Playground) located(found []api.PolicyFinding) []PlaygroundFinding {
	out := make([]PlaygroundFinding, len(found))
	for i, f := range found {
		out[i] = PlaygroundFinding{Place: placeOf(f.File, f.Line, f.Column), Message: f.Message, Line: f.Line}
		if at := slices.IndexFunc(p.Files, func(e EditedFile) bool { return e.Path == f.File }); at >= 0 {
			out[i].ID = p.Files[at].ID()
		}
	}
	return out
}

// Exceeded says which parts took too much.
func (p Playground) Exceeded() (lines []string) {
	for _, part := range [...]struct{ key, label string }{
		{"answer", "The answer"}, {"replay", "Making decisions again"}, {"check", "The check"},
	} {
		if text := p.Tried.Exceeded[part.key]; text != "" {
			lines = append(lines, part.label+": "+text+".")
		}
	}
	return lines
}

// Loads reports whether the copy is a policy.
func (p Playground) Loads() bool {
	return len(p.Tried.Findings) == 0 && p.Tried.Exceeded["answer"] == ""
}

// Compared says how the answer differs from that of the policy in force.
func (p Playground) Compared() string {
	a, b := p.Tried.Answer, p.Tried.InForce
	if a == nil || b == nil {
		return ""
	}
	if a.Kind == string(engine.KindRoute) {
		switch {
		case slices.Equal(a.Requests, b.Requests):
			return "The policy in force answers the same."
		case len(b.Requests) == 0:
			return "The policy in force maps no route to it."
		}
		says := make([]string, len(b.Requests))
		for i, r := range b.Requests {
			says[i] = r.String()
		}
		return "The policy in force says " + strings.Join(says, " and ") + "."
	}
	decision := func(a *api.PolicyAnswer) models.Decision {
		return models.Decision{Allowed: a.Allowed, Reasons: a.Reasons, ScopeID: a.ScopeID, Headers: a.Headers}
	}
	switch workbench.Compare(decision(b), decision(&a.PolicyAnswer), true) {
	case workbench.NewlyAllowed:
		return "The policy in force denies it: " + codesOf(b.Reasons) + "."
	case workbench.NewlyDenied:
		return "The policy in force allows it."
	case workbench.OtherReasons:
		return "The policy in force denies it for other reasons: " + codesOf(b.Reasons) + "."
	case workbench.OtherGrant:
		return "The policy in force allows it by another scope, or with other headers."
	default:
		return "The policy in force answers the same."
	}
}

// Place is the place of the rule that gave a reason, "" if none is known.
func (p Playground) Place(code models.ReasonCode) string {
	for _, b := range p.Tried.Answer.Because {
		if b.Code == string(code) {
			return placeOf(b.File, b.Line, 0)
		}
	}
	return ""
}

// Rules are the rules that ran, with their source.
func (p Playground) Rules() []RuleRun { return runsOf(p.Tried.Explanation) }

// Remedy is a change that would allow it; nil if it was allowed, or if none is known.
func (p Playground) Remedy() *workbench.Remedy { return p.Tried.Explanation.Remedy }

// CheckFacts are the results of the check.
func (p Playground) CheckFacts() []Fact { return resultFacts(*p.Tried.Check) }

// Changes counts the decisions that would be others.
func (p Playground) Changes() int64 {
	r := p.Tried.Replay
	return r.NewlyAllowed + r.NewlyDenied + r.OtherReasons + r.OtherGrant
}

// ReplayGroup are decisions that would change alike.
type ReplayGroup struct {
	What     string
	Reasons  []string
	Count    int64
	Examples []ReplayExample
}

// ReplayExample is one of them.
type ReplayExample struct{ Request, URL string }

// Groups are the changes by kind and reasons.
func (p Playground) Groups() (groups []ReplayGroup) {
	for _, g := range p.Tried.Replay.Groups {
		out := ReplayGroup{What: changeNames[workbench.ChangeKind(g.Kind)], Count: g.Count}
		for _, r := range g.Reasons {
			text := string(r.Code)
			if r.Title != "" {
				text += ": " + r.Title
			}
			if place := placeOf(r.File, r.Line, 0); place != "" {
				text += " (" + place + ")"
			}
			out.Reasons = append(out.Reasons, text)
		}
		for _, e := range g.Examples {
			out.Examples = append(out.Examples, ReplayExample{e.Request, DecisionURL(e.ID)})
		}
		groups = append(groups, out)
	}
	return groups
}

// changeNames are the kinds of changes in words.
var changeNames = map[workbench.ChangeKind]string{
	workbench.NewlyAllowed: "newly allowed, denied until now for",
	workbench.NewlyDenied:  "newly denied",
	workbench.OtherReasons: "denied for other reasons",
	workbench.OtherGrant:   "allowed by another scope, or with other headers",
}

// Samples are the inputs to begin with.
func (Playground) Samples() []Option { return playgroundSamples }

// NewModule returns the beginning of a new file of that name.
func NewModule(name string) string {
	dir := path.Dir(name)
	if path.Ext(name) != ".rego" || dir == "." {
		return ""
	}
	pkg := "patrol." + strings.ReplaceAll(dir, "/", ".")
	if strings.HasSuffix(name, "_test.rego") {
		pkg += "_test"
	}
	return "package " + pkg + "\n\n"
}

// PlaygroundProblems puts what is wrong with a form of the playground into words. It
// returns false for what the user can do nothing about.
func PlaygroundProblems(err error) (Problems, bool) {
	e, ok := errors.AsType[*models.Error](err)
	if !ok || e.Code != models.CodeRateLimited {
		return ProblemsOf(err)
	}
	return Problems{General: sentence("", e.Message) + " Try again in " + plural(e.RetryAfter, "second", "seconds") + "."}, true
}

var playgroundSamples = []Option{{Value: "decision", Label: "Sample decision"}, {Value: "route", Label: "Sample proxied request"}}

// PlaygroundSample is an input to begin with, "" if there is none of the name.
func PlaygroundSample(name string, now time.Time) string {
	at := func(d time.Duration) string { return strconv.FormatInt(now.Add(d).Unix(), 10) }
	switch name {
	case "decision":
		return `{
  "request": {"domain": "acme", "entity_type": "models", "entity": "llama3", "operation": "read", "context": {}},
  "token": {
    "id": "0000000000000001", "name": "ci", "revoked": false, "created_at": ` + at(-24*time.Hour) + `, "expires_at": ` + at(24*time.Hour) + `,
    "scopes": {"acme": {"models": {"read": {"*": "scope-1"}}}}
  },
  "user": {"id": "user-1", "email": "ann@example.com", "admin": false, "disabled": false},
  "domain": {"id": "acme", "status": "enabled"},
  "membership": {"role": "member"},
  "now": ` + at(0) + `
}
`
	case "route":
		return `{
  "http": {
    "method": "POST", "path": "/proxy/acme/v1/chat/completions", "segments": ["proxy", "acme", "v1", "chat", "completions"],
    "query": {}, "headers": {"content-type": "application/json"}, "body": {"model": "llama3"}
  }
}
`
	}
	return ""
}
