package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"patrol/models"
	"patrol/policies/engine/workbench"
)

// DecisionPage is the page that explains a decision.
type DecisionPage struct {
	DecisionRow
	workbench.Explained

	Rules []RuleRun
	Input []InputLine
}

// Title implements [Page].
func (DecisionPage) Title() string    { return "Decision" }
func (DecisionPage) template() string { return "policy-decision" }
func (DecisionPage) section() section { return policyDecisions }

// NewDecision is the page of a decision.
func NewDecision(row DecisionRow, x workbench.Explained) DecisionPage {
	page := DecisionPage{DecisionRow: row, Explained: x}
	if row.LoggedDecision.Input != nil {
		page.Input = inputLines(row.AppendInput(nil), row.Masked, row.Erased)
	}
	if x.Explanation != nil {
		page.Rules = runsOf(&x.Explanation.Explanation)
	}
	return page
}

// TryURL is the playground with what was judged; "" if that is not known.
func (d DecisionPage) TryURL() string {
	if d.Input == nil {
		return ""
	}
	return PlaygroundPath(d.ID)
}

// Given is a reason with the rule that gave it.
type Given struct {
	models.Reason
	Place, Rule string // "" if no rule is known
}

// Given are the reasons of the decision, as it was made.
func (d DecisionPage) Given() (out []Given) {
	for _, r := range d.Reasons {
		g := Given{Reason: r}
		if d.Explanation != nil {
			for _, b := range d.Explanation.Because {
				if b.Code == string(r.Code) {
					g.Place, g.Rule = placeOf(b.File, b.Line, 0), strings.TrimPrefix(b.Rule, "data.patrol.")
				}
			}
		}
		out = append(out, g)
	}
	return out
}

// Remedy is a change that would allow it; nil if it was allowed, or if none is known.
func (d DecisionPage) Remedy() *workbench.Remedy {
	if d.Explanation == nil {
		return nil
	}
	return d.Explanation.Remedy
}

// Hopeless reports whether it was looked for what would allow it, and nothing found.
func (d DecisionPage) Hopeless() bool {
	return d.Explanation != nil && !d.Explanation.Allowed && d.Explanation.Remedy == nil
}

// Why returns the reason why there is no explanation, "" if there is one.
func (d DecisionPage) Why() string {
	switch {
	case d.Unexplained == nil:
		return ""
	case d.Explained.Revision == "":
		return sentence("", d.Unexplained.Error())
	default:
		return "Revision " + d.Explained.Revision + " cannot judge it: " + d.Unexplained.Error() + "."
	}
}

// Differs says how the explanation's answer differs from what was decided; "" if it
// does not.
func (d DecisionPage) Differs() string {
	if d.Explanation == nil {
		return ""
	}
	return changeInWords(d.Explanation.Change, codesOf(d.Explanation.Reasons))
}

// Now says what the policy in force decides on the same facts.
func (d DecisionPage) Now() string {
	words := "It would be decided the same."
	switch {
	case d.TodayKnown && d.TodayChange != "":
		return changeInWords(d.TodayChange, codesOf(d.Today.Reasons))
	case d.TodayKnown:
		return words
	case d.Explanation != nil && d.Revision == d.Active && d.Explanation.Change == "":
		return words
	case d.Explanation != nil && d.Revision == d.Active:
		return d.Differs()
	default:
		return ""
	}
}

func changeInWords(kind workbench.ChangeKind, reasons string) string {
	switch kind {
	case workbench.NewlyAllowed:
		return "It would be allowed."
	case workbench.NewlyDenied:
		return "It would be denied: " + reasons + "."
	case workbench.OtherReasons:
		return "It would be denied for other reasons: " + reasons + "."
	case workbench.OtherGrant:
		return "It would be allowed by another scope, or with other headers."
	default:
		return ""
	}
}

func codesOf(reasons []models.Reason) string {
	codes := make([]string, len(reasons))
	for i, r := range reasons {
		codes[i] = string(r.Code)
	}
	return strings.Join(codes, ", ")
}

// RuleRun is a rule that ran, with its source.
type RuleRun struct {
	Title, Name, Place string
	Held, Open         bool
	Lines              []SourceLine

	file        string
	first, last int
	gives       string // a reason if it holds
}

// State is whether it held.
func (r RuleRun) State() State {
	if r.Held {
		return State{"active", "Held"}
	}
	return State{"expired", "Did not hold"}
}

