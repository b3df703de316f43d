package ui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"patrol/api"
	"patrol/models"
)

// Policy is the page about the policy in force.
type Policy struct {
	api.Policy
	InForce Moment
	Checked *Moment // when the source last had something to say
	Refused []PolicyRefusal
}

// Title implements [Page].
func (Policy) Title() string    { return "Policy" }
func (Policy) template() string { return "policy" }
func (Policy) section() section { return policyOverview }
func (Policy) top() bool        { return true }

// NewPolicy is the page at now.
func NewPolicy(p api.Policy, now time.Time) Policy {
	page := Policy{Policy: p, InForce: At(p.Since, now), Checked: maybeAt(p.SourceStatus.CheckedAt, now)}
	for _, e := range p.Refusals {
		page.Refused = append(page.Refused, PolicyRefusal{
			Event: e, At: At(e.At, now), Current: p.SourceStatus.Pending != nil && p.SourceStatus.Pending.Refused && p.SourceStatus.Pending.Digest == e.Digest,
		})
	}
	return page
}

// PolicyResumed says that the source is followed again.
func PolicyResumed(api.Policy) string {
	return "The source is followed again. What it holds comes into force within seconds, if it passes."
}

// State is its state in a word or two.
func (p Policy) State() State {
	switch {
	case p.SyncError != "":
		return State{"revoked", "Not followed here"}
	case p.Pinned:
		if p.Promoted {
			return State{"soon", "Promoted"}
		}
		return State{"soon", "Pinned"}
	default:
		return State{"active", "In force"}
	}
}

// Waiting is the policy in the source that is held back, nil for none.
func (p Policy) Waiting() *api.PolicyPending {
	if next := p.SourceStatus.Pending; next != nil && !next.Refused {
		return next
	}
	return nil
}

// Rejected is the policy in the source that was refused, nil for none.
func (p Policy) Rejected() *api.PolicyPending {
	if next := p.SourceStatus.Pending; next != nil && next.Refused {
		return next
	}
	return nil
}

// Comparison is the address of the comparison of the policy in the source with that in force, "" if
// it holds nothing else that can be read.
func (p Policy) Comparison() string {
	if next := p.SourceStatus.Pending; next == nil || next.Digest == "" {
		return ""
	}
	return diffURL(p.Digest, CandidateKey)
}

// Unjudged reports whether no gate saw it: the policy in the binary has passed
// when that was made.
func (p Policy) Unjudged() bool { return len(p.Facts()) == 0 }

// Facts are the gate's results, for a list.
func (p Policy) Facts() []Fact { return resultFacts(p.Result) }

// Fact is a line of what the gate found out.
type Fact struct{ Name, Text string }

// resultFacts tells what the gate found out in words. There are none if it did not
// get so far.
func resultFacts(r api.PolicyResult) (facts []Fact) {
	add := func(name, format string, args ...any) {
		facts = append(facts, Fact{name, fmt.Sprintf(format, args...)})
	}
	if t := r.Tests; t != nil {
		text := fmt.Sprintf("%d passed", t.Passed)
		if t.Failed > 0 {
			text += fmt.Sprintf(", %d failed", t.Failed)
		}
		if t.Skipped > 0 {
			text += fmt.Sprintf(", %d skipped", t.Skipped)
		}
		add("Tests", "%s", text)
	}
	if r.Coverage != nil {
		add("Coverage", "%.1f %%", *r.Coverage)
	}
	if s := r.Safety; s != nil {
		text := plural(s.Passed, "case", "cases") + " passed"
		if s.Failed > 0 {
			text += fmt.Sprintf(", %d failed", s.Failed)
		}
		if len(s.Waived) > 0 {
			text += ", waived: " + strings.Join(s.Waived, ", ")
		}
		add("Safety suite", "%s", text)
	}
	if x := r.Replay; x != nil {
		add("Replay", "%s made again: %d newly allowed, %d newly denied", plural(int(x.Replayed), "decision", "decisions"), x.NewlyAllowed, x.NewlyDenied)
	}
	facts = append(facts, departureFacts(r.Departures)...)
	if r.OPAVersion != "" {
		add("OPA", "%s", r.OPAVersion)
	}
	return facts
}

// PolicyRefusal is a candidate that was refused.
type PolicyRefusal struct {
	Event   api.PolicyEvent
	At      Moment
	Current bool // the source still holds it
}

// Name is the candidate's name.
func (r PolicyRefusal) Name() string {
	if r.Event.Revision != "" {
		return r.Event.Revision
	}
	return "What could not be read"
}

// First are its first findings, and Rest the others.
func (r PolicyRefusal) First() []PolicyFinding {
	all := findingsOf(r.Event.Result.Findings)
	return all[:min(len(all), firstFindings)]
}

// Rest are the findings after the first.
func (r PolicyRefusal) Rest() []PolicyFinding {
	all := findingsOf(r.Event.Result.Findings)
	return all[min(len(all), firstFindings):]
}

// Changes are the recorded decisions that it would make otherwise.
func (r PolicyRefusal) Changes() []ReplayChange { return replayChanges(r.Event.Result.Replay) }

// ReplayChange are recorded decisions that a policy would make otherwise, all in the
// same way.
type ReplayChange struct {
	Text     string
	Examples []Link
}

func replayChanges(r *api.PolicyReplay) (out []ReplayChange) {
	if r == nil {
		return nil
	}
	for _, g := range r.Groups {
		codes := make([]models.ReasonCode, len(g.Reasons))
		for i, reason := range g.Reasons {
			codes[i] = reason.Code
		}
		c := ReplayChange{Text: changesInWords(g.Kind, g.Count, codes)}
		for _, e := range g.Examples {
			c.Examples = append(c.Examples, Link{Label: e.Request, URL: DecisionURL(e.ID)})
		}
		out = append(out, c)
	}
	return out
}

// firstFindings is the number of findings that are shown at once.
const firstFindings = 5

// PolicyFinding is one thing that is wrong with a policy.
type PolicyFinding struct{ Stage, Place, Message string }

func findingsOf(found []api.PolicyFinding) []PolicyFinding {
	out := make([]PolicyFinding, len(found))
	for i, f := range found {
		out[i] = PolicyFinding{Stage: f.Stage, Place: placeOf(f.File, f.Line, f.Column), Message: f.Message}
	}
	return out
}

// placeOf is file:line:column as far as it is known.
func placeOf(file string, line, column int) string {
	parts := []string{file}
	for _, n := range [...]int{line, column} {
		if n == 0 {
			break
		}
		parts = append(parts, fmt.Sprint(n))
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ":")
}

// Warnings are the findings that the gate let pass.
func (p Policy) Warnings() []PolicyFinding { return findingsOf(p.Result.Warnings) }
