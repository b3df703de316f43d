package request_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/models"
	"patrol/server/request"
)

const pages = "https://patrol.example.com"

var asked = models.Request{Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "execute"}

// paths are targets by the form that their clients read.
var paths = map[request.Form][]string{
	request.OpenAI: {
		"/proxy/acme/v1/chat/completions", "/v1/chat/completions?x=/v1/messages", "/", "", "*", "/proxy/acme", "/proxy/acme/openai/deployments/x/chat/completions",
		"/proxy/acme/v1beta/models/gemini:generateContent", "/v2/chat", "/proxy/acme/v1/messagesx", "/apix", "/api/v1/chat/completions", "/proxy/api/tags",
	},
	request.Anthropic: {"/proxy/acme/v1/messages", "/v1/messages/count_tokens", "/v1/messages?beta=true"},
	request.Ollama:    {"/proxy/acme/api/chat", "/api/tags", "/api", "/proxy/acme/api/v1x"},
	request.JSONRPC:   {"/proxy/acme/mcp", "/mcp/search"},
}

func TestForms(t *testing.T) {
	for want, targets := range paths {
		for _, target := range targets {
			assert.Equal(t, want, request.FormOf(target, nil), target)
		}
	}
	// Anthropic's client asks for its list of models under OpenAI's path.
	assert.Equal(t, request.Anthropic, request.FormOf("/proxy/acme/v1/models", http.Header{"Anthropic-Version": {"2023-06-01"}}))
	assert.Equal(t, request.JSONRPC, request.FormOf("/proxy/acme/tools", http.Header{"Mcp-Protocol-Version": {"2025-06-18"}}))
}

// decoded is an answer's body in all forms at once.
type decoded struct {
	api.Problem
	Error   json.RawMessage `json:"error"`
	JSONRPC string          `json:"jsonrpc"`
}

// message returns the message in the member error, checking that it has the form.
func message(t *testing.T, form request.Form, body []byte) (text, kind, code string) {
	t.Helper()
	var d decoded
	require.NoError(t, json.Unmarshal(body, &d), string(body))
	var e struct {
		Message, Type string
		Code          any
		Param         json.RawMessage
		Data          *api.Problem
	}
	if form == request.Ollama {
		require.NoError(t, json.Unmarshal(d.Error, &text))
		return text, "", d.Code
	}
	require.NoError(t, json.Unmarshal(d.Error, &e))
	switch form {
	case request.OpenAI:
		assert.Equal(t, "null", string(e.Param))
		assert.Equal(t, "about:blank", d.Type)
		code, _ = e.Code.(string)
	case request.Anthropic:
		assert.Equal(t, "error", d.Type)
	case request.JSONRPC:
		assert.Equal(t, "2.0", d.JSONRPC)
		assert.Less(t, e.Code, float64(-32000))
		assert.GreaterOrEqual(t, e.Code, float64(-32099))
		require.NotNil(t, e.Data)
		assert.NotZero(t, e.Data.Status)
		var members map[string]any
		require.NoError(t, json.Unmarshal(body, &members))
		assert.Equal(t, []string{"error", "id", "jsonrpc"}, slices.Sorted(maps.Keys(members)))
	}
	return e.Message, e.Type, code
}

