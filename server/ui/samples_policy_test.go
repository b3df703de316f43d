package ui

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"sync"
	"time"

	"patrol/api"
	"patrol/models"
	"patrol/policies"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

func samplePolicy() api.Policy {
	coverage := 98.4
	checked := sampleNow.Add(-2 * time.Minute)
	return api.Policy{
		Revision: "v42", Digest: "sha256:8c1f0c3c5dd34ec1a0be2b51a7ef2d36", Source: "https://bundles.example.com/policy.tar.gz", SignedBy: "release",
		Since: sampleNow.Add(-50 * time.Hour),
		Result: api.PolicyResult{
			Passed: true, OPAVersion: "1.22.2", Tests: &api.PolicyTests{Passed: 143}, Coverage: &coverage,
			Safety: &api.PolicySafety{Passed: 44, Waived: []string{"no_membership"}}, Replay: &api.PolicyReplay{Replayed: 10000, NewlyDenied: 3},
			Warnings: []api.PolicyFinding{{Stage: "meta", File: "custom/office_hours.rego", Line: 12, Code: "title", Message: "rule has no title"}},
		},
		SourceStatus: api.PolicySource{Name: "https://bundles.example.com/policy.tar.gz", Reached: true, CheckedAt: &checked},
		Refusals:     []api.PolicyEvent{},
	}
}

func sampleFindings() []api.PolicyFinding {
	return []api.PolicyFinding{
		{Stage: "compile", File: "authz/authz.rego", Line: 118, Column: 9, Code: "rego_type_error", Message: "undefined ref: input.domian.status (have: \"domian\"; want (one of): [\"domain\" \"membership\" \"now\" \"request\" \"token\" \"user\"])"},
		{Stage: "compile", File: "authz/authz.rego", Line: 131, Column: 2, Code: "rego_unsafe_var_error", Message: "var role is unsafe"},
		{Stage: "tests", File: "authz/authz_test.rego", Line: 40, Code: "test_failed", Message: "data.patrol.authz_test.test_frozen failed"},
		{Stage: "tests", File: "authz/authz_test.rego", Line: 61, Code: "test_failed", Message: "data.patrol.authz_test.test_roles failed"},
		{Stage: "safety", Code: "safety_allowed", Message: "the case token_revoked is allowed"},
		{Stage: "coverage", Code: "coverage_low", Message: "its tests cover 61.0% of its lines, and at least 80.0% are wanted"},
	}
}

func sampleRefused() api.Policy {
	p := samplePolicy()
	p.SourceStatus.Pending = &api.PolicyPending{Revision: "v43", Digest: "sha256:01", Refused: true}
	replay := &api.PolicyReplay{Replayed: 10000, NewlyAllowed: 1, NewlyDenied: 312, Groups: []api.PolicyReplayGroup{
		{
			Kind: "newly_denied", Reasons: []api.PolicyReplayReason{{Code: "weekend"}}, Count: 312,
			Examples: []api.PolicyReplayExample{{ID: "d1", Request: "acme:models:llama3:write"}, {ID: "d2", Request: "acme:models:phi4:write"}},
		},
		{Kind: "newly_allowed", Reasons: []api.PolicyReplayReason{{Code: "out_of_scope"}, {Code: "role_forbids"}}, Count: 1, Examples: []api.PolicyReplayExample{{ID: "d3", Request: "acme:datasets:golden-set:write"}}},
	}}
	p.Refusals = []api.PolicyEvent{
		{
			ID: 10, At: sampleNow.Add(-time.Minute), Kind: "refuse", Actor: "system", Revision: "v44", Digest: "sha256:02", Source: p.Source,
			Result: api.PolicyResult{Replay: replay, Findings: []api.PolicyFinding{{Stage: "replay", Code: "replay_changes", Message: "it changes 313 of 10000 recorded decisions, and at most 100 may change"}}},
		},
		{ID: 9, At: sampleNow.Add(-2 * time.Minute), Kind: "refuse", Actor: "system", Revision: "v43", Digest: "sha256:01", Source: p.Source, Result: api.PolicyResult{Findings: sampleFindings()}},
		{ID: 7, At: sampleNow.Add(-90 * time.Hour), Kind: "refuse", Actor: "system", Source: p.Source, Result: api.PolicyResult{Findings: []api.PolicyFinding{
			{Stage: "signature", Code: "signature_invalid", Message: "the signature is of the key \"old\", which is not configured"},
		}}},
	}
	return p
}

