package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"patrol/api"
	"patrol/internal/authztest"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/server"
)

// accessCase is a request of testdata/authzen.yaml, and its answer.
type accessCase struct {
	Name, Section, Path string
	Method              string // POST if empty
	As                  string // whose credential: "", a service that may ask in acme; weak, session; "-": nobody's
	Type                string // the content type, "-": none
	Send                json.RawMessage
	Text                *string // what is sent instead
	Status              int     // 200 if 0
	Field               string  // that the error names
	Want                any
	Has, Lacks          []string
}

// accessPolicy does what AuthZEN's scenario asks of a policy (its section 1.4).
const accessPolicy = `package patrol.custom

said := object.get(input.request.context, "authzen", {})

role := object.get(said, ["subject", "role"], "")

archived if object.get(said, ["resource", "status"], "") == "archived"

archived if {
	not said.resource.status
	input.request.entity == "record-2"
}

deny contains {"code": "archived", "message": "Only admins write what is archived."} if {
	input.request.operation == "write"
	archived
	role != "admin"
}

deny contains {"code": "readers_only", "message": "Bob only reads."} if {
	input.request.operation == "write"
	startswith(input.user.email, "bob@")
	not archived
}

deny contains {"code": "hard_delete", "message": "Records are deleted softly."} if {
	input.request.operation == "delete"
	not said.action.soft == true
}

deny contains {"code": "night", "message": "Not by night."} if input.request.context.night == true
`

// accessWorld is a world with the people and the records of the scenario.
func accessWorld(t *testing.T, url string, change func(*server.Config)) (w *world, ids map[string]string) {
	t.Helper()
	w = newWorld(t, url, func(c *server.Config, _ *server.Deps) {
		c.AuthZENDomain, c.PublicURL = "acme", "https://patrol.example.com"
		if change != nil {
			change(c)
		}
	})
	src := authztest.Source(t)
	src.Files["custom/own.rego"] = []byte(accessPolicy)
	src.Files["patrol/catalog/data.yaml"] = append(slices.Clone(src.Files["patrol/catalog/data.yaml"]), `  record:
    title: Records
    entities: [record-1, record-2]
    operations: {read: {title: Read}, write: {title: Write}, delete: {title: Delete}}
`...)
	roles := string(src.Files["patrol/roles/data.yaml"])
	src.Files["patrol/roles/data.yaml"] = []byte(strings.Replace(roles, "member:\n", "member:\n  record: {read: true, write: true, delete: true}\n", 1))
	w.policy.Engine().Swap(authztest.Load(t, src))
	ids = map[string]string{}
	for _, name := range []string{"alice", "bob"} {
		u, err := w.store.CreateUser(t.Context(), by, models.User{Email: name + "@example.com", Name: name, PasswordHash: w.users["ann"].PasswordHash})
		require.NoError(t, err)
		w.users[name] = u
		w.member(name, "acme", "member")
	}
	for name, u := range w.users {
		ids[name] = u.ID
	}
	pat := w.pat("alice", "reads", "acme:record:record-1:read", "acme:record:record:named:read")
	ids["pat"], ids["token"], ids["forged"] = pat.ID, pat.Token, withAnotherSecret(t, pat.Token)
	ids["asks"] = w.pat("dom", "asks", "acme:decisions:*:evaluate").Token
	ids["weak"] = w.pat("ann", "weak", "acme:decisions:*:evaluate", "acme:models:*:read").Token // whose role does not permit it
	return w, ids
}

// withAnotherSecret is a token with the id of another one, and a secret of its own.
func withAnotherSecret(t *testing.T, text string) string {
	t.Helper()
	token, err := models.Mint(strings.NewReader(strings.Repeat("forged token ", 100)))
	require.NoError(t, err)
	whole, err := models.ParseToken(text)
	require.NoError(t, err)
	token.ID = whole.ID
	return token.Reveal()
}

func (c accessCase) ask(w *world, ids map[string]string) *answer {
	token := map[string]string{"": ids["asks"], "weak": ids["weak"], "session": "the session"}[c.As]
	call := w.as("")
	switch {
	case c.As == "session":
		call = w.as("root")
	case token != "":
		call = w.with(token)
	}
	if c.Type == "" {
		c.Type = "application/json"
	}
	if c.Type != "-" {
		call.set("Content-Type", c.Type)
	}
	text := string(c.Send)
	if c.Text != nil {
		text = *c.Text
	}
	names := slices.SortedFunc(maps.Keys(ids), func(a, b string) int { return len(b) - len(a) })
	for _, name := range names {
		text = strings.ReplaceAll(text, "$"+name, ids[name])
	}
	method := c.Method
	if method == "" {
		method = "POST"
	}
	return call.set("X-Request-Id", "what the caller calls it: 7/æ").send(method, "/access/v1/"+c.Path, text)
}

