package e2e_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
)

// A chat that streams must arrive as it is made: the first event before the
// upstream has sent the last.
func TestStreamingChat(t *testing.T) {
	up := newUpstream(t)
	received := make(chan struct{})
	up.stream = func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !strings.Contains(string(body), `"stream":true`) {
			http.Error(w, "this is not what was sent", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: first\n\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-received:
			_, _ = io.WriteString(w, "data: [DONE]\n\n")
		case <-time.After(patience):
			_, _ = io.WriteString(w, "data: nobody has seen the first\n\n")
		}
	}
	p := openPatrol(t, testenv.SQLite(t), up.url, options{})
	for surface, open := range proxies(p, up.addr) {
		t.Run(surface, func(t *testing.T) {
			addr := open(t)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/proxy/acme/v1/chat/completions",
				strings.NewReader(`{"model":"llama3","stream":true,"messages":[]}`))
			require.NoError(t, err)
			req.Header.Set("Authorization", "Bearer "+p.tokens["user"])
			req.Header.Set("Content-Type", "application/json")
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
			res, err := client.Do(req)
			require.NoError(t, err)
			defer func() { _ = res.Body.Close() }()
			require.Equal(t, http.StatusOK, res.StatusCode)
			lines := bufio.NewReader(res.Body)
			first, err := lines.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "data: first\n", first)
			received <- struct{}{}
			rest, err := io.ReadAll(lines)
			require.NoError(t, err)
			assert.Equal(t, "\ndata: [DONE]\n\n", string(rest))
		})
	}
}

// A WebSocket goes through where the policy has one, and takes a scope for any model:
// what is said in it nobody looks at.
func TestWebSocket(t *testing.T) {
	up := newUpstream(t)
	up.socket = func(conn net.Conn, rw *bufio.ReadWriter) {
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
		line, _ := rw.ReadString('\n')
		_, _ = io.WriteString(conn, "heard "+line)
	}
	p := openPatrol(t, testenv.SQLite(t), up.url, options{})
	for surface, open := range proxies(p, up.addr) {
		addr := open(t)
		for token, want := range map[string]int{"user": http.StatusSwitchingProtocols, "llama3 user": http.StatusForbidden, "reader": http.StatusForbidden} {
			t.Run(surface+"/"+token, func(t *testing.T) {
				conn, err := (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp", addr)
				require.NoError(t, err)
				defer func() { _ = conn.Close() }()
				require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
				_, err = io.WriteString(conn, "GET /proxy/acme/v1/realtime?model=llama3 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+p.tokens[token]+
					"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
				require.NoError(t, err)
				reader := bufio.NewReader(conn)
				res, err := http.ReadResponse(reader, nil)
				require.NoError(t, err)
				defer func() { _ = res.Body.Close() }()
				require.Equal(t, want, res.StatusCode)
				if want != http.StatusSwitchingProtocols {
					return
				}
				_, err = io.WriteString(conn, "hello\n")
				require.NoError(t, err)
				line, err := reader.ReadString('\n')
				require.NoError(t, err)
				assert.Equal(t, "heard hello\n", line)
			})
		}
	}
}
