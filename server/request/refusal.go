package request

import (
	"encoding/json"
	"html"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"patrol/api"
	"patrol/models"
)

// HeaderDecision tells the client which decision its request got, for questions
// to the operator.
const HeaderDecision = "X-Patrol-Decision-Id"

// HeaderTokenExpires tells a client when its token expires, in the form of RFC 3339.
const HeaderTokenExpires = "X-Patrol-Token-Expires"

// FormatExpiry is the value of [HeaderTokenExpires].
func FormatExpiry(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// HeaderProblem has the problem document for proxies that cannot pass a body on.
const HeaderProblem = "X-Patrol-Problem"

// CodeUpgradeRequired is the code of the problem that a path is for POST and not
// for WebSockets.
const CodeUpgradeRequired models.Code = "upgrade_required"

// Refusals writes refusals.
type Refusals struct {
	// Pages is the base URL of the pages on which people make tokens, "" if it is
	// not known.
	Pages string
	// Told returns the status that is told in the place of another, because the
	// client is a proxy that knows a few only; nil: they are told as they are.
	Told func(status int) int
}

// Client is the caller who is refused, as far as the answer depends on it.
type Client struct {
	Target    string      // as it was sent
	Header    http.Header // with names in canonical form
	RequestID string
}

// Refusal is the decision that refuses a request.
type Refusal struct {
	Decision models.Decision // a denial
	// Asked is the request that was judged, as far as it is known.
	Asked models.Request
	// NotWebSocket says that the client tried to open a WebSocket where there is
	// nothing but POST. Unless the decision says more than that there is no route,
	// the answer is 426, at which clients turn to POST at once.
	NotWebSocket bool
}

// Answer is the answer for a client.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte

	// The content of the body.
	form          Form
	problem       api.Problem
	code, message string
}

// Denied returns the answer to a request that was denied.
func (r Refusals) Denied(c Client, why Refusal) Answer {
	d := why.Decision
	p := api.Denied(d, c.RequestID)
	upgrade := why.NotWebSocket && p.Status == http.StatusForbidden && len(d.Reasons) == 1 && d.Has(models.RouteUnmapped)
	if upgrade {
		p.Status, p.Code = http.StatusUpgradeRequired, string(CodeUpgradeRequired)
		p.Detail = "This path takes POST and no WebSocket."
	}
	code := p.Code
	if first := d.FirstReason(); first != "" && !upgrade {
		code = string(first)
	}
	message := p.Detail
	if !upgrade {
		message = r.message(p.Status, why)
	}
	a := r.answer(c, p, code, message)
	if challenge := d.Challenge(why.Asked); challenge != "" {
		a.Header.Set("WWW-Authenticate", challenge)
	}
	if d.ID != "" {
		a.Header.Set(HeaderDecision, d.ID)
	}
	if upgrade {
		a.Header.Set("Upgrade", "HTTP/1.1")
		a.Header.Set("Connection", "Upgrade") // RFC 9110 §7.8
	}
	return a
}

// Failed returns the answer to a request that failed for another reason than a
// decision. detail is for the client.
func (r Refusals) Failed(c Client, status int, code models.Code, detail string) Answer {
	p := api.Problem{Type: "about:blank", Status: status, Detail: detail, Code: string(code), RequestID: c.RequestID}
	return r.answer(c, p, string(code), detail)
}

// document is a problem with the error that the clients of the path read.
type document struct {
	api.Problem
	Error any `json:"error"`
}

type openAIError struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Code    string  `json:"code"`
	Param   *string `json:"param"`
}

type anthropicError struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

type rpcResponse struct {
	Version string   `json:"jsonrpc"`
	ID      *string  `json:"id"` // null: the request's was not looked at
	Error   rpcError `json:"error"`
}

type rpcError struct {
	Code    int         `json:"code"`
	Message string      `json:"message"`
	Data    api.Problem `json:"data"`
}

