package gateway_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/secret"
	"patrol/models"
	"patrol/server/gateway"
)

func TestForwardsWhatWasJudged(t *testing.T) {
	var got *http.Request
	w := newWorld(t, setup{upstream: func(_ http.ResponseWriter, r *http.Request) { got = r }})
	for target, want := range map[string]string{
		"/proxy/acme/v1/models":                       "/v1/models",
		"/proxy/acme":                                 "/",
		"/proxy/acme/":                                "/",
		"/proxy/acme/v1/models/":                      "/v1/models/",
		"/proxy/acme/v1/%6dodels":                     "/v1/models",
		"/proxy/acme/api/llama3%3A8b":                 "/api/llama3:8b",
		"/proxy/acme/a%20b%3Fc":                       "/a%20b%3Fc",
		"/proxy/acme/x?b=2&a=1&a=+0":                  "/x?a=1&a=%200&b=2",
		"/proxy/acme/x?token=" + goodToken:            "/x?token=patrol_***",
		"/proxy/acme/v1/" + goodToken:                 "/v1/patrol_***",
		"/proxy/acme/proxy/other/v1":                  "/proxy/other/v1",
		"/proxy/acme/http%3A":                         "/http:",
		"/proxy/acme/x?url=http%3A%2F%2Fa%2F%3Fb%26c": "/x?url=http://a/%3Fb%26c",
	} {
		res := w.raw("GET " + target + " HTTP/1.1")
		require.Equal(t, http.StatusOK, res.StatusCode, target)
		assert.Equal(t, want, got.RequestURI, target)
		assert.Equal(t, w.upstream.Listener.Addr().String(), got.Host)
	}
}

func TestForwardsUnderABasePath(t *testing.T) {
	var got string
	w := newWorld(t, setup{
		upstream: func(_ http.ResponseWriter, r *http.Request) { got = r.RequestURI },
		config: func(c *gateway.Config) {
			u := c.Upstreams[gateway.AnyDomain]
			u.URL += "/serving/a%20b/"
			c.Upstreams[gateway.AnyDomain] = u
		},
	})
	w.get("/proxy/acme/v1/models")
	assert.Equal(t, "/serving/a%20b/v1/models", got)
	w.get("/proxy/acme")
	assert.Equal(t, "/serving/a%20b/", got)
}

func TestRefusesAmbiguousTargets(t *testing.T) {
	var reached atomic.Int32
	w := newWorld(t, setup{upstream: func(http.ResponseWriter, *http.Request) { reached.Add(1) }})
	for _, target := range []string{
		"/proxy/acme//v1/models", "/proxy/acme/../other/v1/models", "/proxy/acme/%2e%2e/other",
		"/proxy/acme/v1/models;x", "/proxy/acme/v1/models?a;b", "/proxy/acme/%252e%252e/x", "/proxy/acme/v1\\models",
		"/proxy/acme/v1/models%00", "/proxy/acme/v1/models#x", "/proxy", "/proxy/", "/other/acme/v1", "/proxy/acme/x?_method=DELETE",
		"/proxy/acme/%c0%af", "/proxy//acme/v1/models", "http://other/proxy/acme/v1/models",
	} {
		res := w.raw("GET " + target + " HTTP/1.1")
		assert.Equal(t, http.StatusForbidden, res.StatusCode, target)
		assert.Equal(t, "route_unmapped", res.code(), target)
	}
	for _, method := range []string{"get", "TRACE"} {
		res := w.raw(method + " /proxy/acme/v1/models HTTP/1.1")
		assert.Equal(t, "route_unmapped", res.code(), method)
	}
	res := w.raw("POST /proxy/acme/v1/models HTTP/1.1", "X-HTTP-Method-Override: DELETE", "Content-Length: 0")
	assert.Equal(t, "route_unmapped", res.code())
	assert.Zero(t, reached.Load())
	// A bad token is not told that much.
	res = w.raw("GET /proxy/acme//v1 HTTP/1.1", "Authorization: Bearer x")
	assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
}

