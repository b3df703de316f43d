package server_test

import (
	"hash/crc32"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
)

// limit sets what acme demands, by its admin.
func (w *world) limit(lifetime string, wildcards, approval bool) {
	w.t.Helper()
	in := api.SetDomainLimits{Wildcards: &wildcards, Approval: &approval}
	if lifetime != "" {
		in.MaxLifetime = &lifetime
	}
	w.as("dom").send("PUT", "/api/v1/domains/acme/limits", in).is(200)
}

// refusal is the reason why a token may not, "" if it may.
func (w *world) refusal(token, scope string) models.ReasonCode {
	w.t.Helper()
	d := w.ask(token, scope)
	if d.Allowed {
		return ""
	}
	require.Len(w.t, d.Reasons, 1)
	require.Equal(w.t, 403, d.Status)
	return d.Reasons[0].Code
}

func TestLimitsBindTokensInUse(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		wild := w.pat("ann", "wild", "acme:models:*:read")
		anywhere := w.pat("ann", "anywhere", "*:models:llama3:read")
		named := w.pat("ann", "named", "acme:models:llama3:read")
		root := w.pat("root", "root", "acme:models:*:read")
		const llama = "acme:models:llama3:read"
		all := map[string]string{"wild": wild.Token, "anywhere": anywhere.Token, "named": named.Token, "root": root.Token}
		expect := func(want map[string]models.ReasonCode) {
			t.Helper()
			for name, token := range all {
				assert.Equal(t, want[name], w.refusal(token, llama), name)
			}
		}
		expect(nil)

		w.limit("", false, false)
		expect(map[string]models.ReasonCode{"wild": "wildcard_forbidden", "anywhere": "wildcard_forbidden", "root": "wildcard_forbidden"})
		w.limit("", true, false)
		expect(nil)

		w.clock.Advance(time.Hour)
		w.limit("1h", true, false)
		late := models.ReasonCode("lifetime_exceeded")
		expect(map[string]models.ReasonCode{"wild": late, "anywhere": late, "named": late, "root": late})
		w.limit("61m", true, false)
		expect(nil)
		w.clock.Advance(time.Minute)
		w.freshen("dom")
		expect(map[string]models.ReasonCode{"wild": late, "anywhere": late, "named": late, "root": late})

		w.limit("", true, true)
		missing := models.ReasonCode("approval_required")
		expect(map[string]models.ReasonCode{"wild": missing, "anywhere": missing, "named": missing, "root": missing})
		approval := "/api/v1/domains/acme/approvals/"
		for _, pat := range []api.PAT{wild, anywhere, root} {
			var out api.DomainPAT
			w.as("dom").send("PUT", approval+pat.ID, nil).is(200).into(&out)
			assert.NotNil(t, out.ApprovedAt)
		}
		expect(map[string]models.ReasonCode{"named": missing})
		w.as("dom").delete(approval + wild.ID).is(204)
		expect(map[string]models.ReasonCode{"named": missing, "wild": missing})

		// A rotation passes the approval on; a scope more ends it.
		w.freshen("ann")
		var next api.PAT
		w.as("ann").post("/api/v1/pats/"+anywhere.ID+"/rotate", api.Rotation{ExpiresIn: "1h"}).is(200).into(&next)
		require.Len(t, next.Approvals, 1)
		assert.Empty(t, w.refusal(next.Token, llama))
		w.as("ann").post("/api/v1/pats/"+next.ID+"/scopes", api.NewScope{Domain: "beta", EntityType: "models", Entity: "m", Operation: "read"}).is(201)
		assert.Empty(t, w.refusal(next.Token, llama), "another domain's business")
		w.as("ann").post("/api/v1/pats/"+next.ID+"/scopes", api.NewScope{Domain: "acme", EntityType: "datasets", Entity: "d", Operation: "read"}).is(201)
		assert.Equal(t, missing, w.refusal(next.Token, llama))

		// An approval of a token that is gone is answered with an error.
		seen := []string{next.Scopes[0].ID}
		w.as("dom").send("PUT", approval+next.ID, api.Approve{Scopes: seen}).problem(409, models.CodeConflict)
		assert.Equal(t, missing, w.refusal(next.Token, llama))
		w.as("dom").send("PUT", approval+next.ID, "{}").is(200)
		assert.Empty(t, w.refusal(next.Token, llama))
	})
}

