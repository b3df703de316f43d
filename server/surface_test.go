package server_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/server"
)

func TestEveryAnswerOfTheAPI(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	for _, a := range []*answer{
		w.as("ann").get("/api/v1/me").is(200),
		w.as("").get("/api/v1/me").is(401),
		w.as("").get("/nothing/here").is(404),
		w.as("").send("PUT", "/healthz", nil).is(405),
		w.as("").get("/healthz").is(200),
		w.as("").post("/authorize", "{").is(400),
	} {
		for name, value := range map[string]string{
			"Cache-Control":                "no-store",
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
			"Referrer-Policy":              "no-referrer",
			"Content-Security-Policy":      "default-src 'none'; frame-ancestors 'none'",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Strict-Transport-Security":    "", // not over plain HTTP
			"Server":                       "",
		} {
			assert.Equal(t, value, a.header.Get(name), name)
		}
	}
}

func TestPathsMeanWhatTheySay(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	for _, target := range []string{
		"/nothing", "/api/v1", "/api/v1/me/", "/api/v1//me", "/api/v1/./me", "/api/v1/pats/../me", "/API/v1/me", "/api/v1/pats/", "/api/v2/me", "/proxy", "/Proxy/acme/v1/models",
		"//proxy/acme/v1/models", "/%70roxy/acme/v1/models", "/api/v1/pats/a%2Fb", "/authorize/", "/forward-auth",
	} {
		p := w.raw("GET", target, "")
		assert.Equal(t, 404, p.StatusCode, target)
		assert.Equal(t, "application/problem+json", p.Header.Get("Content-Type"), target)
	}
	for _, target := range []string{"/proxy/", "/proxy/acme", "/proxy/acme/v1/models", "/proxy/../api/v1/me", "/proxy/acme//v1", "/proxy/%2e%2e/x", "/proxy/acme/v1;a=b", "/proxy/acme/%00"} {
		for _, method := range []string{"GET", "POST", "DELETE", "OPTIONS", "PROPFIND"} {
			assert.Equal(t, 401, w.raw(method, target, "").StatusCode, "%s %s goes to the gateway", method, target)
		}
	}
}

// raw sends a request line as it is.
func (w *world) raw(method, target, headers string) *http.Response {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.http.Listener.Addr().String())
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: patrol\r\nContent-Length: 0\r\nConnection: close\r\n%s\r\n", method, target, headers)
	require.NoError(w.t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	require.NoError(w.t, err)
	return resp
}

func TestMethods(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	for _, tc := range []struct{ method, target, allow string }{
		{"GET", "/authorize", "POST"},
		{"PUT", "/api/v1/session", "DELETE POST"},
		{"OPTIONS", "/api/v1/me", "GET HEAD"},
		{"DELETE", "/healthz", "GET HEAD"},
		{"BREW", "/api/v1/pats", "DELETE GET HEAD POST"},
	} {
		a := w.as("").send(tc.method, tc.target, nil)
		a.problem(405, models.CodeMethodNotAllowed)
		var allowed []string
		for _, m := range []string{"DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"} {
			if strings.Contains(a.header.Get("Allow"), m) {
				allowed = append(allowed, m)
			}
		}
		assert.Equal(t, tc.allow, strings.Join(allowed, " "), tc.target)
	}
	a := w.as("").send("HEAD", "/healthz", nil)
	assert.Equal(t, 200, a.status)
	assert.Empty(t, a.body)
	assert.Equal(t, 401, w.as("").send("HEAD", "/api/v1/me", nil).status)
}

func TestRequestIDs(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	own := w.as("").get("/healthz").header.Get("X-Request-Id")
	assert.Regexp(t, "^[a-z2-7]{24}$", own)
	assert.NotEqual(t, own, w.as("").get("/healthz").header.Get("X-Request-Id"))

	const sent = "0191f3c2-6a7e-7d44-9d1b-2a1f0c9e5b11"
	a := w.as("").set("X-Request-Id", sent).get("/api/v1/me")
	assert.Equal(t, sent, a.header.Get("X-Request-Id"))
	assert.Equal(t, sent, a.problem(401, models.CodeUnauthenticated).RequestID)
	assert.Contains(t, w.logs.String(), sent)

	token := "patrol_" + strings.Repeat("a", 16) + "_" + strings.Repeat("b", 38)
	a = w.as("").set("X-Request-Id", token).get("/healthz")
	assert.NotEqual(t, token, a.header.Get("X-Request-Id"))
	assert.NotContains(t, w.logs.String(), token)
}

