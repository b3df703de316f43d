package ui

import (
	"time"

	"patrol/api"
	"patrol/models"
)

// The pages as tests and pictures show them.

// sampleNow is the time at which the pages are shown, the browser's time too.
var sampleNow = time.Now().UTC().Truncate(time.Minute)

var sampleViewer = &Viewer{Name: "Ada Lovelace", Email: "ada@example.com", Admin: true}

func sampleCatalog() models.Catalog {
	ops := func(pairs ...string) map[string]models.Operation {
		out := map[string]models.Operation{}
		for i := 0; i < len(pairs); i += 2 {
			out[pairs[i]] = models.Operation{Title: pairs[i+1]}
		}
		return out
	}
	return models.Catalog{
		EntityTypes: map[string]models.EntityType{
			"models":   {Title: "Models", Operations: ops("read", "List and inspect", "write", "Manage", "execute", "Use"), Entities: []string{"llama3:8b"}},
			"datasets": {Title: "Datasets", Operations: ops("read", "List and download", "write", "Upload, change and delete")},
			"domains":  {Title: "Domain", Operations: ops("read", "See settings and members", "write", "Administer")},
		},
		Roles: map[string]models.Role{
			"viewer": {"models": {"read": true}, "datasets": {"read": true}, "domains": {"read": true}},
			"member": {"models": {"read": true, "execute": true}, "datasets": {"read": true, "write": true}, "domains": {"read": true}},
		},
	}
}

func sampleChoices() Choices {
	c := sampleCatalog()
	return NewChoices(c, models.DefaultLimits(), []DomainRole{
		{Domain: models.Domain{ID: "acme", Name: "Acme Research"}, Role: c.Roles["member"]},
		{Domain: models.Domain{ID: "sandbox", Name: "Sandbox"}, Role: c.Roles["viewer"]},
	})
}

func sampleActivity(t Token) *Activity {
	from := sampleNow.AddDate(0, 0, -12)
	sum := api.DecisionSummary{OutcomeCounts: api.OutcomeCounts{Allow: 1204, Deny: 17, Error: 1}, Reasons: map[string]int64{"out_of_scope": 15, "role_forbids": 2}}
	sum.Coverage.Lost = 3
	for i := range 7 {
		sum.Days = append(sum.Days, api.DecisionDay{Date: sampleNow.AddDate(0, 0, i-6).Format(time.DateOnly), OutcomeCounts: api.OutcomeCounts{Allow: int64(172 * (i % 2)), Deny: int64(i)}})
	}
	narrow := []api.NewScope{{Domain: "acme", EntityType: "models", Entity: "llama3:8b", Operation: "execute"}}
	return NewActivity(sum, api.Advice{
		TokenID: t.ID, Days: 30, Coverage: api.LogCoverage{From: &from, Lost: 3}, Narrowed: narrow,
		Scopes: []api.ScopeAdvice{
			{Scope: api.Scope(scope("s1", "acme:models:*:execute")), Uses: 1204, Do: "narrow", To: narrow},
			{Scope: api.Scope(scope("s2", "acme:models:*:read")), Do: "remove"},
		},
	}, true, sampleNow)
}

func scope(id, text string) models.Scope {
	s, err := models.ParseScope(text)
	if err != nil {
		panic(err)
	}
	s.ID = id
	return s
}

func ago(d time.Duration) *time.Time {
	t := sampleNow.Add(-d)
	return &t
}

