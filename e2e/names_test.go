package e2e_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"sigs.k8s.io/yaml"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
	"patrol/server/decisionlog"
	"patrol/server/forwardauth"
)

// TestExampleDeniesEverySpelling: the rule of examples/openai denies the model however
// it is spelled, in requests and in scopes.
func TestExampleDeniesEverySpelling(t *testing.T) {
	rule, err := os.ReadFile("../examples/openai/custom.rego")
	require.NoError(t, err)
	up := newUpstream(t)
	p := openPatrol(t, testenv.SQLite(t), up.url, options{kinds: models.DomainKinds{models.Any: models.UpstreamOllama}})
	p.policy.Swap(defaultPolicy(t, map[string]string{"custom/custom.rego": string(rule)}))
	named, _ := p.mint(t, "member", "named", "acme:models:LAB-1:execute", "acme:models:llama3:execute")
	for token, text := range map[string]string{"a scope for it": named, "a scope for all": p.tokens["user"]} {
		for name, status := range map[string]int{
			"lab-1": 403, "LAB-1": 403, "lab-1:latest": 403, "library/lab-1:latest": 403, "Registry.Ollama.AI/library/Lab-1": 403,
			"https://registry.ollama.ai/library/lab-1:LATEST": 403, "llama3": 200, "library/llama3:latest": 200,
		} {
			lines := []string{"Host: x", "Content-Type: application/json", "Authorization: Bearer " + text}
			res := exchange(t, p.http, http.MethodPost, "/proxy/acme/api/chat", lines, fmt.Sprintf(`{"model":%q}`, name))
			assert.Equal(t, status, res.status, "%s with %s: %s", name, token, res.body)
			if status == http.StatusForbidden {
				assert.Contains(t, res.body, `"code":"laboratory"`, name)
			}
		}
	}
}

// laboratory denies one model by name.
const laboratory = `# METADATA
# title: Rules of our own
# schemas:
#   - input: schema.authz_input
package patrol.custom

# METADATA
# title: Nobody uses lab-1
# custom:
#   code: laboratory
#   message: Not this one.
reason := rego.metadata.rule().custom if input.request.entity == "lab-1"
`

// TestOneJudgeAskedAgain holds that whatever makes a decision again judges what was judged, and not
// how the request spelled it: `policy replay`, `policy eval`, `policy explain`, the playground, a
// shadow, and what a page says of today's policy.
func TestOneJudgeAskedAgain(t *testing.T) {
	rec := &taken{}
	p := openPatrol(t, testenv.SQLite(t), newUpstream(t).url, options{kinds: models.DomainKinds{"acme": models.UpstreamOllama}, recorder: rec})
	inForce := p.policy.Current()
	stricter := defaultPolicy(t, map[string]string{"custom/custom.rego": laboratory})
	masker, err := decisionlog.NewMasker(t.Context(), p.policy, nil, []byte("{}"))
	require.NoError(t, err)
	conn, err := grpc.NewClient(p.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	token, _ := p.mint(t, "member", "spelled", "acme:models:Library/LAB-1:execute")
	lines := []string{"Host: x", "Content-Type: application/json", "Authorization: Bearer " + token}
	const chat, asked = "/proxy/acme/api/chat", `{"domain":"acme","entity_type":"models","entity":"LAB-1:latest","operation":"execute"}`
	for surface, ask := range map[string]func(){
		"authorize": func() { exchange(t, p.http, http.MethodPost, "/authorize", lines, asked) },
		"batch": func() {
			exchange(t, p.http, http.MethodPost, "/authorize/batch", lines, `{"requests":[`+asked+`]}`)
		},
		"gateway": func() { exchange(t, p.http, http.MethodPost, chat, lines, `{"model":"LAB-1:latest"}`) },
		"extauthz": func() {
			_, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), checkRequest(http.MethodPost, chat, lines, `{"model":"LAB-1:latest"}`))
			require.NoError(t, err)
		},
	} {
		ask()
		records := rec.take()
		require.Len(t, records, 1, surface)
		require.True(t, records[0].Decision.Allowed, surface)
		var l models.LoggedDecision
		require.NoError(t, masker.Logged(t.Context(), &records[0], &l))
		assert.Equal(t, "acme:models:lab-1:execute", l.Request.Scope(), surface)
		event := l.AppendEvent(nil, []byte("{}"))
		for policy, want := range map[*engine.Snapshot]bool{inForce: true, stricter: false} {
			again, err := workbench.ReplayDecision(t.Context(), policy, &l, &workbench.FactCache{})
			require.NoError(t, err)
			assert.Equal(t, want, again.Allowed, "%s: replayed", surface)
			answer, err := policy.Evaluate(t.Context(), event)
			require.NoError(t, err)
			assert.Equal(t, want, answer.Allowed, "%s: evaluated", surface)
			explained, err := workbench.Explain(t.Context(), policy, event)
			require.NoError(t, err)
			assert.Equal(t, want, explained.Allowed, "%s: explained", surface)
			rejudged, err := workbench.ReplayEvent(t.Context(), policy, event, &workbench.FactCache{})
			require.NoError(t, err)
			assert.False(t, rejudged.Unreadable, surface)
			assert.Equal(t, want, rejudged.Kind == "", "%s: by a shadow", surface)
		}
	}
}

