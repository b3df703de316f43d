package server_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/server"
)

func TestStrictTransport(t *testing.T) {
	const year, below = "max-age=31536000", "max-age=31536000; includeSubDomains"
	for name, c := range map[string]struct {
		public     string
		tls        bool // on the listener
		subdomains bool
		host       string
		want       string
	}{
		"plain HTTP":                         {host: "patrol.example.com"},
		"a public URL":                       {public: "https://patrol.example.com", host: "patrol.example.com", want: year},
		"a public URL, asked by its proxy":   {public: "https://patrol.example.com", host: "127.0.0.1:8080", want: year},
		"a public URL without https":         {public: "http://patrol.example.com", host: "patrol.example.com"},
		"a public URL of this machine":       {public: "https://localhost:8443", host: "localhost:8443"},
		"a public URL with an address":       {public: "https://203.0.113.7", host: "203.0.113.7"},
		"TLS alone":                          {tls: true, host: "patrol.example.com:8443", want: year},
		"TLS and subdomains":                 {tls: true, subdomains: true, host: "patrol.example.com", want: below},
		"TLS at localhost":                   {tls: true, host: "localhost:8443"},
		"TLS at LocalHost.":                  {tls: true, host: "LocalHost."},
		"TLS below localhost":                {tls: true, host: "patrol.localhost"},
		"TLS at an address":                  {tls: true, host: "192.0.2.1:8443"},
		"TLS at an IPv6 address":             {tls: true, host: "[2001:db8::1]:8443"},
		"TLS at an IPv6 address alone":       {tls: true, host: "[::1]"},
		"TLS, a public URL and an address":   {public: "https://patrol.example.com", tls: true, host: "192.0.2.1"},
		"TLS, a public URL and its own host": {public: "https://patrol.example.com", tls: true, host: "patrol.example.com", want: year},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testenv.SQLite(t), func(cfg *server.Config, _ *server.Deps) {
				cfg.PublicURL, cfg.HTTP.HSTSIncludeSubdomains = c.public, c.subdomains
				if c.tls {
					cfg.TLS.CertFile, cfg.TLS.KeyFile = "cert.pem", "key.pem" // read when it listens
				}
			})
			for _, path := range []string{"/login", "/healthz", "/nothing", "/proxy/acme/v1/models"} {
				r := httptest.NewRequest(http.MethodGet, path, nil)
				r.Host = c.host
				if c.tls {
					r.TLS = &tls.ConnectionState{}
				}
				rec := httptest.NewRecorder()
				w.server.Handler().ServeHTTP(rec, r)
				assert.Equal(t, c.want, rec.Header().Get("Strict-Transport-Security"), path)
			}
			secure := c.tls || len(c.public) > 5 && c.public[:6] == "https:"
			cookie := cookieOf(t, w.as("").post("/api/v1/session", api.SignIn{Email: "ann@example.com", Password: password}).is(201))
			want := w.cookieName("session")
			if secure {
				want = "__Host-" + want
			}
			assert.Equal(t, []any{want, secure}, []any{cookie.Name, cookie.Secure})
		})
	}
}

func TestTwoInstallationsOnOneHost(t *testing.T) {
	dbURL := testenv.SQLite(t)
	one, two := newWorld(t, dbURL, nil), newWorld(t, testenv.SQLite(t), nil)
	assert.NotEqual(t, one.cookieName("session"), two.cookieName("session"))
	in := api.SignIn{Email: "ann@example.com", Password: password}
	mine, theirs := cookieOf(t, one.as("").post("/api/v1/session", in).is(201)), cookieOf(t, two.as("").post("/api/v1/session", in).is(201))
	both := mine.Name + "=" + mine.Value + "; " + theirs.Name + "=" + theirs.Value
	one.as("").set("Cookie", both).delete("/api/v1/session").is(204)
	two.as("").set("Cookie", both).get("/api/v1/me").is(200)

	// A replica of the same database, or the same server later, reads the same cookie.
	replica := &world{t: t}
	replica.start(t, dbURL, nil)
	replica.as("").cookie(cookieOf(t, one.as("").post("/api/v1/session", in).is(201))).get("/api/v1/me").is(200)

	// A cookie of before the names told installations apart signs nobody in.
	two.as("").set("Cookie", "patrol_session="+theirs.Value).get("/api/v1/me").problem(401, models.CodeUnauthenticated)
}

// TestLinksDoNotFollowTheHost asks for links under a host that somebody made up.
func TestLinksDoNotFollowTheHost(t *testing.T) {
	for public, base := range map[string]string{"": "", "https://patrol.example.com": "https://patrol.example.com"} {
		w := newWorld(t, testenv.SQLite(t), func(cfg *server.Config, _ *server.Deps) { cfg.PublicURL = public })
		session := w.session("root")
		for _, host := range []string{"evil.example", "evil.example:8080", "127.0.0.1"} {
			ask := func(method, path string) *httptest.ResponseRecorder {
				r := httptest.NewRequest(method, path, nil)
				r.Host = host
				r.Header.Set("Authorization", "Bearer "+session)
				r.Header.Set("X-Forwarded-Host", host)
				r.Header.Set("Forwarded", "host="+host)
				rec := httptest.NewRecorder()
				w.server.Handler().ServeHTTP(rec, r)
				return rec
			}
			rec := ask(http.MethodPost, "/api/v1/users/"+w.users["ann"].ID+"/password-reset")
			var reset api.PasswordReset
			(&answer{t: t, status: rec.Code, header: rec.Header(), body: rec.Body.Bytes()}).is(201).into(&reset)
			assert.Equal(t, base+"/reset#"+reset.Code, reset.URL)
			for _, r := range server.Routes() {
				if r.Method != http.MethodGet || r.Mount {
					continue
				}
				rec := ask(http.MethodGet, r.Path)
				assert.NotContains(t, rec.Body.String(), "evil.example", r.Path)
				for name, values := range rec.Header() {
					assert.NotContains(t, values, "evil.example", "%s of %s", name, r.Path)
				}
			}
		}
	}
}
