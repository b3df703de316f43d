package server_test

import (
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
)

// reached returns all cells of an address, page by page.
func (w *world) reached(as, target string) (cells []api.ReachCell) {
	w.t.Helper()
	sep := "?"
	if strings.Contains(target, "?") {
		sep = "&"
	}
	after := ""
	for {
		var page api.Reach
		w.as(as).get(target + after).is(200).into(&page)
		cells = append(cells, page.Cells...)
		if page.Next == nil {
			return cells
		}
		after = sep + "after=" + url.QueryEscape(*page.Next)
	}
}

func codesOf(reasons []models.Reason) (codes []string) {
	for _, r := range reasons {
		codes = append(codes, string(r.Code))
	}
	return codes
}

// reachRules are rules of a team's own, of which a random world has some.
var reachRules = []string{
	`deny contains {"code": "not_by_viewers", "message": "Viewers read only what is named."} if {
	input.membership.role == "viewer"
	input.request.entity == "*"
}`,
	`deny contains {"code": "no_gpt", "message": "Nobody uses it."} if startswith(input.request.entity, "gpt")`,
	`waive contains {"code": "role_forbids", "because": "a test", "until": input.now + 60} if input.request.operation == "write"`,
	`deny contains {"code": "short_lived", "message": "Tokens live a week."} if input.token.expires_at - input.token.created_at > 604800`,
}

// TestReachIsWhatAuthorizeAnswers holds the matrix of tokens in random worlds (owner, role, domain's
// state and limits, approvals, scopes, own rules) against /authorize: over 5,000 cells, no difference.
func TestReachIsWhatAuthorizeAnswers(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	r := rand.New(rand.NewPCG(22, 1))
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	compared, allowed := 0, 0
	seen := map[string]bool{}
	for round := range 260 {
		rules := "package patrol.custom\n"
		for _, rule := range reachRules {
			if r.IntN(2) == 0 {
				rules += "\n" + rule + "\n"
			}
		}
		w.policyWith(rules)
		for _, id := range []string{"acme", "beta"} {
			status := models.DomainStatus(pick("enabled", "enabled", "enabled", "disabled", "frozen"))
			limits := models.DomainLimits{}
			if r.IntN(2) == 0 {
				limits = models.DomainLimits{MaxLifetime: []time.Duration{0, time.Minute, 48 * time.Hour}[r.IntN(3)], NoWildcards: r.IntN(2) == 0, Approval: r.IntN(3) == 0}
			}
			_, err := w.store.UpdateDomain(t.Context(), by, id, store.DomainPatch{Status: &status, Limits: &limits})
			require.NoError(t, err)
		}
		owner := pick("ann", "dom", "root", "eve")
		for _, id := range []string{"acme", "beta"} {
			if r.IntN(3) > 0 {
				w.member(owner, id, pick("viewer", "member", "admin"))
			}
		}
		scopes := make([]models.Scope, 1+r.IntN(6))
		for i := range scopes {
			scopes[i] = models.Scope{ID: models.NewID(), Domain: pick("acme", "beta", "*", "gone"), EntityType: "models", Entity: pick("*", "llama3", "gpt-9"), Operation: pick("read", "write", "execute")}
			if r.IntN(4) == 0 {
				scopes[i].EntityType, scopes[i].Entity, scopes[i].Operation = pick("datasets", "domains"), "*", pick("read", "write")
			}
		}
		pat, token := w.minted(owner, fmt.Sprintf("of round %d", round), scopes, []time.Duration{time.Hour, 30 * 24 * time.Hour}[r.IntN(2)])
		if r.IntN(3) == 0 {
			_, _ = w.store.ApprovePAT(t.Context(), by, pick("acme", "beta"), pat.ID, nil) // it may have no scope there
		}
		cells := w.reached("root", "/api/v1/pats/"+pat.ID+"/reach")
		require.NotEmpty(t, cells)
		for i := 0; i < len(cells); i += 100 {
			part := cells[i:min(i+100, len(cells))]
			in := api.AuthorizeBatch{Token: &token}
			for _, c := range part {
				in.Requests = append(in.Requests, api.AuthorizeItem{Domain: c.Domain, EntityType: c.EntityType, Entity: c.Entity, Operation: c.Operation})
			}
			var out api.DecisionBatch
			w.as("").post("/authorize/batch", in).is(200).into(&out)
			for j, d := range out.Decisions {
				c := part[j]
				require.Equal(t, d.Allowed, c.Allowed, "%+v: %v", c, d.Reasons)
				require.Equal(t, codesOf(d.Reasons), codesOf(c.Reasons), "%+v", c)
				compared++
				if c.Allowed {
					allowed++
				} else {
					for _, code := range codesOf(c.Reasons) {
						seen[code] = true
					}
				}
			}
		}
	}
	assert.Greater(t, compared, 5000)
	assert.Greater(t, allowed, 200)
	for _, code := range []string{"out_of_scope", "role_forbids", "not_a_member", "domain_unknown", "domain_frozen", "domain_disabled", "wildcard_forbidden", "lifetime_exceeded", "approval_required", "no_gpt", "short_lived"} {
		assert.True(t, seen[code], "no cell of any world has %s", code)
	}
	t.Logf("%d cells, %d allowed", compared, allowed)
}

