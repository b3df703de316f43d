package server_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/server"
)

// TestFoundCredentials reports tokens and what looks like them, as a stranger.
func TestFoundCredentials(t *testing.T) {
	const path = "/api/v1/credentials/revoke"
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, func(c *server.Config, _ *server.Deps) { c.FoundPerMinute = 20 })
		report := func(texts ...string) *answer {
			return w.as("").post(path, api.FoundCredentials{Credentials: texts})
		}
		revoked := func(id string) bool {
			pat, err := w.store.PAT(t.Context(), id)
			require.NoError(t, err)
			return pat.RevokedAt != nil
		}
		one, two, kept := w.pat("ann", "one", "acme:models:*:read"), w.pat("dom", "two", "acme:models:*:read"), w.pat("ann", "kept", "acme:models:*:read")
		first := report(one.Token, two.Token, one.Token, "garbage", "", withAnotherSecret(t, kept.Token), kept.ID, w.session("ann"), "a\x00b").is(202)
		assert.True(t, revoked(one.ID))
		assert.True(t, revoked(two.ID))
		assert.False(t, revoked(kept.ID))
		assert.False(t, w.allowed(one.Token, "models", "*", "read"))
		assert.True(t, w.allowed(kept.Token, "models", "*", "read"))
		w.as("ann").get("/api/v1/me").is(200)
		for _, texts := range [][]string{{one.Token}, {"garbage"}, {withAnotherSecret(t, kept.Token)}} {
			a := report(texts...).is(202)
			assert.Equal(t, string(first.body), string(a.body), "the same for all")
			for name := range a.header {
				if name != "X-Request-Id" && name != "Date" {
					assert.Equal(t, first.header[name], a.header[name], name)
				}
			}
		}
		var seen api.PAT
		w.as("ann").get("/api/v1/pats/" + one.ID).is(200).into(&seen)
		require.NotNil(t, seen.RevokedReason)
		assert.Contains(t, *seen.RevokedReason, "found")

		many := make([]string, 1000)
		for i := range many {
			many[i] = withAnotherSecret(t, kept.Token)
		}
		report(many...).is(202)
		for name, tc := range map[string]struct {
			body   string
			status int
			code   models.Code
		}{
			"none":            {`{"credentials":[]}`, 422, models.CodeInvalid},
			"too many":        {`{"credentials":["a"` + strings.Repeat(`,"a"`, 1000) + `]}`, 422, models.CodeInvalid},
			"nothing":         {`{}`, 422, models.CodeInvalid},
			"of another type": {`{"credentials":[7]}`, 422, models.CodeInvalid},
			"too large":       {`{"credentials":["` + strings.Repeat("x", 256<<10) + `"]}`, 413, models.CodeTooLarge},
			"an unknown name": {`{"credentials":["a"],"type":"x"}`, 422, models.CodeInvalid},
			"no JSON":         {`credentials`, 400, models.CodeMalformed},
		} {
			t.Run(name, func(t *testing.T) {
				a := w.as("").post(path, tc.body)
				a.t = t
				a.problem(tc.status, tc.code)
			})
		}
		assert.NotContains(t, w.logs.String(), kept.Token)
		for range 20 {
			if a := report("garbage"); a.status == 429 {
				assert.NotEmpty(t, a.header.Get("Retry-After"))
				w.clock.Advance(time.Minute)
				report(kept.Token).is(202)
				assert.True(t, revoked(kept.ID))
				return
			}
		}
		t.Error("there is no limit")
	})
}

// TestOpenAPIIsServed has the document in both forms, the same, for anybody.
func TestOpenAPIIsServed(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	a := w.as("").get("/openapi.yaml").is(200)
	assert.Equal(t, "application/yaml", a.header.Get("Content-Type"))
	assert.Equal(t, string(api.OpenAPI), string(a.body))
	var inYAML, inJSON any
	require.NoError(t, yaml.Unmarshal(a.body, &inYAML))
	b := w.as("").get("/openapi.json").is(200)
	require.NoError(t, json.Unmarshal(b.body, &inJSON))
	assert.Equal(t, inYAML, inJSON)
	assert.Equal(t, "cross-origin", b.header.Get("Cross-Origin-Resource-Policy"), "tools in browsers read it")
	w.as("").post("/openapi.json", nil).is(405)
}

// TestRevokeSome revokes several tokens at once, or none.
func TestRevokeSome(t *testing.T) {
	const path = "/api/v1/pats/revoke"
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		one, two, three := w.pat("ann", "one", "acme:models:*:read"), w.pat("ann", "two", "acme:models:*:read"), w.pat("ann", "three", "acme:models:*:read")
		others := w.pat("dom", "others", "acme:models:*:read")
		some := func(ids ...string) *answer { return w.as("ann").post(path, api.SomePATs{IDs: ids}) }
		for name, tc := range map[string]struct {
			ids    []string
			status int
			code   models.Code
			field  string
		}{
			"somebody else's": {[]string{one.ID, others.ID}, 404, models.CodeNotFound, "ids[1]"},
			"nobody's":        {[]string{"0000000000000000", one.ID}, 404, models.CodeNotFound, "ids[0]"},
			"no id":           {[]string{one.ID, "a\x00b"}, 404, models.CodeNotFound, "ids[1]"},
			"none":            {[]string{}, 422, models.CodeInvalid, "ids"},
			"twice":           {[]string{one.ID, one.ID}, 422, models.CodeInvalid, "ids[1]"},
		} {
			t.Run(name, func(t *testing.T) {
				a := some(tc.ids...)
				a.t = t
				p := a.problem(tc.status, tc.code)
				require.NotEmpty(t, p.Errors)
				assert.Equal(t, tc.field, p.Errors[0].Field)
				for _, pat := range []api.PAT{one, others} {
					assert.True(t, w.allowed(pat.Token, "models", "*", "read"), "nothing was revoked")
				}
			})
		}
		for range 2 {
			var page api.Page[api.PAT]
			some(two.ID, one.ID).is(200).into(&page)
			require.Len(t, page.Items, 2)
			assert.Equal(t, []string{two.ID, one.ID}, []string{page.Items[0].ID, page.Items[1].ID})
			assert.Equal(t, models.StatusRevoked, page.Items[0].Status)
		}
		assert.False(t, w.allowed(one.Token, "models", "*", "read"))
		assert.False(t, w.allowed(two.Token, "models", "*", "read"))
		assert.True(t, w.allowed(three.Token, "models", "*", "read"))
	})
}