func samplePinned() api.Policy {
	p := samplePolicy()
	p.Revision, p.Pinned = "v41", true
	p.SourceStatus.Reached, p.SourceStatus.Error = false, "get https://bundles.example.com/policy.tar.gz: connection refused"
	p.SourceStatus.Pending = &api.PolicyPending{Revision: "v42", Digest: "sha256:02"}
	p.SyncError = "find out which policy is in force: the database does not answer"
	return p
}

// sampleSource is the default policy.
var sampleSource = sync.OnceValue(func() engine.Source {
	files := map[string][]byte{}
	err := fs.WalkDir(policies.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files[name], err = policies.FS.ReadFile(name)
		return err
	})
	if err != nil {
		panic(err)
	}
	return engine.Source{Name: "embedded", Files: files}
})

func sampleInspection() *workbench.Inspection {
	in, err := workbench.Inspect(context.Background(), sampleSource())
	if err != nil {
		panic(err)
	}
	return in
}

var sampleSnapshot = sync.OnceValue(func() *engine.Snapshot {
	s, err := engine.Load(context.Background(), sampleSource())
	if err != nil {
		panic(err)
	}
	return s
})

// sampleExplained is a decision of the default policy about a member's request.
func sampleExplained(operation string) DecisionPage {
	now := sampleNow.Add(-40 * time.Second).Unix()
	fact := func(format string, args ...any) *models.Fact {
		text := fmt.Sprintf(format, args...)
		sum := sha256.Sum256([]byte(text))
		return &models.Fact{Key: [16]byte(sum[:16]), JSON: text}
	}
	l := models.LoggedDecision{
		At: sampleNow.Add(-40 * time.Second), Took: 240 * time.Microsecond, Surface: "gateway", Method: "POST", Path: "/v1/chat/completions", RequestedBy: "203.0.113.7",
		Request: models.Request{Domain: "acme", EntityType: "models", Entity: "meta-llama/Llama-3.1-405B-Instruct", Operation: operation},
		Input: &models.DecisionInput{
			Token:  fact(`{"id":"7hQ2mZk0Rw4XtBvN","name":"ci","revoked":false,"created_at":%d,"expires_at":%d,"scopes":{"acme":{"models":{"read":{"*":"scope-1"}}}}}`, now-86400, now+86400),
			User:   fact(`{"id":"u1","admin":false,"disabled":false}`),
			Domain: fact(`{"id":"acme","status":"enabled"}`), Membership: fact(`{"role":"viewer"}`), Now: now, Context: `{"n":[1,2],"purpose":"***"}`,
		},
		Erased: []string{"/input/user/email"}, Masked: []string{"/input/request/context/purpose"},
	}
	d, err := workbench.ReplayDecision(context.Background(), sampleSnapshot(), &l, &workbench.FactCache{})
	if err != nil {
		panic(err)
	}
	l.Decision = d
	l.ID, l.TokenID, l.UserID = "0VgJ3uKd2mXq8ZpA", "7hQ2mZk0Rw4XtBvN", "u1"
	e, err := workbench.ExplainLogged(context.Background(), sampleSnapshot(), &l)
	if err != nil {
		panic(err)
	}
	row := DecisionRow{LoggedDecision: l, When: At(l.At, sampleNow), Email: "grace@example.com", TokenName: "ci"}
	return NewDecision(row, workbench.Explained{Explanation: e, Revision: d.Revision, Decided: true, Active: "v43", TodayKnown: true, Today: models.Decision{Allowed: true}, TodayChange: workbench.NewlyAllowed})
}

func sampleUnexplained() DecisionPage {
	return NewDecision(sampleLogged()[2], workbench.Explained{Unexplained: workbench.CheckReplayable(&models.LoggedDecision{})})
}