// TestEveryReasonSaysWhoWhatAndHow goes through the table of reasons.
func TestEveryReasonSaysWhoWhatAndHow(t *testing.T) {
	const id = "0123456789abcdef"
	for code, c := range map[models.ReasonCode]struct {
		status    int
		problem   string
		challenge string
		kind      string // of the error, as OpenAI and Anthropic have it
		says      string
	}{
		models.TokenMissing:        {401, "unauthenticated", `Bearer realm="patrol"`, "authentication_error", pages + "/profile/pats/new"},
		models.TokenMalformed:      {401, "invalid_token", `Bearer realm="patrol", error="invalid_token"`, "authentication_error", "whole token"},
		models.TokenUnknown:        {401, "invalid_token", `Bearer realm="patrol", error="invalid_token"`, "authentication_error", pages + "/profile/pats/new"},
		models.TokenRevoked:        {401, "invalid_token", `Bearer realm="patrol", error="invalid_token"`, "authentication_error", pages + "/profile/pats/new"},
		models.TokenExpired:        {401, "invalid_token", `Bearer realm="patrol", error="invalid_token"`, "authentication_error", pages + "/profile/pats/new"},
		models.UserDisabled:        {401, "invalid_token", `Bearer realm="patrol", error="invalid_token"`, "authentication_error", "platform admin"},
		models.DomainUnknown:       {403, "forbidden", "", "permission_error", "URL"},
		models.DomainDisabled:      {403, "forbidden", "", "permission_error", "enable domain acme"},
		models.DomainFrozen:        {403, "forbidden", "", "permission_error", "enable domain acme"},
		models.NotAMember:          {403, "forbidden", "", "permission_error", "admin of domain acme"},
		models.RoleForbids:         {403, "forbidden", "", "permission_error", "role"},
		models.OutOfScope:          {403, "insufficient_scope", `Bearer realm="patrol", error="insufficient_scope", scope="acme:models:llama3:execute"`, "permission_error", "scope acme:models:llama3:execute at " + pages + "/profile/pats/new"},
		models.LifetimeExceeded:    {403, "forbidden", "", "permission_error", pages + "/profile/pats"},
		models.WildcardForbidden:   {403, "forbidden", "", "permission_error", "acme:models:llama3:execute"},
		models.ApprovalRequired:    {403, "forbidden", "", "permission_error", "approve token " + id},
		"withdrawn":                {403, "forbidden", "", "permission_error", "admin of domain acme"},
		"ip_forbidden":             {403, "forbidden", "", "permission_error", "address"},
		models.UnknownOperation:    {403, "forbidden", "", "permission_error", "catalog"},
		models.RouteUnmapped:       {403, "forbidden", "", "permission_error", "method and path"},
		"a_rule_of_the_team":       {403, "forbidden", "", "permission_error", "a_rule_of_the_team"},
		models.BodyInvalid:         {400, "body_invalid", "", "invalid_request_error", "body"},
		models.BodyTooLarge:        {413, "body_too_large", "", "", "smaller"},
		models.EncodingUnsupported: {415, "encoding_unsupported", "", "invalid_request_error", "Content-Encoding"},
		models.RateLimited:         {429, "rate_limited", "", "rate_limit_error", "Retry-After"},
		models.PolicyError:         {503, "unavailable", "", "", "decision-1"},
		models.Unavailable:         {503, "unavailable", "", "", "again"},
	} {
		t.Run(string(code), func(t *testing.T) {
			d := models.Deny(code)
			if d.Reasons[0].Message == "" {
				d.Reasons[0].Message = "The policy says no."
			}
			d.ID = "decision-1"
			if c.status != 401 || code.Status() == 401 && !slices.Contains([]models.ReasonCode{models.TokenMissing, models.TokenMalformed, models.TokenUnknown}, code) {
				d.TokenID = id
			}
			for form, targets := range paths {
				client := request.Client{Target: targets[0], RequestID: "request-1"}
				a := request.Refusals{Pages: pages}.Denied(client, request.Refusal{Decision: d, Asked: asked})
				assert.Equal(t, c.status, a.Status)
				assert.Equal(t, c.challenge, a.Header.Get("WWW-Authenticate"))
				assert.Equal(t, "no-store", a.Header.Get("Cache-Control"))
				assert.Equal(t, "nosniff", a.Header.Get("X-Content-Type-Options"))
				assert.Equal(t, "decision-1", a.Header.Get("X-Patrol-Decision-Id"))
				assert.Equal(t, c.status == 503 || c.status == 429, a.Header.Get("Retry-After") != "")
				text, kind, sdk := message(t, form, a.Body)
				assert.Contains(t, text, strings.TrimSuffix(d.Reasons[0].Message, "."))
				assert.Contains(t, text, c.says)
				if d.TokenID != "" {
					assert.Contains(t, text, "Token "+id+" asked for execute on models llama3 in domain acme.")
				}
				if c.kind != "" && (form == request.OpenAI || form == request.Anthropic) {
					assert.Equal(t, c.kind, kind)
				}
				if form == request.OpenAI {
					assert.Equal(t, string(code), sdk)
				}
				if form == request.JSONRPC {
					continue
				}
				var p api.Problem
				require.NoError(t, json.Unmarshal(a.Body, &p))
				assert.Equal(t, c.problem, p.Code)
				assert.Equal(t, d.Reasons, p.Reasons)
				assert.Equal(t, d.Reasons[0].Message, p.Detail)
				assert.Equal(t, c.status, p.Status)
				assert.Equal(t, http.StatusText(c.status), p.Title)
				assert.Equal(t, "request-1", p.RequestID)
				assert.Equal(t, "decision-1", p.DecisionID)
			}
		})
	}
}