// within reports whether all that want has is in got.
func within(want, got any) bool {
	switch want := want.(type) {
	case map[string]any:
		have, ok := got.(map[string]any)
		for name, x := range want {
			ok = ok && within(x, have[name])
		}
		return ok
	case []any:
		have, ok := got.([]any)
		ok = ok && len(have) == len(want)
		for i := range want {
			ok = ok && within(want[i], have[i])
		}
		return ok
	}
	return want == got
}

func TestAccess(t *testing.T) {
	content, err := os.ReadFile("testdata/authzen.yaml")
	require.NoError(t, err)
	var cases []accessCase
	require.NoError(t, yaml.UnmarshalStrict(content, &cases))
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		w, ids := accessWorld(t, url, nil)
		seen := map[string]bool{}
		for _, c := range cases {
			t.Run(c.Section+" "+c.Name, func(t *testing.T) {
				require.False(t, seen[c.Section+c.Name], "the case is there twice")
				seen[c.Section+c.Name] = true
				status := max(c.Status, 0)
				if status == 0 {
					status = 200
				}
				a := c.ask(w, ids)
				a.t = t
				a.is(status)
				for _, secret := range []string{ids["token"], ids["forged"]} {
					assert.NotContains(t, string(a.body), secret)
				}
				if status != 405 {
					assert.Equal(t, "what the caller calls it: 7/æ", a.header.Get("X-Request-Id"))
				}
				if status == 401 {
					assert.Contains(t, a.header.Get("WWW-Authenticate"), "Bearer")
				}
				if c.Field != "" {
					var p api.Problem
					a.into(&p)
					require.NotEmpty(t, p.Errors, "%s", a.body)
					assert.Equal(t, c.Field, p.Errors[0].Field)
				}
				if c.Want != nil {
					var got any
					a.into(&got)
					assert.True(t, within(c.Want, got), "%s", a.body)
				}
				if c.Has != nil {
					found := results(a)
					for _, name := range c.Has {
						assert.Contains(t, found, stand(name, ids))
					}
					for _, name := range c.Lacks {
						assert.NotContains(t, found, stand(name, ids))
					}
					if len(c.Has) == 0 {
						assert.Empty(t, found)
						assert.Contains(t, string(a.body), `"results":[]`)
					}
				}
			})
		}
		assert.NotContains(t, w.logs.String(), ids["token"])
		assert.NotContains(t, w.logs.String(), ids["forged"])
	})
}

// stand replaces a placeholder of the cases by the id of this run.
func stand(name string, ids map[string]string) string {
	if id, ok := ids[strings.TrimPrefix(name, "$")]; ok && strings.HasPrefix(name, "$") {
		return id
	}
	return name
}

// results are the ids or names that a search found.
func results(a *answer) (found []string) {
	a.t.Helper()
	var out api.AccessResults
	a.into(&out)
	for _, r := range out.Results {
		found = append(found, r.ID+r.Name)
	}
	return found
}

// TestAccessPages goes through the results of searches page by page.
func TestAccessPages(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		w, ids := accessWorld(t, url, nil)
		for i := range 7 {
			u, err := w.store.CreateUser(t.Context(), by, models.User{Email: fmt.Sprintf("user%d@example.com", i), Name: "u"})
			require.NoError(t, err)
			if i%2 == 0 {
				_, err = w.store.SetMember(t.Context(), by, models.Membership{UserID: u.ID, Domain: "acme", Role: "member"})
				require.NoError(t, err)
			}
		}
		for name, what := range map[string]struct{ path, send string }{
			"subjects":  {"search/subject", `"subject":{"type":"user"},"action":{"name":"read"},"resource":{"type":"record","id":"record-1"}`},
			"tokens":    {"search/subject", `"subject":{"type":"pat"},"action":{"name":"read"},"resource":{"type":"record","id":"record-1"}`},
			"resources": {"search/resource", `"subject":{"type":"user","id":"alice@example.com"},"action":{"name":"read"},"resource":{"type":"record"}`},
			"actions":   {"search/action", `"subject":{"type":"user","id":"alice@example.com"},"resource":{"type":"models","id":"m"}`},
		} {
			t.Run(name, func(t *testing.T) {
				ask := func(page string) *answer {
					a := accessCase{Path: what.path, Send: json.RawMessage(`{` + what.send + page + `}`)}.ask(w, ids)
					a.t = t
					return a
				}
				all := results(ask("").is(200))
				require.NotEmpty(t, all)
				var got []string
				page := `,"page":{"limit":2}`
				for range 20 {
					var out api.AccessResults
					a := ask(page).is(200).into(&out)
					assert.LessOrEqual(t, len(out.Results), 2)
					assert.Equal(t, len(out.Results), out.Page.Count)
					got = append(got, results(a)...)
					if out.Page.NextToken == "" {
						break
					}
					page = `,"page":{"token":"` + out.Page.NextToken + `"}`
					again := ask(`,"page":{"token":"` + out.Page.NextToken + `","limit":2}`).is(200)
					assert.JSONEq(t, string(ask(page).body), string(again.body), "with the limit said again")
					ask(`,"page":{"token":"`+out.Page.NextToken+`","limit":3}`).problem(400, models.CodeMalformed)
					ask(`,"context":{"other":1}`+page).problem(400, models.CodeMalformed)
					ask(`,"page":{"token":"`+strings.ToLower(out.Page.NextToken)+`"}`).problem(400, models.CodeMalformed)
				}
				assert.Equal(t, all, got)
			})
		}
	})
}

