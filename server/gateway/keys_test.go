package gateway_test

import (
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/server/gateway"
)

const otherToken = "patrol_fedcba9876543210_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef012345"

// TestKeys holds where a token is taken from, and that it reaches no upstream from there.
func TestKeys(t *testing.T) {
	type lines = map[string][]string
	for name, c := range map[string]struct {
		header   lines
		status   int
		code     string
		keyed    bool
		upstream lines // headers that the upstream gets; nil: none of those sent
		off      bool  // the setting
	}{
		"Anthropic":                             {header: lines{"X-Api-Key": {goodToken}}, status: 200, keyed: true},
		"Azure":                                 {header: lines{"Api-Key": {goodToken}}, status: 200, keyed: true},
		"Google":                                {header: lines{"X-Goog-Api-Key": {goodToken}}, status: 200, keyed: true},
		"space around it":                       {header: lines{"X-Api-Key": {"  " + goodToken + "\t"}}, status: 200, keyed: true},
		"a sub-protocol":                        {header: lines{"Sec-Websocket-Protocol": {"realtime, openai-insecure-api-key." + goodToken + ", openai-beta.realtime-v1"}}, status: 200, keyed: true, upstream: lines{"Sec-Websocket-Protocol": {"realtime, openai-beta.realtime-v1"}}},
		"a sub-protocol alone":                  {header: lines{"Sec-Websocket-Protocol": {"openai-insecure-api-key." + goodToken}}, status: 200, keyed: true},
		"sub-protocols in two lines":            {header: lines{"Sec-Websocket-Protocol": {"realtime", "openai-insecure-api-key." + goodToken}}, status: 200, keyed: true, upstream: lines{"Sec-Websocket-Protocol": {"realtime"}}},
		"the same twice":                        {header: lines{"X-Api-Key": {goodToken}, "Api-Key": {goodToken}}, status: 200, keyed: true},
		"the same in two lines":                 {header: lines{"X-Api-Key": {goodToken, goodToken}}, status: 200, keyed: true},
		"beside the same in Authorization":      {header: lines{"Authorization": {"Bearer " + goodToken}, "X-Api-Key": {goodToken}}, status: 200},
		"two that differ":                       {header: lines{"X-Api-Key": {goodToken}, "Api-Key": {otherToken}}, status: 400, code: "malformed_request"},
		"two that differ in one":                {header: lines{"X-Api-Key": {goodToken, otherToken}}, status: 400, code: "malformed_request"},
		"two that differ, joined":               {header: lines{"X-Api-Key": {otherToken + ", " + goodToken}}, status: 400, code: "malformed_request"},
		"beside another in Authorization":       {header: lines{"Authorization": {"Bearer " + goodToken}, "X-Api-Key": {otherToken}}, status: 400, code: "malformed_request"},
		"another sub-protocol":                  {header: lines{"Authorization": {"Bearer " + goodToken}, "Sec-Websocket-Protocol": {"openai-insecure-api-key." + otherToken}}, status: 400, code: "malformed_request"},
		"beside a password":                     {header: lines{"Authorization": {"Basic dTpw"}, "X-Api-Key": {goodToken}}, status: 400, code: "malformed_request"},
		"beside an empty Authorization":         {header: lines{"Authorization": {""}, "X-Api-Key": {goodToken}}, status: 400, code: "malformed_request"},
		"two Authorizations":                    {header: lines{"Authorization": {"Bearer " + goodToken, "Bearer " + goodToken}}, status: 400, code: "malformed_request"},
		"a key of the upstream":                 {header: lines{"X-Api-Key": {"sk-ant-1"}}, status: 401, code: "token_missing"},
		"a key of the upstream beside a token":  {header: lines{"Authorization": {"Bearer " + goodToken}, "X-Api-Key": {"sk-ant-1"}}, status: 200, upstream: lines{"X-Api-Key": {"sk-ant-1"}}},
		"Authorization alone counts":            {header: lines{"Authorization": {"Bearer sk-1"}, "X-Api-Key": {"sk-ant-1"}}, status: 401, code: "token_unknown"},
		"a session's token":                     {header: lines{"X-Api-Key": {"patrols_" + strings.Repeat("a", 43)}}, status: 401, code: "token_missing"},
		"after a scheme":                        {header: lines{"X-Api-Key": {"Bearer " + goodToken}}, status: 401, code: "token_missing"},
		"in capitals":                           {header: lines{"X-Api-Key": {strings.ToUpper(goodToken)}}, status: 401, code: "token_missing"},
		"another header":                        {header: lines{"X-Auth-Token": {goodToken}}, status: 401, code: "token_missing"},
		"a sub-protocol with a key of upstream": {header: lines{"Sec-Websocket-Protocol": {"realtime, openai-insecure-api-key.sk-1"}}, status: 401, code: "token_missing"},
		"another sub-protocol with a token":     {header: lines{"Sec-Websocket-Protocol": {"bearer." + goodToken}}, status: 401, code: "token_missing"},
		"not wanted":                            {header: lines{"X-Api-Key": {goodToken}}, status: 401, code: "token_missing", off: true},
		"not wanted, beside Authorization":      {header: lines{"Authorization": {"Bearer " + goodToken}, "X-Api-Key": {otherToken}}, status: 200, upstream: lines{"X-Api-Key": {"patrol_***"}}, off: true},
	} {
		t.Run(name, func(t *testing.T) {
			var got http.Header
			w := newWorld(t, setup{
				upstream: func(rw http.ResponseWriter, r *http.Request) {
					got = r.Header
					rw.Header().Set("Cache-Control", "public, max-age=60, s-maxage=600")
					rw.Header().Set("Cdn-Cache-Control", "max-age=600")
				},
				config: func(cfg *gateway.Config) { cfg.KeyHeaders = !c.off },
			})
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.front.URL+"/proxy/acme/v1/models", nil)
			require.NoError(t, err)
			maps.Copy(r.Header, c.header)
			res := w.do(r)
			require.Equal(t, c.status, res.StatusCode, res.body)
			if c.status != http.StatusOK {
				assert.Equal(t, c.code, res.code())
				assert.Equal(t, "no-store", res.Header.Get("Cache-Control"))
				assert.Nil(t, got)
				return
			}
			for name := range c.header {
				assert.Equal(t, c.upstream[name], got[name], name)
			}
			if c.keyed {
				assert.Equal(t, "private, max-age=60", res.Header.Get("Cache-Control"))
				assert.Empty(t, res.Header.Get("Cdn-Cache-Control"))
			} else {
				assert.Equal(t, "public, max-age=60, s-maxage=600", res.Header.Get("Cache-Control"))
			}
			assert.Equal(t, "2027-01-02T03:04:05Z", res.Header.Get("X-Patrol-Token-Expires"))
		})
	}
}