// runsOf shows the rules that ran, in the order in which they were entered. The parts
// of a rule after `else` run by themselves and are shown within it.
func runsOf(e *workbench.Explanation) (runs []RuleRun) {
	for _, t := range e.Rules {
		run := runOf(runs, t)
		if run == nil {
			lines := sourceLines(t.Text, t.Line)
			runs = append(runs, RuleRun{
				Title: t.Title, Name: strings.TrimPrefix(t.Rule, "data.patrol."), Place: placeOf(t.File, t.Line, 0), Lines: lines,
				file: t.File, first: t.Line, last: t.Line + max(len(lines), 1) - 1, gives: t.Code,
			})
			run = &runs[len(runs)-1]
		}
		run.Held = run.Held || t.Held
		for _, l := range t.Lines {
			if i := l.Line - run.first; i >= 0 && i < len(run.Lines) && run.Lines[i].Mark != LineFailed {
				run.Lines[i].Mark = map[bool]LineMark{true: LineHeld, false: LineFailed}[l.Held]
			}
		}
	}
	// What decided is seen at once: of an allowance the decision itself, of a denial
	// the rules that gave its reasons, and what should have held.
	for i := range runs {
		r := &runs[i]
		switch {
		case e.Allowed:
			r.Open = i == 0
		case r.gives != "":
			r.Open = slices.ContainsFunc(e.Because, func(b workbench.Because) bool { return b.File == r.file && b.Line == r.first })
		default:
			r.Open = !r.Held
		}
	}
	return runs
}

// runOf finds the rule that a trace is a part of, nil if it is of none.
func runOf(runs []RuleRun, t workbench.RuleTrace) *RuleRun {
	for i := range runs {
		if r := &runs[i]; r.file == t.File && r.first <= t.Line && t.Line <= r.last {
			return r
		}
	}
	return nil
}

// InputLine is a line of what the policy judged.
type InputLine struct {
	Text string
	// Note says that a mask changed the line: "masked", or "removed".
	Note string
}

// inputLines renders the input of a decision, and marks what a mask has changed.
func inputLines(input []byte, masked, erased []string) []InputLine {
	p := inputPrinter{masked: masked, erased: erased}
	p.value("", "/input", input, "")
	return p.lines
}

type inputPrinter struct {
	masked, erased []string
	lines          []InputLine
}

// add writes a line of the value at a pointer.
func (p *inputPrinter) add(depth int, text, pointer string) {
	line := InputLine{Text: strings.Repeat("  ", depth) + text}
	if slices.Contains(p.masked, pointer) {
		line.Note = "masked"
	}
	p.lines = append(p.lines, line)
}

// value writes a value, of which key is the member's name with its colon, and end what
// follows it.
func (p *inputPrinter) value(key, pointer string, raw json.RawMessage, end string) {
	depth := strings.Count(pointer, "/") - 1
	dec := json.NewDecoder(bytes.NewReader(raw))
	if raw[0] != '{' {
		var compact bytes.Buffer
		if json.Compact(&compact, raw) == nil {
			raw = compact.Bytes()
		}
		p.add(depth, key+string(raw)+end, pointer)
		return
	}
	_, _ = dec.Token() // the brace
	type member struct {
		name  string
		value json.RawMessage
	}
	var members []member
	for dec.More() {
		name, _ := dec.Token()
		m := member{name: fmt.Sprint(name)}
		if dec.Decode(&m.value) != nil {
			return
		}
		members = append(members, m)
	}
	var gone []string // names of members that a mask took out
	for _, e := range p.erased {
		if rest, ok := strings.CutPrefix(e, pointer+"/"); ok && !strings.Contains(rest, "/") {
			gone = append(gone, unescapePointer.Replace(rest))
		}
	}
	if len(members)+len(gone) == 0 {
		p.add(depth, key+"{}"+end, pointer)
		return
	}
	p.add(depth, key+"{", pointer)
	for i, m := range members {
		comma := ","
		if i == len(members)-1 {
			comma = ""
		}
		p.value(quoted(m.name)+": ", pointer+"/"+escapePointer.Replace(m.name), m.value, comma)
	}
	for _, name := range gone {
		p.lines = append(p.lines, InputLine{Text: strings.Repeat("  ", depth+1) + quoted(name), Note: "removed"})
	}
	p.add(depth, "}"+end, "")
}

var (
	escapePointer   = strings.NewReplacer("~", "~0", "/", "~1")
	unescapePointer = strings.NewReplacer("~1", "/", "~0", "~")
)

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return s
	}
	return string(b)
}
