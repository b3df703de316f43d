package forwardauth_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/authztest"
	"patrol/server/forwardauth"
)

// Whoever announces a body and sends none is answered, and holds no connection. The
// server around has no timeouts here.
func TestBodiesThatDoNotCome(t *testing.T) {
	w := authztest.New(t)
	_, token := w.Mint(t, "u1", "acme:models:*:execute")
	own := map[forwardauth.Dialect]string{
		forwardauth.Nginx: "X-Original-Method: GET\r\nX-Original-URI: /proxy/acme/v1/models\r\n", forwardauth.HAProxy: "X-Original-Method: GET\r\nX-Original-URI: /proxy/acme/v1/models\r\n",
		forwardauth.Traefik: "X-Forwarded-Method: GET\r\nX-Forwarded-Uri: /proxy/acme/v1/models\r\n", forwardauth.Caddy: "X-Forwarded-Method: GET\r\nX-Forwarded-Uri: /proxy/acme/v1/models\r\n",
	}
	for _, d := range append(forwardauth.Dialects(), "nobody's") {
		h := handler(t, w, func(c *forwardauth.Config) {
			c.Peers = map[forwardauth.Dialect][]string{d: {"127.0.0.1"}}
			if d == "nobody's" {
				c.Peers = nil
			}
		})
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		for name, body := range map[string]string{
			"none of it":       "Content-Length: 1000\r\n\r\n",
			"a part":           "Content-Length: 1000\r\n\r\n{\"model\":",
			"no chunk":         "Transfer-Encoding: chunked\r\n\r\n",
			"a part of chunks": "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"mod\r\n",
			"when asked":       "Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n",
		} {
			t.Run(string(d)+"/"+name, func(t *testing.T) {
				conn, err := net.Dial("tcp", s.Listener.Addr().String())
				require.NoError(t, err)
				t.Cleanup(func() { _ = conn.Close() })
				_, err = fmt.Fprintf(conn, "POST %s/proxy/acme/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n%s%s",
					forwardauth.Prefix, token, own[d], body)
				require.NoError(t, err)
				require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
				answer, err := io.ReadAll(conn)
				require.NoError(t, err, "the server closed the connection")
				assert.Contains(t, string(answer), "HTTP/1.1 ", "it was answered before")
			})
		}
	}
}

// Bodies that have come cost nobody the connection.
func TestBodiesThatCome(t *testing.T) {
	w := authztest.New(t)
	_, token := w.Mint(t, "u1", "acme:models:*:execute")
	s := httptest.NewServer(handler(t, w, func(c *forwardauth.Config) {
		c.Peers = map[forwardauth.Dialect][]string{forwardauth.Envoy: {"127.0.0.1"}}
		c.Timeout = time.Minute
	}))
	t.Cleanup(s.Close)
	seen := map[string]bool{}
	for range 3 {
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { seen[c.Conn.LocalAddr().String()] = true }})
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+forwardauth.Prefix+"/proxy/acme/v1/chat/completions", strings.NewReader(`{"model":"llama3","messages":[]}`))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("X-Envoy-Auth-Partial-Body", "false")
		res, err := s.Client().Do(req)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		assert.Equal(t, http.StatusOK, res.StatusCode)
	}
	assert.Len(t, seen, 1, "all came over one connection")
}
