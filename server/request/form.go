package request

import (
	"net/http"
	"strconv"
	"strings"
)

// Form is the form in which the clients of a path expect errors.
type Form int

// The forms, see the package comment.
const (
	OpenAI Form = iota
	Anthropic
	Ollama
	JSONRPC
)

// FormOf returns the form of a request by its target, as it was sent, with or
// without /proxy/{domain}, and its header.
func FormOf(target string, header http.Header) Form {
	path, _, _ := strings.Cut(target, "?")
	if rest, ok := strings.CutPrefix(path, "/proxy/"); ok {
		_, path, _ = strings.Cut(rest, "/")
		path = "/" + path
	}
	switch {
	case header["Mcp-Protocol-Version"] != nil || header["Mcp-Session-Id"] != nil || under(path, "/mcp"):
		return JSONRPC
	case header["Anthropic-Version"] != nil || under(path, "/v1/messages"):
		return Anthropic
	case under(path, "/api") && !under(path, "/api/v1"): // several services have OpenAI's API under /api/v1
		return Ollama
	}
	return OpenAI
}

// under reports whether path is prefix or below it.
func under(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// errorType returns the type of an error with this status, as OpenAI's and
// Anthropic's clients know them.
func (f Form) errorType(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusForbidden:
		return "permission_error"
	case http.StatusNotFound:
		return "not_found_error"
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	}
	switch {
	case f == Anthropic && status == http.StatusRequestEntityTooLarge:
		return "request_too_large"
	case f == Anthropic && (status == http.StatusGatewayTimeout || status == http.StatusRequestTimeout):
		return "timeout_error"
	case f == Anthropic && status >= http.StatusInternalServerError:
		return "api_error"
	case status >= http.StatusInternalServerError:
		return "server_error"
	}
	return "invalid_request_error"
}

// rpcCode returns the code of a JSON-RPC error: from the range that the protocol
// leaves to servers, one for each status.
func rpcCode(status int) int { return -32001 - status%100 - (status/100-4)*40 }

// media has the content types that a client accepts.
type media struct {
	html, plain bool // prefers it to JSON in every form
	json        bool // names application/json
	problem     bool // names application/problem+json
}

// accepted reads an Accept header. Weights are read (RFC 9110 §12.5.1); of several
// with one weight the first counts.
func accepted(accept string) (m media) {
	best, weight := "", 0.0
	for item := range strings.SplitSeq(accept, ",") {
		name, params, _ := strings.Cut(item, ";")
		name = strings.ToLower(strings.TrimSpace(name))
		q := 1.0
		for param := range strings.SplitSeq(params, ";") {
			key, value, _ := strings.Cut(strings.TrimSpace(param), "=")
			if strings.EqualFold(key, "q") {
				var err error
				if q, err = strconv.ParseFloat(value, 64); err != nil {
					q = 0
				}
			}
		}
		if q > 0 {
			m.json = m.json || name == "application/json"
			m.problem = m.problem || name == "application/problem+json"
		}
		if q > weight {
			best, weight = name, q
		}
	}
	m.html, m.plain = best == "text/html", best == "text/plain"
	return m
}
