package e2e_test

import (
	"bytes"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/server/extauthz"
	"patrol/server/forwardauth"
)

// proxies starts each example in front of an upstream, by surface.
func proxies(p *patrol, up string) map[string]func(*testing.T) string {
	return map[string]func(*testing.T) string{
		onGateway:   func(*testing.T) string { return p.http },
		onEnvoyGRPC: func(t *testing.T) string { return startEnvoy(t, "envoy.yaml", "10000", p.grpc, up) },
		onEnvoyHTTP: func(t *testing.T) string {
			return startEnvoy(t, "envoy-http.yaml", "10001", p.forward[forwardauth.Envoy], up)
		},
		onNginx:   func(t *testing.T) string { return startNginx(t, p.forward[forwardauth.Nginx], up) },
		onCaddy:   func(t *testing.T) string { return startCaddy(t, p.forward[forwardauth.Caddy], up) },
		onHAProxy: func(t *testing.T) string { return startHAProxy(t, p.forward[forwardauth.HAProxy], up) },
	}
}

// Parts of models and recordings are larger than what a proxy keeps of a body. They
// arrive whole all the same.
func TestLargeBodies(t *testing.T) {
	up := newUpstream(t)
	p := openPatrol(t, testenv.SQLite(t), up.url, options{
		extauthz:    func(c *extauthz.Config) { c.MaxMessageBytes = 65 << 20 },
		forwardauth: func(c *forwardauth.Config) { c.MaxBodyBytes = 65 << 20 },
	})
	blob := bytes.Repeat([]byte("model"), 18<<20/5)
	var audio bytes.Buffer
	form := multipart.NewWriter(&audio)
	require.NoError(t, form.WriteField("model", "whisper"))
	part, err := form.CreateFormFile("file", "talk.wav")
	require.NoError(t, err)
	_, err = part.Write(blob)
	require.NoError(t, err)
	require.NoError(t, form.Close())
	for surface, open := range proxies(p, up.addr) {
		t.Run(surface, func(t *testing.T) {
			addr := open(t)
			for _, c := range []struct {
				name, path, contentType, token string
				body                           []byte
			}{
				{"blob", "/api/blobs/sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "application/octet-stream", "admin", blob},
				{"audio", "/v1/audio/transcriptions", form.FormDataContentType(), "user", audio.Bytes()},
			} {
				id := surface + " " + c.name
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/proxy/acme"+c.path, bytes.NewReader(c.body))
				require.NoError(t, err)
				req.Header.Set("Authorization", "Bearer "+p.tokens[c.token])
				req.Header.Set("Content-Type", c.contentType)
				req.Header.Set(caseHeader, id)
				res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}).Do(req)
				require.NoError(t, err, c.name)
				require.NoError(t, res.Body.Close())
				require.Equal(t, http.StatusOK, res.StatusCode, c.name)
				arrived := up.take(id)
				require.Len(t, arrived, 1, c.name)
				assert.Len(t, arrived[0].body, len(c.body), c.name)
			}
		})
	}
}

// idleUpstream notes for how long each connection was idle before the proxy closed it.
type idleUpstream struct {
	addr string
	mu   sync.Mutex
	idle map[net.Conn]time.Time
	left chan time.Duration
}

func newIdleUpstream(t *testing.T) *idleUpstream {
	t.Helper()
	u := &idleUpstream{idle: map[net.Conn]time.Time{}, left: make(chan time.Duration, 100)}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		u.mu.Lock()
		defer u.mu.Unlock()
		switch state {
		case http.StateIdle:
			u.idle[c] = time.Now()
		case http.StateClosed:
			since, ok := u.idle[c]
			if !ok {
				since = time.Now() // at once
			}
			u.left <- time.Since(since)
			delete(u.idle, c)
		default:
			delete(u.idle, c)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	u.addr = s.Listener.Addr().String()
	return u
}

// Every proxy closes its idle connections to the upstream before uvicorn would, which
// does so after 5 s. A request that is sent while the upstream closes is lost.
func TestIdleConnectionsAreClosedBeforeTheUpstreamDoes(t *testing.T) {
	t.Parallel()
	const uvicorn = 5 * time.Second
	down := newUpstream(t)
	p := openPatrol(t, testenv.SQLite(t), down.url, options{})
	for surface := range proxies(p, "") {
		if surface == onGateway {
			continue // it has tests of its own
		}
		t.Run(surface, func(t *testing.T) {
			t.Parallel()
			up := newIdleUpstream(t)
			addr := proxies(p, up.addr)[surface](t)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/proxy/acme/v1/models", nil)
			require.NoError(t, err)
			req.Header.Set("Authorization", "Bearer "+p.tokens["reader"])
			res, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.Equal(t, http.StatusOK, res.StatusCode)
			select {
			case idle := <-up.left:
				assert.Less(t, idle, uvicorn)
			case <-time.After(patience):
				t.Fatal("the proxy keeps its connection to the upstream")
			}
		})
	}
}
