package server_test

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
)

const readModels = `"domain":"acme","entity_type":"models","entity":"*","operation":"read"`

func TestAuthorize(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("ann", "ci", "acme:models:*:read", "acme:datasets:d1:write", "beta:models:*:read")
	admin := w.pat("root", "admin", "*:models:*:write")
	for _, tc := range []struct {
		token, scope string
		status       int
		reasons      string
	}{
		{pat.Token, "acme:models:*:read", 200, ""},
		{pat.Token, "acme:models:llama3:8b:read", 200, ""},
		{pat.Token, "acme:datasets:d1:write", 200, ""},
		{admin.Token, "beta:models:m:write", 200, ""},
		{pat.Token, "acme:datasets:d2:write", 403, "out_of_scope"},
		{pat.Token, "acme:models:m:write", 403, "out_of_scope role_forbids"},
		{pat.Token, "beta:models:m:read", 403, "not_a_member"},
		{pat.Token, "gone:models:m:read", 403, "domain_unknown"},
		{pat.Token, "acme:ufos:m:read", 403, "unknown_operation"},
		{pat.Token, "acme:models:m:fly", 403, "unknown_operation"},
		{"", "acme:models:m:read", 401, "token_missing"},
		{"nonsense", "acme:models:m:read", 401, "token_malformed"},
		{flip(pat.Token), "acme:models:m:read", 401, "token_malformed"},
		{strings.ToUpper(pat.Token), "acme:models:m:read", 401, "token_malformed"},
	} {
		t.Run(tc.scope+" "+tc.reasons, func(t *testing.T) {
			sc, err := models.ParseScope(tc.scope)
			require.NoError(t, err)
			in := api.AuthorizeRequest{Domain: sc.Domain, EntityType: sc.EntityType, Entity: sc.Entity, Operation: sc.Operation}
			if tc.token != "" {
				in.Token = &tc.token
			}
			a := w.as("").post("/authorize", in).is(200)
			assert.Equal(t, "no-store", a.header.Get("Cache-Control"))
			var d api.Decision
			a.into(&d)
			var codes []string
			for _, r := range d.Reasons {
				codes = append(codes, string(r.Code))
				assert.NotEmpty(t, r.Message)
			}
			assert.Equal(t, tc.reasons, strings.Join(codes, " "))
			assert.Equal(t, tc.status, d.Status)
			assert.Equal(t, tc.status == 200, d.Allowed)
			assert.Contains(t, string(a.body), `"reasons":[`, "never null")
		})
	}
}

func TestAuthorizeFollowsEveryWrite(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		w := newWorld(t, url, nil)
		pat := w.pat("ann", "ci", "acme:models:*:execute")
		ask := func(status int, reason models.ReasonCode) {
			t.Helper()
			d := w.ask(pat.Token, "acme:models:m:execute")
			require.Equal(t, status, d.Status, "%+v", d)
			if reason != "" {
				require.Equal(t, reason, d.Reasons[0].Code)
			}
		}
		member := "/api/v1/domains/acme/members/" + w.users["ann"].ID
		user := "/api/v1/users/" + w.users["ann"].ID
		ask(200, "")
		w.as("dom").send("PUT", member, `{"role":"viewer"}`).is(200)
		ask(403, models.RoleForbids)
		w.as("dom").send("PUT", member, `{"role":"admin"}`).is(200)
		ask(200, "")
		w.as("dom").delete(member).is(204)
		ask(403, models.NotAMember)
		w.as("dom").send("PUT", member, `{"role":"member"}`).is(201)
		ask(200, "")
		w.as("root").send("PATCH", "/api/v1/domains/acme", `{"status":"disabled"}`).is(200)
		ask(403, models.DomainDisabled)
		w.as("root").send("PATCH", "/api/v1/domains/acme", `{"status":"frozen"}`).is(200)
		ask(403, models.DomainFrozen)
		w.as("root").send("PATCH", "/api/v1/domains/acme", `{"status":"enabled"}`).is(200)
		ask(200, "")
		w.as("root").send("PATCH", user, `{"disabled":true}`).is(200)
		ask(401, models.UserDisabled)
		w.as("root").send("PATCH", user, `{"disabled":false}`).is(200)
		ask(200, "")
		w.clock.Advance(30 * 24 * time.Hour)
		ask(401, models.TokenExpired)
	})
}

