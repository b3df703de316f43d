package server_test

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/server"
)

const formType = "application/x-www-form-urlencoded"

// posted sends a form with a credential in Authorization, "" for none.
func (w *world) posted(t *testing.T, path, authorization string, form url.Values) *answer {
	c := w.as("").set("Content-Type", formType)
	if authorization != "" {
		c.set("Authorization", authorization)
	}
	a := c.send("POST", path, form.Encode())
	a.t = t
	return a
}

func basic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

// TestIntrospection asks about tokens in every state, by services of every kind.
func TestIntrospection(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		asks := w.pat("dom", "asks", "acme:decisions:*:evaluate").Token
		all := w.pat("root", "asks about all", "*:decisions:*:evaluate").Token
		both := w.pat("root", "asks about both", "acme:decisions:*:evaluate", "beta:decisions:*:evaluate").Token
		weak := w.pat("ann", "her role forbids it", "acme:decisions:*:evaluate").Token
		none := w.pat("ann", "has no scope for it", "acme:models:*:read").Token
		ann := w.pat("ann", "reads", "acme:models:*:read", "acme:models:m:execute", "acme:models:m:write", "beta:models:*:read")
		root := w.pat("root", "everywhere", "*:models:*:read", "beta:datasets:d:read")
		elsewhere := w.pat("root", "elsewhere", "beta:models:*:read")
		revoked := w.pat("ann", "revoked", "acme:models:*:read")
		w.as("ann").post("/api/v1/pats/"+revoked.ID+"/revoke", nil).is(200)
		w.member("eve", "acme", "viewer")
		eve := w.pat("eve", "of somebody disabled", "acme:models:*:read")
		w.as("root").send("PATCH", "/api/v1/users/"+w.users["eve"].ID, `{"disabled":true}`).is(200)
		bearer := func(token string) string { return "Bearer " + token }
		for name, tc := range map[string]struct {
			authorization string
			form          url.Values
			status        int
			scope         string // of a token that is active
			active        bool
			code          string
			challenge     string
		}{
			"by bearer":                   {bearer(asks), url.Values{"token": {ann.Token}}, 200, "acme:models:*:read acme:models:m:execute", true, "", ""},
			"by Basic":                    {basic("anything", asks), url.Values{"token": {ann.Token}}, 200, "acme:models:*:read acme:models:m:execute", true, "", ""},
			"by a secret in the form":     {"", url.Values{"token": {ann.Token}, "client_id": {"x"}, "client_secret": {asks}}, 200, "acme:models:*:read acme:models:m:execute", true, "", ""},
			"with a hint and more":        {bearer(asks), url.Values{"token": {ann.Token}, "token_type_hint": {"refresh_token"}, "resource": {"a", "b"}}, 200, "acme:models:*:read acme:models:m:execute", true, "", ""},
			"by one that may ask it all":  {bearer(all), url.Values{"token": {ann.Token}}, 200, "acme:models:*:read acme:models:m:execute", true, "", ""},
			"what reaches any domain":     {bearer(asks), url.Values{"token": {root.Token}}, 200, "acme:models:*:read", true, "", ""},
			"the same by one for two":     {bearer(both), url.Values{"token": {root.Token}}, 200, "acme:models:*:read beta:datasets:d:read beta:models:*:read", true, "", ""},
			"the same by one for all":     {bearer(all), url.Values{"token": {root.Token}}, 200, "acme:models:*:read beta:datasets:d:read beta:models:*:read", true, "", ""},
			"what is none of its affair":  {bearer(asks), url.Values{"token": {elsewhere.Token}}, 200, "", false, "", ""},
			"its own token":               {bearer(asks), url.Values{"token": {asks}}, 200, "acme:decisions:*:evaluate", true, "", ""},
			"revoked":                     {bearer(asks), url.Values{"token": {revoked.Token}}, 200, "", false, "", ""},
			"of somebody disabled":        {bearer(asks), url.Values{"token": {eve.Token}}, 200, "", false, "", ""},
			"unknown":                     {bearer(asks), url.Values{"token": {withAnotherSecret(t, ann.Token)}}, 200, "", false, "", ""},
			"no token at all":             {bearer(asks), url.Values{"token": {"garbage"}}, 200, "", false, "", ""},
			"a session's":                 {bearer(asks), url.Values{"token": {w.session("root")}}, 200, "", false, "", ""},
			"nobody asks":                 {"", url.Values{"token": {ann.Token}}, 401, "", false, "invalid_client", "Bearer"},
			"the holder asks":             {"", url.Values{"token": {ann.Token}, "client_secret": {ann.Token}}, 403, "", false, "insufficient_scope", "Bearer"},
			"garbage asks":                {bearer("garbage"), url.Values{"token": {ann.Token}}, 401, "", false, "invalid_client", "Bearer"},
			"garbage asks by Basic":       {basic("x", "garbage"), url.Values{"token": {ann.Token}}, 401, "", false, "invalid_client", "Basic"},
			"Basic without a name":        {basic("", asks), url.Values{"token": {ann.Token}}, 400, "", false, "invalid_request", ""},
			"a session asks":              {bearer(w.session("root")), url.Values{"token": {ann.Token}}, 401, "", false, "invalid_client", "Bearer"},
			"one whose role forbids it":   {bearer(weak), url.Values{"token": {ann.Token}}, 403, "", false, "insufficient_scope", "Bearer"},
			"one without a scope for it":  {bearer(none), url.Values{"token": {ann.Token}}, 403, "", false, "insufficient_scope", "Bearer"},
			"two secrets":                 {bearer(asks), url.Values{"token": {ann.Token}, "client_secret": {asks}}, 400, "", false, "invalid_request", ""},
			"about nothing":               {bearer(asks), url.Values{}, 400, "", false, "invalid_request", ""},
			"about nothing, by a name":    {bearer(asks), url.Values{"token": {""}}, 400, "", false, "invalid_request", ""},
			"about two":                   {bearer(asks), url.Values{"token": {ann.Token, root.Token}}, 400, "", false, "invalid_request", ""},
			"a stranger, about nothing":   {"", url.Values{}, 400, "", false, "invalid_request", ""},
			"an answer that is too large": {bearer(asks), url.Values{"token": {strings.Repeat("x", 70<<10)}}, 413, "", false, "", ""},
		} {
			t.Run(name, func(t *testing.T) {
				a := w.posted(t, "/oauth/introspect", tc.authorization, tc.form).is(tc.status)
				assert.Equal(t, "no-store", a.header.Get("Cache-Control"))
				for _, token := range []string{ann.Token, asks, root.Token} {
					assert.NotContains(t, string(a.body), token)
				}
				if tc.challenge != "" {
					assert.True(t, strings.HasPrefix(a.header.Get("WWW-Authenticate"), tc.challenge), a.header.Get("WWW-Authenticate"))
				}
				if tc.status != 200 {
					if tc.code != "" {
						var e struct{ Error string }
						a.into(&e)
						assert.Equal(t, tc.code, e.Error)
					}
					return
				}
				if !tc.active {
					assert.Equal(t, `{"active":false}`, strings.TrimSpace(string(a.body)), "and nothing else")
					return
				}
				var got map[string]any
				a.into(&got)
				assert.Equal(t, true, got["active"])
				assert.Equal(t, tc.scope, got["scope"])
				assert.Equal(t, "Bearer", got["token_type"])
				assert.NotEmpty(t, got["username"])
				assert.NotEmpty(t, got["sub"])
				assert.Greater(t, got["exp"], got["iat"])
			})
		}
		t.Run("what stops working is told no more", func(t *testing.T) {
			w.as("root").send("PATCH", "/api/v1/domains/acme", `{"status":"frozen"}`).is(200)
			w.posted(t, "/oauth/introspect", bearer(asks), url.Values{"token": {ann.Token}}).is(403)
			a := w.posted(t, "/oauth/introspect", bearer(all), url.Values{"token": {ann.Token}}).is(200)
			assert.Contains(t, string(a.body), `"active":true`)
			assert.NotContains(t, string(a.body), "scope")
			w.as("root").send("PATCH", "/api/v1/domains/acme", `{"status":"enabled"}`).is(200)
		})
		t.Run("it is a use of the token", func(t *testing.T) {
			require.Eventually(t, func() bool {
				pat, err := w.store.PAT(t.Context(), ann.ID)
				return err == nil && pat.LastUsedAt != nil
			}, 10*time.Second, time.Millisecond)
		})
		t.Run("expired", func(t *testing.T) {
			w.clock.Advance(29 * 24 * time.Hour)
			w.sessions = map[string]string{} // they have ended
			fresh := w.pat("dom", "asks still", "acme:decisions:*:evaluate").Token
			w.clock.Advance(2 * 24 * time.Hour)
			a := w.posted(t, "/oauth/introspect", bearer(fresh), url.Values{"token": {ann.Token}}).is(200)
			assert.Equal(t, `{"active":false}`, strings.TrimSpace(string(a.body)))
		})
		assert.NotContains(t, w.logs.String(), ann.Token)
		assert.NotContains(t, w.logs.String(), asks)
	})
}