func TestBearer(t *testing.T) {
	w := newWorld(t, setup{upstream: func(http.ResponseWriter, *http.Request) {}})
	for name, c := range map[string]struct {
		headers []string
		status  int
		code    string
	}{
		"as usual":         {[]string{"Authorization: Bearer " + goodToken}, 200, ""},
		"lower case":       {[]string{"authorization: bearer " + goodToken}, 200, ""},
		"blanks around":    {[]string{"Authorization:   BEARER   " + goodToken + "  "}, 200, ""},
		"none":             {[]string{"X-Authorization: x"}, 401, "token_missing"},
		"basic":            {[]string{"Authorization: Basic " + goodToken}, 401, "token_missing"},
		"scheme alone":     {[]string{"Authorization: Bearer"}, 401, "token_missing"},
		"no scheme":        {[]string{"Authorization: " + goodToken}, 401, "token_missing"},
		"another token":    {[]string{"Authorization: Bearer patrol_x"}, 401, "token_unknown"},
		"two in one":       {[]string{"Authorization: Bearer " + goodToken + ", Bearer " + goodToken}, 401, "token_unknown"},
		"two headers":      {[]string{"Authorization: Bearer " + goodToken, "Authorization: Bearer " + goodToken}, 400, "malformed_request"},
		"one in the query": {[]string{"X-Authorization: Bearer " + goodToken}, 401, "token_missing"},
		"cookie":           {[]string{"X-Authorization: x", "Cookie: Authorization=Bearer " + goodToken}, 401, "token_missing"},
	} {
		t.Run(name, func(t *testing.T) {
			res := w.raw("GET /proxy/acme/v1/models?access_token="+goodToken+" HTTP/1.1", c.headers...)
			assert.Equal(t, c.status, res.StatusCode)
			assert.Equal(t, c.code, res.code())
			assert.NotContains(t, res.body, goodToken)
		})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, call := range w.calls {
		assert.Equal(t, "gateway", call.Surface)
		assert.Equal(t, "acme", call.Request.Domain)
		assert.True(t, call.IP.IsLoopback())
	}
}

func TestDenials(t *testing.T) {
	reached := false
	for name, c := range map[string]struct {
		judge *judge
		code  string
	}{
		"denied":                        {&judge{decide: func(models.HTTPRequest, models.Request) models.Decision { return models.Deny(models.OutOfScope) }}, "out_of_scope"},
		"hints fail":                    {&judge{hintsErr: errors.New("no hints")}, "policy_error"},
		"another domain was judged":     {&judge{judges: func(string) string { return "other" }}, "policy_error"},
		"no domain was judged":          {&judge{judges: func(string) string { return "" }}, "policy_error"},
		"the policy sets Authorization": {&judge{decide: withHeader("Authorization", "x")}, "policy_error"},
		"the policy sets the user":      {&judge{decide: withHeader("x-patrol-user", "root")}, "policy_error"},
		"the policy splits a header":    {&judge{decide: withHeader("X-Patrol-Note", "a\r\nX: y")}, "policy_error"},
		"the policy names no header":    {&judge{decide: withHeader("X-Patrol-Note:", "a")}, "policy_error"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, setup{judge: c.judge, upstream: func(http.ResponseWriter, *http.Request) { reached = true }})
			res := w.get("/proxy/acme/v1/models")
			assert.Equal(t, models.ReasonCode(c.code).Status(), res.StatusCode)
			assert.Equal(t, c.code, res.code())
			assert.False(t, reached)
		})
	}
}

func withHeader(name, value string) func(models.HTTPRequest, models.Request) models.Decision {
	return func(models.HTTPRequest, models.Request) models.Decision {
		d := allowed()
		d.Headers = map[string]string{name: value}
		return d
	}
}