func TestAuthorizeReadsStrictly(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("ann", "ci", "acme:models:*:read")
	ok := `{` + readModels + `}`
	for _, tc := range []struct {
		name, body, header string
		status             int
		field              string
	}{
		{"whole", ok, "Bearer " + pat.Token, 200, ""},
		{"scheme in capitals", ok, "BEARER " + pat.Token, 200, ""},
		{"token in the body", `{"token":"` + pat.Token + `",` + readModels + `}`, "", 200, ""},
		{"null for no token", `{"token":null,` + readModels + `}`, "Bearer " + pat.Token, 200, ""},
		{"Basic beside it is no token", `{"token":"` + pat.Token + `",` + readModels + `}`, "Basic YTpi", 200, ""},
		{"a context", `{"context":{"ip":"1.2.3.4","n":[1,2.5,null]},` + readModels + `}`, "Bearer " + pat.Token, 200, ""},

		{"both", `{"token":"` + pat.Token + `",` + readModels + `}`, "Bearer " + pat.Token, 400, ""},
		{"empty", ``, "", 400, ""},
		{"no JSON", `domain=acme`, "", 400, ""},
		{"trailing", ok + `{}`, "", 400, ""},
		{"twice", `{"domain":"acme",` + readModels + `}`, "", 400, ""},
		{"an array", `[]`, "", 400, ""},
		{"too large", `{"context":{"x":"` + strings.Repeat("x", 64<<10) + `"},` + readModels + `}`, "", 413, ""},
		{"missing", `{"domain":"acme","entity_type":"models","entity":"*"}`, "", 422, "operation"},
		{"wrong type", `{"domain":7,"entity_type":"models","entity":"*","operation":"read"}`, "", 422, "domain"},
		{"unknown field", `{"entityType":"models",` + readModels + `}`, "", 422, "entityType"},
		{"token of another type", `{"token":5,` + readModels + `}`, "", 422, "token"},
		{"context of another type", `{"context":[1],` + readModels + `}`, "", 422, "context"},
		{"a space in the entity", `{"domain":"acme","entity_type":"models","entity":"a b","operation":"read"}`, "", 422, "entity"},
		{"too long an entity", `{"domain":"acme","entity_type":"models","entity":"` + strings.Repeat("x", 257) + `","operation":"read"}`, "", 422, "entity"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := w.as("")
			if tc.header != "" {
				c.set("Authorization", tc.header)
			}
			a := c.post("/authorize", tc.body).is(tc.status)
			if tc.status == 200 {
				var d api.Decision
				assert.True(t, a.into(&d).status == 200 && d.Allowed, "%s", a.body)
			}
			if tc.field != "" {
				var p api.Problem
				a.into(&p)
				require.Len(t, p.Errors, 1)
				assert.Equal(t, tc.field, p.Errors[0].Field)
			}
		})
	}
	for _, place := range []string{"?token=", "?access_token="} {
		var d api.Decision
		w.as("").post("/authorize"+place+pat.Token, ok).is(200).into(&d)
		assert.Equal(t, models.TokenMissing, d.Reasons[0].Code, "a token in a query is not read")
	}
	var d api.Decision
	w.as("").set("Authorization", "Basic "+pat.Token).post("/authorize", ok).is(200).into(&d)
	assert.Equal(t, models.TokenMissing, d.Reasons[0].Code)
}