// TestRevocation has whoever holds a token revoke it, and nobody else.
func TestRevocation(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		for name, tc := range map[string]struct {
			form   func(token string) url.Values
			kind   string
			status int
			code   string
			lives  bool
		}{
			"the token":           {form: func(token string) url.Values { return url.Values{"token": {token}} }, status: 200},
			"with a hint":         {form: func(token string) url.Values { return url.Values{"token": {token}, "token_type_hint": {"x"}} }, status: 200},
			"with a client":       {form: func(token string) url.Values { return url.Values{"token": {token}, "client_id": {"x"}, "more": {"y"}} }, status: 200},
			"another secret":      {form: func(token string) url.Values { return url.Values{"token": {withAnotherSecret(t, token)}} }, status: 200, lives: true},
			"its id":              {form: func(token string) url.Values { return url.Values{"token": {token[7:23]}} }, status: 200, lives: true},
			"garbage":             {form: func(string) url.Values { return url.Values{"token": {"garbage"}} }, status: 200, lives: true},
			"a session's":         {form: func(string) url.Values { return url.Values{"token": {w.session("ann")}} }, status: 400, code: "unsupported_token_type", lives: true},
			"nothing":             {form: func(string) url.Values { return url.Values{"token_type_hint": {"x"}} }, status: 400, code: "invalid_request", lives: true},
			"twice in one":        {form: func(token string) url.Values { return url.Values{"token": {token, token}} }, status: 400, code: "invalid_request", lives: true},
			"not as a form":       {form: func(token string) url.Values { return url.Values{"token": {token}} }, kind: "application/json", status: 400, code: "invalid_request", lives: true},
			"with a content type": {form: func(token string) url.Values { return url.Values{"token": {token}} }, kind: formType + "; charset=UTF-8", status: 200},
		} {
			t.Run(name, func(t *testing.T) {
				pat := w.pat("ann", name, "acme:models:*:read")
				kind := tc.kind
				if kind == "" {
					kind = formType
				}
				for range 2 { // the second time it is revoked
					a := w.as("").set("Content-Type", kind).send("POST", "/oauth/revoke", tc.form(pat.Token).Encode())
					a.t = t
					a.is(tc.status)
					if tc.code != "" {
						assert.Contains(t, string(a.body), `"`+tc.code+`"`)
					} else {
						assert.Empty(t, a.body)
					}
				}
				assert.Equal(t, tc.lives, w.allowed(pat.Token, "models", "*", "read"))
				found, err := w.store.PAT(t.Context(), pat.ID)
				require.NoError(t, err)
				assert.Equal(t, tc.lives, found.RevokedAt == nil)
			})
		}
		events := 0
		var page struct{ Items []struct{ Action string } }
		require.NoError(t, json.Unmarshal(w.as("root").get("/api/v1/admin/audit?limit=200").is(200).body, &page))
		for _, e := range page.Items {
			if e.Action == "pat.revoke" {
				events++
			}
		}
		assert.Equal(t, 4, events, "one for each token that was revoked")
		assert.NotContains(t, w.logs.String(), "patrol_0")
	})
}

// TestOAuthMetadata has where the metadata is, and where not.
func TestOAuthMetadata(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), func(c *server.Config, _ *server.Deps) { c.PublicURL = "https://patrol.example.com" })
	var m map[string]any
	w.as("").get("/.well-known/oauth-authorization-server").is(200).into(&m)
	assert.Equal(t, "https://patrol.example.com", m["issuer"])
	assert.Equal(t, "https://patrol.example.com/oauth/introspect", m["introspection_endpoint"])
	assert.Equal(t, "https://patrol.example.com/oauth/revoke", m["revocation_endpoint"])
	assert.Equal(t, []any{}, m["response_types_supported"])
	newWorld(t, testenv.SQLite(t), nil).as("").get("/.well-known/oauth-authorization-server").problem(404, models.CodeNotFound)
}
