package e2e_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"sigs.k8s.io/yaml"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/server/forwardauth"
)

// The surfaces, in the order in which they run.
const (
	onAuthorize = "authorize"
	onGateway   = "gateway"
	onGRPC      = "grpc"
	onEnvoyGRPC = "envoy-grpc"
	onEnvoyHTTP = "envoy-http"
	onNginx     = "nginx"
	onCaddy     = "caddy"
	onHAProxy   = "haproxy"
)

var surfaces = []string{onAuthorize, onGateway, onGRPC, onEnvoyGRPC, onEnvoyHTTP, onNginx, onCaddy, onHAProxy}

// testCase is one entry of testdata/cases.yaml, which explains the fields.
type testCase struct {
	Name     string            `json:"name"`
	Token    string            `json:"token"`
	As       string            `json:"as"`
	Send     string            `json:"send"`
	Headers  []string          `json:"headers"`
	Body     string            `json:"body"`
	Asks     string            `json:"asks"`
	Status   int               `json:"status"`
	Over     []string          `json:"over"`
	Differs  map[string]int    `json:"differs"`
	Forwards string            `json:"forwards"`
	Upstream map[string]string `json:"upstream"`
	Client   map[string]string `json:"client"`
}

func loadCases(t *testing.T) []testCase {
	t.Helper()
	content, err := os.ReadFile("testdata/cases.yaml")
	require.NoError(t, err)
	var cases []testCase
	require.NoError(t, yaml.UnmarshalStrict(content, &cases))
	seen := map[string]bool{}
	for _, c := range cases {
		require.False(t, seen[c.Name], "two cases are named %q", c.Name)
		seen[c.Name] = true
		require.NotZero(t, c.Status, c.Name)
		for _, name := range c.Over {
			require.Contains(t, surfaces, name, c.Name)
		}
		for name := range c.Differs {
			require.True(t, c.runsOn(name), "%s: %s differs where it does not run", c.Name, name)
		}
	}
	return cases
}

func (c testCase) runsOn(surface string) bool {
	if surface == onAuthorize && c.Asks == "" {
		return false
	}
	return len(c.Over) == 0 || slices.Contains(c.Over, surface)
}

func (c testCase) want(surface string) int {
	if status, ok := c.Differs[surface]; ok {
		return status
	}
	return c.Status
}

// expand puts tokens in the place of their names in braces.
func (p *patrol) expand(text string) string {
	for name, token := range p.tokens {
		text = strings.ReplaceAll(text, "{"+name+"}", token)
	}
	return text
}

// wire is a request as it is sent: method, target, header lines, body.
func (p *patrol) wire(c testCase, id string) (method, target string, lines []string, body string) {
	method, target, _ = strings.Cut(p.expand(c.Send), " ")
	lines = []string{caseHeader + ": " + id}
	if !slices.ContainsFunc(c.Headers, func(h string) bool { return strings.HasPrefix(h, "Host:") }) {
		lines = append(lines, "Host: models.example.com")
	}
	if c.Token != "" {
		lines = append(lines, "Authorization: Bearer "+p.tokens[c.Token])
	}
	for _, h := range c.Headers {
		lines = append(lines, p.expand(h))
	}
	return method, target, lines, p.expand(c.Body)
}

// response is the answer that a client got.
type response struct {
	status int
	header http.Header
	body   string
}

// exchange sends a request, byte for byte, over a connection of its own.
func exchange(t *testing.T, addr, method, target string, lines []string, body string) response {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(context.Background(), "tcp", addr)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s %s HTTP/1.1\r\n", method, target)
	for _, line := range lines {
		out.WriteString(line + "\r\n")
	}
	if body != "" || method == http.MethodPost {
		fmt.Fprintf(&out, "Content-Length: %d\r\n", len(body))
	}
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "Connection:") }) {
		out.WriteString("Connection: close\r\n")
	}
	out.WriteString("\r\n" + body)
	_, err = conn.Write(out.Bytes())
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	content, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return response{res.StatusCode, res.Header, string(content)}
}

// checkRequest returns Envoy's question about a request with encode_raw_headers and
// pack_as_bytes.
func checkRequest(method, target string, lines []string, body string) *authv3.CheckRequest {
	in := &authv3.AttributeContext_HttpRequest{
		Method: method, Path: target, RawBody: []byte(body), Protocol: "HTTP/1.1", HeaderMap: &corev3.HeaderMap{},
	}
	add := func(name, value string) {
		in.HeaderMap.Headers = append(in.HeaderMap.Headers, &corev3.HeaderValue{Key: name, RawValue: []byte(value)})
	}
	add(":method", method)
	add(":path", target)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		add(strings.ToLower(name), strings.Trim(value, " \t"))
	}
	if body != "" {
		add("x-envoy-auth-partial-body", "false")
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: in}}}
}

// bench is everything that cases run over.
type testBench struct {
	*patrol
	up    *upstream
	addrs map[string]string // of the surfaces that speak HTTP
	check authv3.AuthorizationClient
}

