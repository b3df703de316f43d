package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/server/gateway"
)

// events sends one event, then waits for each signal on more to send another.
func events(more <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := 1; ; i++ {
			fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
			select {
			case _, ok := <-more:
				if !ok {
					return
				}
			case <-r.Context().Done():
				return
			}
		}
	}
}

// streamed is an answer whose body is still to be read.
type streamed struct {
	*bufio.Reader
	protocol int // major version
}

// stream starts a request and returns its answer, unread.
func (w *world) stream(r *http.Request) streamed {
	w.t.Helper()
	res, err := w.client.Do(r)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = res.Body.Close() })
	return streamed{bufio.NewReader(res.Body), res.ProtoMajor}
}

func overBothProtocols(t *testing.T, test func(t *testing.T, tls bool)) {
	t.Helper()
	t.Run("http/1.1", func(t *testing.T) { test(t, false) })
	t.Run("http/2", func(t *testing.T) { test(t, true) })
}

func TestEventsArriveAtOnce(t *testing.T) {
	overBothProtocols(t, func(t *testing.T, tls bool) {
		t.Helper()
		more := make(chan struct{})
		w := newWorld(t, setup{tls: tls, upstream: events(more), serve: shortTimeouts})
		lines := w.stream(w.request(t.Context(), http.MethodPost, "/proxy/acme/v1/chat/completions", strings.NewReader("{}")))
		assert.Equal(t, tls, lines.protocol == 2)
		for i := 1; i <= 3; i++ {
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			assert.Equal(t, fmt.Sprintf("data: %d\n", i), line)
			_, err = lines.ReadString('\n')
			require.NoError(t, err)
			if i == 2 { // let the server's timeouts, were they not lifted, pass
				select {
				case <-time.After(5 * serverTimeout):
				case <-t.Context().Done():
				}
			}
			if i < 3 {
				more <- struct{}{}
			}
		}
		close(more)
		rest, err := io.ReadAll(lines)
		require.NoError(t, err)
		assert.Empty(t, rest)
	})
}

func TestAnswersOfKnownLengthArriveAtOnceToo(t *testing.T) {
	more := make(chan struct{})
	w := newWorld(t, setup{upstream: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "4")
		_, _ = io.WriteString(w, "ab")
		_ = http.NewResponseController(w).Flush()
		<-more
		_, _ = io.WriteString(w, "cd")
	}})
	answer := w.stream(w.request(t.Context(), http.MethodGet, "/proxy/acme/v1/x", nil))
	first := make([]byte, 2)
	_, err := io.ReadFull(answer, first)
	require.NoError(t, err)
	assert.Equal(t, "ab", string(first))
	close(more)
	rest, err := io.ReadAll(answer)
	require.NoError(t, err)
	assert.Equal(t, "cd", string(rest))
}

const serverTimeout = 60 * time.Millisecond

func shortTimeouts(s *http.Server) { s.ReadTimeout, s.WriteTimeout = serverTimeout, serverTimeout }

func TestStreamsBothWays(t *testing.T) {
	overBothProtocols(t, func(t *testing.T, tls bool) {
		t.Helper()
		w := newWorld(t, setup{tls: tls, serve: shortTimeouts, upstream: func(w http.ResponseWriter, r *http.Request) {
			control := http.NewResponseController(w)
			_ = control.EnableFullDuplex()
			_ = control.Flush()
			lines := bufio.NewScanner(r.Body)
			for lines.Scan() {
				fmt.Fprintf(w, "echo %s\n", lines.Text())
				_ = control.Flush()
			}
		}})
		body, send := io.Pipe()
		lines := w.stream(w.request(t.Context(), http.MethodPost, "/proxy/acme/v1/realtime", body))
		for i := range 3 {
			_, err := fmt.Fprintf(send, "%d\n", i)
			require.NoError(t, err)
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			assert.Equal(t, fmt.Sprintf("echo %d\n", i), line)
		}
		require.NoError(t, send.Close())
		_, err := lines.ReadString('\n')
		assert.ErrorIs(t, err, io.EOF)
	})
}

