package ui

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"patrol/api"
	"patrol/models"
)

// departureFacts tells what a policy allows in spite of a reason to deny. There are none if
// it allows nothing so.
func departureFacts(d *api.PolicyDepartures) (facts []Fact) {
	if d == nil {
		return nil
	}
	if len(d.Waives) > 0 {
		codes := make([]string, len(d.Waives))
		for i, code := range d.Waives {
			codes[i] = string(code)
		}
		facts = append(facts, Fact{"Waived for good", strings.Join(codes, ", ")})
	}
	for _, part := range [...]struct {
		name  string
		rules []api.PolicyRule
	}{{"Makes exceptions", d.Exceptions}, {"Gives labels", d.Labels}} {
		if len(part.rules) > 0 {
			facts = append(facts, Fact{part.name, rulesInWords(part.rules)})
		}
	}
	return facts
}

// maxRulesTold bounds the rules that one line names.
const maxRulesTold = 10

func rulesInWords(rules []api.PolicyRule) string {
	texts := make([]string, 0, maxRulesTold)
	for _, r := range rules[:min(len(rules), maxRulesTold)] {
		text := placeOf(r.File, r.Line, 0)
		if r.Title != "" {
			text = r.Title + " (" + text + ")"
		}
		texts = append(texts, text)
	}
	text := strings.Join(texts, ", ")
	if more := len(rules) - maxRulesTold; more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}
	return text
}

// Departs lists allowances here in spite of a reason to deny.
func (p Policy) Departs() []Fact { return departureFacts(&p.Departures) }

// Breached lists allowances here that no policy may give.
func (p Policy) Breached() (facts []Fact) {
	for _, b := range p.Breaches {
		facts = append(facts, Fact{string(b.Code), plural(int(b.Count), "time", "times")})
	}
	return facts
}

// labelFacts are the labels of a decision, for a list.
func labelFacts(labels map[string]string) (facts []Fact) {
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		facts = append(facts, Fact{name, labels[name]})
	}
	return facts
}

// WaivedLine is a reason to deny that did not count, in words.
type WaivedLine struct{ Code, Text string }

// waivedLines puts what something was allowed in spite of into words.
func waivedLines(waived []models.Waiver) (lines []WaivedLine) {
	for _, w := range waived {
		text := "waived by the policy’s manifest and the server"
		if w.Until != 0 {
			text = "by an exception until " + time.Unix(w.Until, 0).UTC().Format("2006-01-02 15:04") + " UTC: " + w.Because
		}
		lines = append(lines, WaivedLine{string(w.Code), text})
	}
	return lines
}

// Spite names the reason in spite of which the decision was an allowance.
func (r DecisionRow) Spite() []WaivedLine { return waivedLines(r.Waived) }

// Marks are the labels of the decision.
func (r DecisionRow) Marks() []Fact { return labelFacts(r.Labels) }

// Spite names the reason in spite of which the answer was an allowance.
func (p Playground) Spite() []WaivedLine { return waivedLines(p.Tried.Explanation.Waived) }

// Marks are the labels of the answer.
func (p Playground) Marks() []Fact { return labelFacts(p.Tried.Explanation.Labels) }