// TestAccessDependsOn has what an answer depends on.
func TestAccessDependsOn(t *testing.T) {
	w, ids := accessWorld(t, testenv.SQLite(t), nil)
	var d api.AccessDecision
	accessCase{Path: "evaluation", Send: json.RawMessage(`{"subject":{"type":"user","id":"$alice"},"action":{"name":"read"},"resource":{"type":"record","id":"record-1"}}`)}.ask(w, ids).is(200).into(&d)
	require.NotNil(t, d.Context)
	assert.Contains(t, d.Context.DependsOn, "context")
	assert.NotContains(t, d.Context.DependsOn, "http")
	assert.Empty(t, d.Context.TokenID, "nobody showed a token")
	assert.Equal(t, ids["alice"], d.Context.UserID)
}

// TestAccessIsNoUse asks about a token by its id: nobody used it.
func TestAccessIsNoUse(t *testing.T) {
	w, ids := accessWorld(t, testenv.SQLite(t), nil)
	accessCase{Path: "evaluation", Send: json.RawMessage(`{"subject":{"type":"pat","id":"$pat"},"action":{"name":"read"},"resource":{"type":"record","id":"record-1"}}`)}.ask(w, ids).is(200)
	pat, err := w.store.PAT(t.Context(), ids["pat"])
	require.NoError(t, err)
	assert.Nil(t, pat.LastUsedAt)
}

// TestAccessMetadata has where the metadata is, and where not.
func TestAccessMetadata(t *testing.T) {
	for name, tc := range map[string]struct {
		public string
		status int
	}{
		"https":              {"https://patrol.example.com", 200},
		"https, with a port": {"https://patrol.example.com:8443/", 200},
		"http":               {"http://patrol.example.com", 404},
		"none":               {"", 404},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := accessWorld(t, testenv.SQLite(t), func(c *server.Config) { c.PublicURL = tc.public })
			a := w.as("").get("/.well-known/authzen-configuration").is(tc.status)
			if tc.status != 200 {
				return
			}
			var m map[string]string
			a.into(&m)
			base := strings.TrimSuffix(tc.public, "/")
			assert.Equal(t, map[string]string{
				"policy_decision_point": base, "access_evaluation_endpoint": base + "/access/v1/evaluation", "access_evaluations_endpoint": base + "/access/v1/evaluations",
				"search_subject_endpoint": base + "/access/v1/search/subject", "search_resource_endpoint": base + "/access/v1/search/resource", "search_action_endpoint": base + "/access/v1/search/action",
			}, m)
			for _, endpoint := range m {
				if path := strings.TrimPrefix(endpoint, base); path != "" {
					w.as("").send("POST", path, "{}").is(401)
				}
			}
		})
	}
}

// TestAccessWithoutADomain has resources whose domain nobody says.
func TestAccessWithoutADomain(t *testing.T) {
	w, ids := accessWorld(t, testenv.SQLite(t), func(c *server.Config) { c.AuthZENDomain = "" })
	for name, tc := range map[string]struct {
		resource string
		status   int
	}{
		"not said":               {`{"type":"record","id":"record-1"}`, 400},
		"said":                   {`{"type":"record","id":"record-1","properties":{"domain":"acme"}}`, 200},
		"the domain itself":      {`{"type":"domains","id":"acme"}`, 200},
		"another one, as itself": {`{"type":"domains","id":"beta"}`, 403},
	} {
		t.Run(name, func(t *testing.T) {
			a := accessCase{Path: "evaluation", Send: json.RawMessage(`{"subject":{"type":"user","id":"$alice"},"action":{"name":"read"},"resource":` + tc.resource + `}`)}.ask(w, ids)
			a.t = t
			a.is(tc.status)
			if tc.status == 400 {
				assert.True(t, bytes.Contains(a.body, []byte("resource.properties.domain")), "%s", a.body)
			}
		})
	}
}