func TestStreamIsCutWhenDenied(t *testing.T) {
	overBothProtocols(t, func(t *testing.T, tls bool) {
		t.Helper()
		gone := make(chan struct{})
		stream := events(nil)
		w := newWorld(t, setup{tls: tls, upstream: func(w http.ResponseWriter, r *http.Request) {
			defer close(gone)
			stream(w, r)
		}})
		lines := w.stream(w.request(t.Context(), http.MethodGet, "/proxy/acme/v1/x", nil))
		_, err := lines.ReadString('\n')
		require.NoError(t, err)
		w.denyAll()
		_, err = io.ReadAll(lines)
		require.Error(t, err, "the answer must not look complete")
		receive(t, gone, "the upstream to notice")
		require.Eventually(t, func() bool {
			return strings.Contains(w.log.String(), "no longer allowed") && strings.Contains(w.log.String(), requestID)
		}, wait, time.Millisecond)
	})
}

func TestDeniedBeforeTheAnswer(t *testing.T) {
	started := make(chan struct{})
	w := newWorld(t, setup{upstream: func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
	}})
	go func() {
		<-started
		w.denyAll()
	}()
	res := w.get("/proxy/acme/v1/x")
	assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
	assert.Equal(t, "token_unknown", res.code())
}

func TestAllowedAgainBeforeTheAnswer(t *testing.T) {
	started := make(chan struct{})
	w := newWorld(t, setup{upstream: func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
	}})
	go func() {
		<-started
		w.cut()
	}()
	res := w.get("/proxy/acme/v1/x")
	assert.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	assert.Equal(t, "unavailable", res.code())
}

// A client that does not read cannot keep a cut stream alive.
func TestCutEndsAWriteThatHangs(t *testing.T) {
	var sent atomic.Int64
	w := newWorld(t, setup{upstream: func(w http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 64<<10)
		for {
			n, err := w.Write(chunk)
			if err != nil {
				return
			}
			sent.Add(int64(n))
		}
	}})
	conn := w.dial()
	_, err := io.WriteString(conn, "GET /proxy/acme/v1/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+goodToken+"\r\n\r\n")
	require.NoError(t, err)
	before := int64(-1)
	require.Eventually(t, func() bool { // until all buffers are full
		now := sent.Load()
		stuck := now > 0 && now == before
		before = now
		return stuck
	}, wait, 100*time.Millisecond)
	w.denyAll()
	require.Eventually(t, func() bool { return w.answered.Load() == 1 }, wait, time.Millisecond, "the write still hangs")
}

func TestLongestLife(t *testing.T) {
	overBothProtocols(t, func(t *testing.T, tls bool) {
		t.Helper()
		// Long enough for the answer to begin on a machine that does much else.
		long := func(c *gateway.Config) { c.MaxStream = time.Second }
		short := func(c *gateway.Config) { c.MaxStream = 100 * time.Millisecond }
		w := newWorld(t, setup{tls: tls, upstream: events(nil), config: long})
		res := w.stream(w.request(t.Context(), http.MethodGet, "/proxy/acme/v1/x", nil))
		_, err := io.ReadAll(res)
		require.Error(t, err)
		require.Eventually(t, func() bool { return strings.Contains(w.log.String(), "longest life") }, wait, time.Millisecond)

		w = newWorld(t, setup{tls: tls, config: short, upstream: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }})
		answer := w.get("/proxy/acme/v1/x")
		assert.Equal(t, http.StatusGatewayTimeout, answer.StatusCode)
		assert.Equal(t, "upstream_timeout", answer.code())
	})
}