// TestCORS holds which scripts of browsers may send requests and read answers.
func TestCORS(t *testing.T) {
	const chat = "https://chat.example.com"
	upstream := func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Access-Control-Allow-Origin", "https://evil.example")
		rw.Header().Set("Access-Control-Allow-Credentials", "true")
		rw.Header().Set("Access-Control-Expose-Headers", "*")
		rw.Header().Set("Timing-Allow-Origin", "*")
		rw.Header().Set("Vary", "Accept-Encoding")
	}
	ask := http.Header{"Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"authorization,content-type,x_odd"}}
	for name, c := range map[string]struct {
		origins   []string
		method    string
		header    http.Header
		token     bool
		status    int
		allow     string // Access-Control-Allow-Origin
		preflight bool
	}{
		"preflight":                        {origins: []string{chat}, method: "OPTIONS", header: http.Header{"Origin": {chat}}, status: 204, allow: chat, preflight: true},
		"preflight of any origin":          {origins: []string{"*"}, method: "OPTIONS", header: http.Header{"Origin": {"https://other.example"}}, status: 204, allow: "*", preflight: true},
		"preflight of another origin":      {origins: []string{chat}, method: "OPTIONS", header: http.Header{"Origin": {"https://evil.example"}}, status: 401, preflight: true},
		"preflight of a longer origin":     {origins: []string{chat}, method: "OPTIONS", header: http.Header{"Origin": {chat + ".evil.example"}}, status: 401, preflight: true},
		"preflight of another scheme":      {origins: []string{chat}, method: "OPTIONS", header: http.Header{"Origin": {"http://chat.example.com"}}, status: 401, preflight: true},
		"preflight of another port":        {origins: []string{chat}, method: "OPTIONS", header: http.Header{"Origin": {chat + ":8443"}}, status: 401, preflight: true},
		"preflight of null":                {origins: []string{chat}, method: "OPTIONS", header: http.Header{"Origin": {"null"}}, status: 401, preflight: true},
		"preflight with two origins":       {origins: []string{chat}, method: "OPTIONS", header: http.Header{"Origin": {chat, chat}}, status: 401, preflight: true},
		"preflight where nothing is set":   {method: "OPTIONS", header: http.Header{"Origin": {chat}}, status: 401, preflight: true},
		"OPTIONS that asks for nothing":    {origins: []string{chat}, method: "OPTIONS", header: http.Header{"Origin": {chat}}, status: 401, allow: chat},
		"an answer":                        {origins: []string{chat}, method: "GET", header: http.Header{"Origin": {chat}}, token: true, status: 200, allow: chat},
		"an answer to any origin":          {origins: []string{"*"}, method: "GET", header: http.Header{"Origin": {"null"}}, token: true, status: 200, allow: "*"},
		"an answer to another origin":      {origins: []string{chat}, method: "GET", header: http.Header{"Origin": {"https://evil.example"}}, token: true, status: 200},
		"an answer without an origin":      {origins: []string{chat}, method: "GET", token: true, status: 200},
		"an answer where nothing is set":   {method: "GET", header: http.Header{"Origin": {chat}}, token: true, status: 200},
		"a refusal":                        {origins: []string{chat}, method: "GET", header: http.Header{"Origin": {chat}}, status: 401, allow: chat},
		"a refusal to another origin":      {origins: []string{chat}, method: "GET", header: http.Header{"Origin": {"https://evil.example"}}, status: 401},
		"a question that is not one alone": {origins: []string{chat}, method: "POST", header: http.Header{"Origin": {chat}}, status: 401, allow: chat, preflight: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, setup{upstream: upstream, config: func(cfg *gateway.Config) { cfg.Origins = c.origins }})
			r, err := http.NewRequestWithContext(t.Context(), c.method, w.front.URL+"/proxy/acme/v1/chat/completions", nil)
			require.NoError(t, err)
			maps.Copy(r.Header, c.header)
			if c.preflight {
				maps.Copy(r.Header, ask)
			}
			if c.token {
				r.Header.Set("Authorization", "Bearer "+goodToken)
			}
			res := w.do(r)
			require.Equal(t, c.status, res.StatusCode, res.body)
			h := res.Header
			assert.Equal(t, c.allow, h.Get("Access-Control-Allow-Origin"))
			assert.Empty(t, h.Values("Access-Control-Allow-Credentials"))
			assert.Empty(t, h.Values("Timing-Allow-Origin"))
			vary := strings.Join(h.Values("Vary"), ", ")
			assert.Equal(t, len(c.origins) > 0, strings.Contains(vary, "Origin"), vary)
			if c.status == http.StatusOK {
				assert.Contains(t, vary, "Accept-Encoding")
			}
			if c.status == http.StatusNoContent {
				assert.Equal(t, "POST", h.Get("Access-Control-Allow-Methods"))
				assert.Equal(t, "authorization, content-type", h.Get("Access-Control-Allow-Headers"))
				assert.Equal(t, "600", h.Get("Access-Control-Max-Age"))
				assert.Contains(t, vary, "Access-Control-Request-Headers")
				assert.Empty(t, w.calls, "a preflight asks nobody")
				return
			}
			assert.Empty(t, h.Get("Access-Control-Allow-Methods"))
			if c.allow == "" {
				assert.Empty(t, h.Get("Access-Control-Expose-Headers"))
				return
			}
			for _, name := range []string{"X-Request-Id", "Retry-After", "Mcp-Session-Id", "X-Patrol-Decision-Id", "X-Patrol-Token-Expires"} {
				assert.Contains(t, h.Get("Access-Control-Expose-Headers"), name)
			}
		})
	}
}