type nameCase struct {
	Model  string `json:"model"`
	Domain string `json:"domain"`
	Token  string `json:"token"`
	Status int    `json:"status"`
	Judged string `json:"judged"`
	Kept   int    `json:"kept"`
}

func TestNamesOverEverySurface(t *testing.T) {
	content, err := os.ReadFile("testdata/names.yaml")
	require.NoError(t, err)
	var corpus struct {
		Scopes []string   `json:"scopes"`
		Names  []nameCase `json:"names"`
	}
	require.NoError(t, yaml.UnmarshalStrict(content, &corpus))
	require.Greater(t, len(corpus.Names), 30)
	testenv.EachDatabase(t, func(t *testing.T, database string) {
		up := newUpstream(t)
		p := openPatrol(t, database, up.url, options{kinds: models.DomainKinds{"acme": models.UpstreamOllama}})
		p.policy.Swap(defaultPolicy(t, map[string]string{"custom/custom.rego": laboratory}))
		by := models.Actor{Kind: models.ActorSystem}
		_, err := p.store.SetMember(t.Context(), by, models.Membership{UserID: p.users["member"], Domain: "beta", Role: "member"})
		require.NoError(t, err)
		old, stored := p.mint(t, "member", "old", corpus.Scopes...)
		whole, _ := p.mint(t, "member", "any", "*:models:*:execute", "*:models:*:read")
		tokens := map[string]string{"old": old, "any": whole}
		conn, err := grpc.NewClient(p.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close()) }()
		envoy := authv3.NewAuthorizationClient(conn)

		batch := map[string][]any{}
		for i, c := range corpus.Names {
			about := fmt.Sprintf("%s in %s with %s", c.Model, c.Domain, c.Token)
			ask := map[string]any{"domain": c.Domain, "entity_type": "models", "entity": c.Model, "operation": "execute"}
			batch[c.Token] = append(batch[c.Token], ask)
			body, err := json.Marshal(ask)
			require.NoError(t, err)
			lines := []string{"Host: models.example.com", "Content-Type: application/json", "Authorization: Bearer " + tokens[c.Token]}
			res := exchange(t, p.http, http.MethodPost, "/authorize", lines, string(body))
			require.Equal(t, http.StatusOK, res.status, res.body)
			var d api.Decision
			require.NoError(t, json.Unmarshal([]byte(res.body), &d))
			assert.Equal(t, c.Status, d.Status, "%s: %v", about, d.Reasons)

			target := "/proxy/" + c.Domain + "/api/chat"
			chat := fmt.Sprintf("{ \"stream\":false,\n\"model\": %q, \"messages\":[{\"content\":%q}] }", c.Model, c.Model)
			id := fmt.Sprint("name-", i)
			res = exchange(t, p.http, http.MethodPost, target, append(lines, caseHeader+": "+id, "Content-Digest: sha-256=:x:"), chat)
			assert.Equal(t, c.Status, res.status, "%s: %s", about, res.body)
			if arrived := up.take(id); c.Status == http.StatusOK && assert.Len(t, arrived, 1, about) {
				want := strings.Replace(chat, fmt.Sprintf("%q", c.Model), fmt.Sprintf("%q", c.Judged), 1)
				assert.Equal(t, want, arrived[0].body, "only the name's bytes change")
				assert.Equal(t, c.Judged == c.Model, arrived[0].header.Get("Content-Digest") != "", "a digest that is not true does not pass")
			} else if c.Status != http.StatusOK {
				assert.Empty(t, arrived, about)
			}

			kept := cmp.Or(c.Kept, c.Status)
			check, err := envoy.Check(t.Context(), checkRequest(http.MethodPost, target, lines, chat))
			require.NoError(t, err)
			assert.Equal(t, kept == http.StatusOK, check.GetOkResponse() != nil, "%s: %v", about, check)
			res = exchange(t, p.forward[forwardauth.Envoy], http.MethodPost, "/forward-auth"+target, append(lines, "X-Envoy-Auth-Partial-Body: false"), chat)
			assert.Equal(t, kept, res.status, "%s: %s", about, res.body)
		}
		for token, asks := range batch {
			body, err := json.Marshal(map[string]any{"requests": asks})
			require.NoError(t, err)
			res := exchange(t, p.http, http.MethodPost, "/authorize/batch", []string{"Host: patrol", "Content-Type: application/json", "Authorization: Bearer " + tokens[token]}, string(body))
			require.Equal(t, http.StatusOK, res.status, res.body)
			var answers api.DecisionBatch
			require.NoError(t, json.Unmarshal([]byte(res.body), &answers))
			at := 0
			for _, c := range corpus.Names {
				if c.Token == token {
					assert.Equal(t, c.Status, answers.Decisions[at].Status, c.Model)
					at++
				}
			}
		}

		// The path is where a name stands, too, and another domain may be told its kind.
		bearer := "Authorization: Bearer " + whole
		for name, want := range map[string]string{"Library/LLAMA3:latest": "/v1/models/llama3", "hf.co/Me/X": "/v1/models/hf.co/me/x", "lab-2": "/v1/models/lab-2"} {
			id := "path-" + name
			res := exchange(t, p.http, http.MethodGet, "/proxy/acme/v1/models/"+name, []string{"Host: x", bearer, caseHeader + ": " + id}, "")
			require.Equal(t, http.StatusOK, res.status, res.body)
			arrived := up.take(id)
			require.Len(t, arrived, 1)
			assert.Equal(t, want, arrived[0].target)
		}
		for kind, want := range map[string]bool{"": true, "ollama": false, "vllm": true, "ollamma": false} {
			req := checkRequest(http.MethodGet, "/proxy/beta/v1/models/LAB-1", []string{"Host: x", bearer}, "")
			said := ""
			if kind != "" {
				req.Attributes.ContextExtensions = map[string]string{"patrol.upstream_kind": kind}
				said = "/kind=" + kind
			}
			check, err := envoy.Check(t.Context(), req)
			require.NoError(t, err)
			assert.Equal(t, want, check.GetOkResponse() != nil, "kind %q: %v", kind, check)
			res := exchange(t, p.forward[forwardauth.Caddy], http.MethodGet, "/forward-auth"+said,
				[]string{"Host: x", bearer, "X-Forwarded-Method: GET", "X-Forwarded-Uri: /proxy/beta/v1/models/LAB-1"}, "")
			assert.Equal(t, want, res.status == http.StatusOK, "kind %q: %s", kind, res.body)
		}

		kept, err := p.store.PAT(t.Context(), stored.ID)
		require.NoError(t, err)
		for i, s := range kept.Scopes {
			assert.Equal(t, corpus.Scopes[i], s.String(), "what was typed stays")
		}
	})
}