func TestClientGoes(t *testing.T) {
	overBothProtocols(t, func(t *testing.T, tls bool) {
		t.Helper()
		started, gone := make(chan struct{}), make(chan struct{})
		w := newWorld(t, setup{tls: tls, upstream: func(_ http.ResponseWriter, r *http.Request) {
			close(started)
			<-r.Context().Done()
			close(gone)
		}})
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			res, err := w.client.Do(w.request(ctx, http.MethodGet, "/proxy/acme/v1/x", nil))
			if err == nil {
				_ = res.Body.Close()
			}
			failed <- err
		}()
		receive(t, started, "the request to arrive")
		cancel()
		require.ErrorIs(t, receive(t, failed, "the client"), context.Canceled)
		receive(t, gone, "the upstream to notice")
	})
}

func TestWebSocket(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"realtime"}})
		if err != nil {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		for {
			kind, message, err := conn.Read(r.Context())
			if err != nil || conn.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	}
	connect := func(t *testing.T, w *world) (conn *websocket.Conn, answer http.Response, err error) {
		t.Helper()
		conn, res, err := websocket.Dial(t.Context(), w.front.URL+"/proxy/acme/v1/realtime", &websocket.DialOptions{
			HTTPClient:   w.client,
			HTTPHeader:   http.Header{"Authorization": {"Bearer " + goodToken}},
			Subprotocols: []string{"realtime"},
		})
		if conn != nil {
			t.Cleanup(func() { _ = conn.CloseNow() })
		}
		return conn, *res, err
	}
	talk := func(t *testing.T, conn *websocket.Conn) {
		t.Helper()
		require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte("hello")))
		_, message, err := conn.Read(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "hello", string(message))
	}

	t.Run("allowed", func(t *testing.T) {
		w := newWorld(t, setup{judge: &judge{websocket: true}, serve: shortTimeouts, upstream: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Set-Cookie", "a=b")
			echo(w, r)
		}})
		conn, res, err := connect(t, w)
		require.NoError(t, err)
		assert.Equal(t, "realtime", conn.Subprotocol())
		assert.NotContains(t, res.Header, "Set-Cookie")
		talk(t, conn)
		require.NoError(t, conn.Close(websocket.StatusNormalClosure, ""))
	})
	t.Run("route that does not allow it", func(t *testing.T) {
		w := newWorld(t, setup{upstream: echo})
		_, res, err := connect(t, w)
		require.Error(t, err)
		assert.Equal(t, http.StatusForbidden, res.StatusCode)
	})
	t.Run("denied", func(t *testing.T) {
		w := newWorld(t, setup{judge: &judge{websocket: true, decide: denial}, upstream: echo})
		_, res, err := connect(t, w)
		require.Error(t, err)
		assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
	})
	t.Run("cut when denied", func(t *testing.T) {
		w := newWorld(t, setup{judge: &judge{websocket: true}, upstream: echo})
		conn, _, err := connect(t, w)
		require.NoError(t, err)
		talk(t, conn)
		w.denyAll()
		_, _, err = conn.Read(t.Context())
		require.Error(t, err)
	})
	t.Run("longest life", func(t *testing.T) {
		w := newWorld(t, setup{judge: &judge{websocket: true}, upstream: echo, config: func(c *gateway.Config) { c.MaxStream = 200 * time.Millisecond }})
		conn, _, err := connect(t, w)
		require.NoError(t, err)
		_, _, err = conn.Read(t.Context())
		require.Error(t, err)
	})
	t.Run("upstream that does not speak it", func(t *testing.T) {
		w := newWorld(t, setup{judge: &judge{websocket: true}, upstream: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotImplemented) }})
		_, res, err := connect(t, w)
		require.Error(t, err)
		assert.Equal(t, http.StatusNotImplemented, res.StatusCode)
	})
	t.Run("upstream that switches unasked", func(t *testing.T) {
		w := newWorld(t, setup{upstream: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "websocket")
			w.WriteHeader(http.StatusSwitchingProtocols)
		}})
		assert.Equal(t, http.StatusBadGateway, w.get("/proxy/acme/v1/x").StatusCode)
	})
	t.Run("through TLS to an upstream with HTTP/2", func(t *testing.T) {
		w := newWorld(t, setup{tls: true, judge: &judge{websocket: true}, upstream: echo})
		w.transport().TLSClientConfig.NextProtos = []string{"http/1.1"}
		w.transport().ForceAttemptHTTP2 = false
		conn, _, err := connect(t, w)
		require.NoError(t, err)
		talk(t, conn)
	})
}