func sampleLogged() []DecisionRow {
	row := func(ago time.Duration, id, scope, email, token string, took time.Duration, reasons ...models.ReasonCode) DecisionRow {
		s, err := models.ParseScope(scope)
		if err != nil {
			panic(err)
		}
		r := DecisionRow{When: At(sampleNow.Add(-ago), sampleNow), Email: email, TokenName: token, LoggedDecision: models.LoggedDecision{
			Decision: models.Decision{ID: id, Allowed: len(reasons) == 0, UserID: "u-" + email, TokenID: "7hQ2mZk0Rw4XtBvN", Revision: "v42"},
			At:       sampleNow.Add(-ago), Took: took, Surface: "authorize",
			Request: models.Request{Domain: s.Domain, EntityType: s.EntityType, Entity: s.Entity, Operation: s.Operation},
		}}
		for _, code := range reasons {
			r.Reasons = append(r.Reasons, models.Reason{Code: code, Message: "Why."})
		}
		return r
	}
	proxied := row(40*time.Second, "d2", "acme:models:meta-llama/Llama-3.1-405B-Instruct:execute", "grace@example.com", "notebook on my laptop", 1900*time.Microsecond, models.OutOfScope, models.RoleForbids)
	proxied.Surface, proxied.Method, proxied.Path = "gateway", "POST", "/v1/chat/completions"
	unknown := DecisionRow{When: At(sampleNow.Add(-time.Hour), sampleNow), LoggedDecision: models.LoggedDecision{
		Decision: models.Decision{ID: "d3", Revision: "sha256:8c1f0c3c5dd34ec1a0be2b51a7ef2d36", Reasons: []models.Reason{{Code: models.TokenUnknown}}},
		Surface:  "extauthz", Took: 80 * time.Microsecond, Method: "GET", Path: "/v1/models",
	}}
	down := row(2*time.Hour, "d4", "acme:datasets:golden-set:read", "ada@example.com", "ci", 2*time.Second, models.Unavailable)
	return []DecisionRow{row(3*time.Second, "d1", "acme:models:llama3:read", "ada@example.com", "ci", 210*time.Microsecond), proxied, unknown, down}
}

func sampleDecisions() Decisions {
	return Decisions{Rows: sampleLogged(), Next: "more", Codes: []string{"out_of_scope", "role_forbids"}, Known: []string{"v41", "v42"}}
}

func sampleDecisionsWrong() Decisions {
	d := Decisions{Filter: DecisionFilter{User: "nobody@example.com", Since: "2026-11-26T05:00:00Z", Revision: "v40"}}
	d.Problems.Add("user", "has no account with this address")
	d.Problems.Add("to", "is not a time such as 2027-01-31T12:00")
	return d
}

func sampleKept() []api.PolicyRevision {
	result := samplePolicy().Result
	return []api.PolicyRevision{
		{Revision: "v42", Digest: "sha256:8c1f0c3c5dd34ec1a0be2b51a7ef2d36", Source: "https://bundles.example.com/policy.tar.gz", SignedBy: "release", ActivatedAt: sampleNow.Add(-50 * time.Hour), Active: true, Result: result},
		{Revision: "v41", Digest: "sha256:11aa0c3c5dd34ec1a0be2b51a7ef2d36", Source: "https://bundles.example.com/policy.tar.gz", SignedBy: "release", ActivatedAt: sampleNow.Add(-900 * time.Hour), Result: result},
		{Revision: "v41", Digest: "sha256:22bb0c3c5dd34ec1a0be2b51a7ef2d36", Source: "embedded", ActivatedAt: sampleNow.Add(-1200 * time.Hour)},
	}
}

func sampleHistory() PolicyHistory {
	refused := sampleRefused().Refusals
	kept := sampleKept()
	h := api.PolicyHistory{Kept: kept, Events: []api.PolicyEvent{
		refused[0],
		{ID: 8, At: kept[0].ActivatedAt, Kind: "activate", Actor: "system", Revision: "v42", Digest: kept[0].Digest, Source: kept[0].Source, SignedBy: "release", Result: kept[0].Result},
		{ID: 7, At: sampleNow.Add(-60 * time.Hour), Kind: "resume", Actor: "user", UserID: "pol", Revision: "v41", Digest: kept[1].Digest},
		{ID: 6, At: sampleNow.Add(-70 * time.Hour), Kind: "rollback", Actor: "user", UserID: "pol", Revision: "v41", Digest: kept[1].Digest, Result: kept[1].Result},
		{ID: 5, At: sampleNow.Add(-80 * time.Hour), Kind: "promote", Actor: "operator", Revision: "v41", Digest: kept[1].Digest},
		refused[1],
	}}
	return NewPolicyHistory(h, map[string]string{"pol": "pol@example.com"}, true, sampleNow)
}

