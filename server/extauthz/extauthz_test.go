package extauthz_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"patrol/api"
	"patrol/internal/authztest"
	"patrol/models"
	"patrol/server/authz"
	"patrol/server/extauthz"
)

func TestMain(m *testing.M) {
	// The authorizer's caches live as long as the process.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/maypok86/otter/v2.periodicCleanUp[...]"))
}

// bed is a running server in a world, and a connection to it.
type bed struct {
	*authztest.World
	server   *extauthz.Server
	registry *prometheus.Registry
	conn     *grpc.ClientConn
	client   authv3.AuthorizationClient
	stop     func() // ends the server and waits for that
}

func config() extauthz.Config {
	cfg := extauthz.DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	cfg.DrainDelay = 0 // whoever asks here does not come again
	return cfg
}

func start(t *testing.T, change func(*extauthz.Config)) *bed {
	t.Helper()
	w := authztest.New(t)
	return startWith(t, w, w, change)
}

func startWith(t *testing.T, w *authztest.World, a extauthz.Authorizer, change func(*extauthz.Config)) *bed {
	t.Helper()
	cfg := config()
	if change != nil {
		change(&cfg)
	}
	b := &bed{World: w, registry: prometheus.NewRegistry()}
	var err error
	b.server, err = extauthz.New(cfg, extauthz.Deps{Authz: a, Logger: w.Log.Logger(), Registerer: b.registry})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	require.NoError(t, b.server.Listen(ctx))
	done := make(chan error, 1)
	go func() { done <- b.server.Serve(ctx) }()
	stopped := false
	b.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(b.stop)
	if cfg.TLS.CertFile == "" {
		b.conn, err = grpc.NewClient(b.server.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		t.Cleanup(func() { _ = b.conn.Close() }) // a test may have closed it
		b.client = authv3.NewAuthorizationClient(b.conn)
	}
	return b
}

// ask sends a question as Envoy would.
func (b *bed) ask(t testing.TB, req *authv3.CheckRequest) *authv3.CheckResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	res, err := b.client.Check(ctx, req)
	require.NoError(t, err, "a question that arrived gets an answer")
	return res
}

func (b *bed) count(t testing.TB, outcome string) float64 {
	t.Helper()
	families, err := b.registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "patrol_extauthz_checks_total" && m.GetLabel()[0].GetValue() == outcome {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("there is no outcome %s", outcome)
	return 0
}

// question builds a CheckRequest. Headers are pairs "name: value"; a repeated name
// is joined with a comma, as Envoy does.
func question(method, path string, headers ...string) *authv3.CheckRequest {
	in := &authv3.AttributeContext_HttpRequest{
		Method: method, Path: path, Host: "models.example.com", Scheme: "https", Protocol: "HTTP/1.1",
		Headers: map[string]string{":method": method, ":path": path, ":authority": "models.example.com"},
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if before, ok := in.Headers[name]; ok {
			value = before + "," + value
		}
		in.Headers[name] = value
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{Address: "192.0.2.7", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 4711}},
		}}},
		Request: &authv3.AttributeContext_Request{Http: in},
	}}
}

func bearer(token string) string { return "authorization: Bearer " + token }

func denialStatus(res *authv3.CheckResponse) int {
	if res.GetOkResponse() != nil {
		return http.StatusOK
	}
	return int(res.GetDeniedResponse().GetStatus().GetCode())
}

func headers(options []*corev3.HeaderValueOption) map[string]string {
	out := map[string]string{}
	for _, o := range options {
		out[o.GetHeader().GetKey()] = o.GetHeader().GetValue()
	}
	return out
}

func problem(t testing.TB, res *authv3.CheckResponse) api.Problem {
	t.Helper()
	denied := res.GetDeniedResponse()
	require.NotNil(t, denied)
	assert.Equal(t, "application/problem+json", headers(denied.GetHeaders())["content-type"])
	var p api.Problem
	require.NoError(t, json.Unmarshal([]byte(denied.GetBody()), &p))
	return p
}