func TestUpstreamFailures(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="upstream"`)
			w.WriteHeader(code)
		}
	}
	speak := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, text)
				_ = conn.Close()
			}
		}
	}
	for name, c := range map[string]struct {
		upstream http.HandlerFunc
		down     bool
		status   int
		code     string
	}{
		"down":                {nil, true, 502, "upstream_unavailable"},
		"hangs up":            {speak(""), false, 502, "upstream_unavailable"},
		"speaks something":    {speak("SSH-2.0-x\r\n"), false, 502, "upstream_unavailable"},
		"header without end":  {speak("HTTP/1.1 200 OK\r\nX: y"), false, 502, "upstream_unavailable"},
		"header that is huge": {speak("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 300<<10) + "\r\n\r\n"), false, 502, "upstream_unavailable"},
		"slow":                {hang, false, 504, "upstream_timeout"},
		"refuses credential":  {status(401), false, 502, "upstream_unauthorized"},
		"wants proxy sign-in": {status(407), false, 502, "upstream_unauthorized"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, setup{upstream: c.upstream, config: func(cfg *gateway.Config) { cfg.HeaderTimeout = 300 * time.Millisecond }})
			if c.down {
				w.upstream.Close()
			}
			res := w.get("/proxy/acme/v1/x")
			assert.Equal(t, c.status, res.StatusCode)
			assert.Equal(t, c.code, res.code())
			assert.Equal(t, "application/problem+json", res.Header.Get("Content-Type"))
			assert.Equal(t, "no-store", res.Header.Get("Cache-Control"))
			assert.Empty(t, res.Header.Get("WWW-Authenticate"))
			assert.Contains(t, res.body, requestID)
			assert.NotContains(t, res.body, w.upstream.Listener.Addr().String())
			assert.NotContains(t, res.body, "127.0.0.1")
			assert.Contains(t, w.log.String(), requestID)
		})
	}
	t.Run("answers that are its own", func(t *testing.T) {
		for _, code := range []int{204, 304, 400, 403, 404, 429, 500, 503} {
			w := newWorld(t, setup{upstream: status(code)})
			res := w.get("/proxy/acme/v1/x")
			assert.Equal(t, code, res.StatusCode)
			assert.Empty(t, res.Header.Get("WWW-Authenticate"))
		}
	})
	t.Run("breaks off", func(t *testing.T) {
		w := newWorld(t, setup{upstream: speak("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")})
		res := w.stream(w.request(t.Context(), http.MethodGet, "/proxy/acme/v1/x", nil))
		_, err := io.ReadAll(res)
		require.Error(t, err)
	})
}

// Nothing that could have had an effect is sent twice.
func TestNoRetryOfWhatMayHaveHadAnEffect(t *testing.T) {
	var gets, posts atomic.Int32
	w := newWorld(t, setup{judge: needs(models.BodyJSON), upstream: func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPost {
			posts.Add(1)
			panic(http.ErrAbortHandler)
		}
		gets.Add(1)
	}})
	require.Equal(t, http.StatusOK, w.get("/proxy/acme/v1/x").StatusCode) // leaves a connection to use again
	res := w.do(w.request(t.Context(), http.MethodPost, "/proxy/acme/v1/x", strings.NewReader(`{"model":"m"}`)))
	assert.Equal(t, http.StatusBadGateway, res.StatusCode)
	assert.EqualValues(t, 1, gets.Load())
	assert.EqualValues(t, 1, posts.Load())
}

func TestInformationalAnswersDoNotPass(t *testing.T) {
	w := newWorld(t, setup{upstream: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</evil.js>; rel=preload")
		w.Header().Set("Set-Cookie", "a=b")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusProcessing)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "done")
	}})
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			assert.Fail(t, "an informational answer passed", "%d", code)
			return nil
		},
	})
	res := w.do(w.request(ctx, http.MethodGet, "/proxy/acme/v1/x", nil))
	assert.Equal(t, "done", res.body)
	assert.Equal(t, requestID, res.Header.Get("X-Request-Id"), "they must not clear the header")
	assert.NotContains(t, res.Header, "Link")
	assert.NotContains(t, res.Header, "Set-Cookie")
}

func TestAnswerTrailers(t *testing.T) {
	overBothProtocols(t, func(t *testing.T, tls bool) {
		t.Helper()
		for name, announce := range map[string]string{"announced": "X-Sum, Set-Cookie, X-Patrol-User", "announced in part": "X-Sum", "unannounced": ""} {
			t.Run(name, func(t *testing.T) {
				w := newWorld(t, setup{tls: tls, upstream: func(w http.ResponseWriter, _ *http.Request) {
					if announce != "" {
						w.Header().Set("Trailer", announce)
					}
					_, _ = io.WriteString(w, "body")
					_ = http.NewResponseController(w).Flush()
					for name, value := range map[string]string{"X-Sum": "1", "Set-Cookie": "a=b", "X-Patrol-User": "root"} {
						if !strings.Contains(announce, name) {
							name = http.TrailerPrefix + name
						}
						w.Header().Set(name, value)
					}
				}})
				res := w.get("/proxy/acme/v1/x")
				assert.Equal(t, "body", res.body)
				assert.Equal(t, "1", res.Trailer.Get("X-Sum"))
				for _, name := range []string{"Set-Cookie", "X-Patrol-User"} {
					assert.NotContains(t, res.Trailer, name)
					assert.NotContains(t, res.Header, name)
				}
			})
		}
	})
}

func TestHead(t *testing.T) {
	w := newWorld(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Header().Set("X-Method", r.Method)
	}})
	res := w.do(w.request(t.Context(), http.MethodHead, "/proxy/acme/v1/x", nil))
	assert.Equal(t, http.StatusOK, res.StatusCode)
	assert.Equal(t, int64(1000), res.ContentLength)
	assert.Equal(t, http.MethodHead, res.Header.Get("X-Method"))
	assert.Empty(t, res.body)
}

func TestHugeHeaders(t *testing.T) {
	w := newWorld(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Large", r.Header.Get("X-Large")) }})
	r := w.request(t.Context(), http.MethodGet, "/proxy/acme/v1/x", nil)
	large := strings.Repeat("x", 60<<10)
	r.Header.Set("X-Large", large)
	res := w.do(r)
	assert.Equal(t, http.StatusOK, res.StatusCode)
	assert.Equal(t, large, res.Header.Get("X-Large"))
}

// Answers pass as they are encoded, and connections are used again.
func TestConnectionsAreUsedAgain(t *testing.T) {
	w := newWorld(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Peer", r.RemoteAddr)
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, "not really gzip")
	}})
	connections := make(chan net.Conn, 3)
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { connections <- i.Conn }})
	peers := map[string]bool{}
	for range cap(connections) {
		res := w.do(w.request(ctx, http.MethodGet, "/proxy/acme/v1/x", nil))
		assert.Equal(t, "not really gzip", res.body)
		assert.Equal(t, "gzip", res.Header.Get("Content-Encoding"))
		peers[res.Header.Get("X-Peer")] = true
	}
	assert.Len(t, peers, 1)
	first := <-connections
	assert.Equal(t, first, <-connections)
	assert.Equal(t, first, <-connections)
}