func TestTwoAuthorizationHeaders(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("ann", "ci", "acme:models:*:read")
	// The gateway refuses them by itself, in the form that its clients read.
	for _, target := range []string{"/authorize", "/api/v1/me", "/healthz", "/api/v1/pats/self"} {
		c := w.as("")
		c.header["Authorization"] = []string{"Bearer " + pat.Token, "Bearer " + pat.Token}
		method := "GET"
		if target == "/authorize" {
			method = "POST"
		}
		conn, err := net.Dial("tcp", w.http.Listener.Addr().String())
		require.NoError(t, err)
		_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\nauthorization: Bearer b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", method, target)
		require.NoError(t, err)
		var answer strings.Builder
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			answer.Write(buf[:n])
			if err != nil {
				break
			}
		}
		require.NoError(t, conn.Close())
		assert.True(t, strings.HasPrefix(answer.String(), "HTTP/1.1 400 "), "%s: %s", target, answer.String())
		assert.Contains(t, answer.String(), "application/problem+json")
	}
}

func TestAuthorizeBatch(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("ann", "ci", "acme:models:*:read")
	item := func(entity, operation string) api.AuthorizeItem {
		return api.AuthorizeItem{Domain: "acme", EntityType: "models", Entity: entity, Operation: operation}
	}
	var out api.DecisionBatch
	w.with(pat.Token).post("/authorize/batch", api.AuthorizeBatch{Requests: []api.AuthorizeItem{
		item("a", "read"), item("b", "execute"), item("*", "read"),
	}}).is(200).into(&out)
	var got []int
	ids := map[string]bool{}
	for _, d := range out.Decisions {
		got = append(got, d.Status)
		ids[d.DecisionID] = true
	}
	assert.Equal(t, []int{200, 403, 200}, got)
	assert.Len(t, ids, 3)

	w.as("").post("/authorize/batch", api.AuthorizeBatch{Token: &pat.Token, Requests: []api.AuthorizeItem{item("a", "read")}}).is(200).into(&out)
	assert.True(t, out.Decisions[0].Allowed)
	w.as("").post("/authorize/batch", api.AuthorizeBatch{Requests: make([]api.AuthorizeItem, 1)}).is(422)

	many := api.AuthorizeBatch{Requests: make([]api.AuthorizeItem, 1000)}
	for i := range many.Requests {
		many.Requests[i] = item("a", "read")
	}
	w.with(pat.Token).post("/authorize/batch", many).is(200).into(&out)
	assert.Len(t, out.Decisions, 1000)
	many.Requests = append(many.Requests, item("a", "read"))
	assert.Equal(t, "requests", w.with(pat.Token).post("/authorize/batch", many).problem(422, models.CodeInvalid).Errors[0].Field)
	assert.Equal(t, "requests", w.with(pat.Token).post("/authorize/batch", `{"requests":[]}`).problem(422, models.CodeInvalid).Errors[0].Field)

	for body, field := range map[string]string{
		`{"requests":[{` + readModels + `},{"domain":"acme","entity_type":"models","entity":"*"}]}`:                   "requests[1].operation",
		`{"requests":[{` + readModels + `},{"domain":1}]}`:                                                            "requests[1].domain",
		`{"requests":[{` + readModels + `},{"token":"x",` + readModels + `}]}`:                                        "requests[1].token",
		`{"requests":[{"domain":"acme","entity_type":"models","entity":"*","operation":"read","context":"nothing"}]}`: "requests[0].context",
	} {
		p := w.with(pat.Token).post("/authorize/batch", body).problem(422, models.CodeInvalid)
		assert.Equal(t, field, p.Errors[0].Field, body)
	}
}

func TestLastUseIsShown(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("ann", "ci", "acme:models:*:read")
	w.ask(pat.Token, "acme:models:*:read")
	require.Eventually(t, func() bool {
		var now api.PAT
		return json.Unmarshal(w.as("ann").get("/api/v1/pats/"+pat.ID).is(200).body, &now) == nil && now.LastUsedAt != nil && *now.LastUsedIP == "127.0.0.1"
	}, soon, 50*time.Millisecond)
}