func TestAllow(t *testing.T) {
	b := start(t, nil)
	id, token := b.Mint(t, "u1", "acme:models:*:read")
	res := b.ask(t, question("GET", "/proxy/acme/v1/models", bearer(token), "x-request-id: 01234567-89ab"))
	require.Equal(t, 200, denialStatus(res), "%v", res)
	ok := res.GetOkResponse()
	assert.Zero(t, res.GetStatus().GetCode())
	assert.Equal(t, map[string]string{"x-patrol-user": "u1", "x-patrol-domain": "acme", "x-patrol-token-id": id}, headers(ok.GetHeaders()))
	for _, h := range ok.GetHeaders() {
		assert.Equal(t, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD, h.GetAppendAction())
	}
	assert.ElementsMatch(t, []string{"authorization", "x-guardrails-request"}, ok.GetHeadersToRemove())
	metadata := res.GetDynamicMetadata().AsMap()
	assert.Equal(t, id, metadata["token_id"])
	assert.Equal(t, "u1", metadata["user"])
	assert.Equal(t, "acme", metadata["domain"])
	assert.Equal(t, true, metadata["allowed"])
	assert.Equal(t, b.Policy.Current().Revision(), metadata["revision"])
	assert.NotEmpty(t, metadata["scope"])
	assert.NotEmpty(t, metadata["decision_id"])
	assert.Equal(t, metadata["decision_id"], headers(ok.GetResponseHeadersToAdd())["x-patrol-decision-id"])
	assert.InDelta(t, 1, b.count(t, "allow"), 0)
}

func TestDeny(t *testing.T) {
	b := start(t, nil)
	_, reader := b.Mint(t, "u1", "acme:models:*:read")
	deadID, dead := b.Mint(t, "u1", "acme:models:*:read")
	b.Revoke(deadID)
	for _, c := range []struct {
		name      string
		req       *authv3.CheckRequest
		status    int
		reason    string
		challenge string
	}{
		{"no token", question("GET", "/proxy/acme/v1/models"), 401, "token_missing", `Bearer realm="patrol"`},
		{"another scheme", question("GET", "/proxy/acme/v1/models", "authorization: Basic dTpw"), 401, "token_missing", `Bearer realm="patrol"`},
		{"garbage", question("GET", "/proxy/acme/v1/models", bearer("patrol_x")), 401, "token_malformed", `Bearer realm="patrol", error="invalid_token"`},
		{"a token in the query", question("GET", "/proxy/acme/v1/models?access_token="+reader), 401, "token_missing", `Bearer realm="patrol"`},
		{"revoked", question("GET", "/proxy/acme/v1/models", bearer(dead)), 401, "token_revoked", `Bearer realm="patrol", error="invalid_token"`},
		{
			"out of scope", question("POST", "/proxy/acme/v1/chat/completions", bearer(reader)), 403, "out_of_scope",
			`Bearer realm="patrol", error="insufficient_scope", scope="acme:models:*:execute"`,
		},
		{
			"out of scope and of the role", question("DELETE", "/proxy/acme/v1/models/llama3", bearer(reader)), 403, "out_of_scope",
			"", // another scope would not help
		},
		{
			"another domain", question("GET", "/proxy/nowhere/v1/models", bearer(reader)), 403, "domain_unknown",
			"",
		},
		{"no route", question("GET", "/proxy/acme/v2/secrets", bearer(reader)), 403, "route_unmapped", ""},
		{"no domain", question("GET", "/v1/models", bearer(reader)), 403, "route_unmapped", ""},
		{"an ambiguous path", question("GET", "/proxy/acme/v1/x/../models", bearer(reader)), 403, "route_unmapped", ""},
		{"a token in the path", question("GET", "/proxy/acme/v1/models/"+reader, bearer(reader)), 403, "route_unmapped", ""},
		{"a method override", question("GET", "/proxy/acme/v1/models", bearer(reader), "x-http-method-override: DELETE"), 403, "route_unmapped", ""},
		{"an upgrade", question("GET", "/proxy/acme/v1/models", bearer(reader), "connection: Upgrade", "upgrade: WebSocket"), 403, "route_unmapped", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := b.ask(t, c.req)
			require.Equal(t, c.status, denialStatus(res), "%v", res)
			assert.NotZero(t, res.GetStatus().GetCode())
			p := problem(t, res)
			assert.Equal(t, c.status, p.Status)
			codes := make([]string, len(p.Reasons))
			for i, r := range p.Reasons {
				codes[i] = string(r.Code)
			}
			assert.Contains(t, codes, c.reason)
			got := headers(res.GetDeniedResponse().GetHeaders())
			assert.Equal(t, c.challenge, got["www-authenticate"])
			assert.Equal(t, "no-store", got["cache-control"])
			assert.NotContains(t, res.String(), reader)
			metadata := res.GetDynamicMetadata().AsMap()
			assert.Equal(t, false, metadata["allowed"])
			assert.Equal(t, p.DecisionID, metadata["decision_id"])
		})
	}
	assert.NotContains(t, b.Log.String(), reader)
}

