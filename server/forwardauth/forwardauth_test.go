package forwardauth_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/authztest"
	"patrol/models"
	"patrol/server/authz"
	"patrol/server/forwardauth"
)

var peers = map[forwardauth.Dialect]string{
	forwardauth.Envoy: "10.0.0.1", forwardauth.Nginx: "10.0.0.2", forwardauth.Traefik: "10.0.0.3",
	forwardauth.Caddy: "10.0.0.4", forwardauth.HAProxy: "10.0.0.5",
}

func handler(t *testing.T, w *authztest.World, change func(*forwardauth.Config)) *forwardauth.Handler {
	t.Helper()
	cfg := forwardauth.DefaultConfig()
	cfg.Peers = map[forwardauth.Dialect][]string{}
	for dialect, peer := range peers {
		cfg.Peers[dialect] = []string{peer}
	}
	if change != nil {
		change(&cfg)
	}
	h, err := forwardauth.New(cfg, forwardauth.Deps{Authz: w, Logger: w.Log.Logger()})
	require.NoError(t, err)
	return h
}

// ask has a proxy ask whether a request may pass. Headers are "Name: value".
func ask(h http.Handler, d forwardauth.Dialect, method, target string, body io.Reader, headers ...string) *httptest.ResponseRecorder {
	at, as := forwardauth.Prefix, method
	var own [2]string
	switch d {
	case forwardauth.Envoy:
		at += target
	case forwardauth.Nginx, forwardauth.HAProxy:
		as, own = "GET", [2]string{"X-Original-Method", "X-Original-URI"}
	default:
		as, own = "GET", [2]string{"X-Forwarded-Method", "X-Forwarded-Uri"}
	}
	r := httptest.NewRequest(as, "http://patrol"+forwardauth.Prefix, body)
	r.RequestURI = at
	r.RemoteAddr = peers[d] + ":4711"
	if own[0] != "" {
		r.Header.Set(own[0], method)
		r.Header.Set(own[1], target)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestEveryDialectAsksTheSame(t *testing.T) {
	w := authztest.New(t)
	h := handler(t, w, nil)
	id, token := w.Mint(t, "u1", "acme:models:*:read")
	deadID, dead := w.Mint(t, "u1", "acme:models:*:read")
	w.Revoke(deadID)
	for _, c := range []struct {
		name, method, target, token string
		status                      int
		code                        string
	}{
		{"allowed", "GET", "/proxy/acme/v1/models?limit=1", token, 200, ""},
		{"no token", "GET", "/proxy/acme/v1/models", "", 401, "unauthenticated"},
		{"revoked", "GET", "/proxy/acme/v1/models", dead, 401, "invalid_token"},
		{"out of scope", "POST", "/proxy/acme/v1/chat/completions", token, 403, "insufficient_scope"},
		{"out of scope and of the role", "DELETE", "/proxy/acme/v1/models/llama3", token, 403, "forbidden"},
		{"no route", "GET", "/", token, 403, "forbidden"},
		{"an ambiguous path", "GET", "/proxy/acme//v1/models", token, 403, "forbidden"},
		{"a token in the query", "GET", "/proxy/acme/v1/models?key=" + token, token, 403, "forbidden"},
	} {
		for _, d := range forwardauth.Dialects() {
			t.Run(string(d)+"/"+c.name, func(t *testing.T) {
				var headers []string
				if c.token != "" {
					headers = append(headers, "Authorization: Bearer "+c.token)
				}
				res := ask(h, d, c.method, c.target, nil, headers...)
				require.Equal(t, c.status, res.Code, res.Body.String())
				assert.NotContains(t, res.Body.String(), token)
				if c.status == 200 {
					assert.Equal(t, "u1", res.Header().Get("X-Patrol-User"))
					assert.Equal(t, "acme", res.Header().Get("X-Patrol-Domain"))
					assert.Equal(t, id, res.Header().Get("X-Patrol-Token-Id"))
					assert.Equal(t, d == forwardauth.Envoy, res.Header().Get("X-Envoy-Auth-Headers-To-Remove") != "")
					return
				}
				var p api.Problem
				require.NoError(t, json.Unmarshal(res.Body.Bytes(), &p))
				assert.Equal(t, c.code, p.Code)
				assert.Equal(t, c.status, p.Status)
				assert.Equal(t, c.code != "forbidden", res.Header().Get("WWW-Authenticate") != "", "a challenge where another token would help")
				assert.Empty(t, res.Header().Get("X-Patrol-User"))
			})
		}
	}
	assert.NotContains(t, w.Log.String(), token)
}

func TestAnotherDialectIsNotInterpreted(t *testing.T) {
	w := authztest.New(t)
	h := handler(t, w, nil)
	_, token := w.Mint(t, "u1", "acme:models:*:read")
	bearer := "Authorization: Bearer " + token
	own := map[forwardauth.Dialect]string{
		forwardauth.Nginx: "X-Original-URI", forwardauth.HAProxy: "X-Original-URI",
		forwardauth.Traefik: "X-Forwarded-Uri", forwardauth.Caddy: "X-Forwarded-Uri",
	}
	for _, d := range forwardauth.Dialects() {
		for _, foreign := range []string{"X-Original-URI", "X-Original-URL", "X-Forwarded-Uri", "X-Rewrite-Url", "X-Envoy-Original-Path"} {
			t.Run(string(d)+"/"+foreign, func(t *testing.T) {
				// Of its own header there are two then.
				res := ask(h, d, "GET", "/proxy/acme/v1/models", nil, bearer, foreign+": /proxy/acme/v1/models")
				assert.Equal(t, 403, res.Code)
			})
		}
		if name, ok := own[d]; ok {
			t.Run(string(d)+"/without "+name, func(t *testing.T) {
				r := httptest.NewRequest(http.MethodGet, "http://patrol/forward-auth", nil)
				r.RequestURI, r.RemoteAddr = "/forward-auth", peers[d]+":1"
				r.Header.Set("Authorization", "Bearer "+token)
				res := httptest.NewRecorder()
				h.ServeHTTP(res, r)
				assert.Equal(t, 403, res.Code)
			})
		}
	}
}

func TestStrangersMayNotAsk(t *testing.T) {
	w := authztest.New(t)
	_, token := w.Mint(t, "u1", "acme:models:*:read")
	for name, h := range map[string]*forwardauth.Handler{
		"nobody is configured": handler(t, w, func(c *forwardauth.Config) { c.Peers = nil }),
		"others are":           handler(t, w, func(c *forwardauth.Config) { c.Peers = map[forwardauth.Dialect][]string{"caddy": {"10.1.0.0/16"}} }),
	} {
		res := ask(h, forwardauth.Nginx, "GET", "/proxy/acme/v1/models", nil, "Authorization: Bearer "+token)
		assert.Equal(t, 403, res.Code, name)
		assert.Empty(t, res.Header().Get("X-Patrol-User"))
	}
}

func TestWhatTheOperatorSays(t *testing.T) {
	w := authztest.New(t)
	h := handler(t, w, nil)
	_, token := w.Mint(t, "u1", "acme:models:llama3:execute", "acme:datasets:d1:read")
	for said, want := range map[string]int{
		"":             403,
		"/":            403,
		"/domain=acme": 403,
		"/domain=acme/entity_type=datasets/entity=d1/operation=read":     200,
		"/domain=acme/entity_type=datasets/entity=%64%31/operation=read": 200,
		"/domain=acme/entity_type=datasets/entity=d2/operation=read":     403,
		"?domain=acme&entity_type=datasets&entity=d1&operation=read":     403, // maybe the client's
		"/domain=acme/domain=acme":                                       503,
		"/domain=":                                                       503,
		"/domian=acme":                                                   503,
		"/domain=%zz":                                                    503,
		"/domain=acme/":                                                  503,
		"/proxy/acme/v1/models":                                          503,
	} {
		r := httptest.NewRequest(http.MethodGet, "http://patrol/forward-auth", nil)
		r.RequestURI, r.RemoteAddr = "/forward-auth"+said, peers[forwardauth.Caddy]+":1"
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("X-Forwarded-Method", "GET")
		r.Header.Set("X-Forwarded-Uri", "/files/1")
		res := httptest.NewRecorder()
		h.ServeHTTP(res, r)
		assert.Equal(t, want, res.Code, said)
	}
}

func TestTheBodyThatEnvoySends(t *testing.T) {
	w := authztest.New(t)
	h := handler(t, w, func(c *forwardauth.Config) { c.MaxBodyBytes = 64 })
	_, token := w.Mint(t, "u1", "acme:models:llama3:execute")
	_, all := w.Mint(t, "u1", "acme:models:*:execute")
	for _, c := range []struct {
		name, token, body, partial string
		status                     int
	}{
		{"named", token, `{"model":"llama3"}`, "false", 200},
		{"another", token, `{"model":"mistral"}`, "false", 403},
		{"truncated", all, `{"model":"llama3"}`, "true", 413},
		{"nobody says whether it is whole", all, `{"model":"llama3"}`, "", 413},
		{"none", all, "", "", 200},
		{"none, one model", token, "", "", 403},
		{"too large", all, `{"model":"llama3"}` + strings.Repeat(" ", 64), "false", 413},
	} {
		headers := []string{"Authorization: Bearer " + c.token}
		if c.partial != "" {
			headers = append(headers, "X-Envoy-Auth-Partial-Body: "+c.partial)
		}
		res := ask(h, forwardauth.Envoy, "POST", "/proxy/acme/v1/chat/completions", strings.NewReader(c.body), headers...)
		assert.Equal(t, c.status, res.Code, c.name)
	}
}

func TestEnvoyIsNeverToldToFail(t *testing.T) {
	w := authztest.New(t)
	_, token := w.Mint(t, "u1", "acme:models:*:read")
	release := make(chan struct{})
	defer close(release)
	for name, gate := range map[string]func(context.Context) error{
		"gone":    func(context.Context) error { return authztest.ErrDown },
		"stalled": func(context.Context) error { <-release; return nil },
		"broken":  func(context.Context) error { panic("a defect") },
	} {
		w.Gate(gate)
		h := handler(t, w, nil)
		for _, d := range forwardauth.Dialects() {
			want := 503
			if d == forwardauth.Envoy {
				want = 403
			}
			begin := time.Now()
			res := ask(h, d, "GET", "/proxy/acme/v1/models", nil, "Authorization: Bearer "+token)
			assert.Less(t, time.Since(begin), time.Second)
			assert.Equal(t, want, res.Code, "%s: %s", d, name)
			assert.Equal(t, "1", res.Header().Get("Retry-After"))
			assert.Contains(t, res.Body.String(), `"unavailable"`)
		}
		res := ask(handler(t, w, func(c *forwardauth.Config) { c.EnvoyUnavailable = 503 }), forwardauth.Envoy, "GET", "/proxy/acme/v1/models", nil, "Authorization: Bearer "+token)
		assert.Equal(t, 503, res.Code)
	}
}

func TestNothingOfTheClientsSpeaksForPatrol(t *testing.T) {
	w := authztest.New(t)
	h := handler(t, w, nil)
	_, token := w.Mint(t, "u1", "acme:models:*:read")
	bearer := "Authorization: Bearer " + token
	res := ask(h, forwardauth.Envoy, "GET", "/proxy/acme/v1/models", nil, bearer, "X-Patrol-User: root", "X-Patrol-Role: admin", "X_Guardrails_Scan: done")
	require.Equal(t, 200, res.Code)
	assert.Equal(t, "u1", res.Header().Get("X-Patrol-User"))
	assert.Equal(t, "X-Guardrails-Request, authorization, X-Patrol-Role, X_guardrails_scan", res.Header().Get("X-Envoy-Auth-Headers-To-Remove"))

	for header, want := range map[string]int{
		"X-Patrol-User: root": 200, "X-Guardrails-Request: x": 200, // nginx overwrites these by name
		"X-Patrol-Role: admin": 403, "X-Guardrails-Scan: done": 403,
	} {
		assert.Equal(t, want, ask(h, forwardauth.Nginx, "GET", "/proxy/acme/v1/models", nil, bearer, header).Code, header)
	}
	for _, d := range []forwardauth.Dialect{forwardauth.Traefik, forwardauth.Caddy, forwardauth.HAProxy} {
		for header, want := range map[string]int{
			"X-Patrol-Role: admin": 200, "X-Guardrails-Scan: done": 200, // they take these out by the beginning of the name
			"X_Patrol_User: root": 403, "X_Guardrails_Scan: done": 403, "X.Patrol.User: root": 403,
		} {
			assert.Equal(t, want, ask(h, d, "GET", "/proxy/acme/v1/models", nil, bearer, header).Code, "%s: %s", d, header)
		}
	}
	assert.Equal(t, 400, ask(h, forwardauth.Caddy, "GET", "/proxy/acme/v1/models", nil, bearer, bearer).Code)
}

func TestTheClientsAddress(t *testing.T) {
	w := authztest.New(t)
	var call authz.Call
	cfg := forwardauth.DefaultConfig()
	cfg.Peers = map[forwardauth.Dialect][]string{"nginx": {peers["nginx"]}}
	h, err := forwardauth.New(cfg, forwardauth.Deps{Authz: listener{w, &call}})
	require.NoError(t, err)
	ask(h, forwardauth.Nginx, "GET", "/", nil)
	assert.Equal(t, netip.MustParseAddr(peers["nginx"]), call.IP)
	ask(h, forwardauth.Nginx, "GET", "/", nil, "X-Forwarded-For: 192.0.2.1, 192.0.2.2")
	assert.Equal(t, netip.MustParseAddr("192.0.2.2"), call.IP)
	assert.Equal(t, "forwardauth", call.Surface)
}

type listener struct {
	*authztest.World
	call *authz.Call
}

func (l listener) Begin(ctx context.Context, call authz.Call) (*authz.Proxied, models.Decision, bool) {
	*l.call = call
	return l.World.Begin(ctx, call)
}

func TestConfigIsChecked(t *testing.T) {
	require.NoError(t, forwardauth.DefaultConfig().Validate())
	assert.False(t, forwardauth.DefaultConfig().Enabled())
	for want, spoil := range map[string]func(*forwardauth.Config){
		"speaks both": func(c *forwardauth.Config) {
			c.Peers = map[forwardauth.Dialect][]string{"nginx": {"10.0.0.0/8"}, "envoy": {"10.1.2.3"}}
		},
		"neither an address": func(c *forwardauth.Config) { c.Peers = map[forwardauth.Dialect][]string{"nginx": {"here"}} },
		"no dialect":         func(c *forwardauth.Config) { c.Peers = map[forwardauth.Dialect][]string{"apache": {"::1"}} },
		"timeout":            func(c *forwardauth.Config) { c.Timeout = 0 },
		"largest body":       func(c *forwardauth.Config) { c.MaxBodyBytes = 0 },
		"for Envoy must be":  func(c *forwardauth.Config) { c.EnvoyUnavailable = 200 },
		"cannot be removed":  func(c *forwardauth.Config) { c.RemoveHeaders = []string{"x-patrol-user"} },
	} {
		c := forwardauth.DefaultConfig()
		spoil(&c)
		assert.ErrorContains(t, c.Validate(), want)
	}
}
