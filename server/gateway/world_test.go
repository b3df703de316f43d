package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"patrol/api"
	"patrol/models"
	"patrol/server/authz"
	"patrol/server/gateway"
)

const (
	goodToken = "patrol_0123456789abcdef_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef012345"
	requestID = "request-0001"
	wait      = 10 * time.Second // for what must happen
)

var tokenExpires = time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)

func TestMain(m *testing.M) {
	// Gateways trust what the system trusts; here that is httptest's certificate.
	s := httptest.NewTLSServer(nil)
	file, err := os.CreateTemp("", "patrol-test-*.pem")
	if err == nil {
		err = pem.Encode(file, &pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	}
	s.Close()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = os.Setenv("SSL_CERT_FILE", file.Name())
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.Remove(file.Name())
		os.Exit(code)
	}))
}

// judge is an authorizer that allows goodToken whatever decide says.
type judge struct {
	need      *models.BodyNeed
	websocket bool
	methods   []string // that the path is mapped for
	hintsErr  error
	decide    func(r models.HTTPRequest, fixed models.Request) models.Decision // nil: allow
	admit     *models.Decision                                                 // why the token is not good; nil: it is
	judges    func(domain string) string                                       // the domain that is judged; nil: the fixed one

	mu     sync.Mutex
	calls  []authz.Call
	judged []models.HTTPRequest
	holds  []context.CancelCauseFunc
}

func (j *judge) Begin(_ context.Context, call authz.Call) (*proxied, models.Decision, bool) {
	j.mu.Lock()
	j.calls = append(j.calls, call)
	j.mu.Unlock()
	switch call.Token {
	case goodToken:
		return &proxied{judge: j, request: call.Request}, models.Decision{}, true
	case "":
		return nil, models.Deny(models.TokenMissing), false
	default:
		return nil, models.Deny(models.TokenUnknown), false
	}
}

// Verified knows goodToken once it was shown.
func (j *judge) Verified(token string) (id string, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	known := token == goodToken && slices.ContainsFunc(j.calls, func(c authz.Call) bool { return c.Token == token })
	return allowed().TokenID, known
}

// last returns what was judged last.
func (j *judge) last() models.HTTPRequest {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.judged) == 0 {
		return models.HTTPRequest{}
	}
	return j.judged[len(j.judged)-1]
}

// denyAll takes back what was allowed.
func (j *judge) denyAll() {
	j.mu.Lock()
	j.decide = denial
	j.mu.Unlock()
	j.cut()
}

// cut tells those who hold a request that it is denied.
func (j *judge) cut() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, cancel := range j.holds {
		cancel(authz.ErrDenied)
	}
}

type proxied struct {
	judge   *judge
	request models.Request
}

func (p *proxied) Hints(context.Context, models.HTTPRequest) (*models.BodyNeed, bool, error) {
	return p.judge.need, p.judge.websocket, p.judge.hintsErr
}

func (p *proxied) Names(context.Context, models.HTTPRequest, models.Request) []authz.Name { return nil }

func (p *proxied) Maps(_ context.Context, method string, _ models.HTTPRequest) bool {
	return slices.Contains(p.judge.methods, method)
}

func (p *proxied) Decide(_ context.Context, r models.HTTPRequest, fixed models.Request) models.Decision {
	p.judge.mu.Lock()
	defer p.judge.mu.Unlock()
	p.judge.judged = append(p.judge.judged, r)
	p.request = models.Request{Domain: fixed.Domain, EntityType: "models", Entity: "*", Operation: "read"}
	if p.judge.judges != nil {
		p.request.Domain = p.judge.judges(fixed.Domain)
	}
	if p.judge.decide != nil {
		return p.judge.decide(r, fixed)
	}
	return allowed()
}

func allowed() models.Decision {
	return models.Decision{ID: "d", Allowed: true, UserID: "user-1", TokenID: "0123456789abcdef"}
}

func (p *proxied) Refuse(_ context.Context, reason models.Reason) models.Decision {
	return models.DenyFor(reason)
}

func (p *proxied) Admit(context.Context) (models.Decision, bool) {
	if p.judge.admit != nil {
		return *p.judge.admit, false
	}
	return models.Decision{}, true
}

func (p *proxied) TokenID() string { return allowed().TokenID }

func (p *proxied) Request() models.Request { return p.request }

func (p *proxied) Expires() time.Time { return tokenExpires }

