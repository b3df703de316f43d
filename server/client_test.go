package server_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/authztest"
	"patrol/internal/testenv"
	"patrol/models/store"
	"patrol/server"
)

// showsClient is a rule that puts the client which the policy sees into the answer.
const showsClient = `package patrol.custom

labels := {"ip": object.get(input, ["client", "ip"], "unknown"), "agent": object.get(input, ["client", "user_agent"], "unknown")}
`

func (w *world) policyWith(content string) {
	src := authztest.Source(w.t)
	src.Files["custom/own.rego"] = []byte(content)
	w.policy.Engine().Swap(authztest.Load(w.t, src))
}

// TestAuthorizeForAClient has what a caller of /authorize says of the client judged if it
// is trusted.
func TestAuthorizeForAClient(t *testing.T) {
	const from = `"client":{"ip":"203.0.113.7","user_agent":"curl/8"}`
	for name, tc := range map[string]struct {
		callers, proxies []string
		client, forward  string
		ip, agent        string
	}{
		"trusted":                 {[]string{"127.0.0.0/8"}, nil, from, "", "203.0.113.7", "curl/8"},
		"trusted by address":      {[]string{"127.0.0.1"}, nil, from, "", "203.0.113.7", "curl/8"},
		"nobody is trusted":       {nil, nil, from, "", "127.0.0.1", "a test"},
		"another is trusted":      {[]string{"10.0.0.0/8"}, nil, from, "", "127.0.0.1", "a test"},
		"it says nothing":         {[]string{"127.0.0.1"}, nil, "", "", "127.0.0.1", "a test"},
		"it says null":            {[]string{"127.0.0.1"}, nil, `"client":null`, "", "127.0.0.1", "a test"},
		"it knows no address":     {[]string{"127.0.0.1"}, nil, `"client":{"user_agent":"curl/8"}`, "", "unknown", "curl/8"},
		"it knows nothing":        {[]string{"127.0.0.1"}, nil, `"client":{}`, "", "unknown", "unknown"},
		"IPv4 in IPv6":            {[]string{"127.0.0.1"}, nil, `"client":{"ip":"::ffff:203.0.113.7"}`, "", "203.0.113.7", "unknown"},
		"IPv6 written out":        {[]string{"127.0.0.1"}, nil, `"client":{"ip":"2001:0DB8:0:0:0:0:0:1"}`, "", "2001:db8::1", "unknown"},
		"a header that lies":      {nil, nil, "", "203.0.113.7", "127.0.0.1", "a test"},
		"a header that is true":   {nil, []string{"127.0.0.1"}, "", "203.0.113.7", "203.0.113.7", "a test"},
		"behind a proxy, a lie":   {[]string{"127.0.0.1"}, []string{"127.0.0.1"}, `"client":{"ip":"192.0.2.1"}`, "203.0.113.7", "203.0.113.7", "a test"},
		"behind a proxy, trusted": {[]string{"203.0.113.7"}, []string{"127.0.0.1"}, `"client":{"ip":"192.0.2.1"}`, "203.0.113.7", "192.0.2.1", "unknown"},
		"a token for a program":   {[]string{"127.0.0.1"}, nil, `"client":{"user_agent":"patrol_0123456789abcdef_` + strings.Repeat("a", 38) + `"}`, "", "unknown", "patrol_***"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testenv.SQLite(t), func(c *server.Config, _ *server.Deps) {
				c.TrustedCallers, c.TrustedProxies = tc.callers, tc.proxies
			})
			w.policyWith(showsClient)
			pat := w.pat("ann", "ci", "acme:models:*:read")
			body := readModels
			if tc.client != "" {
				body += "," + tc.client
			}
			call := func() *call {
				c := w.with(pat.Token).set("User-Agent", "a test")
				if tc.forward != "" {
					c.set("X-Forwarded-For", tc.forward)
				}
				return c
			}
			var d api.Decision
			call().post("/authorize", "{"+body+"}").is(200).into(&d)
			assert.Equal(t, map[string]string{"ip": tc.ip, "agent": tc.agent}, d.Labels)
			var all api.DecisionBatch
			batch := fmt.Sprintf(`{"requests":[{%s},{%s}]`, readModels, readModels)
			if tc.client != "" {
				batch += "," + tc.client
			}
			call().post("/authorize/batch", batch+"}").is(200).into(&all)
			for _, one := range all.Decisions {
				assert.Equal(t, d.Labels, one.Labels)
			}
		})
	}
}

// TestAuthorizeForNoClient has what cannot be a client refused, whoever says it.
func TestAuthorizeForNoClient(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("ann", "ci", "acme:models:*:read")
	for _, tc := range []struct {
		client string
		status int
		field  string
	}{
		{`{"ip":"203.0.113.7:80"}`, 422, "client.ip"},
		{`{"ip":"fe80::1%eth0"}`, 422, "client.ip"},
		{`{"ip":"203.0.113.07"}`, 422, "client.ip"},
		{`{"ip":"203.0.113.0/24"}`, 422, "client.ip"},
		{`{"ip":"3405803783"}`, 422, "client.ip"},
		{`{"ip":" 203.0.113.7"}`, 422, "client.ip"},
		{`{"ip":""}`, 422, "client.ip"},
		{`{"ip":"203.0.113.7, 192.0.2.1"}`, 422, "client.ip"},
		{`{"user_agent":"` + strings.Repeat("a", 1025) + `"}`, 422, "client.user_agent"},
	} {
		a := w.with(pat.Token).post("/authorize", "{"+readModels+`,"client":`+tc.client+"}").is(tc.status)
		assert.Contains(t, string(a.body), tc.field, tc.client)
	}
}

// TestTheLogKeepsWhatThePolicyReads of what is known of a call.
func TestTheLogKeepsWhatThePolicyReads(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	pat := w.pat("ann", "ci", "acme:models:*:read")
	logged := func(id string) (client string) {
		require.Eventually(t, func() bool {
			list, _, err := w.decided.Decisions(t.Context(), store.DecisionFilter{TokenID: pat.ID}, store.Page{Limit: 200})
			require.NoError(t, err)
			for _, d := range list {
				if d.ID == id {
					full, err := w.decided.Decision(t.Context(), id)
					require.NoError(t, err)
					require.NotNil(t, full.Input)
					client = full.Input.Client
					return true
				}
			}
			return false
		}, 10*time.Second, 10*time.Millisecond)
		return client
	}
	d := w.ask(pat.Token, "acme:models:*:read")
	assert.Empty(t, logged(d.DecisionID), "the default policy reads neither")
	w.as("ann").send("PATCH", "/api/v1/pats/"+pat.ID, api.PATPatch{AllowedIPs: &[]string{"127.0.0.1"}}).is(200)
	d = w.ask(pat.Token, "acme:models:*:read")
	assert.True(t, d.Allowed)
	assert.JSONEq(t, `{"ip":"127.0.0.1"}`, logged(d.DecisionID), "of a token for some addresses")
	w.as("ann").send("PATCH", "/api/v1/pats/"+pat.ID, api.PATPatch{AllowedIPs: &[]string{}}).is(200)
	w.policyWith("package patrol.custom\n\ndeny contains {\"code\": \"m\", \"message\": \"M\"} if input.client.ip == \"192.0.2.1\"\n")
	d = w.ask(pat.Token, "acme:models:*:read")
	assert.JSONEq(t, `{"ip":"127.0.0.1"}`, logged(d.DecisionID))
}