func TestRequestHeaders(t *testing.T) {
	var got http.Header
	w := newWorld(t, setup{
		judge:    &judge{decide: withHeader("X-Patrol-Tier", "gold")},
		upstream: func(_ http.ResponseWriter, r *http.Request) { got = r.Header },
		config: func(c *gateway.Config) {
			u := c.Upstreams[gateway.AnyDomain]
			u.Headers = map[string]secret.Text{"x-team": "red"}
			u.Credential = "Bearer sk-upstream"
			c.Upstreams[gateway.AnyDomain] = u
			c.PublicURL = "https://patrol.example"
		},
	})
	res := w.raw("GET /proxy/acme/v1/models HTTP/1.1",
		"Authorization: Bearer "+goodToken,
		"Proxy-Authorization: Basic eDp5", "Cookie: patrol_session=1", "Cookie2: x",
		"X-Patrol-User: root", "x-patrol-domain: other", "X-PATROL-TOKEN-ID: 1", "X-Patrol-Tier: black", "X-Patrol-Anything: x",
		"X_Patrol_User: root", "X-Patrol_User: root", "X.Patrol.User: root", "X_Team: blue", "X-Team: blue", "X-Team: green",
		"X-Guardrails-Request: false", "X_Guardrails_Request: false", "X-Guardrails-Other: x",
		"Forwarded: for=1.2.3.4", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: evil", "X-Forwarded-Proto: gopher", "X-Forwarded-User: root",
		"X-Forwarded-Prefix: /x", "X-Original-URL: /admin", "X-Rewrite-URL: /admin", "X-Original-Uri: /admin", "X-Real-Ip: 1.2.3.4",
		"Remote-User: root", "X-Auth-Request-User: root", "X-Envoy-Original-Path: /admin", "Proxy: http://evil", "X-Request-Id: forged",
		"Connection: X-Named, X-Patrol-User", "X-Named: x", "Keep-Alive: 1", "TE: trailers", "Upgrade: h2c", "HTTP2-Settings: x",
		"X-Note: my "+goodToken+"!", "X-Api-Key: k", "Accept: text/plain", "Accept-Encoding: br", "User-Agent: test/1",
	)
	require.Equal(t, http.StatusOK, res.StatusCode)
	assert.Equal(t, http.Header{
		"Authorization":     {"Bearer sk-upstream"},
		"X-Team":            {"red"},
		"X-Patrol-User":     {"user-1"},
		"X-Patrol-Domain":   {"acme"},
		"X-Patrol-Token-Id": {"0123456789abcdef"},
		"X-Patrol-Tier":     {"gold"},
		"X-Request-Id":      {requestID},
		"X-Forwarded-For":   {"127.0.0.1"},
		"X-Forwarded-Host":  {"patrol.example"},
		"X-Forwarded-Proto": {"https"},
		"Te":                {"trailers"},
		"X-Note":            {"my patrol_***!"},
		"X-Api-Key":         {"k"},
		"Accept":            {"text/plain"},
		"Accept-Encoding":   {"br"},
		"User-Agent":        {"test/1"},
	}, got)

	assert.NotContains(t, w.last().Headers(), "authorization")
	assert.NotContains(t, w.log.String(), goodToken)
}

func TestNoCredentialIsMadeUp(t *testing.T) {
	var got http.Header
	w := newWorld(t, setup{upstream: func(_ http.ResponseWriter, r *http.Request) { got = r.Header }})
	require.Equal(t, http.StatusOK, w.raw("GET /proxy/acme/x HTTP/1.1").StatusCode)
	assert.NotContains(t, got, "Authorization")
	assert.NotContains(t, got, "User-Agent")
	assert.NotContains(t, got, "Accept-Encoding")
	assert.Equal(t, "patrol.test", got.Get("X-Forwarded-Host"))
	assert.Equal(t, "http", got.Get("X-Forwarded-Proto"))
}

func TestUpstreamsByDomain(t *testing.T) {
	var other string
	w := newWorld(t, setup{
		upstream: func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "any "+r.Header.Get("X-Key")) },
		config: func(c *gateway.Config) {
			u := c.Upstreams[gateway.AnyDomain]
			other = u.URL
			u.Headers = map[string]secret.Text{"X-Key": "of-any"}
			c.Upstreams[gateway.AnyDomain] = u
			c.Upstreams["acme"] = gateway.Upstream{URL: other + "/acme", Credential: "acme-key", CredentialHeader: "X-Key"}
			c.Upstreams["bare"] = gateway.Upstream{URL: other}
		},
	})
	assert.Equal(t, "any of-any", w.get("/proxy/zeta/x").body)
	assert.Equal(t, "any acme-key", w.get("/proxy/acme/x").body)
	assert.Equal(t, "any ", w.get("/proxy/bare/x").body, "headers of one upstream must not go to another")

	t.Run("none", func(t *testing.T) {
		w := newWorld(t, setup{config: func(c *gateway.Config) { delete(c.Upstreams, gateway.AnyDomain) }})
		res := w.get("/proxy/acme/x")
		assert.Equal(t, http.StatusNotFound, res.StatusCode)
		assert.Equal(t, "no_upstream", res.code())
		assert.Equal(t, http.StatusUnauthorized, w.raw("GET /proxy/acme/x HTTP/1.1", "Authorization: Bearer x").StatusCode)
	})
}

