package gateway_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// front is a connection to a gateway whose server logs into complaints.
type front struct {
	*world
	conn       net.Conn
	in         *bufio.Reader
	complaints *logs
}

func newFront(t *testing.T, s setup) *front {
	t.Helper()
	f := &front{complaints: &logs{}}
	s.serve = func(h *http.Server) {
		h.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(f.complaints, nil), slog.LevelError)
	}
	f.world = newWorld(t, s)
	f.conn = f.dial()
	f.in = bufio.NewReader(f.conn)
	return f
}

func (f *front) send(format string, args ...any) {
	f.t.Helper()
	_, err := fmt.Fprintf(f.conn, format, args...)
	require.NoError(f.t, err)
}

// answer reads the next answer, to a request with a method.
func (f *front) answer(method string) *http.Response {
	f.t.Helper()
	res, err := http.ReadResponse(f.in, &http.Request{Method: method})
	require.NoError(f.t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(f.t, err)
	require.NoError(f.t, res.Body.Close())
	if method != http.MethodHead {
		require.NotEmpty(f.t, body)
	}
	return res
}

// ends fails unless the connection ends now, without a reset and without another
// answer.
func (f *front) ends() {
	f.t.Helper()
	rest, err := io.ReadAll(f.in)
	require.NoError(f.t, err)
	require.Empty(f.t, string(rest))
}

const strange = "Authorization: Bearer patrol_x\r\n"

// A refusal does not wait for the body, and the connection is good for more.
func TestConnectionsOutliveRefusals(t *testing.T) {
	t.Parallel()
	small := strings.Repeat("x", 10<<10)
	for name, c := range map[string]struct {
		method, framing, body string
	}{
		"body with its length":      {"POST", fmt.Sprintf("Content-Length: %d", len(small)), small},
		"body in chunks":            {"POST", "Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(small), small)},
		"HEAD with a body":          {"HEAD", "Content-Length: 3", "abc"},
		"body that reads as others": {"POST", "Content-Length: 46", "GET /proxy/acme/v1/models HTTP/1.1\r\nHost: x\r\n\r"},
		"as much as is read":        {"POST", "Content-Length: 262144", strings.Repeat("x", 256<<10)},
	} {
		for _, when := range []string{"at once", "after the answer"} {
			t.Run(name+", "+when, func(t *testing.T) {
				t.Parallel()
				f := newFront(t, setup{upstream: digest, judge: needs("json")})
				for range 3 {
					head := c.method + " /proxy/acme/v1/x HTTP/1.1\r\nHost: x\r\n" + strange + c.framing + "\r\n\r\n"
					if when == "at once" {
						f.send("%s", head+c.body)
					} else {
						f.send("%s", head)
					}
					res := f.answer(c.method)
					assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
					assert.False(t, res.Close)
					if when != "at once" {
						f.send("%s", c.body)
					}
				}
				f.send("GET /proxy/acme/v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n", strange)
				assert.Equal(t, http.StatusUnauthorized, f.answer("GET").StatusCode)
				f.ends()
				assert.Empty(t, f.complaints.String())
				f.mu.Lock()
				defer f.mu.Unlock()
				assert.Len(t, f.calls, 4)
			})
		}
	}
}

// If the rest of a body is not read, no part of it becomes a request.
func TestUnreadBodiesEndConnections(t *testing.T) {
	t.Parallel()
	const (
		post    = "POST /proxy/acme/v1/x HTTP/1.1\r\nHost: x\r\n" + strange
		another = "GET /proxy/acme/v1/other HTTP/1.1\r\nHost: x\r\n" + strange + "\r\n"
	)
	large := bytes.Repeat([]byte("x"), 4<<20)
	for name, c := range map[string]struct {
		head    string
		then    []byte // is sent while the answer is read
		closing bool   // the answer says it
	}{
		"large body":                      {fmt.Sprintf("Content-Length: %d\r\n", len(large)), large, true},
		"large chunk":                     {"Transfer-Encoding: chunked\r\n", fmt.Appendf(nil, "%x\r\n%s\r\n0\r\n\r\n", len(large), large), false},
		"no body at all":                  {"Content-Length: 10\r\n", nil, false},
		"no body at all, large":           {"Content-Length: 1000000\r\n", nil, true},
		"half a body":                     {"Content-Length: 1000\r\n", []byte("{"), false},
		"broken chunks":                   {"Transfer-Encoding: chunked\r\n", []byte("zz\r\n" + another), false},
		"a client that waits to be asked": {"Content-Length: 10\r\nExpect: 100-continue\r\n", nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFront(t, setup{upstream: digest, judge: needs("json")})
			start := time.Now()
			f.send("%s", post+c.head+"\r\n")
			res := f.answer("POST")
			assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
			assert.Equal(t, c.closing, res.Close)
			assert.Less(t, time.Since(start), 2*time.Second, "the answer waited for the body")
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_, _ = f.conn.Write(c.then) // the connection may be closed meanwhile
			}()
			f.ends()
			assert.Less(t, time.Since(start), 6*time.Second)
			<-sent
			_, _ = io.WriteString(f.conn, another) // when the time for the body is over
			assert.Empty(t, f.complaints.String())
			f.mu.Lock()
			defer f.mu.Unlock()
			assert.Len(t, f.calls, 1)
		})
	}
}

// An upstream that answers before it has read the body gets its answer through, and
// what comes after it on the connection is no request.
func TestUpstreamsThatAnswerEarly(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"small": 1000, "large": 4 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFront(t, setup{upstream: func(w http.ResponseWriter, _ *http.Request) {
				_ = http.NewResponseController(w).EnableFullDuplex()
				w.WriteHeader(http.StatusConflict)
				_, _ = io.WriteString(w, "no")
			}})
			f.send("POST /proxy/acme/v1/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n{", goodToken, size)
			res := f.answer("POST")
			assert.Equal(t, http.StatusConflict, res.StatusCode)
			assert.True(t, res.Close)
			f.ends()
			assert.Empty(t, f.complaints.String())
		})
	}
}