func TestLimitsAreToldEarly(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	in := api.NewPAT{Name: "ci", ExpiresIn: "30d", Scopes: []api.NewScope{
		{Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "read"},
		{Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"},
	}}
	w.limit("7d", false, false)
	refused := func(who string) []models.FieldError {
		return w.as(who).post("/api/v1/pats", in).problem(422, models.CodeInvalid).Errors
	}
	assert.Equal(t, []models.FieldError{
		{Field: "scopes[1].entity", Message: "must name an entity: acme takes no wildcards"},
		{Field: "expires_in", Message: "is longer than the 7d that acme allows"},
	}, refused("ann"))
	assert.Len(t, refused("root"), 2)
	w.as("eve").post("/api/v1/pats", in).is(201) // to whom acme says nothing of itself

	in.ExpiresIn, in.Scopes = "7d", in.Scopes[:1]
	var made api.PAT
	w.as("ann").post("/api/v1/pats", in).is(201).into(&made)
	assert.Empty(t, w.refusal(made.Token, "acme:models:llama3:read"))
	p := w.as("ann").post("/api/v1/pats/"+made.ID+"/rotate", api.Rotation{ExpiresIn: "8d"}).problem(422, models.CodeInvalid)
	assert.Equal(t, "expires_in", p.Errors[0].Field)
	p = w.as("ann").post("/api/v1/pats/"+made.ID+"/scopes", api.NewScope{Domain: "acme", EntityType: "datasets", Entity: "*", Operation: "read"}).problem(422, models.CodeInvalid)
	assert.Equal(t, "entity", p.Errors[0].Field)
	w.as("ann").post("/api/v1/pats/"+made.ID+"/rotate", api.Rotation{ExpiresIn: "7d"}).is(200)
}

func TestSettingLimits(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	var l api.DomainLimits
	w.as("ann").get("/api/v1/domains/acme/limits").is(200).into(&l)
	assert.Equal(t, api.DomainLimits{Wildcards: true}, l)
	for body, field := range map[string]string{
		`{}`: "wildcards", `{"wildcards":true}`: "approval", `{"approval":true}`: "wildcards",
		`{"wildcards":true,"approval":true,"max_lifetime":""}`: "max_lifetime", `{"wildcards":true,"approval":true,"max_lifetime":"0s"}`: "max_lifetime",
		`{"wildcards":true,"approval":true,"max_lifetime":"1500ms"}`: "max_lifetime", `{"wildcards":null,"approval":true}`: "wildcards",
		`{"wildcards":true,"approval":true,"max_age":"1h"}`: "max_age",
	} {
		p := w.as("dom").send("PUT", "/api/v1/domains/acme/limits", body).problem(422, models.CodeInvalid)
		assert.Equal(t, field, p.Errors[0].Field, body)
	}
	w.limit("36h", false, true)
	w.as("ann").get("/api/v1/domains/acme/limits").is(200).into(&l)
	lifetime := "36h"
	assert.Equal(t, api.DomainLimits{MaxLifetime: &lifetime, Approval: true}, l)
	w.as("root").send("PUT", "/api/v1/domains/acme/limits", `{"max_lifetime":null,"wildcards":true,"approval":false}`).is(200)
	// A frozen domain is not its admins' any more.
	w.as("root").send("PATCH", "/api/v1/domains/acme", `{"status":"frozen"}`).is(200)
	w.as("dom").send("PUT", "/api/v1/domains/acme/limits", `{"wildcards":true,"approval":false}`).problem(403, models.CodeForbidden)
}

func TestADomainsAdminSeesItsTokensAndNoMore(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		w.member("eve", "beta", "admin")
		both := w.pat("eve", "both", "acme:models:*:read", "beta:datasets:secret-plan:write")
		beta := w.pat("eve", "beta's", "beta:models:*:read")
		w.pat("eve", "anywhere", "*:models:*:read")
		w.pat("ann", "member's", "*:models:*:read")
		w.as("ann").post("/api/v1/pats", api.NewPAT{Name: "x", ExpiresIn: "1d", Scopes: []api.NewScope{{Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"}}}).is(201)

		list := func(who, domain, query string) []string {
			var page api.Page[api.DomainPAT]
			a := w.as(who).get("/api/v1/domains/" + domain + "/pats?" + query).is(200).into(&page)
			assert.NotContains(t, string(a.body), "secret-plan")
			names := []string{}
			for _, p := range page.Items {
				names = append(names, p.Name)
			}
			return names
		}
		assert.ElementsMatch(t, []string{"both", "member's", "x"}, list("dom", "acme", ""))
		assert.ElementsMatch(t, []string{"both"}, list("dom", "acme", "email=EVE"))
		assert.ElementsMatch(t, []string{"x"}, list("dom", "acme", "expires_before="+url.QueryEscape(w.clock.Now().AddDate(0, 0, 2).Format(time.RFC3339))))
		assert.Empty(t, list("dom", "acme", "approved=true"))
		assert.Len(t, list("root", "acme", "approved=false&status=active"), 3)
		for query, field := range map[string]string{"approved=perhaps": "approved", "status=gone": "status", "unused_since=yesterday": "unused_since", "limit=0": "limit", "after=x": "after"} {
			p := w.as("dom").get("/api/v1/domains/acme/pats?"+query).problem(422, models.CodeInvalid)
			assert.Equal(t, field, p.Errors[0].Field)
		}

		var seen api.DomainPAT
		a := w.as("dom").get("/api/v1/domains/acme/pats/" + both.ID).is(200).into(&seen)
		assert.NotContains(t, string(a.body), "beta")
		assert.Equal(t, "eve@example.com", seen.Email)
		require.Len(t, seen.Scopes, 1)

		// Objects of another domain are not found by any call.
		for _, try := range []struct{ method, path, body string }{
			{"GET", "/api/v1/domains/acme/pats/" + beta.ID, ""},
			{"POST", "/api/v1/domains/acme/pats/" + beta.ID + "/revoke", `{"reason":"mine now"}`},
			{"PUT", "/api/v1/domains/acme/approvals/" + beta.ID, `{}`},
			{"DELETE", "/api/v1/domains/acme/approvals/" + beta.ID, ""},
			{"GET", "/api/v1/domains/beta/pats", ""},
			{"GET", "/api/v1/domains/beta/limits", ""},
			{"PUT", "/api/v1/domains/beta/limits", `{"wildcards":false,"approval":true}`},
			{"POST", "/api/v1/domains/beta/pats/" + beta.ID + "/revoke", `{"reason":"x"}`},
			{"PUT", "/api/v1/domains/beta/approvals/" + both.ID, `{}`},
		} {
			var body any
			if try.body != "" {
				body = try.body
			}
			w.as("dom").send(try.method, try.path, body).problem(404, models.CodeNotFound)
		}
		w.as("eve").get("/api/v1/domains/beta/pats/" + both.ID).is(200)
	})
}

func TestTheOwnerIsToldWhy(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	w.member("eve", "beta", "admin")
	pat := w.pat("ann", "ci", "acme:models:*:read", "beta:models:*:read")
	revoke := "/api/v1/domains/acme/pats/" + pat.ID + "/revoke"
	w.as("dom").post(revoke, api.Revocation{}).problem(422, models.CodeInvalid)
	w.as("dom").send("POST", revoke, nil).problem(400, models.CodeMalformed)
	var seen api.DomainPAT
	w.as("dom").post(revoke, api.Revocation{Reason: "ann left the project"}).is(200).into(&seen)
	assert.Equal(t, models.StatusRevoked, seen.Status)
	assert.Equal(t, models.TokenRevoked, w.ask(pat.Token, "beta:models:m:read").Reasons[0].Code, "it ends everywhere")

	var own api.PAT
	w.as("ann").get("/api/v1/pats/" + pat.ID).is(200).into(&own)
	assert.Equal(t, models.RevokerDomainAdmin, *own.RevokedBy)
	assert.Equal(t, "acme", *own.RevokedDomain)
	assert.Equal(t, "ann left the project", *own.RevokedReason)
	// Another domain's admin hears that it ended, and not what acme wrote to ann.
	a := w.as("eve").get("/api/v1/domains/beta/pats/" + pat.ID).is(200)
	assert.NotContains(t, string(a.body), "project")
	assert.NotContains(t, string(a.body), "acme")

	other := w.pat("ann", "other", "acme:models:*:read")
	w.as("root").post("/api/v1/pats/"+other.ID+"/revoke", api.Revocation{Reason: "drill"}).is(200)
	w.as("ann").get("/api/v1/pats/" + other.ID).is(200).into(&own)
	assert.Equal(t, models.RevokerPlatformAdmin, *own.RevokedBy)
	assert.Equal(t, "drill", *own.RevokedReason)
	assert.Nil(t, own.RevokedDomain)
	mine := w.pat("ann", "mine", "acme:models:*:read")
	w.as("ann").send("POST", "/api/v1/pats/"+mine.ID+"/revoke", nil).is(200).into(&own)
	assert.Equal(t, models.RevokerOwner, *own.RevokedBy)
}

func TestOversight(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	w.member("eve", "beta", "member")
	ann := w.pat("ann", "ann's", "acme:models:*:read")
	w.pat("eve", "eve's", "beta:models:*:read")
	list := func(query string) []string {
		var page api.Page[api.OwnedPAT]
		w.as("root").get("/api/v1/admin/pats?" + query).is(200).into(&page)
		names := []string{}
		for _, p := range page.Items {
			names = append(names, p.Email+" "+p.Name)
		}
		return names
	}
	assert.Equal(t, []string{"eve@example.com eve's"}, list("domain=beta"))
	assert.Equal(t, []string{"ann@example.com ann's"}, list("user_id="+w.users["ann"].ID))
	assert.Empty(t, list("status=revoked"))

	// A leaked token: the text must be whole and its secret right.
	leaked := func(text string) *answer {
		return w.as("root").post("/api/v1/admin/leaked", api.LeakedToken{Token: text})
	}
	p := leaked("patrol_abc").problem(422, models.CodeInvalid)
	assert.Equal(t, "token", p.Errors[0].Field)
	leaked(flip(ann.Token)).problem(422, models.CodeInvalid)
	leaked(forged(t, ann.ID)).problem(404, models.CodeNotFound)
	assert.True(t, w.ask(ann.Token, "acme:models:m:read").Allowed)
	var found api.OwnedPAT
	a := leaked(ann.Token).is(200).into(&found)
	assert.NotContains(t, string(a.body), ann.Token)
	assert.Equal(t, "ann@example.com", found.Email)
	assert.False(t, w.ask(ann.Token, "acme:models:m:read").Allowed)
	assert.Contains(t, *found.RevokedReason, "found where it should not be")
	leaked(ann.Token).is(200) // again
	assert.NotContains(t, w.logs.String(), ann.Token)

	var page api.Page[api.AuditEvent]
	w.as("root").get("/api/v1/admin/audit?action=pat.revoke").is(200).into(&page)
	require.Len(t, page.Items, 1)
	assert.Equal(t, "pat:"+ann.ID, page.Items[0].Subject)
	assert.Equal(t, w.users["root"].ID, page.Items[0].Actor.UserID)
	var rest []string
	for next := "?limit=2&since=2020-01-01T00:00:00Z"; next != ""; {
		w.as("root").get("/api/v1/admin/audit" + next).is(200).into(&page)
		for _, e := range page.Items {
			rest = append(rest, e.Action)
		}
		if next = ""; page.Next != nil {
			next = "?limit=2&after=" + *page.Next
		}
		page.Next = nil
	}
	assert.Greater(t, len(rest), 8)
	w.as("root").get("/api/v1/admin/audit?until=2020-01-01T00:00:00Z").is(200).into(&page)
	assert.Empty(t, page.Items)
	w.as("root").get("/api/v1/admin/audit?since=x").problem(422, models.CodeInvalid)
}

// forged is a whole token under the id of another, with a secret of its own.
func forged(t *testing.T, id string) string {
	t.Helper()
	text := models.TokenPrefix + id + "_" + strings.Repeat("x", 32)
	sum, digits := crc32.ChecksumIEEE([]byte(text)), ""
	for range 6 {
		digits = string("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[sum%62]) + digits
		sum /= 62
	}
	token, err := models.ParseToken(text + digits)
	require.NoError(t, err)
	require.Equal(t, id, token.ID)
	return text + digits
}