func samplePATs() []models.PAT {
	const day = 24 * time.Hour
	return []models.PAT{
		{
			ID: "7hQ2mZk0Rw4XtBvN", Name: "ci", Description: "Evaluates prompts on every merge request.",
			Scopes:    []models.Scope{scope("s1", "acme:models:*:execute"), scope("s2", "acme:models:*:read"), scope("s3", "acme:datasets:golden-set:read")},
			CreatedAt: sampleNow.Add(-20 * day), ExpiresAt: sampleNow.Add(70 * day), LastUsedAt: ago(4 * time.Minute), LastUsedIP: "203.0.113.7", LastUsedAgent: "python-httpx/0.28.1",
		},
		{
			ID: "Jd81LpTy6sEoQa3C", Name: "notebook on my laptop",
			Scopes:    []models.Scope{scope("s4", "acme:models:llama3:8b:execute")},
			CreatedAt: sampleNow.Add(-26 * day), ExpiresAt: sampleNow.Add(4 * day), LastUsedAt: ago(2 * day), LastUsedIP: "2001:db8::17",
		},
		{
			ID: "b0VxK4nUe9ZrHg2W", Name: "nightly export", Description: "Copies the golden set to the archive.",
			Scopes:    []models.Scope{scope("s5", "sandbox:datasets:*:read")},
			CreatedAt: sampleNow.Add(-100 * day), ExpiresAt: sampleNow.Add(-10 * day), LastUsedAt: ago(11 * day),
		},
		{
			ID: "Pw5cYi7DfM1oJk8S", Name: "old workstation",
			Scopes:    []models.Scope{scope("s6", "*:models:*:read")},
			CreatedAt: sampleNow.Add(-200 * day), ExpiresAt: sampleNow.Add(100 * day), RevokedAt: ago(33 * day),
		},
	}
}

func sampleTokens() []Token {
	var out []Token
	for _, p := range samplePATs() {
		out = append(out, TokenOf(p, sampleNow))
	}
	return out
}

type sample struct {
	frame Frame
	page  Page
}