func TestAnswerHeaders(t *testing.T) {
	w := newWorld(t, setup{upstream: func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range map[string]string{
			"Set-Cookie": "patrol_session=x", "Clear-Site-Data": `"*"`, "Service-Worker-Allowed": "/", "Strict-Transport-Security": "max-age=0",
			"Alt-Svc": "h3=\":443\"", "NEL": "{}", "Report-To": "{}", "Reporting-Endpoints": "x", "Refresh": "0; url=/", "X-Patrol-User": "root",
			"X-Request-Id": "forged", "WWW-Authenticate": "Bearer", "Content-Security-Policy": "default-src *", "X-Content-Type-Options": "sniff",
			"Content-Security-Policy-Report-Only": "x", "Keep-Alive": "1", "Proxy-Authenticate": "Basic", "Connection": "X-Named", "X-Named": "x",
			"Content-Type": "text/html", "Cache-Control": "max-age=5", "X-Team": "red", "Etag": `"1"`, "Access-Control-Allow-Origin": "*",
			"Date": "Mon, 01 Jan 2035 00:00:00 GMT",
		} {
			w.Header().Set(name, value)
		}
		w.Header().Add("Set-Cookie", "b=c")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "hello")
	}})
	res := w.get("/proxy/acme/x")
	assert.Equal(t, http.StatusTeapot, res.StatusCode)
	assert.Equal(t, "hello", res.body)
	assert.Equal(t, http.Header{
		"Strict-Transport-Security": {"max-age=1"},
		"X-Request-Id":              {requestID},
		"Content-Security-Policy":   {"sandbox"},
		"X-Content-Type-Options":    {"nosniff"},
		"Content-Type":              {"text/html"}, "Cache-Control": {"max-age=5"}, "X-Team": {"red"}, "Etag": {`"1"`},
		"X-Patrol-Token-Expires": {"2027-01-02T03:04:05Z"}, "Date": {"Mon, 01 Jan 2035 00:00:00 GMT"}, "Content-Length": {"5"},
	}, res.Header)
}

func TestUpgradesAreForWebSocketRoutes(t *testing.T) {
	var got http.Header
	upstream := func(_ http.ResponseWriter, r *http.Request) { got = r.Header }
	closed := newWorld(t, setup{upstream: upstream})
	open := newWorld(t, setup{upstream: upstream, judge: &judge{websocket: true}})
	for name, c := range map[string]struct {
		world   *world
		headers []string
		refused bool
	}{
		"websocket on a closed route":      {closed, []string{"Connection: Upgrade", "Upgrade: websocket"}, true},
		"in other case":                    {closed, []string{"Connection: keep-alive, uPGRADE", "Upgrade: WebSocket"}, true},
		"in a list":                        {closed, []string{"Connection: Upgrade", "Upgrade: h2c, websocket"}, true},
		"list on an open route":            {open, []string{"Connection: Upgrade", "Upgrade: h2c, websocket"}, true},
		"two headers on an open route":     {open, []string{"Connection: Upgrade", "Upgrade: websocket", "Upgrade: x"}, true},
		"with a body":                      {open, []string{"Connection: Upgrade", "Upgrade: websocket", "Content-Length: 1"}, true},
		"h2c is passed over":               {closed, []string{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"}, false},
		"h2c on an open route":             {open, []string{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"}, false},
		"Upgrade that asks for nothing":    {closed, []string{"Upgrade: websocket"}, false},
		"Connection that asks for nothing": {closed, []string{"Connection: Upgrade"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got = nil
			res := c.world.raw("GET /proxy/acme/v1/realtime HTTP/1.1", c.headers...)
			if c.refused {
				assert.Equal(t, "route_unmapped", res.code())
				assert.Nil(t, got)
				return
			}
			assert.Equal(t, http.StatusOK, res.StatusCode)
			assert.NotContains(t, got, "Upgrade")
			assert.NotContains(t, got, "Connection")
			assert.NotContains(t, got, "Http2-Settings")
		})
	}
	// Where only POST exists, a client is told to use it.
	for name, c := range map[string]struct {
		methods []string
		status  int
	}{"POST": {[]string{"POST"}, 426}, "both": {[]string{"GET", "POST"}, 403}, "neither": {nil, 403}} {
		w := newWorld(t, setup{judge: &judge{methods: c.methods}, upstream: func(http.ResponseWriter, *http.Request) {}})
		res := w.raw("GET /proxy/acme/v1/responses HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket")
		assert.Equal(t, c.status, res.StatusCode, name)
		assert.Equal(t, "route_unmapped", res.code(), name)
		assert.Equal(t, c.status == 426, res.Header.Get("Upgrade") != "", name)
		res = w.raw("GET /proxy/acme/v1/responses HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Authorization: Bearer x")
		assert.Equal(t, 401, res.StatusCode, name)
	}
	res := open.raw("POST /proxy/acme/v1/realtime HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Content-Length: 0")
	assert.Equal(t, "route_unmapped", res.code())
}

func TestNothingIsLoggedOfTheToken(t *testing.T) {
	w := newWorld(t, setup{upstream: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }})
	res := w.do(w.request(t.Context(), http.MethodPost, "/proxy/acme/x?token="+goodToken, bytes.NewReader(nil)))
	assert.Equal(t, http.StatusBadGateway, res.StatusCode)
	assert.Contains(t, w.log.String(), requestID)
	assert.NotContains(t, w.log.String(), goodToken)
}
