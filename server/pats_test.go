package server_test

import (
	"fmt"
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

func TestALifeOfAToken(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		w := newWorld(t, url, nil)
		in := api.NewPAT{
			Name: "ci", Description: "builds\nand tests", ExpiresIn: "30d",
			Scopes: []api.NewScope{{Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"}},
		}
		a := w.as("ann").post("/api/v1/pats", in).is(201)
		assert.Equal(t, "no-store", a.header.Get("Cache-Control"))
		var pat api.PAT
		a.into(&pat)
		assert.Equal(t, "/api/v1/pats/"+pat.ID, a.header.Get("Location"))
		assert.Equal(t, models.StatusActive, pat.Status)
		assert.Equal(t, "ci", pat.Name)
		assert.Equal(t, "builds\nand tests", pat.Description)
		assert.Equal(t, w.clock.Now().Add(30*24*time.Hour), pat.ExpiresAt)
		assert.Nil(t, pat.LastUsedAt)
		require.Len(t, pat.Scopes, 1)
		token, err := models.ParseToken(pat.Token)
		require.NoError(t, err)
		assert.Equal(t, pat.ID, token.ID)

		d := w.ask(pat.Token, "acme:models:llama3:read")
		assert.True(t, d.Allowed, "%+v", d)
		assert.Equal(t, []any{pat.ID, w.users["ann"].ID, pat.Scopes[0].ID, 200}, []any{d.TokenID, d.UserID, d.ScopeID, d.Status})

		assert.NotContains(t, string(w.as("ann").get("/api/v1/pats/"+pat.ID).is(200).body), "patrol_")
		var page api.Page[api.PAT]
		a = w.as("ann").get("/api/v1/pats").is(200).into(&page)
		assert.Len(t, page.Items, 1)
		assert.NotContains(t, string(a.body), "patrol_")

		var patched api.PAT
		w.as("ann").send("PATCH", "/api/v1/pats/"+pat.ID, `{"name":"build"}`).is(200).into(&patched)
		assert.Equal(t, "build", patched.Name)
		assert.Equal(t, "builds\nand tests", patched.Description)

		var wider api.PAT
		w.as("ann").post("/api/v1/pats/"+pat.ID+"/scopes", api.NewScope{Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "execute"}).is(201).into(&wider)
		require.Len(t, wider.Scopes, 2)
		assert.True(t, w.ask(pat.Token, "acme:models:llama3:execute").Allowed)
		w.as("ann").post("/api/v1/pats/"+pat.ID+"/scopes", api.NewScope{Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "execute"}).problem(409, models.CodeTaken)
		for _, sc := range wider.Scopes {
			if sc.Operation == "execute" {
				w.as("ann").delete("/api/v1/pats/" + pat.ID + "/scopes/" + sc.ID).is(204)
				w.as("ann").delete("/api/v1/pats/" + pat.ID + "/scopes/" + sc.ID).is(404)
			}
		}
		assert.False(t, w.ask(pat.Token, "acme:models:llama3:execute").Allowed)
		w.as("ann").delete("/api/v1/pats/"+pat.ID+"/scopes/"+pat.Scopes[0].ID).problem(409, models.CodeLastScope)

		var next api.PAT
		a = w.as("ann").post("/api/v1/pats/"+pat.ID+"/rotate", api.Rotation{ExpiresIn: "12h", Grace: "1h"}).is(200).into(&next)
		assert.Equal(t, "no-store", a.header.Get("Cache-Control"))
		assert.NotEqual(t, pat.ID, next.ID)
		assert.Equal(t, "build", next.Name)
		assert.True(t, w.ask(next.Token, "acme:models:llama3:read").Allowed)
		assert.True(t, w.ask(pat.Token, "acme:models:llama3:read").Allowed, "in its grace")
		p := w.as("ann").post("/api/v1/pats/"+pat.ID+"/rotate", api.Rotation{ExpiresIn: "12h"}).problem(409, models.CodeAlreadyRotated)
		assert.Equal(t, next.ID, p.RotatedTo)

		var revoked api.PAT
		w.as("ann").post("/api/v1/pats/"+next.ID+"/revoke", nil).is(200).into(&revoked)
		assert.Equal(t, models.StatusRevoked, revoked.Status)
		first := revoked.RevokedAt
		w.as("ann").post("/api/v1/pats/"+next.ID+"/revoke", nil).is(200).into(&revoked)
		assert.Equal(t, first, revoked.RevokedAt, "doing it again changes nothing")
		for _, dead := range []string{next.Token, pat.Token} {
			d := w.ask(dead, "acme:models:llama3:read")
			assert.Equal(t, 401, d.Status, "revoking ends the predecessor's grace")
		}
		w.as("ann").delete("/api/v1/pats/" + next.ID).is(204)
		w.as("ann").get("/api/v1/pats/"+next.ID).problem(404, models.CodeNotFound)

		alive := w.pat("ann", "alive", "acme:models:*:read")
		w.as("ann").delete("/api/v1/pats/"+alive.ID).problem(409, models.CodeTokenAlive)
		w.as("ann").delete("/api/v1/pats?all=true").is(204)
		assert.Equal(t, models.TokenRevoked, w.ask(alive.Token, "acme:models:*:read").Reasons[0].Code)
	})
}

func TestPATsAreValidatedAllAtOnce(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	p := w.as("ann").post("/api/v1/pats", `{"name":"","description":" x","expires_in":"1y","scopes":[
		{"domain":"ACME","entity_type":"models","entity":"a b","operation":"fly"},
		{"domain":"acme","entity_type":"ufos","entity":"*","operation":"read"},
		{"domain":"acme","entity_type":"domains","entity":"beta","operation":"read"}]}`).problem(422, models.CodeInvalid)
	var fields []string
	for _, f := range p.Errors {
		fields = append(fields, f.Field)
	}
	assert.ElementsMatch(t, []string{
		"name", "description", "expires_in", "scopes[0].domain", "scopes[0].entity", "scopes[0].operation", "scopes[1].entity_type", "scopes[2].entity",
	}, fields)

	scope := `[{"domain":"acme","entity_type":"models","entity":"*","operation":"read"}]`
	for name, tc := range map[string]struct{ body, field string }{
		"no lifetime":      {`{"name":"x","scopes":` + scope + `}`, "expires_in"},
		"two lifetimes":    {`{"name":"x","expires_in":"1d","expires_at":"2030-02-01T00:00:00Z","scopes":` + scope + `}`, "expires_in"},
		"too long":         {`{"name":"x","expires_in":"367d","scopes":` + scope + `}`, "expires_in"},
		"in the past":      {`{"name":"x","expires_at":"2020-01-01T00:00:00Z","scopes":` + scope + `}`, "expires_at"},
		"no scopes":        {`{"name":"x","expires_in":"1d","scopes":[]}`, "scopes"},
		"scopes left out":  {`{"name":"x","expires_in":"1d"}`, "scopes"},
		"twice the same":   {`{"name":"x","expires_in":"1d","scopes":[` + scope[1:len(scope)-1] + `,` + scope[1:len(scope)-1] + `]}`, "scopes[1]"},
		"a server's field": {`{"id":"x","name":"x","expires_in":"1d","scopes":` + scope + `}`, "id"},
		"a long name":      {`{"name":"` + strings.Repeat("x", 101) + `","expires_in":"1d","scopes":` + scope + `}`, "name"},
	} {
		t.Run(name, func(t *testing.T) {
			p := w.as("ann").post("/api/v1/pats", tc.body).problem(422, models.CodeInvalid)
			require.Len(t, p.Errors, 1)
			assert.Equal(t, tc.field, p.Errors[0].Field)
		})
	}

	w.pat("ann", "ci", "acme:models:*:read")
	w.as("ann").post("/api/v1/pats", `{"name":"ci","expires_in":"1d","scopes":`+scope+`}`).problem(409, models.CodeTaken)
	w.pat("dom", "ci", "acme:models:*:read")

	pat := w.pat("ann", "other", "acme:models:*:read")
	w.as("ann").send("PATCH", "/api/v1/pats/"+pat.ID, `{"name":"ci"}`).problem(409, models.CodeTaken)
	w.as("ann").send("PATCH", "/api/v1/pats/"+pat.ID, `{"name":""}`).problem(422, models.CodeInvalid)
	w.as("ann").send("PATCH", "/api/v1/pats/"+pat.ID, `{"scopes":[]}`).problem(422, models.CodeInvalid)
	for _, body := range []string{`{}`, `{"expires_in":"0s"}`, `{"expires_in":"1d","grace":"8d"}`, `{"expires_in":"1d","grace":"soon"}`} {
		w.as("ann").post("/api/v1/pats/"+pat.ID+"/rotate", body).problem(422, models.CodeInvalid)
	}
}

func TestListOfPATs(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	for i := range 7 {
		pat := w.pat("ann", fmt.Sprintf("t%d", i), "acme:models:*:read")
		w.clock.Advance(time.Second)
		if i < 2 {
			w.as("ann").post("/api/v1/pats/"+pat.ID+"/revoke", nil).is(200)
		}
	}
	w.pat("dom", "t0", "acme:models:*:read")
	list := func(query string) (names []string, next string) {
		var page api.Page[api.PAT]
		w.as("ann").get("/api/v1/pats" + query).is(200).into(&page)
		for _, p := range page.Items {
			names = append(names, p.Name)
		}
		if page.Next != nil {
			next = *page.Next
		}
		return names, next
	}
	all := []string{"t6", "t5", "t4", "t3", "t2", "t1", "t0"}
	names, next := list("")
	assert.Equal(t, all, names)
	assert.Empty(t, next)

	var paged []string
	after := ""
	for {
		names, next := list("?limit=3&after=" + url.QueryEscape(after))
		paged = append(paged, names...)
		if after = next; next == "" {
			break
		}
	}
	assert.Equal(t, all, paged)
	names, _ = list("?status=revoked")
	assert.Equal(t, []string{"t1", "t0"}, names)
	names, _ = list("?name=t4")
	assert.Equal(t, []string{"t4"}, names)
	names, _ = list("?status=expired")
	assert.Empty(t, names)

	for query, field := range map[string]string{
		"?limit=0": "limit", "?limit=201": "limit", "?limit=ten": "limit", "?limit=": "limit", "?status=dead": "status", "?after=nonsense": "after",
	} {
		p := w.as("ann").get("/api/v1/pats"+query).problem(422, models.CodeInvalid)
		assert.Equal(t, field, p.Errors[0].Field, query)
	}
}

func TestAPlatformAdminRevokesOthersTokensAndNoMore(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("ann", "ci", "acme:models:*:read")
	w.as("root").get("/api/v1/pats/" + pat.ID).is(404)
	w.as("root").delete("/api/v1/pats/" + pat.ID).is(404)
	w.as("root").send("PATCH", "/api/v1/pats/"+pat.ID, `{"name":"x"}`).is(404)
	w.as("root").post("/api/v1/pats/"+pat.ID+"/rotate", api.Rotation{ExpiresIn: "1d"}).is(404)
	w.as("dom").post("/api/v1/pats/"+pat.ID+"/revoke", nil).is(404)
	w.as("root").post("/api/v1/pats/"+pat.ID+"/revoke", nil).is(200)
	assert.Equal(t, 401, w.ask(pat.Token, "acme:models:*:read").Status)
	w.as("root").post("/api/v1/pats/aaaaaaaaaaaaaaaa/revoke", nil).is(404)
}

func TestSelfInAGraceAndAfter(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	old := w.pat("ann", "ci", "acme:models:*:read")
	w.as("ann").post("/api/v1/pats/"+old.ID+"/rotate", api.Rotation{ExpiresIn: "1d", Grace: "1h"}).is(200)
	var self api.PAT
	w.with(old.Token).get("/api/v1/pats/self").is(200).into(&self)
	assert.Equal(t, w.clock.Now().Add(time.Hour), self.ExpiresAt)
	w.with(old.Token).delete("/api/v1/pats/self").is(204)
	w.with(old.Token).delete("/api/v1/pats/self").is(401)

	short := w.pat("ann", "short", "acme:models:*:read")
	w.clock.Advance(30 * 24 * time.Hour)
	w.with(short.Token).get("/api/v1/pats/self").is(401)

	w.mu.Lock()
	clear(w.sessions) // they ended in the meantime
	w.mu.Unlock()
	off := w.pat("ann", "off", "acme:models:*:read")
	w.as("root").send("PATCH", "/api/v1/users/"+w.users["ann"].ID, `{"disabled":true}`).is(200)
	w.with(off.Token).delete("/api/v1/pats/self").is(401)
}

// A token that was pasted into a field which others read is refused with that reason, and
// the answer does not repeat it.
func TestATokenIsNoNameAndNoDescription(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("ann", "ci", "acme:models:*:read")
	scopes := []any{map[string]any{"domain": "acme", "entity_type": "models", "entity": "m", "operation": "read"}}
	for name, c := range map[string]struct {
		who, method, path string
		field             string
		body              map[string]any
	}{
		"a token's name":        {"ann", "POST", "/api/v1/pats", "name", map[string]any{"name": "my " + pat.Token, "expires_in": "1d", "scopes": scopes}},
		"its description":       {"ann", "POST", "/api/v1/pats", "description", map[string]any{"name": "x", "description": "was\n" + pat.Token + ".", "expires_in": "1d", "scopes": scopes}},
		"an entity of a scope":  {"ann", "POST", "/api/v1/pats", "scopes[0].entity", map[string]any{"name": "x", "expires_in": "1d", "scopes": []any{map[string]any{"domain": "acme", "entity_type": "models", "entity": pat.Token, "operation": "read"}}}},
		"another name":          {"ann", "PATCH", "/api/v1/pats/" + pat.ID, "name", map[string]any{"name": pat.Token}},
		"another description":   {"ann", "PATCH", "/api/v1/pats/" + pat.ID, "description", map[string]any{"description": pat.Token}},
		"a user's name":         {"root", "POST", "/api/v1/users", "name", map[string]any{"email": "x@example.com", "name": pat.Token, "password": "correct horse battery"}},
		"a domain's name":       {"root", "POST", "/api/v1/domains", "name", map[string]any{"id": "beta", "name": pat.Token}},
		"another domain's name": {"root", "PATCH", "/api/v1/domains/acme", "name", map[string]any{"name": pat.Token}},
	} {
		t.Run(name, func(t *testing.T) {
			a := w.as(c.who).send(c.method, c.path, c.body)
			p := a.problem(422, models.CodeInvalid)
			require.Len(t, p.Errors, 1)
			assert.Equal(t, c.field, p.Errors[0].Field)
			assert.Contains(t, p.Errors[0].Message, "contains a token, which is a secret")
			assert.NotContains(t, string(a.body), pat.Token)
		})
	}
}