func TestCases(t *testing.T) {
	cases := loadCases(t)
	require.GreaterOrEqual(t, len(cases), 150)
	testenv.EachDatabase(t, func(t *testing.T, database string) {
		up := newUpstream(t)
		b := &testBench{patrol: openPatrol(t, database, up.url, options{}), up: up, addrs: map[string]string{}}
		conn, err := grpc.NewClient(b.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close()) }()
		b.check = authv3.NewAuthorizationClient(conn)
		for _, surface := range surfaces {
			t.Run(surface, func(t *testing.T) {
				b.addrs[surface] = b.open(t, surface)
				for i, c := range cases {
					if c.runsOn(surface) {
						t.Run(c.Name, func(t *testing.T) { b.run(t, surface, c, surface+"-"+strconv.Itoa(i)) })
					}
				}
			})
		}
		for _, token := range b.tokens {
			require.NotContains(t, b.log.String(), token, "the log has a token")
		}
	})
}

// open starts what a surface needs and returns its address.
func (b *testBench) open(t *testing.T, surface string) string {
	t.Helper()
	switch surface {
	case onEnvoyGRPC:
		return startEnvoy(t, "envoy.yaml", "10000", b.grpc, b.up.addr)
	case onEnvoyHTTP:
		return startEnvoy(t, "envoy-http.yaml", "10001", b.forward[forwardauth.Envoy], b.up.addr)
	case onNginx:
		return startNginx(t, b.forward[forwardauth.Nginx], b.up.addr)
	case onCaddy:
		return startCaddy(t, b.forward[forwardauth.Caddy], b.up.addr)
	case onHAProxy:
		return startHAProxy(t, b.forward[forwardauth.HAProxy], b.up.addr)
	}
	return b.http
}

func (b *testBench) run(t *testing.T, surface string, c testCase, id string) {
	t.Helper()
	switch surface {
	case onAuthorize:
		assert.Equal(t, c.want(surface), b.authorize(t, c))
		return
	case onGRPC:
		res, err := b.check.Check(t.Context(), checkRequest(b.wire(c, id)))
		require.NoError(t, err)
		status := http.StatusOK
		if res.GetOkResponse() == nil {
			status = int(res.GetDeniedResponse().GetStatus().GetCode())
		}
		assert.Equal(t, c.want(surface), status)
		return
	}
	method, target, lines, body := b.wire(c, id)
	res := exchange(t, b.addrs[surface], method, target, lines, body)
	arrived := b.up.take(id)
	require.Equal(t, c.want(surface), res.status, "%v\n%s", res.header, res.body)
	for name, token := range b.tokens {
		assert.NotContains(t, fmt.Sprint(res), token, "the answer has the token %q", name)
		assert.NotContains(t, fmt.Sprint(arrived), token, "the upstream was sent the token %q", name)
	}
	for name, want := range c.Client {
		if want == "" {
			assert.Empty(t, res.header.Values(name), name)
			continue
		}
		assert.Contains(t, strings.Join(res.header.Values(name), ", "), want, name)
	}
	if res.status != http.StatusOK {
		assert.Empty(t, arrived, "a refused request reached the upstream")
		return
	}
	require.Len(t, arrived, 1)
	b.checkArrival(t, surface, c, arrived[0])
}

// checkArrival checks what an upstream must be able to believe in any case, and
// what the case says.
func (b *testBench) checkArrival(t *testing.T, surface string, c testCase, got arrival) {
	t.Helper()
	method, target, _, body := b.wire(c, "")
	assert.Equal(t, method, got.method)
	assert.Equal(t, body, got.body)
	if c.Forwards != "" {
		target = c.Forwards
	}
	if surface == onGateway {
		target = "/" + strings.SplitN(target, "/", 4)[3] // without /proxy/<domain>
	}
	assert.Equal(t, target, got.target)
	owner, shown := "", cmp.Or(c.As, c.Token)
	for _, token := range tokens {
		if token.name == shown {
			owner = b.users[token.owner]
		}
	}
	for name, want := range map[string]string{"X-Patrol-User": owner, "X-Patrol-Token-Id": b.tokenIDs[shown]} {
		assert.Equal(t, []string{want}, got.header[name], name)
	}
	assert.Len(t, got.header["X-Patrol-Domain"], 1)
	for name, values := range got.header {
		plain := strings.ToLower(strings.ReplaceAll(name, "_", "-"))
		speaks := strings.HasPrefix(plain, "x-patrol-") || strings.HasPrefix(plain, "x-guardrails-") || plain == "authorization"
		known := name == "X-Patrol-User" || name == "X-Patrol-Domain" || name == "X-Patrol-Token-Id"
		assert.False(t, speaks && !known, "the upstream was sent %s: %v", name, values)
	}
	for name, want := range c.Upstream {
		assert.Equal(t, want, strings.Join(got.header.Values(name), ", "), name)
	}
}

// authorize asks /authorize what the case asks and returns what the client is to
// be told.
func (b *testBench) authorize(t *testing.T, c testCase) int {
	t.Helper()
	scope, err := models.ParseScope(c.Asks)
	require.NoError(t, err)
	ask := map[string]string{"domain": scope.Domain, "entity_type": scope.EntityType, "entity": scope.Entity, "operation": scope.Operation}
	if c.Token != "" {
		ask["token"] = b.tokens[c.Token]
	}
	body, err := json.Marshal(ask)
	require.NoError(t, err)
	res := exchange(t, b.http, http.MethodPost, "/authorize", []string{"Host: patrol", "Content-Type: application/json"}, string(body))
	require.Equal(t, http.StatusOK, res.status, res.body)
	var d api.Decision
	require.NoError(t, json.Unmarshal([]byte(res.body), &d))
	assert.Equal(t, d.Allowed, d.Status == http.StatusOK)
	return d.Status
}
