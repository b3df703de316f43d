package e2e_test

import (
	"context"
	"net/http"
	"net/textproto"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"sigs.k8s.io/yaml"

	"patrol/internal/testenv"
)

// twoReadings is an entry of testdata/two-readings.yaml, which explains the fields.
type twoReadings struct {
	Name    string   `json:"name"`
	Send    string   `json:"send"`
	Headers []string `json:"headers"`
	Body    string   `json:"body"`
	Honest  bool     `json:"honest"`
	Only    []string `json:"only"`
}

func loadTwoReadings(t *testing.T) []twoReadings {
	t.Helper()
	content, err := os.ReadFile("testdata/two-readings.yaml")
	require.NoError(t, err)
	var cases []twoReadings
	require.NoError(t, yaml.UnmarshalStrict(content, &cases))
	seen := map[string]bool{}
	for _, c := range cases {
		require.False(t, seen[c.Name], "two cases are named %q", c.Name)
		seen[c.Name] = true
	}
	return cases
}

// wire is the request as it is sent.
func (c twoReadings) wire(token, id string) (method, target string, lines []string, body string) {
	method, path, _ := strings.Cut(c.Send, " ")
	lines = []string{caseHeader + ": " + id, "Host: models.example.com", "Authorization: Bearer " + token}
	for _, h := range c.Headers {
		lines = append(lines, strings.NewReplacer(
			"{json}", "Content-Type: application/json", "{form}", "Content-Type: application/x-www-form-urlencoded",
			"{multipart}", "Content-Type: multipart/form-data; boundary=b",
		).Replace(h))
	}
	body = c.Body
	if strings.HasPrefix(body, "{part ") {
		var parts []string
		for part := range strings.SplitSeq(strings.TrimSuffix(strings.TrimPrefix(body, "{part "), "}"), "}{part ") {
			at := strings.LastIndexByte(part, '=')
			parts = append(parts, `"`+part[:at]+`"`+part[at:])
		}
		body = form{Parts: parts}.body()
	}
	return method, "/proxy/acme" + path, lines, body
}

// mayUse are the names that the token of these cases may use for something.
var mayUse = []string{"public", "llama3", "phi", "mine"}

// servedBeside returns who would serve what nobody judged.
func servedBeside(a arrival) (found []string) {
	s := look(a)
	for _, r := range readers {
		for _, name := range r.reads(s) {
			if !slices.Contains(mayUse, name) {
				found = append(found, r.name+" serves "+name)
			}
		}
	}
	return found
}

// TestReadersBite holds that the requests are what they are taken for: without Patrol
// some upstream would serve another model for each, unless it is honest.
func TestReadersBite(t *testing.T) {
	cases := loadTwoReadings(t)
	attacks := 0
	for _, c := range cases {
		method, target, lines, body := c.wire("", "")
		served := servedBeside(arrival{method, target, body, headerOf(lines)})
		if c.Honest {
			assert.Empty(t, served, c.Name)
			continue
		}
		attacks++
		assert.NotEmpty(t, served, c.Name)
	}
	assert.GreaterOrEqual(t, attacks, 80)
	assert.GreaterOrEqual(t, len(cases)-attacks, 15)
}

func headerOf(lines []string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		name = textproto.CanonicalMIMEHeaderKey(name)
		h[name] = append(h[name], strings.Trim(value, " \t"))
	}
	return h
}

// TestTwoReadings sends each request over each surface on which a model's name can be read, and
// has what passes read by every kind of upstream: nothing is served that was not judged.
func TestTwoReadings(t *testing.T) {
	cases := loadTwoReadings(t)
	up := newUpstream(t)
	b := &testBench{patrol: openPatrol(t, testenv.SQLite(t), up.url, options{}), up: up, addrs: map[string]string{}}
	token, _ := b.mint(t, "root", "two readings", "acme:models:public:read", "acme:models:llama3:execute", "acme:models:phi:execute", "acme:models:mine:write")
	conn, err := grpc.NewClient(b.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	b.check = authv3.NewAuthorizationClient(conn)
	for _, surface := range []string{onGateway, onGRPC, onEnvoyGRPC, onEnvoyHTTP} {
		t.Run(surface, func(t *testing.T) {
			b.addrs[surface] = b.open(t, surface)
			refused := 0
			for i, c := range cases {
				id := surface + "-reading-" + strconv.Itoa(i)
				method, target, lines, body := c.wire(token, id)
				var arrived []arrival
				if surface == onGRPC {
					arrived = b.forwardedByEnvoy(t, method, target, lines, body)
				} else {
					exchange(t, b.addrs[surface], method, target, lines, body)
					arrived = up.take(id)
				}
				require.LessOrEqual(t, len(arrived), 1, c.Name)
				if len(arrived) == 0 {
					refused++
				}
				if c.Honest && (c.Only == nil || slices.Contains(c.Only, surface)) {
					assert.Len(t, arrived, 1, "%s does not pass", c.Name)
				}
				for _, a := range arrived {
					assert.Empty(t, servedBeside(a), "%s: %s %v %s", c.Name, a.target, a.header, a.body)
				}
			}
			t.Logf("%d of %d requests were refused", refused, len(cases))
		})
	}
}

// forwardedByEnvoy returns the request that Envoy forwards after its question; nothing if the
// answer is no.
func (b *testBench) forwardedByEnvoy(t *testing.T, method, target string, lines []string, body string) []arrival {
	t.Helper()
	res, err := b.check.Check(context.Background(), checkRequest(method, target, lines, body))
	require.NoError(t, err)
	ok := res.GetOkResponse()
	if ok == nil {
		return nil
	}
	header := headerOf(lines)
	for _, h := range ok.GetHeaders() {
		header.Set(h.GetHeader().GetKey(), h.GetHeader().GetValue())
	}
	for _, name := range ok.GetHeadersToRemove() {
		header.Del(name)
	}
	return []arrival{{method, target, body, header}}
}
