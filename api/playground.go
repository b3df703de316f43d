package api

import (
	"encoding/json"

	"patrol/models"
)

// PlaygroundTrial is the body of `POST /api/v1/policy/playground`: changes to a copy of the
// policy in force, and what to find out about it.
type PlaygroundTrial struct {
	// Files are the changed files of the copy, by path in the bundle; null takes a file out.
	Files map[string]*string `json:"files,omitempty"`
	// Input is the question to the copy: the input of a decision, of a route, or an event of the
	// decision log. Decision takes that of a decision of the log, by its id. At most one of
	// them is given.
	Input    json.RawMessage `json:"input,omitempty"`
	Decision string          `json:"decision,omitempty"`
	// Replay is the number of the latest decisions of the log that are made again under the copy
	// and compared with what they are under the policy in force.
	Replay int `json:"replay,omitempty"`
	// Check runs the copy's tests and the safety suite, as for a policy that is to come into
	// force.
	Check bool `json:"check,omitempty"`
}

// PlaygroundResult is the answer. What was not asked for is null, and so is all but
// Findings if the copy does not load.
type PlaygroundResult struct {
	Revision string   `json:"revision"` // of the policy in force, which was copied
	Digest   string   `json:"digest"`
	Changed  []string `json:"changed"` // files that really differ
	// Findings say why the copy does not load.
	Findings []PolicyFinding `json:"findings"`
	// Answer is the answer of the copy with its explanation; Failed says why there is none.
	Answer *PolicyExplanation `json:"answer"`
	Failed []PolicyFinding    `json:"failed"`
	// InForce is the answer of the policy in force to the same question.
	InForce *PolicyAnswer `json:"in_force"`
	// Input is the question, if it came from the log, and Masked the JSON pointers of values that
	// a mask had changed in it.
	Input  json.RawMessage `json:"input,omitempty"`
	Masked []string        `json:"masked,omitempty"`
	Replay *PolicyReplay   `json:"replay"`
	Check  *PolicyResult   `json:"check"`
	// Exceeded says of the parts "answer", "replay" and "check" that exceeded a limit
	// which one, in words.
	Exceeded map[string]string `json:"exceeded,omitempty"`
}

// PolicyAnswer is the answer of a policy to an input.
type PolicyAnswer struct {
	Kind     string `json:"kind"` // "decision" or "route"
	Revision string `json:"revision"`

	Allowed bool              `json:"allowed"` // of a decision
	Reasons []models.Reason   `json:"reasons"`
	ScopeID string            `json:"scope_id,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Waived  []Waived          `json:"waived,omitempty"` // what it was allowed in spite of

	// Of a route: what the request asks for, all of which must be allowed; none if no route maps it.
	Requests []PolicyRequest `json:"requests,omitempty"`
	Request  *PolicyRequest  `json:"request,omitempty"` // the one in Requests; null if there are several

	Warnings []string `json:"warnings,omitempty"` // where the input is not as the server makes it
}

// PolicyRequest is the question that a proxied request stands for. Domain is "" if its path does
// not name one.
type PolicyRequest struct {
	Domain     string `json:"domain"`
	EntityType string `json:"entity_type"`
	Entity     string `json:"entity"`
	Operation  string `json:"operation"`
}

// PolicyExplanation is an answer with how it came about.
type PolicyExplanation struct {
	PolicyAnswer
	Because []PolicyBecause `json:"because"` // the rules that gave the reasons
	Rules   []PolicyTrace   `json:"rules"`   // the rules that ran, in the order in which they were entered
	Remedy  *PolicyRemedy   `json:"remedy,omitempty"`
}

// PolicyBecause is the rule that gave a reason.
type PolicyBecause struct {
	Code string `json:"code"`
	Rule string `json:"rule"`
	File string `json:"file"`
	Line int    `json:"line"`
}

// PolicyTrace is a rule that ran, with its expressions that did.
type PolicyTrace struct {
	Rule  string            `json:"rule"`
	Title string            `json:"title,omitempty"`
	Code  string            `json:"code,omitempty"` // of the reason that it gives if it holds
	File  string            `json:"file"`
	Line  int               `json:"line"`
	Held  bool              `json:"held"`           // it had a value, or added to one
	Text  string            `json:"text,omitempty"` // the rule as it is written, from Line on
	Lines []PolicyTraceLine `json:"lines"`
}

// PolicyTraceLine is an expression that ran.
type PolicyTraceLine struct {
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Text   string `json:"text"`
	Held   bool   `json:"held"` // at least once
}

// PolicyRemedy is the smallest change to the facts that would allow what was denied.
type PolicyRemedy struct {
	Changes      []PolicyChange   `json:"changes"`
	Alternatives [][]PolicyChange `json:"alternatives,omitempty"`
}

// PolicyChange is a change of one fact.
type PolicyChange struct {
	Kind    string       `json:"kind"`
	Title   string       `json:"title"`
	Command string       `json:"command,omitempty"`
	Edits   []PolicyEdit `json:"edits"`
}

// PolicyEdit puts a value at a place in the input.
type PolicyEdit struct {
	Path  []string `json:"path"`
	Value any      `json:"value"`
}

// String is the request as text, domain:type:entity:operation.
func (r PolicyRequest) String() string {
	return models.Scope{Domain: r.Domain, EntityType: r.EntityType, Entity: r.Entity, Operation: r.Operation}.String()
}