func TestTwoAuthorizationHeadersAreRefused(t *testing.T) {
	b := start(t, nil)
	_, token := b.Mint(t, "u1", "acme:models:*:read")
	joined := question("GET", "/proxy/acme/v1/models", bearer(token), bearer(token))
	listed := question("GET", "/proxy/acme/v1/models")
	for range 2 {
		list(listed, "authorization", "Bearer "+token)
	}
	for name, req := range map[string]*authv3.CheckRequest{"joined": joined, "listed": listed} {
		res := b.ask(t, req)
		require.Equal(t, 400, denialStatus(res), name)
		assert.Equal(t, "malformed_request", problem(t, res).Code)
	}
	assert.InDelta(t, 2, b.count(t, "malformed"), 0)
}

// list adds a header the way encode_raw_headers has it.
func list(req *authv3.CheckRequest, name, value string) {
	in := req.GetAttributes().GetRequest().GetHttp()
	in.Headers = nil
	if in.HeaderMap == nil {
		in.HeaderMap = &corev3.HeaderMap{}
	}
	in.HeaderMap.Headers = append(in.HeaderMap.Headers, &corev3.HeaderValue{Key: name, RawValue: []byte(value)})
}

func TestRawHeaders(t *testing.T) {
	b := start(t, nil)
	id, token := b.Mint(t, "u1", "acme:models:*:read")
	req := question("GET", "/proxy/acme/v1/models")
	list(req, "authorization", "bearer "+token)
	list(req, "x-odd", "\xff\xfe")
	res := b.ask(t, req)
	require.Equal(t, 200, denialStatus(res), "%v", res)
	assert.Equal(t, id, headers(res.GetOkResponse().GetHeaders())["x-patrol-token-id"])
}

func TestContextExtensions(t *testing.T) {
	b := start(t, nil)
	_, token := b.Mint(t, "u1", "acme:models:llama3:execute", "acme:datasets:d1:read")
	all := map[string]string{
		"patrol.domain": "acme", "patrol.entity_type": "datasets", "patrol.entity": "d1", "patrol.operation": "read",
	}
	with := func(key, value string) map[string]string {
		out := map[string]string{key: value}
		for k, v := range all {
			if k != key {
				out[k] = v
			}
		}
		return out
	}
	for _, c := range []struct {
		name, path string
		extensions map[string]string
		status     int
	}{
		{"all of it, on a path without a route", "/anything", all, 200},
		{"all of it, an ambiguous path", "/any//thing", all, 403},
		{"all of it, an entity out of scope", "/anything", with("patrol.entity", "d2"), 403},
		{"others' extensions are theirs", "/anything", with("team", "x"), 200},
		{"the domain, no route", "/anything", map[string]string{"patrol.domain": "acme"}, 403},
		{"the domain of a path without one", "/v1/chat/completions", map[string]string{"patrol.domain": "acme"}, 403},
		{"domain and entity", "/v1/chat/completions", map[string]string{"patrol.domain": "acme", "patrol.entity": "llama3"}, 200},
		{"the path's domain", "/proxy/acme/v1/chat/completions", map[string]string{"patrol.domain": "acme", "patrol.entity": "llama3"}, 200},
		{"another than the path's domain", "/proxy/ice/v1/chat/completions", map[string]string{"patrol.domain": "acme", "patrol.entity": "llama3"}, 403},
		{"a misspelling", "/anything", with("patrol.entiy", "d1"), 503},
		{"an empty value", "/anything", with("patrol.entity", ""), 503},
		{"a value that none can be", "/anything", with("patrol.entity", "d 1"), 403},
		{"a dry run that config does not permit", "/nothing", map[string]string{"patrol.dry_run": "true"}, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := question("POST", c.path, bearer(token))
			req.Attributes.ContextExtensions = c.extensions
			assert.Equal(t, c.status, denialStatus(b.ask(t, req)))
		})
	}
}

