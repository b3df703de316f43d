package manage

import (
	"patrol/api"
	"patrol/bundles"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

// The functions of this file put results of the engine, the workbench and the gate in the form
// of the API.

// each converts the elements of a list. That of nil is nil.
func each[A, B any](list []A, convert func(A) B) []B {
	if list == nil {
		return nil
	}
	out := make([]B, len(list))
	for i, a := range list {
		out[i] = convert(a)
	}
	return out
}

// or returns the result of convert, nil for nil.
func or[A, B any](a *A, convert func(A) B) *B {
	if a == nil {
		return nil
	}
	return new(convert(*a))
}

func wireTrial(r *bundles.TrialResult, out *api.PlaygroundResult) {
	out.Findings = append([]api.PolicyFinding{}, each(r.Findings, wireFinding)...)
	out.Failed = append([]api.PolicyFinding{}, each(r.Failed, wireFinding)...)
	out.Answer, out.Replay, out.Check = or(r.Explanation, wireExplanation), or(r.Replay, wireReplay), or(r.Check, wireResult)
	for part, text := range r.Exceeded {
		if out.Exceeded == nil {
			out.Exceeded = map[string]string{}
		}
		out.Exceeded[string(part)] = text
	}
}

func wireFinding(f engine.Finding) api.PolicyFinding {
	return api.PolicyFinding{Stage: string(f.Stage), File: f.File, Line: f.Line, Column: f.Column, Code: f.Code, Message: f.Message}
}

func wireAnswer(a engine.Answer) api.PolicyAnswer {
	return api.PolicyAnswer{
		Kind: string(a.Kind), Revision: a.Revision, Allowed: a.Allowed, Reasons: a.Reasons, ScopeID: a.ScopeID, Headers: a.Headers, Labels: a.Labels,
		Waived: api.WaivedOf(a.Waived), Warnings: a.Warnings,
		Requests: each(a.Requests, wireRequest), Request: or(a.Request, wireRequest),
	}
}

func wireRequest(r engine.RouteAnswer) api.PolicyRequest { return api.PolicyRequest(r) }

func wireExplanation(e workbench.Explanation) api.PolicyExplanation {
	return api.PolicyExplanation{
		PolicyAnswer: wireAnswer(e.Answer),
		Because:      each(e.Because, func(b workbench.Because) api.PolicyBecause { return api.PolicyBecause(b) }),
		Rules:        each(e.Rules, wireTrace),
		Remedy:       or(e.Remedy, wireRemedy),
	}
}

func wireTrace(r workbench.RuleTrace) api.PolicyTrace {
	return api.PolicyTrace{
		Rule: r.Rule, Title: r.Title, Code: r.Code, File: r.File, Line: r.Line, Held: r.Held, Text: r.Text,
		Lines: each(r.Lines, func(l workbench.LineTrace) api.PolicyTraceLine { return api.PolicyTraceLine(l) }),
	}
}

func wireRemedy(r workbench.Remedy) api.PolicyRemedy {
	changes := func(list []workbench.Change) []api.PolicyChange { return each(list, wireChange) }
	return api.PolicyRemedy{Changes: changes(r.Changes), Alternatives: each(r.Alternatives, changes)}
}

func wireChange(c workbench.Change) api.PolicyChange {
	return api.PolicyChange{
		Kind: string(c.Kind), Title: c.Title, Command: c.Command,
		Edits: each(c.Edits, func(e engine.Edit) api.PolicyEdit { return api.PolicyEdit(e) }),
	}
}

func wireReplay(r workbench.ReplayReport) api.PolicyReplay {
	return api.PolicyReplay{
		Revision: r.Revision, From: r.From, To: r.To, Replayed: r.Replayed, Skipped: r.Skipped, Masked: r.Masked,
		NewlyAllowed: r.NewlyAllowed, NewlyDenied: r.NewlyDenied, OtherReasons: r.OtherReasons, OtherGrant: r.OtherGrant,
		Groups: each(r.Groups, wireReplayGroup), MoreGroups: r.MoreGroups,
	}
}

func wireReplayGroup(g workbench.ReplayGroup) api.PolicyReplayGroup {
	return api.PolicyReplayGroup{
		Kind: string(g.Kind), Count: g.Count,
		Reasons:  each(g.Reasons, func(r workbench.ReplayReason) api.PolicyReplayReason { return api.PolicyReplayReason(r) }),
		Examples: each(g.Examples, func(e workbench.ReplayExample) api.PolicyReplayExample { return api.PolicyReplayExample(e) }),
	}
}

func wireResult(r bundles.Result) api.PolicyResult {
	rule := func(r engine.OwnRule) api.PolicyRule { return api.PolicyRule(r) }
	return api.PolicyResult{
		Passed: r.Passed, OPAVersion: r.OPA, Coverage: r.Coverage, Findings: each(r.Findings, wireFinding), Warnings: each(r.Warnings, wireFinding),
		Tests:  or(r.Tests, func(t bundles.Tests) api.PolicyTests { return api.PolicyTests(t) }),
		Safety: or(r.Safety, func(s bundles.Safety) api.PolicySafety { return api.PolicySafety(s) }),
		Replay: or(r.Replay, wireReplay),
		Departures: or(r.Departures, func(d engine.Departures) api.PolicyDepartures {
			return api.PolicyDepartures{Waives: d.Waives, Exceptions: each(d.Exceptions, rule), Labels: each(d.Labels, rule)}
		}),
	}
}