func TestAScopeIsAskedForOnlyWhereItWouldHelp(t *testing.T) {
	d := models.Decision{Reasons: []models.Reason{{Code: models.OutOfScope, Message: "a"}, {Code: models.RoleForbids, Message: "b"}}}
	a := request.Refusals{}.Denied(request.Client{}, request.Refusal{Decision: d, Asked: asked})
	assert.Empty(t, a.Header.Get("WWW-Authenticate"))
	text, _, _ := message(t, request.OpenAI, a.Body)
	assert.Contains(t, text, "acme:models:llama3:execute") // both are said
	assert.Contains(t, text, "role")
	assert.Contains(t, text, "Patrol's page /profile/pats/new") // which is where it can be
}

func TestNegotiation(t *testing.T) {
	for accept, want := range map[string]string{
		"":                         "application/problem+json",
		"*/*":                      "application/problem+json",
		"text/event-stream":        "application/problem+json",
		"application/problem+json": "application/problem+json",
		"application/json":         "application/json",
		"application/json, */*":    "application/json",
		"application/json, application/problem+json":                      "application/problem+json",
		"application/json;q=0":                                            "application/problem+json",
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": "text/html; charset=utf-8",
		"text/plain":                      "text/plain; charset=utf-8",
		"text/html;q=0.1, text/plain;q=x": "text/html; charset=utf-8",
	} {
		for form, targets := range paths {
			a := request.Refusals{}.Denied(request.Client{Target: targets[0], Header: http.Header{"Accept": {accept}}},
				request.Refusal{Decision: models.Deny(models.TokenMissing)})
			wanted := want
			if form == request.JSONRPC && strings.Contains(want, "json") {
				wanted = "application/json"
			}
			assert.Equal(t, wanted, a.Header.Get("Content-Type"), "%q", accept)
			assert.Contains(t, string(a.Body), "No access token")
		}
	}
	// A client that asks for a problem document gets its type, and the error beside it.
	a := request.Refusals{}.Denied(request.Client{Target: "/v1/messages", Header: http.Header{"Accept": {"application/problem+json"}}},
		request.Refusal{Decision: models.Deny(models.TokenMissing)})
	assert.Contains(t, string(a.Body), `"type":"about:blank"`)
	assert.Contains(t, string(a.Body), `"error":{"type":"authentication_error"`)
}