func samples() map[string]sample {
	in := Frame{Viewer: sampleViewer, Now: sampleNow}
	user := Frame{Viewer: &Viewer{Name: "Grace Hopper", Email: "grace@example.com"}, Now: sampleNow}
	policyTeam := Frame{Viewer: &Viewer{Name: "Pol Icy", Email: "pol@example.com", Policy: true}, Now: sampleNow}
	out := Frame{Now: sampleNow}
	atProvider := Frame{Viewer: &Viewer{Name: "Zoë Quinn", Email: "zoe@example.com", Provider: "Example ID"}, Now: sampleNow}
	since := At(sampleNow.Add(-40*24*time.Hour), sampleNow)
	choices := sampleChoices()
	token := sampleTokens()[0]
	secret := "patrol_7hQ2mZk0Rw4XtBvN_example0example0example0example0123456"

	refused := DecodeCreate(map[string][]string{
		"name": {""}, "expires_in": {"custom"}, "action": {"create"},
		"scopes[0].domain": {"acme"}, "scopes[0].entity_type": {"datasets"}, "scopes[0].pick": {"*"}, "scopes[0].operation": {"datasets/write"},
		"scopes[1].domain": {"acme"}, "scopes[1].entity_type": {"datasets"}, "scopes[1].pick": {":typed"}, "scopes[1].entity": {"golden-set"}, "scopes[1].operation": {"datasets/write"},
		"scopes[2].domain": {"acme"},
	}, choices, sampleNow)
	_, _, problems := refused.Submit()
	refused = refused.Refused(problems)
	refused.AskPassword = true

	create := PrefillCreate(map[string][]string{"preset": {"inference"}, "name": {"ci"}}, choices, sampleNow)
	rotated := samplePATs()[0]
	rotated.RotatedTo, rotated.RevokedAt, rotated.ID = token.ID, ago(20*24*time.Hour), "R2d2C3poBb8Hal90"
	current := samplePATs()[0]
	own := Frame{Viewer: &Viewer{Name: "Grace Hopper", Email: "grace@example.com", Domains: true}, Now: sampleNow}
	limited := models.Domain{ID: "acme", Name: "Acme Research", Status: models.DomainEnabled, Limits: models.DomainLimits{Approval: true}}
	given := samplePATs()[0]
	given.Approvals = []models.Approval{{Domain: "acme", At: sampleNow}}
	approvedToken := TokenOf(given, sampleNow)
	revoked := samplePATs()[3]
	revoked.Revoked = models.Revocation{By: models.RevokerDomainAdmin, Domain: "acme", Reason: "It was found in the log of a build.\nMake a new one."}

	again := ConfirmForm("/admin/users/new", "/admin/users/new", map[string][]string{"email": {"x@example.com"}, "name": {"X"}, "password": {"secret"}, "admin": {"0", "1"}})
	wrongAgain := again
	wrongAgain.Problems.Add("confirm_password", "is not right")
	return map[string]sample{
		"confirm-again": {in, again},
		"access": {in, Access{User: models.User{ID: "u", Name: "Grace Hopper", Email: "grace@example.com"}, Sessions: 2, Codes: []CodeWaiting{
			{Does: CodeDoes("reset_password", ""), By: "ada@example.com", Expires: At(sampleNow, sampleNow)},
			{Does: CodeDoes("begin_session", ""), Expires: At(sampleNow, sampleNow)},
			{Does: CodeDoes("change_email", "grace.hopper@example.com"), Expires: At(sampleNow, sampleNow)},
		}}},
		"admin-codes": {in, AllCodes([]CodeWaiting{
			{UserID: "u", Email: "grace@example.com", Does: CodeDoes("reset_password", ""), By: "ada@example.com", Expires: At(sampleNow, sampleNow)},
			{UserID: "u", Email: "grace@example.com", Does: CodeDoes("change_email", "grace.hopper@example.com"), Expires: At(sampleNow, sampleNow)},
		}, "", true)},
		"admin-codes-none":       {in, AllCodes(nil, "", true)},
		"access-none":            {in, Access{User: models.User{ID: "u", Name: "Grace Hopper", Email: "grace@example.com"}, Self: true}},
		"confirm-again-wrong":    {in, wrongAgain},
		"confirm-again-provider": {atProvider, again},
		"admin-anonymise":        {in, Anonymise(models.User{ID: "u", Name: "Grace Hopper", Email: "grace@example.com", Disabled: true})},
		"own-data":               {user, OwnData()},
		"confirmed":              {atProvider, Confirmed(true)},
		"confirmed-not":          {atProvider, Confirmed(false)},
		"sign-in":                {out, SignIn(api.SignIn{}, "", "", Problems{})},
		"sign-in-wrong":          {out, SignIn(api.SignIn{Email: "ada@example.com"}, "/profile/pats", "Your session has ended. Sign in to go on; what you typed is kept.", Problems{General: "The email address and password do not match an account that may sign in."})},
		"sign-in-provider":       {out, withInstead(SignIn(api.SignIn{}, "", "", Problems{}), ProviderLink("Example ID", ""))},
		"continue":               {in, Continue{Name: "Example ID", URL: "#main", Why: WhyConfirm}},
		"identity":               {in, Identity{Name: "Example ID", HasPassword: true, AskPassword: true, Problems: Problems{Fields: []Problem{{Field: "password", Text: "Password is not right."}}}}},
		"identity-connected":     {user, Identity{Name: "Example ID", HasPassword: true, Since: &since}},
		"identity-only":          {atProvider, Identity{Name: "Example ID", Since: &since, AskPassword: true}},
		"session-code":           {user, AskCode{AskPassword: true, Problems: Problems{Fields: []Problem{{Field: "password", Text: "Password is not right."}}}}},
		"session-code-made":      {user, ShowCode{Code: "EXAMP-LECOD-ENOTR-EALLY", Expires: At(sampleNow.Add(5*time.Minute), sampleNow)}},
		"no-password":            {atProvider, NoPassword("Example ID")},
		"signed-out":             {out, SignedOut("Example ID", "#main")},
		"rotate-provider":        {atProvider, withAsk(DecodeRotate(nil, token, models.DefaultLimits(), sampleNow))},
		"setup":                  {out, SetupPage(api.Setup{}, Problems{}, false)},
		"setup-expired":          {out, SetupPage(api.Setup{}, Problems{}, true)},
		"list":                   {in, List{Tokens: sampleTokens(), Presets: choices.Presets(), Any: true, Alive: true, Domains: true}},
		"list-long":              {in, List{Tokens: manyTokens(100), Presets: choices.Presets(), Any: true, Alive: true, Domains: true}},
		"list-filtered":          {withNotice(user, "The token was revoked."), List{Filter: Filter{Name: "nothing like it", Sort: sortExpires}, Any: true, Domains: true}},
		"list-empty":             {user, List{Presets: choices.Presets(), Domains: true}},
		"create":                 {in, create},
		"create-wrong":           {in, refused},
		"reveal":                 {in, Reveal{Token: token, Secret: secret, BaseURL: "https://patrol.example.com", Domain: "acme", Summary: []string{"use any model in acme", "list and inspect any model in acme"}}},
		"view":                   {in, View{Token: token, Meanings: choices.Meanings(samplePATs()[0].Scopes), Family: Family(current, []models.PAT{rotated}, sampleNow), Activity: sampleActivity(token)}},
		"rotate":                 {in, DecodeRotate(nil, token, models.DefaultLimits(), sampleNow)},
		"widen":                  {in, DecodeWiden(nil, token, choices)},
		"purge":                  {in, Purge("", Problems{})},
		"no-domain":              {in, NoDomain()},
		"no-page":                {in, NotAPage("/profile/sessions")},
		"revoke": {in, Confirm{
			Heading: "Revoke ci?", Lines: []string{"Every request with it is refused from now on. This cannot be undone."},
			Token: &token, Action: token.Link() + "/revoke", Submit: "Revoke ci", Cancel: token.Link(), Part: tokens,
		}},
		"password": {user, ChangePassword(Problems{})},
		"sessions": {user, Sessions{Sessions: []Session{
			{ID: "a", Current: true, IP: "203.0.113.7", Agent: "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0", SignedIn: At(sampleNow.Add(-time.Hour), sampleNow), Seen: At(sampleNow, sampleNow), Ends: At(sampleNow.Add(167*time.Hour), sampleNow)},
			{ID: "b", Program: true, IP: "203.0.113.7", Agent: "patrol/1.0", SignedIn: At(sampleNow.Add(-50*time.Hour), sampleNow), Seen: At(sampleNow.Add(-3*time.Hour), sampleNow), Ends: At(sampleNow.Add(90*time.Hour), sampleNow)},
		}}},
		"help": {user, NewHelp("https://patrol.example.com", choices)},
		"test": {user, Test{choices: choices, Request: models.Request{Domain: "acme", EntityType: "models", Entity: "llama3:8b", Operation: "execute"}, Decision: &models.Decision{
			ID: "d1", TokenID: token.ID, Revision: "2026-11-20", Reasons: []models.Reason{{Code: models.OutOfScope, Message: "No scope of the token covers this."}},
		}}},
		"admin-inventory": {in, Inventory([]Owned{{Token: token, Email: "ada@example.com"}, {Token: sampleTokens()[1], Email: "grace@example.com"}}, Filter{Domain: "acme"}, "more")},
		"admin-empty":     {in, Inventory(nil, Filter{}, "")},
		"admin-bulk":      {in, BulkRevoke(Filter{Domain: "acme"}, 12, "", Problems{Fields: []Problem{{Field: "typed", Text: "Type 12 to confirm."}}})},
		"admin-token":     {in, AdminToken{Token: token, Email: "ada@example.com", OwnerURL: "/admin/users/x", Meanings: choices.Meanings(samplePATs()[0].Scopes), Leaked: true}},
		"admin-leaked":    {in, Leaked(Problems{})},
		"admin-users": {in, Users([]models.User{
			{ID: "a", Name: "Ada Lovelace", Email: "ada@example.com", Admin: true, CreatedAt: sampleNow},
			{ID: "b", Name: "Grace Hopper", Email: "grace@example.com", CreatedAt: sampleNow},
			{ID: "c", Name: "Charles Babbage", Email: "charles@example.com", Disabled: true, CreatedAt: sampleNow},
		}, sampleNow, "", true)},
		"admin-user-new": {in, NewUser(api.NewUser{}, Problems{})},
		"admin-user":     {in, EditUser(models.User{ID: "b", Name: "Grace Hopper", Email: "grace@example.com"}, false, Problems{})},
		"admin-reset":    {in, NewReset(models.User{ID: "b", Name: "Grace Hopper", Email: "grace@example.com"}, 24*time.Hour)},
		"admin-reset-link": {in, ResetLink{
			Removed: models.WaysIn{Identities: 1, Sessions: 2}, Stays: models.WaysIn{Tokens: 3},
			User: models.User{ID: "b", Name: "Grace Hopper", Email: "grace@example.com"}, Expires: At(sampleNow.Add(24*time.Hour), sampleNow),
			Code: "EXAMP-LECOD-ENOTR-EALLY", URL: "https://patrol.example.com/reset#EXAMP-LECOD-ENOTR-EALLY",
		}},
		"admin-email": {in, NewEmail(models.User{ID: "b", Name: "Grace Hopper", Email: "grace@example.com"}, "", 24*time.Hour, Problems{})},
		"admin-email-link": {in, EmailLink{
			ResetLink: ResetLink{
				User:    models.User{ID: "b", Name: "Grace Hopper", Email: "grace@example.com"},
				Code:    "EXAMP-LECOD-ENOTR-EALLY",
				URL:     "https://patrol.example.com/profile/email#EXAMP-LECOD-ENOTR-EALLY",
				Expires: At(sampleNow.Add(24*time.Hour), sampleNow),
			},
			Email: "grace.hopper@example.com",
		}},
		"email":       {in, ConfirmEmail("grace@example.com", "", Problems{})},
		"reset":       {out, Reset("", Problems{})},
		"reset-wrong": {out, Reset("EXAMP-LECOD-ENOTR-EALLY", Problems{Fields: []Problem{{Field: "repeat", Text: "Repeated password is not the same as the new password."}}})},
		"reset-done":  {out, ResetDone("grace@example.com")},
		"admin-domains": {in, Domains([]models.Domain{
			{ID: "acme", Name: "Acme Research", Status: models.DomainEnabled, CreatedAt: sampleNow}, {ID: "old", Name: "Old lab", Status: models.DomainIsFrozen, CreatedAt: sampleNow},
		}, sampleNow, "", true)},
		"admin-domain-new": {in, NewDomain(api.NewDomain{}, Problems{})},
		"admin-domain": {in, DomainPage{
			Domain: models.Domain{ID: "acme", Name: "Acme Research", Status: models.DomainEnabled}, Catalog: sampleCatalog(), Platform: true,
			Limits: LimitsForm{MaxLifetime: "30d", Approval: true}, Waiting: 3,
			Members: []api.Member{{UserID: "a", Email: "ada@example.com", Role: "member"}, {UserID: "b", Email: "grace@example.com", Role: "viewer"}},
		}},
		"domain-own":    {own, OwnDomains([]models.Domain{{ID: "acme", Name: "Acme Research", Status: models.DomainEnabled, CreatedAt: sampleNow}}, sampleNow)},
		"domain-tokens": {own, DomainTokens(limited, []Owned{{Token: approvedToken, Email: "ada@example.com"}, {Token: sampleTokens()[1], Email: "grace@example.com"}}, Filter{Approval: approvalMissing}, "more")},
		"domain-token":  {own, DomainToken{Domain: limited, Token: token, Email: "ada@example.com", Meanings: choices.Meanings(samplePATs()[0].Scopes)}},
		"domain-token-wrong": {own, DomainToken{
			Domain: limited, Token: approvedToken, Email: "ada@example.com", Meanings: choices.Meanings(samplePATs()[0].Scopes),
			Problems: Problems{Fields: []Problem{{Field: "reason", Text: "Reason is required."}}},
		}},
		"domain-page": {own, DomainPage{
			Domain: limited, Catalog: sampleCatalog(), Limits: LimitsForm{MaxLifetime: "a month"},
			Members:  []api.Member{{UserID: "a", Email: "ada@example.com", Role: "member"}},
			Problems: Problems{Fields: []Problem{{Field: "max_lifetime", Text: "Longest lifetime is not a duration."}}},
		}},
		"view-revoked":        {in, View{Token: TokenOf(revoked, sampleNow), Meanings: choices.Meanings(revoked.Scopes)}},
		"view-waits":          {in, View{Token: token, Meanings: choices.Meanings(samplePATs()[0].Scopes), Unapproved: []string{"acme"}}},
		"admin-member-remove": {in, RemoveMember(models.Domain{ID: "acme", Name: "Acme Research"}, models.User{ID: "b", Name: "Grace Hopper", Email: "grace@example.com"})},
		"admin-audit": {in, Audit([]Event{
			{At: sampleNow.Add(-time.Minute), Action: "pat.create", Subject: "pat:" + token.ID, ActorName: "ada@example.com", Actor: models.Actor{IP: "203.0.113.7"}, Detail: map[string]string{"name": "ci", "scopes": "acme:models:*:read"}},
			{At: sampleNow.Add(-3 * time.Hour), Action: "user.create", Subject: "user:b", Actor: models.Actor{Kind: models.ActorOperator}, Detail: map[string]string{"email": "grace@example.com"}},
		}, AuditFilter{}, sampleNow, "")},
		"policy":                  {in, NewPolicy(samplePolicy(), sampleNow)},
		"policy-refused":          {policyTeam, NewPolicy(sampleRefused(), sampleNow)},
		"policy-rules":            {policyTeam, NewRules(sampleInspection())},
		"policy-decisions":        {policyTeam, sampleDecisions()},
		"policy-decisions-wrong":  {policyTeam, sampleDecisionsWrong()},
		"policy-decisions-none":   {policyTeam, Decisions{Filter: DecisionFilter{Since: "1h", After: "x"}}},
		"policy-decisions-off":    {policyTeam, Decisions{Off: true}},
		"policy-decision":         {policyTeam, sampleExplained("execute")},
		"policy-decision-allowed": {policyTeam, sampleExplained("read")},
		"policy-decision-unknown": {policyTeam, sampleUnexplained()},
		"policy-history":          {policyTeam, sampleHistory()},
		"policy-history-empty":    {policyTeam, NewPolicyHistory(api.PolicyHistory{}, nil, false, sampleNow)},
		"policy-shadow":           {policyTeam, sampleShadow()},
		"policy-shadow-none":      {policyTeam, NewPolicyShadow(api.PolicyShadow{}, nil, sampleNow)},
		"policy-shadow-refused":   {policyTeam, sampleShadowRefused()},
		"policy-promote":          {policyTeam, PromotePolicy(sampleShadow().PolicyShadow, Problems{})},
		"policy-rollback":         {policyTeam, RollBackPolicy(sampleKept()[1], "v42", sampleNow, Problems{})},
		"policy-diff":             {policyTeam, sampleDiff()},
		"policy-diff-none":        {policyTeam, NewPolicyDiff(PolicySides(sampleKept(), false), "sha256:11aa0c3c5dd34ec1a0be2b51a7ef2d36", "sha256:22bb0c3c5dd34ec1a0be2b51a7ef2d36", nil, nil)},
		"policy-pinned":           {withNotice(policyTeam, "v41 is in force and pinned."), NewPolicy(samplePinned(), sampleNow)},
		"message":                 {Frame{Viewer: sampleViewer, Now: sampleNow, RequestID: "k3j4h5k6j7"}, Message{Heading: "Something went wrong", Lines: []string{"The cause is in Patrol’s log under this request’s id."}, ShowID: true, Link: "/", Label: "Start page"}},

		"playground":          {policyTeam, samplePlayground()},
		"playground-new":      {policyTeam, Playground{Revision: "v42", Names: []string{"authz/authz.rego"}}},
		"playground-broken":   {policyTeam, sampleBroken()},
		"playground-exceeded": {policyTeam, sampleExceeded()},
		"playground-off":      {policyTeam, Playground{Off: true}},
		"advised":             {in, sampleAdvised(true)},
		"advised-unknown":     {policyTeam, sampleAdvised(false)},
		"advised-off":         {policyTeam, NoAdvice()},
	}
}

func withInstead(f Form, l Link) Form {
	f.Instead = l
	return f
}

func withAsk(r Rotate) Rotate {
	r.AskPassword = true
	return r
}

func withNotice(f Frame, text string) Frame {
	f.Notice = text
	return f
}

func manyTokens(n int) []Token {
	var out []Token
	for i := range n {
		out = append(out, sampleTokens()[i%4])
	}
	return out
}