func TestOriginsAreSpelledAsBrowsersDo(t *testing.T) {
	for origin, ok := range map[string]bool{
		"*": true, "https://chat.example.com": true, "http://localhost:3000": true, "http://[::1]:3000": true, "chrome-extension://abcdef": true, "https://xn--bcher-kva.example": true,
		"": false, "null": false, "chat.example.com": false, "https://": false, "https://chat.example.com/": false, "https://Chat.example.com": false, "https://chat.example.com:443": false,
		"http://chat.example.com:80": false, "https://*.example.com": false, "https://user@chat.example.com": false, "https://chat.example.com?x": false, "https://chat.example.com#x": false,
		"https://bücher.example": false, "https://chat.example.com:": false, "https://a.example, https://b.example": false,
	} {
		assert.Equal(t, ok, gateway.CheckOrigin(origin) == "", origin)
	}
}

// TestEventsAreKeptAlive holds that a comment comes in the pauses of an event stream and nowhere
// else, and that all else passes as it came.
func TestEventsAreKeptAlive(t *testing.T) {
	const pause, comment = time.Second, ": keep-alive\n\n"
	for name, c := range map[string]struct {
		media, encoding string
		parts           []string // between which the upstream waits for two pauses and a half
		want            string
	}{
		"between events":         {media: "text/event-stream; charset=utf-8", parts: []string{"data: 1\n\n", "data: 2\n\n"}, want: "data: 1\n\n" + comment + comment + "data: 2\n\n"},
		"before the first":       {media: "text/event-stream", parts: []string{"", "data: 1\n\n"}, want: comment + comment + "data: 1\n\n"},
		"before a mark":          {media: "text/event-stream", parts: []string{"", "\xef\xbb\xbfdata: 1\n\n"}, want: comment + comment + "data: 1\n\n"},
		"after a mark":           {media: "text/event-stream", parts: []string{"\xef\xbb\xbfdata: 1\n\n", "data: 2\n\n"}, want: "\xef\xbb\xbfdata: 1\n\n" + comment + comment + "data: 2\n\n"},
		"lines that end in CRLF": {media: "Text/Event-Stream", parts: []string{"data: 1\r\n\r\n", "data: 2\r\n\r\n"}, want: "data: 1\r\n\r\n" + comment + comment + "data: 2\r\n\r\n"},
		"within a line":          {media: "text/event-stream", parts: []string{"data: 1", "\n\n"}, want: "data: 1\n\n"},
		"within an event":        {media: "text/event-stream", parts: []string{"event: a\n", "data: 1\n\n"}, want: "event: a\ndata: 1\n\n"},
		"within an end":          {media: "text/event-stream", parts: []string{"data: 1\r\n\r", "\n"}, want: "data: 1\r\n\r\n"},
		"within a character":     {media: "text/event-stream", parts: []string{"data: \xc3", "\xbc\n\n"}, want: "data: \xc3\xbc\n\n"},
		"more than a buffer":     {media: "text/event-stream", parts: []string{"data: " + strings.Repeat("x", 10_000) + "\n\n", "data: 2\n\n"}, want: "data: " + strings.Repeat("x", 10_000) + "\n\n" + comment + comment + "data: 2\n\n"},
		"another type":           {media: "application/x-ndjson", parts: []string{"{}\n\n", "{}\n\n"}, want: "{}\n\n{}\n\n"},
		"an encoded stream":      {media: "text/event-stream", encoding: "gzip", parts: []string{"\x1f\x8b\n\n", "\n\n"}, want: "\x1f\x8b\n\n\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, w := io.Pipe()
				res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {c.media}}, Body: r}
				if c.encoding != "" {
					res.Header.Set("Content-Encoding", c.encoding)
				}
				gateway.KeepEventsAlive(res, pause)
				go func() {
					for i, part := range c.parts {
						if i > 0 {
							<-time.After(pause*2 + pause/2)
						}
						_, _ = io.WriteString(w, part)
					}
					_ = w.CloseWithError(io.ErrUnexpectedEOF)
				}()
				got, err := io.ReadAll(res.Body)
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
				assert.Equal(t, c.want, string(got))
				require.NoError(t, res.Body.Close())
			})
		})
	}
}