// minted is a token that was made ten minutes ago, whatever the limits on making one are.
func (w *world) minted(owner, name string, scopes []models.Scope, lifetime time.Duration) (models.PAT, string) {
	w.t.Helper()
	token, err := models.Mint(rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32s", name)))))
	require.NoError(w.t, err)
	mac, keyID := w.keys.Sum(token)
	now := w.clock.Now()
	unique := scopes[:0]
	for _, sc := range scopes {
		again := false
		for _, u := range unique {
			again = again || u.Same(sc)
		}
		if !again {
			unique = append(unique, sc)
		}
	}
	pat, err := w.store.CreatePAT(w.t.Context(), by, models.PAT{
		ID: token.ID, UserID: w.users[owner].ID, Name: name, KeyID: keyID, MAC: mac, Scopes: unique, CreatedAt: now.Add(-10 * time.Minute), ExpiresAt: now.Add(lifetime),
	})
	require.NoError(w.t, err)
	return pat, token.Reveal()
}

// TestReachOfDraftsAndUsers has what a token would do, and what a user could.
func TestReachOfDraftsAndUsers(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		w := newWorld(t, url, nil)
		var page api.Reach
		w.as("ann").post("/api/v1/pats/reach", `{"scopes":[{"domain":"acme","entity_type":"models","entity":"m","operation":"write"},{"domain":"nowhere","entity_type":"models","entity":"*","operation":"read"}]}`).is(200).into(&page)
		got := map[string]api.ReachCell{}
		for _, c := range page.Cells {
			got[c.Domain+":"+c.EntityType+":"+c.Entity+":"+c.Operation] = c
		}
		assert.Equal(t, []string{"role_forbids"}, codesOf(got["acme:models:m:write"].Reasons))
		assert.Contains(t, got["acme:models:m:write"].Remedy, "No role permits this")
		assert.Equal(t, []string{"out_of_scope"}, codesOf(got["acme:models:m:read"].Reasons))
		assert.Contains(t, got["acme:models:m:read"].Remedy, "acme:models:m:read")
		assert.Equal(t, []string{"domain_unknown"}, codesOf(got["nowhere:models:*:read"].Reasons))
		assert.Equal(t, "scopes[0].operation", w.as("ann").post("/api/v1/pats/reach", `{"scopes":[{"domain":"acme","entity_type":"models","entity":"m","operation":"fly"}]}`).problem(422, models.CodeInvalid).Errors[0].Field)
		assert.Equal(t, "expires_in", w.as("ann").post("/api/v1/pats/reach", `{"expires_in":"1000d","scopes":[{"domain":"acme","entity_type":"models","entity":"m","operation":"read"}]}`).problem(422, models.CodeInvalid).Errors[0].Field)

		ann := w.reached("ann", "/api/v1/users/"+w.users["ann"].ID+"/reach?domain=acme&entity_type=datasets")
		require.Len(t, ann, 2)
		for _, c := range ann {
			assert.True(t, c.Allowed, "%+v", c)
		}
		assert.Empty(t, w.reached("root", "/api/v1/users/"+w.users["eve"].ID+"/reach"))
		w.as("dom").get("/api/v1/users/"+w.users["ann"].ID+"/reach").problem(404, models.CodeNotFound)
		pat := w.pat("ann", "mine", "acme:models:*:read")
		w.as("dom").get("/api/v1/pats/"+pat.ID+"/reach").problem(404, models.CodeNotFound)
		assert.NotEmpty(t, w.reached("ann", "/api/v1/pats/"+pat.ID+"/reach"))
		w.as("ann").get("/api/v1/pats/"+pat.ID+"/reach?after=%FF").problem(422, models.CodeInvalid)

		for i := range 120 {
			id := fmt.Sprintf("many-%03d", i)
			_, err := w.store.CreateDomain(t.Context(), by, models.Domain{ID: id, Name: id, Status: models.DomainEnabled})
			require.NoError(t, err)
			w.member("eve", id, "viewer")
		}
		all := w.reached("eve", "/api/v1/users/"+w.users["eve"].ID+"/reach")
		domains := map[string]bool{}
		for _, c := range all {
			domains[c.Domain] = true
		}
		assert.Len(t, domains, 120)
		wide := w.pat("eve", "wide", "many-000:models:*:read")
		assert.NotEmpty(t, wide.ID)
	})
}