func (r Refusals) answer(c Client, p api.Problem, code, message string) Answer {
	if r.Told != nil {
		p.Status = r.Told(p.Status)
	}
	p.Title, p.Detail = http.StatusText(p.Status), clean(p.Detail)
	p.Reasons = slices.Clone(p.Reasons)
	for i := range p.Reasons {
		p.Reasons[i].Message = clean(p.Reasons[i].Message)
	}
	form, accepts := FormOf(c.Target, c.Header), accepted(c.Header.Get("Accept"))
	h := http.Header{
		"Cache-Control":          {"no-store"},
		"X-Content-Type-Options": {"nosniff"},
	}
	if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests || p.Code == string(models.CodeUnavailable) {
		h.Set("Retry-After", "1")
	}
	a := Answer{Status: p.Status, Header: h, form: form, problem: p, code: code, message: message}
	line := strconv.Itoa(p.Status) + " " + p.Title
	switch {
	case accepts.html:
		h.Set("Content-Type", "text/html; charset=utf-8")
		a.Body = []byte("<!doctype html><html lang=\"en\"><title>" + line + "</title><h1>" + line + "</h1><p>" + html.EscapeString(message) + "</p></html>\n")
		return a
	case accepts.plain:
		h.Set("Content-Type", "text/plain; charset=utf-8")
		a.Body = []byte(line + "\n" + message + "\n")
		return a
	case form == JSONRPC || accepts.json && !accepts.problem:
		h.Set("Content-Type", "application/json")
	default:
		h.Set("Content-Type", "application/problem+json")
	}
	a.Body = encode(form, p, accepts.problem, code, message)
	return a
}

// encode writes p in a form. asProblem keeps the type of RFC 9457.
func encode(form Form, p api.Problem, asProblem bool, code, message string) []byte {
	d := document{Problem: p}
	var out any = &d
	switch form {
	case Anthropic:
		if !asProblem {
			d.Type = "error"
		}
		d.Error = anthropicError{Type: form.errorType(p.Status), Message: message}
	case Ollama:
		d.Error = message
	case JSONRPC:
		out = rpcResponse{Version: "2.0", Error: rpcError{Code: rpcCode(p.Status), Message: message, Data: p}}
	default:
		d.Error = openAIError{Message: message, Type: form.errorType(p.Status), Code: code}
	}
	body, err := json.Marshal(out) // which escapes what HTML and JavaScript could take for theirs
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	return body
}

// maxHeader bounds [HeaderProblem]: nginx reads all headers of an answer into one
// page of memory, of 4 KiB on most machines.
const maxHeader = 2 << 10

// InHeader puts what is essential of the document into a header, in ASCII, for
// proxies that drop the body of an answer and can send text of their own.
func (a Answer) InHeader() {
	p := a.problem
	p.Reasons, p.Errors = nil, nil
	for limit := maxMessage; ; limit /= 2 {
		p.Detail = shorten(p.Detail, limit)
		text := ascii(encode(a.form, p, false, a.code, shorten(a.message, limit)))
		if len(text) <= maxHeader || limit == 0 {
			a.Header.Set(HeaderProblem, text)
			return
		}
	}
}

// WriteTo answers with a.
func (a Answer) WriteTo(w http.ResponseWriter) {
	h := w.Header()
	maps.Copy(h, a.Header)
	h.Set("Content-Length", strconv.Itoa(len(a.Body)))
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // the client may be gone
}

// ascii writes JSON without characters that a header cannot have.
func ascii(text []byte) string {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		text = text[size:]
		switch {
		case r < utf8.RuneSelf && r != 0x7f: // JSON escapes the other control characters itself
			out = append(out, byte(r)) //nolint:gosec // it is below 0x80
		case r > 0xffff:
			r -= 0x10000
			out = appendEscape(appendEscape(out, 0xd800+(r>>10)), 0xdc00+(r&0x3ff))
		default:
			out = appendEscape(out, r)
		}
	}
	return string(out)
}

func appendEscape(out []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	return append(out, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}

// shorten cuts s to n bytes, at the border of a character.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