// TestHostileText: what a policy, or a client by way of one, puts into a message.
func TestHostileText(t *testing.T) {
	const token = "patrol_0123456789abcdef_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef012345"
	for name, text := range map[string]string{
		"markup": `<script>alert(1)</script>`, "lines": "a\r\nSet-Cookie: x=1\r\n\r\n", "bidi": "a\u202egnp.exe\u2066", "controls": "\x00\x1b[31m\x7f\u0085",
		"not UTF-8": "a\xff\xfe", "a token": "have " + token, "long": strings.Repeat("ä𝄞", 4000), "quotes": `"},"allowed":true,{"`, "separators": "\u2028\u2029",
	} {
		t.Run(name, func(t *testing.T) {
			d := models.Decision{ID: "decision-1", TokenID: "0123456789abcdef"}
			for range 40 {
				d.Reasons = append(d.Reasons, models.Reason{Code: "own", Message: text})
			}
			hostile := models.Request{Domain: text, EntityType: text, Entity: text, Operation: text}
			for _, targets := range paths {
				for _, accept := range []string{"", "text/html", "text/plain"} {
					a := request.Refusals{Pages: pages}.Denied(request.Client{Target: targets[0], Header: http.Header{"Accept": {accept}}},
						request.Refusal{Decision: d, Asked: hostile})
					a.InHeader()
					for name, values := range a.Header {
						for _, value := range values {
							assert.NotContains(t, value, token)
							assert.False(t, strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }), "%s: %q", name, value)
						}
					}
					header := a.Header.Get("X-Patrol-Problem")
					assert.LessOrEqual(t, len(header), 2<<10)
					assert.True(t, json.Valid([]byte(header)), header)
					if accept == "text/plain" {
						continue
					}
					assert.NotContains(t, string(a.Body), "<script>")
					assert.False(t, strings.ContainsFunc(string(a.Body), func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != 0x7f && r != 0x85 }))
					if accept == "" {
						assert.True(t, json.Valid(a.Body))
						text, _, _ := message(t, request.FormOf(targets[0], nil), a.Body)
						assert.NotContains(t, text, token)
						assert.LessOrEqual(t, len(text), 1000)
					}
				}
			}
		})
	}
}

func TestNoWebSocketHere(t *testing.T) {
	answer := func(d models.Decision) request.Answer {
		return request.Refusals{}.Denied(request.Client{Target: "/v1/responses"}, request.Refusal{Decision: d, NotWebSocket: true})
	}
	a := answer(models.Deny(models.RouteUnmapped))
	assert.Equal(t, http.StatusUpgradeRequired, a.Status)
	assert.Equal(t, "HTTP/1.1", a.Header.Get("Upgrade"))
	assert.Equal(t, "Upgrade", a.Header.Get("Connection"))
	text, _, code := message(t, request.OpenAI, a.Body)
	assert.Equal(t, "upgrade_required", code)
	assert.Contains(t, text, "POST")
	// A token that is not good hears that.
	assert.Equal(t, http.StatusUnauthorized, answer(models.Deny(models.TokenRevoked)).Status)
}

func TestFailures(t *testing.T) {
	for status, kinds := range map[int][2]string{
		400: {"invalid_request_error", "invalid_request_error"}, 404: {"not_found_error", "not_found_error"}, 408: {"invalid_request_error", "timeout_error"},
		413: {"invalid_request_error", "request_too_large"}, 429: {"rate_limit_error", "rate_limit_error"}, 500: {"server_error", "api_error"},
		502: {"server_error", "api_error"}, 503: {"server_error", "api_error"}, 504: {"server_error", "timeout_error"},
	} {
		for i, form := range []request.Form{request.OpenAI, request.Anthropic} {
			a := request.Refusals{}.Failed(request.Client{Target: paths[form][0]}, status, "some_code", "What is wrong.")
			text, kind, _ := message(t, form, a.Body)
			assert.Equal(t, "What is wrong.", text)
			assert.Equal(t, kinds[i], kind, status)
		}
	}
}

func TestWriteTo(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request.Refusals{}.Failed(request.Client{Target: r.RequestURI, Header: r.Header}, 404, "no_upstream", "Nothing there.").WriteTo(w)
	}))
	defer server.Close()
	var lengths []string
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL, nil)
		require.NoError(t, err)
		res, err := server.Client().Do(r)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		lengths = append(lengths, res.Header.Get("Content-Length"))
		assert.Equal(t, 404, res.StatusCode)
	}
	assert.Equal(t, lengths[0], lengths[1])
}