// TestWhoCan has who is told who can do something, and that it is true.
func TestWhoCan(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		const path = "/api/v1/policy/who-can"
		const execute = `{"domain":"acme","entity_type":"models","entity":"m","operation":"execute"}`
		w.member("eve", "acme", "viewer")
		can := w.pat("ann", "=can", "acme:models:*:execute")
		w.pat("ann", "cannot", "acme:models:*:read")
		type list struct {
			Items []api.Able
			Next  *string
		}
		for _, who := range []string{"root", "pol", "dom"} {
			var got list
			w.as(who).post(path, execute).is(200).into(&got)
			var people []string
			for _, a := range got.Items {
				people = append(people, a.Email)
				if a.Email == "ann@example.com" {
					require.Len(t, a.Tokens, 1)
					assert.Equal(t, can.ID, a.Tokens[0].ID)
				}
			}
			assert.Equal(t, []string{"ann@example.com", "dom@example.com", "root@example.com"}, people, who)
		}
		w.as("ann").post(path, execute).is(403)
		w.as("eve").post(path, `{"domain":"beta","entity_type":"models","entity":"m","operation":"execute"}`).is(404)
		w.as("dom").post(path, `{"domain":"beta","entity_type":"models","entity":"m","operation":"execute"}`).is(404)
		assert.Equal(t, "entity", w.as("root").post(path, `{"domain":"acme","entity_type":"models","operation":"execute"}`).problem(422, models.CodeInvalid).Errors[0].Field)
		var none list
		w.as("root").post(path, `{"domain":"nowhere","entity_type":"models","entity":"m","operation":"execute"}`).is(200).into(&none)
		assert.Empty(t, none.Items)

		var paged []string
		after := ""
		for range 10 {
			var got list
			w.as("root").post(path+"?limit=1"+after, execute).is(200).into(&got)
			for _, a := range got.Items {
				paged = append(paged, a.Email)
			}
			if got.Next == nil {
				break
			}
			after = "&after=" + url.QueryEscape(*got.Next)
		}
		assert.Equal(t, []string{"ann@example.com", "dom@example.com", "root@example.com"}, paged)

		table := w.as("root").set("Accept", "text/csv").post(path, execute).is(200)
		rows, err := csv.NewReader(strings.NewReader(string(table.body))).ReadAll()
		require.NoError(t, err)
		require.Len(t, rows, 4)
		assert.Equal(t, "'=can", rows[1][5], "no spreadsheet takes it for a formula")
	})
}
