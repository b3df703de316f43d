package workbench

import (
	"cmp"
	"context"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"patrol/models"
	"patrol/policies/engine"
)

// Explanation says how an answer came about.
type Explanation struct {
	engine.Answer
	// Because names the rule behind each reason that a rule's metadata declare.
	Because []Because `json:"because"`
	// Rules are the rules that ran, in the order in which they were entered.
	Rules []RuleTrace `json:"rules"`
	// Remedy is the smallest change that would allow what was denied; nil if it was
	// allowed, or if no change that is known of would.
	Remedy *Remedy `json:"remedy,omitempty"`
}

// Because is the rule that gave a reason.
type Because struct {
	Code string `json:"code"`
	Rule string `json:"rule"`
	File string `json:"file"`
	Line int    `json:"line"`
}

// RuleTrace is a rule that ran. What rules were left out of account without running,
// since by the index over their conditions they could not hold, is not in it.
type RuleTrace struct {
	Rule  string      `json:"rule"` // data.patrol.authz.decision
	Title string      `json:"title,omitempty"`
	Code  string      `json:"code,omitempty"` // of the reason that it gives if it holds
	File  string      `json:"file"`
	Line  int         `json:"line"`
	Held  bool        `json:"held"` // it had a value, or added to one
	Lines []LineTrace `json:"lines"`
	// Text is the rule as it is written, from Line on.
	Text string `json:"text,omitempty"`
}

// LineTrace is an expression that ran.
type LineTrace struct {
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Text   string `json:"text"` // its first line
	Held   bool   `json:"held"` // at least once
}

