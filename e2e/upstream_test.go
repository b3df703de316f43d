package e2e_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// caseHeader carries the name of a request to the upstream.
const caseHeader = "X-Case"

// upstream is the server behind proxies. It records the requests that arrive.
type upstream struct {
	url, addr string
	mu        sync.Mutex
	arrived   map[string][]arrival // by the name in caseHeader
	// stream, if set, answers requests for a streaming chat.
	stream http.HandlerFunc
	// socket, if set, gets the connections that clients want to upgrade.
	socket func(net.Conn, *bufio.ReadWriter)
}

// arrival is one request as it came out of a proxy.
type arrival struct {
	method, target, body string
	header               http.Header
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{arrived: map[string][]arrival{}}
	s := httptest.NewServer(u)
	t.Cleanup(s.Close)
	u.url, u.addr = s.URL, s.Listener.Addr().String()
	return u
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if u.stream != nil && strings.HasSuffix(r.URL.Path, "/v1/chat/completions") {
		u.stream(w, r)
		return
	}
	if u.socket != nil && r.Header.Get("Upgrade") != "" {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err == nil {
			u.socket(conn, rw)
			_ = conn.Close()
		}
		return
	}
	body, _ := io.ReadAll(r.Body) // what is missing of it will be missed
	u.mu.Lock()
	name := r.Header.Get(caseHeader)
	u.arrived[name] = append(u.arrived[name], arrival{r.Method, r.RequestURI, string(body), r.Header.Clone()})
	u.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"object":"upstream"}`) // a client that left needs nothing
}

// take returns what arrived under a name and forgets it.
func (u *upstream) take(name string) []arrival {
	u.mu.Lock()
	defer u.mu.Unlock()
	got := u.arrived[name]
	delete(u.arrived, name)
	return got
}