func sampleDiff() PolicyDiff {
	before := sampleSource().Files
	after := maps.Clone(before)
	delete(after, "log/mask.rego")
	after["patrol/roles/data.yaml"] = []byte(strings.Replace(string(before["patrol/roles/data.yaml"]), "models: {read: true, execute: true}", "models: {read: true, execute: true, write: true}", 1))
	after["patrol/routes/data.yaml"] = []byte(strings.Replace(string(before["patrol/routes/data.yaml"]), `"GET /ping": {entity_type: models, operation: read}`, `"GET /pong": {entity_type: models, operation: read}`, 1))
	after["custom/office_hours.rego"] = []byte("package patrol.custom\n\n# METADATA\n# title: Models are changed on working days\nreason := {\"code\": \"weekend\", \"message\": \"Come back on Monday.\"} if {\n\tinput.request.operation == \"write\"\n}\n")
	after["authz/authz.rego"] = []byte(strings.Replace(string(before["authz/authz.rego"]), "input.now < input.token.expires_at", "input.now < input.token.expires_at - 60 # a minute early", 1))
	kept := sampleKept()
	page := NewPolicyDiff(PolicySides(kept, true), kept[0].Digest, CandidateKey, before, after)
	changed, err := engine.Load(context.Background(), engine.Source{Name: "changed", Files: after})
	if err != nil {
		panic(err)
	}
	told, err := workbench.Diff(context.Background(), workbench.Loaded{Source: sampleSource(), Snapshot: sampleSnapshot()},
		workbench.Loaded{Source: engine.Source{Name: "changed", Files: after}, Snapshot: changed}, 1)
	if err != nil {
		panic(err)
	}
	page.Tell(told)
	return page
}

func sampleShadow() PolicyShadow {
	at := sampleNow.Add(-4 * time.Minute)
	first := sampleNow.Add(-26 * time.Hour)
	divergence := func(id, request, user string, before, after []models.ReasonCode) models.Divergence {
		return models.Divergence{ID: id, At: at, Request: request, TokenID: "7fJ2kQ9xLm3Rt8Zw", UserID: user, Before: before, After: after}
	}
	weekend := []models.ReasonCode{"weekend"}
	return NewPolicyShadow(api.PolicyShadow{
		Shadow: &api.ShadowPolicy{
			Revision: "v43", Digest: "sha256:5a1f0c3c5dd34ec1a0be2b51a7ef2d36", Source: "https://bundles.example.com/next.tar.gz", SignedBy: "release",
			Since: first, Result: samplePolicy().Result,
		},
		Base:   "v42",
		Counts: api.ShadowCounts{Judged: 48211, Same: 48196, NewlyDenied: 12, NewlyAllowed: 1, OtherReasons: 2, Dropped: 7, From: &first, To: &at},
		Groups: []api.ShadowGroup{
			{
				Kind: "newly_denied", Count: 12, From: first, To: at, Reasons: []api.PolicyReplayReason{{Code: "weekend", Title: "Models are changed on working days", File: "custom/office_hours.rego", Line: 5}},
				Examples: []models.Divergence{
					divergence("d5", "acme:models:llama3:write", "ada", nil, weekend),
					divergence("d4", "acme:models:meta-llama/Llama-3.1-405B-Instruct:write", "grace", nil, weekend),
				},
			},
			{
				Kind: "newly_allowed", Count: 1, From: first, To: at, Reasons: []api.PolicyReplayReason{{Code: models.RoleForbids, Title: "The role permits it", File: "authz/authz.rego", Line: 120}},
				Examples: []models.Divergence{divergence("d1", "", "nobody", []models.ReasonCode{models.OutOfScope, models.RoleForbids}, nil)},
			},
			{Kind: "other_reasons", Count: 2, From: first, To: at},
		},
		Server: &api.ShadowServer{Sample: 50, Judging: true, SourceStatus: api.PolicySource{Name: "https://bundles.example.com/next.tar.gz", Reached: true}},
	}, map[string]string{"ada": "ada@example.com", "grace": "grace@example.com"}, sampleNow)
}

func sampleShadowRefused() PolicyShadow {
	s := sampleShadow().PolicyShadow
	s.Groups, s.Counts = nil, api.ShadowCounts{}
	s.Server.Failure = "start to judge by the shadow policy: it needs more than 256 MiB of memory"
	s.Server.SourceStatus.Error = "ask https://bundles.example.com/next.tar.gz for a policy: it answers 503 Service Unavailable"
	s.Server.Refused = &sampleRefused().Refusals[0].Result
	return NewPolicyShadow(s, nil, sampleNow)
}