// Explain answers as [engine.Snapshot.Evaluate] does, and gives the rules that led there.
func Explain(ctx context.Context, s *engine.Snapshot, content []byte) (*Explanation, error) {
	in, err := engine.ReadInput(ctx, content)
	if err != nil {
		return nil, err
	}
	answer, err := s.EvaluateInput(ctx, in)
	if err != nil {
		return nil, err
	}
	e := &Explanation{Answer: *answer, Because: []Because{}}
	w := &watcher{rules: map[*ast.Rule]*ruleSeen{}, exprs: map[*ast.Expr]*exprSeen{}}
	if err := s.Trace(ctx, in, w); err != nil {
		return nil, err
	}
	e.Rules = rulesOf(s, w)
	for _, r := range e.Reasons {
		if a := s.AnnotationOf(string(r.Code)); a != nil {
			e.Because = append(e.Because, Because{string(r.Code), a.Path.String(), a.Location.File, a.Location.Row})
		}
	}
	if in.Kind == engine.KindDecision && !e.Allowed {
		if e.Remedy, err = remedy(ctx, s, in.Doc); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// LoggedExplanation says how a logged decision came about, or would under another
// policy.
type LoggedExplanation struct {
	Explanation
	// Change is the kind of difference between the answer and the decision; "" for none.
	Change ChangeKind `json:"change,omitempty"`
	// Masked are the JSON pointers, such as /input/user/email, of what in the input is not as
	// the policy judged it, because a mask has changed it. The answer may be due to that.
	Masked []string `json:"masked,omitempty"`
}

// Explained is the explanation of a decision of the log, and what the policy in force would
// decide.
type Explained struct {
	// Unexplained is the error that left no explanation; nil if there is one.
	Unexplained error
	Explanation *LoggedExplanation
	// Revision is of the policy that it is explained under, and Decided says that it
	// has the name of that which decided; Several, that others that are kept have the
	// same.
	Revision         string
	Decided, Several bool
	// Active is the revision in force. If it is another, Today is what it decides on
	// the same facts, and TodayChange how that differs.
	Active      string
	TodayKnown  bool
	Today       models.Decision
	TodayChange ChangeKind
}

// ExplainLogged explains a decision of the log, on the input that it was made on. The
// answer's Revision is this policy's; that which decided is l's. The error is an
// [ErrNotReplayable] where there is nothing to explain; it is that of the evaluation
// where this policy cannot judge the input.
func ExplainLogged(ctx context.Context, s *engine.Snapshot, l *models.LoggedDecision) (*LoggedExplanation, error) {
	if err := CheckReplayable(l); err != nil {
		return nil, err
	}
	e, err := Explain(ctx, s, l.AppendEvent(nil, []byte("{}")))
	if err != nil {
		return nil, err
	}
	after := models.Decision{Allowed: e.Allowed, Reasons: e.Reasons, ScopeID: e.ScopeID, Headers: e.Headers}
	return &LoggedExplanation{Explanation: *e, Change: Compare(l.Decision, after, l.HeadersKnown()), Masked: l.MaskedInput()}, nil
}

// watcher notes which rules and expressions are evaluated, and which hold.
type watcher struct {
	rules   map[*ast.Rule]*ruleSeen
	exprs   map[*ast.Expr]*exprSeen
	entered []*ast.Rule
}

type ruleSeen struct{ held bool }

type exprSeen struct{ evaluated, failed int }

// Enabled and Config are for OPA.
func (*watcher) Enabled() bool { return true }

// Config asks for nothing beyond the events.
func (*watcher) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent notes an event.
func (w *watcher) TraceEvent(e topdown.Event) {
	switch node := e.Node.(type) {
	case *ast.Rule:
		seen := w.rules[node]
		if seen == nil {
			seen = &ruleSeen{}
			w.rules[node] = seen
			w.entered = append(w.entered, node)
		}
		seen.held = seen.held || e.Op == topdown.ExitOp
	case *ast.Expr:
		if e.Op != topdown.EvalOp && e.Op != topdown.FailOp {
			return
		}
		seen := w.exprs[node]
		if seen == nil {
			seen = &exprSeen{}
			w.exprs[node] = seen
		}
		if e.Op == topdown.EvalOp {
			seen.evaluated++
		} else {
			seen.failed++
		}
	}
}

// rulesOf puts what was seen in the order and the words of the source.
func rulesOf(s *engine.Snapshot, w *watcher) []RuleTrace {
	rules := make([]RuleTrace, 0, len(w.entered))
	for _, r := range w.entered {
		if r.Location == nil || r.Location.File == "" {
			continue
		}
		rules = append(rules, RuleTrace{
			Rule: r.Ref().GroundPrefix().String(), Title: titleOf(s, r), Code: codeOf(s, r),
			File: r.Location.File, Line: r.Location.Row, Held: w.rules[r].held, Lines: []LineTrace{}, Text: string(r.Location.Text),
		})
	}
	type place struct {
		file     string
		row, col int
	}
	negated := map[place]bool{} // `not x` holds where x, which is evaluated within it, does not
	for e := range w.exprs {
		if l := e.Location; l != nil && e.Negated {
			negated[place{l.File, l.Row, l.Col}] = true
		}
	}
	for e, seen := range w.exprs {
		l := e.Location
		if l == nil || l.File == "" || len(l.Text) == 0 || !e.Negated && negated[place{l.File, l.Row, l.Col}] {
			continue
		}
		owner := -1 // the last rule that begins above it
		for i, r := range rules {
			if r.File == l.File && r.Line <= l.Row && (owner < 0 || r.Line > rules[owner].Line) {
				owner = i
			}
		}
		if owner >= 0 {
			rules[owner].Lines = append(rules[owner].Lines, LineTrace{l.Row, l.Col, firstLine(string(l.Text)), seen.evaluated > seen.failed})
		}
	}
	for i := range rules {
		rules[i].Lines = mergeLines(rules[i].Lines)
	}
	return rules
}

// titleOf returns the title in a rule's own metadata, or in those of the rules before
// it that define the same document.
func titleOf(s *engine.Snapshot, r *ast.Rule) (title string) {
	nearest := 0
	for _, a := range s.Compiler().GetAnnotationSet().Flatten() {
		l := a.Location
		if a.Annotations.Title != "" && a.GetRule() != nil && l != nil && l.File == r.Location.File && l.Row <= r.Location.Row && l.Row > nearest &&
			a.Path.Equal(r.Ref().GroundPrefix()) {
			title, nearest = a.Annotations.Title, l.Row
		}
	}
	return title
}

// codeOf returns the code in a rule's own metadata, "" if there is none.
func codeOf(s *engine.Snapshot, r *ast.Rule) string {
	for _, a := range s.Compiler().GetAnnotationSet().GetRuleScope(r) {
		if code, ok := a.Custom["code"].(string); ok {
			return code
		}
	}
	return ""
}

// mergeLines sorts lines and puts those together that the compiler made of one
// expression: it held if all of them did.
func mergeLines(lines []LineTrace) []LineTrace {
	slices.SortFunc(lines, func(a, b LineTrace) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), -cmp.Compare(len(a.Text), len(b.Text)))
	})
	merged := lines[:0]
	for _, l := range lines {
		if last := len(merged) - 1; last >= 0 && merged[last].Line == l.Line && l.Column < merged[last].Column+len(merged[last].Text) {
			merged[last].Held = merged[last].Held && l.Held
			continue
		}
		merged = append(merged, l)
	}
	return merged
}