func (p *proxied) Hold(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	p.judge.mu.Lock()
	defer p.judge.mu.Unlock()
	p.judge.holds = append(p.judge.holds, cancel)
	return ctx, func() { cancel(context.Canceled) }
}

// world is a client, a gateway in a server, and an upstream.
type world struct {
	*judge
	t        *testing.T
	upstream *httptest.Server
	front    *httptest.Server
	client   *http.Client
	log      *logs
	answered atomic.Int32 // requests that the gateway is done with
}

type setup struct {
	upstream http.HandlerFunc
	tls      bool // HTTP/2 and TLS on both sides
	judge    *judge
	config   func(*gateway.Config)
	serve    func(*http.Server)
	backend  func(*http.Server) // the upstream's
}

func newWorld(t *testing.T, s setup) *world {
	t.Helper()
	w := &world{t: t, judge: s.judge, log: &logs{}}
	if w.judge == nil {
		w.judge = &judge{}
	}
	w.upstream = httptest.NewUnstartedServer(s.upstream)
	w.upstream.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	if s.backend != nil {
		s.backend(w.upstream.Config)
	}
	start(w.upstream, s.tls)
	t.Cleanup(w.upstream.Close)

	cfg := gateway.DefaultConfig()
	cfg.Upstreams = map[string]gateway.Upstream{gateway.AnyDomain: {URL: w.upstream.URL}}
	dir := t.TempDir()
	cfg.TempDir = dir
	if s.config != nil {
		s.config(&cfg)
	}
	g, err := gateway.New(cfg, w.judge, slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	require.NoError(t, err)
	t.Cleanup(g.Close)
	w.front = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("X-Request-Id", requestID)
		rw.Header().Set("Strict-Transport-Security", "max-age=1")
		defer w.answered.Add(1)
		g.ServeHTTP(rw, r)
	}))
	w.front.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	if s.serve != nil {
		s.serve(w.front.Config)
	}
	start(w.front, s.tls)
	t.Cleanup(w.front.Close)
	w.client = w.front.Client()
	w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	w.transport().DisableCompression = true
	t.Cleanup(func() { // nothing is left behind
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, left)
	})
	return w
}

// transport is the client's.
func (w *world) transport() *http.Transport {
	w.t.Helper()
	transport, ok := w.client.Transport.(*http.Transport)
	require.True(w.t, ok)
	return transport
}

func start(s *httptest.Server, tls bool) {
	if tls {
		s.EnableHTTP2 = true
		s.StartTLS()
		return
	}
	s.Start()
}

// request makes a request of the holder of goodToken.
func (w *world) request(ctx context.Context, method, target string, body io.Reader) *http.Request {
	r, err := http.NewRequestWithContext(ctx, method, w.front.URL+target, body)
	require.NoError(w.t, err)
	r.Header.Set("Authorization", "Bearer "+goodToken)
	return r
}

// reply is an answer with its body read.
type reply struct {
	*http.Response
	body string
}

// code is that of the first reason, else of the problem, that the answer is.
func (r reply) code() string {
	var p api.Problem
	_ = json.Unmarshal([]byte(r.body), &p)
	if len(p.Reasons) > 0 {
		return string(p.Reasons[0].Code)
	}
	return p.Code
}

func (w *world) do(r *http.Request) reply {
	w.t.Helper()
	res, err := w.client.Do(r)
	require.NoError(w.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(w.t, err)
	return reply{res, string(body)}
}

func (w *world) get(target string) reply {
	w.t.Helper()
	return w.do(w.request(w.t.Context(), http.MethodGet, target, nil))
}

// raw sends text as it is, as the holder of goodToken unless the text says
// otherwise, and returns the answer.
func (w *world) raw(requestLine string, headers ...string) reply {
	w.t.Helper()
	conn := w.dial()
	lines := append([]string{requestLine, "Host: patrol.test", "Connection: close"}, headers...)
	if !strings.Contains(strings.ToLower(strings.Join(headers, "\n")), "authorization:") {
		lines = append(lines, "Authorization: Bearer "+goodToken)
	}
	_, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n")
	require.NoError(w.t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(w.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(w.t, err)
	return reply{res, string(body)}
}

func (w *world) dial() net.Conn {
	w.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(w.t.Context(), "tcp", w.front.Listener.Addr().String())
	require.NoError(w.t, err)
	require.NoError(w.t, conn.SetDeadline(time.Now().Add(wait)))
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// logs returns the log.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// receive waits for a value, or fails the test.
func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(wait):
		require.FailNow(t, "waited in vain for "+what)
		panic("unreachable")
	}
}
