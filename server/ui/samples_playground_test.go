package ui

import (
	"strings"
	"time"

	"patrol/api"
	"patrol/models"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

const sampleModule = `package patrol.custom

# METADATA
# title: Models are changed on working days
# custom:
#   code: weekend
#   message: Models are changed from Monday to Friday (UTC).
reason := {"code": "weekend", "message": "Models are changed from Monday to Friday (UTC)."} if {
	input.request.entity_type == "models"
	input.request.operation == "write"
	not working_day
}

# METADATA
# title: It is a working day
working_day if not time.weekday(input.now * 1000000000) in {"Saturday", "Sunday"}
`

// samplePlayground is the playground after a trial that was asked for all there is.
func samplePlayground() Playground {
	coverage := 97.8
	reasons := []models.Reason{{Code: "weekend", Message: "Models are changed from Monday to Friday (UTC)."}}
	return Playground{
		PlaygroundForm: PlaygroundForm{
			Files: []EditedFile{{Path: "custom/custom.rego", Text: sampleModule}, {Path: "patrol/roles/data.yaml", Text: "viewer:\n  models: {read: true}\n", Own: true}},
			Gone:  []string{"log/mask.rego"}, Input: PlaygroundSample("decision", sampleNow), Replay: 1000, Check: true,
		},
		Revision: "v42", Names: []string{".manifest", "authz/authz.rego", "authz/authz_test.rego", "log/mask.rego", "patrol/roles/data.yaml"}, Logged: true, Most: 10_000,
		Tried: &Tried{PlaygroundResult: api.PlaygroundResult{
			Revision: "v42", Changed: []string{"custom/custom.rego", "log/mask.rego"}, Masked: []string{"/input/user/email"},
			Answer: &api.PolicyExplanation{
				PolicyAnswer: api.PolicyAnswer{Kind: "decision", Reasons: reasons, Warnings: []string{"user: additional property is_admin is not allowed"}},
				Because:      []api.PolicyBecause{{Code: "weekend", Rule: "data.patrol.custom.reason", File: "custom/custom.rego", Line: 8}},
			},
			InForce: &api.PolicyAnswer{Kind: "decision", Allowed: true, Reasons: []models.Reason{}},
			Replay: &api.PolicyReplay{Replayed: 1000, NewlyDenied: 37, Masked: 4, MoreGroups: 2, Groups: []api.PolicyReplayGroup{{
				Kind: "newly_denied", Count: 37, Reasons: []api.PolicyReplayReason{{Code: "weekend", Title: "Models are changed on working days", File: "custom/custom.rego", Line: 8}},
				Examples: []api.PolicyReplayExample{{ID: "d1", At: sampleNow.Add(-time.Hour), Request: "acme:models:llama3:8b:write"}},
			}}},
			Check:    &api.PolicyResult{Tests: &api.PolicyTests{Passed: 418, Failed: 2}, Coverage: &coverage, Safety: &api.PolicySafety{Passed: 34}, Findings: sampleFindings()[2:]},
			Exceeded: map[string]string{},
		}, Explanation: &workbench.Explanation{
			Answer:  engine.Answer{Kind: engine.KindDecision, Reasons: reasons},
			Because: []workbench.Because{{Code: "weekend", Rule: "data.patrol.custom.reason", File: "custom/custom.rego", Line: 8}},
			Rules: []workbench.RuleTrace{
				{
					Rule: "data.patrol.custom.reason", Title: "Models are changed on working days", Code: "weekend", File: "custom/custom.rego", Line: 8, Held: true,
					Text:  strings.Join(strings.SplitAfter(sampleModule, "\n")[7:12], ""),
					Lines: []workbench.LineTrace{{Line: 9, Column: 2, Text: `input.request.entity_type == "models"`, Held: true}, {Line: 11, Column: 2, Text: "not working_day", Held: true}},
				},
				{
					Rule: "data.patrol.custom.working_day", Title: "It is a working day", File: "custom/custom.rego", Line: 16,
					Text:  strings.SplitAfter(sampleModule, "\n")[15],
					Lines: []workbench.LineTrace{{Line: 16, Column: 16, Text: `not time.weekday(input.now * 1000000000) in {"Saturday", "Sunday"}`}},
				},
			},
			Remedy: &workbench.Remedy{Changes: []workbench.Change{{Title: "the owner is a platform admin", Command: "patrol user set ann@example.com --admin"}}},
		}},
	}
}

// sampleBroken is the playground after a trial of what does not load.
func sampleBroken() Playground {
	p := samplePlayground()
	p.Files = p.Files[:1]
	p.Tried = &Tried{PlaygroundResult: api.PlaygroundResult{Changed: []string{"custom/custom.rego"}, Findings: []api.PolicyFinding{
		{File: "custom/custom.rego", Line: 9, Column: 2, Message: "undefined ref: input.request.entitytype"}, {File: "authz/authz.rego", Line: 36, Message: "var x is unsafe"},
	}}}
	return p
}

// sampleExceeded is the playground after a trial that took too much, with a form that
// is wrong.
func sampleExceeded() Playground {
	p := samplePlayground()
	p.Files, p.Gone, p.Input = nil, nil, "{"
	p.Problems.Add("input", "must be a JSON object")
	p.Tried = &Tried{PlaygroundResult: api.PlaygroundResult{Exceeded: map[string]string{"answer": "it takes more than 10s of CPU time"}}}
	return p
}

// sampleAdvised is the list of tokens that could do with less.
func sampleAdvised(enough bool) Table {
	from, used := sampleNow.AddDate(0, 0, -30), sampleNow.Add(-3*time.Hour)
	next := "x"
	page := api.AdvicePage{Days: 30, Enough: enough, Coverage: api.LogCoverage{From: &from}, Tokens: api.AdviceTotals{Judged: 214, TooYoung: 12, Narrowable: 38, Unused: 9}}
	page.Next = &next
	scopes := make([]api.ScopeAdvice, 5)
	page.Items = []api.OwnedAdvice{
		{
			Advice: api.Advice{TokenID: "4fK2mXq8ZpA0VgJ3", Name: "nightly evaluation", Enough: true, Scopes: scopes, Narrowed: []api.NewScope{
				{Domain: "acme", EntityType: "models", Entity: "llama3:8b", Operation: "execute"}, {Domain: "acme", EntityType: "datasets", Entity: "golden", Operation: "read"},
			}},
			Email: "ann@example.com", LastUsedAt: &used, UnusedScopes: 3, WideScopes: 1,
		},
		{Advice: api.Advice{TokenID: "9xK2mXq8ZpA0VgJ3", Name: "old laptop", Scopes: scopes[:2], Unused: true}, Email: "bob@example.com", UnusedScopes: 2},
	}
	if !enough {
		page.Items, page.Next = nil, nil
		page.Coverage.Lost = 17
	}
	return Advised(page, AdviceFilter{Days: 30}, enough, sampleNow)
}