func TestBody(t *testing.T) {
	b := start(t, nil)
	_, one := b.Mint(t, "u1", "acme:models:llama3:execute")
	_, wild := b.Mint(t, "u1", "acme:models:*:execute")
	_, odd := b.Mint(t, "u1", "acme:models:lla!ma:execute")
	form := "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nllama3\r\n--b--\r\n"
	for _, c := range []struct {
		name, token, path, contentType, body string
		partial                              string // header, if it is there
		raw, utf8                            int    // expected status if the body comes as bytes, as text
	}{
		{"named", one, "chat/completions", "application/json", `{"model":"llama3"}`, "false", 200, 200},
		{"another", one, "chat/completions", "application/json", `{"model":"mistral"}`, "false", 403, 403},
		{"absent", one, "chat/completions", "application/json", "", "", 403, 403},
		{"absent, any", wild, "chat/completions", "application/json", "", "", 200, 200},
		{"truncated", one, "chat/completions", "application/json", `{"model":"llama3"}`, "true", 413, 413},
		{"truncated, any", wild, "chat/completions", "application/json", `{"model":"llama3"}`, "true", 413, 413},
		{"truncated to nothing", wild, "chat/completions", "application/json", "", "true", 413, 413},
		{"twice", wild, "chat/completions", "application/json", `{"model":"llama3","Model":"x"}`, "false", 400, 400},
		{"no JSON", wild, "chat/completions", "application/json", `model=llama3`, "false", 400, 400},
		{"another character set", wild, "chat/completions", "application/json; charset=utf-16", `{"model":"llama3"}`, "false", 415, 415},
		{"a form", one, "audio/transcriptions", "multipart/form-data; boundary=b", form, "false", 200, 200},
		{"not a form", one, "audio/transcriptions", "application/json", `{"model":"llama3"}`, "false", 400, 400},
		{"an exclamation mark", odd, "chat/completions", "application/json", `{"model":"lla!ma"}`, "false", 200, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			for kind, want := range map[string]int{"raw": c.raw, "text": c.utf8} {
				req := question("POST", "/proxy/acme/v1/"+c.path, bearer(c.token), "content-type: "+c.contentType)
				in := req.GetAttributes().GetRequest().GetHttp()
				if c.partial != "" {
					in.Headers["x-envoy-auth-partial-body"] = c.partial
				}
				if kind == "raw" {
					in.RawBody = []byte(c.body)
				} else {
					in.Body = c.body
				}
				assert.Equal(t, want, denialStatus(b.ask(t, req)), kind)
			}
		})
	}
}

func TestNothingOfTheClientsSpeaksForPatrol(t *testing.T) {
	b := start(t, nil)
	id, token := b.Mint(t, "u1", "acme:models:*:read")
	_, other := b.Mint(t, "u1", "acme:models:*:read")
	res := b.ask(t, question("GET", "/proxy/acme/v1/models?a=1&key="+other+"&b%5f="+strings.Replace(other, "_", "%5F", 1), bearer(token),
		"x-patrol-user: root", "x-patrol-admin: true", "x_patrol_user: root", "x-guardrails-request: skip", "x_guardrails.request: skip",
		"x-guardrails-scan: done", "x-custom: "+other, "x-api-key: "+token, "sec-websocket-protocol: realtime, openai-insecure-api-key."+token, "cookie: a=1; patrol_session=s3cret; __Host-patrol_session=s3cret; b=2"))
	require.Equal(t, 200, denialStatus(res), "%v", res)
	ok := res.GetOkResponse()
	set := headers(ok.GetHeaders())
	assert.Equal(t, "u1", set["x-patrol-user"])
	assert.Equal(t, id, set["x-patrol-token-id"])
	assert.Equal(t, "a=1; b=2", set["cookie"])
	assert.Equal(t, "patrol_***", set["x-custom"])
	assert.Equal(t, "realtime", set["sec-websocket-protocol"])
	assert.ElementsMatch(t, []string{
		"authorization", "x-api-key", "x-guardrails-request", "x-patrol-admin", "x_patrol_user", "x_guardrails.request", "x-guardrails-scan",
	}, ok.GetHeadersToRemove())
	assert.ElementsMatch(t, []string{"key", "b%5f"}, ok.GetQueryParametersToRemove())
}

