package gateway_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/server/gateway"
)

// A token whose secret is right but that is not good any more has no byte of its
// request's body read, nor is one asked for.
func TestNoBodyIsReadForATokenThatIsNotGood(t *testing.T) {
	refused := models.Deny(models.TokenRevoked)
	j := needs(models.BodyJSON)
	j.admit = &refused
	w := newWorld(t, setup{upstream: digest, judge: j})
	conn := w.dial()
	_, err := io.WriteString(conn, "POST /proxy/acme/v1/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+goodToken+
		"\r\nContent-Length: 1048576\r\nExpect: 100-continue\r\n\r\n")
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer res.Body.Close()
	assert.Equal(t, http.StatusUnauthorized, res.StatusCode, "and no 100 before")
	assert.Empty(t, w.last(), "nothing was judged")
}

// stalled begins a request whose body does not come to its end until the test's.
func (w *world) stalled(body string) net.Conn {
	conn := w.dial()
	_, err := fmt.Fprintf(conn, "POST /proxy/acme/v1/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", goodToken, len(body)+1, body)
	require.NoError(w.t, err)
	return conn
}

// Bodies that are declared and not sent take little; with many of them the token is
// told to wait, then everybody, and afterwards there is room as before.
func TestBodiesAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		share  int
		status int
		code   string
	}{
		"per token": {50, http.StatusTooManyRequests, "rate_limited"},
		"in all":    {100, http.StatusServiceUnavailable, "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, setup{upstream: digest, judge: needs(models.BodyJSON), config: func(g *gateway.Config) {
				g.BodyMemory, g.TokenShare = 1<<20, c.share
			}})
			var open []net.Conn
			defer func() {
				for _, conn := range open {
					_ = conn.Close()
				}
			}()
			var res reply
			for len(open) < 100 { // 20 KiB each
				open = append(open, w.stalled("{"))
				if res = w.rawBody("Content-Length: 18", `{"model":"llama3"}`); res.StatusCode != http.StatusOK {
					break
				}
			}
			require.Equal(t, c.status, res.StatusCode)
			assert.Equal(t, c.code, res.code())
			assert.Equal(t, "1", res.Header.Get("Retry-After"))
			assert.Greater(t, len(open), 20, "a connection that sends nothing costs little")
			for _, conn := range open {
				require.NoError(t, conn.Close())
			}
			open = nil
			require.Eventually(t, func() bool {
				res, err := w.client.Do(w.request(t.Context(), http.MethodPost, "/proxy/acme/v1/x", strings.NewReader(`{"model":"llama3"}`)))
				if err != nil { // lost, as the body was not read
					return false
				}
				defer res.Body.Close()
				return res.StatusCode == http.StatusOK
			}, 30*time.Second, time.Millisecond)
		})
	}
}

// A body that memory has no room for goes to disk, and is forwarded whole; what is
// on disk is bounded, too, and given back.
func TestBodiesGoToDiskWhereMemoryEnds(t *testing.T) {
	w := newWorld(t, setup{upstream: digest, judge: needs(models.BodyJSON), config: func(g *gateway.Config) {
		g.BodyMemory, g.BodyDisk, g.TokenShare, g.MaxJSONBody, g.MaxMultipartBody = 1<<20, 0, 100, 2<<20, 2<<20
	}})
	body := jsonOf(900 << 10)
	stalled := w.stalled(string(jsonOf(300 << 10)))
	defer func() { _ = stalled.Close() }()
	post := func() reply {
		return w.do(w.request(t.Context(), http.MethodPost, "/proxy/acme/v1/x", bytes.NewReader(body)))
	}
	for range 20 {
		res := post()
		require.Equal(t, http.StatusOK, res.StatusCode, res.body)
		require.Equal(t, digestOf(body), res.body)
	}
	status := func() int { // 0 if the answer was lost because the body was not read
		res, err := w.client.Do(w.request(t.Context(), http.MethodPost, "/proxy/acme/v1/x", bytes.NewReader(body)))
		if err != nil {
			return 0
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	var hogs []net.Conn // have all of the disk's room, unless one of them came before it was given back
	free := func() {
		for _, hog := range hogs {
			_ = hog.Close() // the gateway may have been first
		}
	}
	require.Eventually(t, func() bool {
		free()
		hogs = []net.Conn{w.stalled(string(jsonOf(2<<20 - 1))), w.stalled(string(body))}
		for range 20 {
			if status() == http.StatusServiceUnavailable {
				return true
			}
		}
		return false
	}, 60*time.Second, time.Millisecond)
	free()
	require.Eventually(t, func() bool { return status() == http.StatusOK }, 30*time.Second, time.Millisecond)
}

// Nobody holds the room for a body by sending a byte now and then, or none.
func TestABodyThatPauses(t *testing.T) {
	w := newWorld(t, setup{upstream: digest, judge: needs(models.BodyJSON), config: func(c *gateway.Config) { c.BodyPause = 50 * time.Millisecond }})
	res, err := http.ReadResponse(bufio.NewReader(w.stalled("{")), nil)
	require.NoError(t, err)
	defer res.Body.Close()
	assert.Equal(t, http.StatusRequestTimeout, res.StatusCode)
}

// The request's body is released once the answer begins, however long the answer takes.
func TestAnswersDoNotHoldBodies(t *testing.T) {
	end := make(chan struct{})
	w := newWorld(t, setup{
		judge: needs(models.BodyJSON), config: func(g *gateway.Config) { g.BodyMemory, g.BodyDisk, g.TokenShare = 1<<20, 0, 100 },
		upstream: func(rw http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(rw, "data: first\n\n")
			_ = http.NewResponseController(rw).Flush()
			<-end
		},
	})
	defer close(end)
	body := jsonOf(600 << 10)
	for range 5 {
		res, err := w.client.Do(w.request(t.Context(), http.MethodPost, "/proxy/acme/v1/x", bytes.NewReader(body)))
		require.NoError(t, err)
		defer res.Body.Close()
		require.Equal(t, http.StatusOK, res.StatusCode)
		line, err := bufio.NewReader(res.Body).ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, "data: first\n", line)
	}
}