func TestHealthAndMetrics(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	var health api.Health
	w.as("").get("/healthz").is(200).into(&health)
	assert.Equal(t, api.Health{Status: "ok"}, health)
	require.Eventually(t, func() bool { return w.as("").get("/readyz").status == 200 }, soon, soon/100)
	w.as("").get("/readyz").is(200).into(&health)
	assert.Equal(t, map[string]string{"database": "ok", "revocations": "ok", "decisions": "ok", "serving": "ok"}, health.Checks)

	pat := w.pat("ann", "ci", "acme:models:*:read")
	w.ask(pat.Token, "acme:models:m:read")
	w.ask(pat.Token, "acme:models:m:execute")
	w.ask("nonsense", "acme:models:m:execute")
	w.as("").get("/wp-login.php?token=" + pat.Token)
	text := string(w.as("").get("/metrics").is(200).body)
	for _, line := range []string{
		`patrol_decisions_total{outcome="allow",reason="",surface="authorize"} 1`,
		`patrol_decisions_total{outcome="deny",reason="out_of_scope",surface="authorize"} 1`,
		`patrol_decisions_total{outcome="deny",reason="token_malformed",surface="authorize"} 1`,
		`patrol_decision_duration_seconds_count{surface="authorize"} 3`,
		`patrol_http_requests_total{method="POST",route="/authorize",status="200"} 3`,
		`patrol_http_requests_total{method="GET",route="none",status="404"} 1`,
		`patrol_http_request_duration_seconds_count{route="/api/v1/pats"} 1`,
		`patrol_sign_ins_total{outcome="accepted"} 1`,
		`patrol_cache_requests_total{`,
		`patrol_feed_lag_seconds`,
		`patrol_database_operation_duration_seconds_count{operation="create_pat"} 1`,
		"go_goroutines", "process_open_fds",
	} {
		assert.Contains(t, text, line)
	}
	for _, secret := range []string{pat.Token, pat.ID, w.users["ann"].ID, "wp-login"} {
		assert.NotContains(t, text, secret)
	}
}

func TestNotReadyWithoutADatabase(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	require.NoError(t, w.store.Close())
	var health api.Health
	w.as("").get("/readyz").is(503).into(&health)
	assert.Equal(t, "failed", health.Status)
	assert.Equal(t, "failed", health.Checks["database"])
	w.as("").get("/healthz").is(200)
	p := w.as("").post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: password})
	assert.GreaterOrEqual(t, p.status, 500)
	assert.NotContains(t, string(p.body), "sql")
}

// On the main listener, metrics are for programs on this machine, and not for what a
// proxy there passes on.
func TestWhoReadsMetrics(t *testing.T) {
	for name, c := range map[string]struct {
		public bool
		header [2]string
		status int
	}{
		"this machine":     {status: 200},
		"X-Forwarded-For":  {header: [2]string{"X-Forwarded-For", "127.0.0.1"}, status: 403},
		"X-Forwarded-Host": {header: [2]string{"X-Forwarded-Host", "patrol.example.com"}, status: 403},
		"Forwarded":        {header: [2]string{"Forwarded", "for=192.0.2.1"}, status: 403},
		"Via":              {header: [2]string{"Via", "1.1 proxy"}, status: 403},
		"X-Real-Ip":        {header: [2]string{"X-Real-Ip", "192.0.2.1"}, status: 403},
		"CF-Connecting-IP": {header: [2]string{"CF-Connecting-IP", "192.0.2.1"}, status: 403},
		"public":           {public: true, header: [2]string{"X-Forwarded-For", "192.0.2.1"}, status: 200},
	} {
		w := newWorld(t, testenv.SQLite(t), func(cfg *server.Config, _ *server.Deps) { cfg.MetricsPublic = c.public })
		call := w.as("")
		if c.header[0] != "" {
			call.set(c.header[0], c.header[1])
		}
		assert.Equal(t, c.status, call.get("/metrics").status, name)
	}
	w := newWorld(t, testenv.SQLite(t), nil)
	for peer, status := range map[string]int{"127.0.0.1:4000": 200, "[::1]:4000": 200, "[::ffff:127.0.0.1]:4000": 200, "192.0.2.7:4000": 403, "[2001:db8::1]:4000": 403} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.RemoteAddr = peer
		rec := httptest.NewRecorder()
		w.server.Handler().ServeHTTP(rec, r)
		assert.Equal(t, status, rec.Code, peer)
	}
}

func TestMetricsElsewhere(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), func(c *server.Config, _ *server.Deps) { c.MetricsListen = "127.0.0.1:0" })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.http.URL+"/metrics", nil)
	require.NoError(t, err)
	resp, err := w.http.Client().Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, 404, resp.StatusCode)
}

func TestProxiesAreTrustedByName(t *testing.T) {
	for _, trusted := range []bool{false, true} {
		w := newWorld(t, testenv.SQLite(t), func(c *server.Config, d *server.Deps) {
			if trusted {
				c.TrustedProxies = []string{"127.0.0.1"}
			}
			d.Gateway = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = fmt.Fprint(w, r.RemoteAddr)
			})
		})
		a := w.as("").set("X-Forwarded-For", "203.0.113.7").get("/proxy/acme/x").is(200)
		assert.Equal(t, trusted, string(a.body) == "203.0.113.7:0", "%s", a.body)
		assert.Equal(t, trusted, strings.Contains(w.logs.String(), `"client":"203.0.113.7"`))
	}
}