// TestKeyHeaders holds that a token may stand where clients of model APIs send a key, and that such
// an answer belongs to one client.
func TestKeyHeaders(t *testing.T) {
	b := start(t, nil)
	_, token := b.Mint(t, "u1", "acme:models:*:read")
	_, other := b.Mint(t, "u1", "acme:models:*:read")
	for name, c := range map[string]struct {
		headers []string
		status  int
		removed string
	}{
		"a key":                 {[]string{"x-api-key: " + token}, 200, "x-api-key"},
		"Azure's":               {[]string{"api-key: " + token}, 200, "api-key"},
		"Google's":              {[]string{"x-goog-api-key: " + token}, 200, "x-goog-api-key"},
		"a sub-protocol":        {[]string{"sec-websocket-protocol: openai-insecure-api-key." + token}, 200, "sec-websocket-protocol"},
		"two lines that differ": {[]string{"x-api-key: " + token + "," + other}, 400, ""},
		"another beside it":     {[]string{"authorization: Bearer " + token, "api-key: " + other}, 400, ""},
		"no token of ours":      {[]string{"x-api-key: sk-1"}, 401, ""},
	} {
		t.Run(name, func(t *testing.T) {
			res := b.ask(t, question("GET", "/proxy/acme/v1/models", c.headers...))
			require.Equal(t, c.status, denialStatus(res), "%v", res)
			if c.status != 200 {
				return
			}
			assert.Contains(t, res.GetOkResponse().GetHeadersToRemove(), c.removed)
			added := headers(res.GetOkResponse().GetResponseHeadersToAdd())
			assert.Equal(t, "private", added["cache-control"])
			assert.NotEmpty(t, added["x-patrol-token-expires"])
			for _, h := range res.GetOkResponse().GetResponseHeadersToAdd() {
				switch h.GetHeader().GetKey() {
				case "cache-control": // what the upstream says stays
					assert.Equal(t, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD, h.GetAppendAction())
				case "cdn-cache-control", "surrogate-control":
					assert.Equal(t, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS, h.GetAppendAction())
				}
			}
		})
	}
}

func TestTheClientsAddress(t *testing.T) {
	for _, c := range []struct {
		name    string
		trusted []string
		want    string
	}{
		{"Envoy's word", nil, "192.0.2.7"},
		{"a trusted hop", []string{"192.0.2.0/24"}, "203.0.113.9"},
		{"two trusted hops", []string{"192.0.2.7", "203.0.113.9"}, "198.51.100.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var call authz.Call
			w := authztest.New(t)
			b := startWith(t, w, listener{w, func(_ context.Context, c authz.Call) { call = c }}, func(cfg *extauthz.Config) { cfg.TrustedProxies = c.trusted })
			_, token := b.Mint(t, "u1", "acme:models:*:read")
			require.Equal(t, 200, denialStatus(b.ask(t, question("GET", "/proxy/acme/v1/models", bearer(token), "x-forwarded-for: 198.51.100.1, 203.0.113.9", "user-agent: curl"))))
			assert.Equal(t, c.want, call.IP.String())
			assert.Equal(t, "curl", call.UserAgent)
			assert.Equal(t, "extauthz", call.Surface)
		})
	}
}

// listener is an authorizer that lets a test look at, or break, what comes in.
type listener struct {
	*authztest.World
	hear func(context.Context, authz.Call)
}

func (l listener) Begin(ctx context.Context, call authz.Call) (*authz.Proxied, models.Decision, bool) {
	l.hear(ctx, call)
	return l.World.Begin(ctx, call)
}

func TestMetricsAreThereFromTheStart(t *testing.T) {
	b := start(t, nil)
	n, err := testutil.GatherAndCount(b.registry)
	require.NoError(t, err)
	assert.Equal(t, 8+1+1, n)
}