// TestAKeptAliveStreamEndsWithItsReader holds that nothing is left of a stream whose client has
// gone while the upstream is silent.
func TestAKeptAliveStreamEndsWithItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which fails if a goroutine is left
		r, w := io.Pipe()
		res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: r}
		gateway.KeepEventsAlive(res, time.Second)
		_, err := io.WriteString(readsOne(t, res.Body, w), "data: 1\n\n")
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
	})
}

// readsOne has one event read in the background, and returns what writes it.
func readsOne(t *testing.T, body io.Reader, w io.Writer) io.Writer {
	t.Helper()
	go func() { _, _ = body.Read(make([]byte, 64)) }()
	return w
}

// TestEncodedSlashes holds that a slash in a model's name may come encoded and goes on plain.
func TestEncodedSlashes(t *testing.T) {
	var got string
	w := newWorld(t, setup{upstream: func(_ http.ResponseWriter, r *http.Request) { got = r.RequestURI }})
	for target, want := range map[string]string{
		"/proxy/acme/v1/models/Qwen%2FQwen3-32B":       "/v1/models/Qwen/Qwen3-32B",
		"/proxy/acme/v1/models/a%2fb%2Fc":              "/v1/models/a/b/c",
		"/proxy/acme/v1/models/a%2Fb%3A8b":             "/v1/models/a/b:8b",
		"/proxy/acme/v1/models/a%2Fb/c":                "/v1/models/a/b/c",
		"/proxy/acme/v1/models/a%2F..%2Fb":             "",
		"/proxy/acme/v1/models/a%2F%2E%2E":             "",
		"/proxy/acme/v1/models/a%2F%2Fb":               "",
		"/proxy/acme/v1/models/%2Fa":                   "",
		"/proxy/acme/v1/models/a%2F":                   "",
		"/proxy/acme/v1/models/a%252Fb":                "",
		"/proxy/acme/v1/models/a%2Fb%252Fc":            "",
		"/proxy/acme/v1/models/a%2Fb;c":                "",
		"/proxy/acme/v1/models/a%2Fb%5Cc":              "",
		"/proxy/acme/v1/models/a%2Fb%00":               "",
		"/proxy/acme/v1/models/a%2F%20/b":              "",
		"/proxy/acme/v1/models/a%2F%EF%BC%8E%EF%BC%8E": "/v1/models/a/%EF%BC%8E%EF%BC%8E",
	} {
		got = ""
		res := w.raw("GET " + target + " HTTP/1.1")
		assert.Equal(t, want, got, target)
		if want == "" {
			assert.Equal(t, http.StatusForbidden, res.StatusCode, target)
		} else {
			assert.Positive(t, w.last().Escaped, target)
		}
	}
}
