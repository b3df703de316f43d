// Package check judges a request for a proxy that forwards it: over gRPC (package
// extauthz) or HTTP (package forwardauth). Requests to the built-in gateway take the
// same steps:
//
//  1. take the token from the one Authorization header and verify it;
//  2. read the request with package route, or refuse it as ambiguous;
//  3. read the body if the policy names the entity by it;
//  4. map the request and judge it.
//
// The proxy forwards the request, not Patrol. What must change on the way is told to the
// proxy; what the proxy cannot be told to change is refused.
package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"patrol/models"
	"patrol/server/authz"
	"patrol/server/deadline"
	"patrol/server/request"
	"patrol/server/route"
)

// Authorizer decides; it is an *authz.Authorizer.
type Authorizer interface {
	Begin(ctx context.Context, call authz.Call) (*authz.Proxied, models.Decision, bool)
	// Verified reports whether a token has verified here before and does now, by its
	// secret alone.
	Verified(token string) (id string, ok bool)
}

// Known reports whether the question is that of a token that has verified here.
func (q *Request) Known(a Authorizer) bool {
	p, problem := q.present()
	if problem != "" {
		return false
	}
	_, ok := a.Verified(p.Token)
	return ok
}

// Request is one question, read from what the proxy sent.
type Request struct {
	Surface string // see authz.Call
	// RequestID is that of the client's request if the proxy says it, else of the
	// proxy's own.
	RequestID string
	Method    string
	Target    string      // the request target as the client sent it
	Host      string      // whom the client asked
	Header    http.Header // with names in canonical form
	Client    netip.Addr  // invalid if it is not known
	// Unplaced says that Client is as near as is known, and may be the proxy: policies see no
	// address.
	Unplaced bool
	// Body returns the request's body. It is called at most once, after the token
	// has verified and was found to be good. nil: the proxy sends none.
	Body func() (Body, error)
	// Fixed is the operator's configuration of the proxy about the
	// request.
	Fixed models.Request
	// Kind is the kind of the upstream in that configuration; "": nothing, and the
	// domain's kind counts.
	Kind models.UpstreamKind
	// Misconfigured names what is wrong with that configuration; "" if nothing is.
	Misconfigured string
	// Taken is the part of the surface's room for bodies that this one takes; it is the
	// surface's own account.
	Taken int64
	// Keys says in which other headers than Authorization the token may stand.
	Keys Keys
	// KeepsQuery says that the proxy cannot be told to take a parameter out of the
	// query.
	KeepsQuery bool
	// KeepsType says that the proxy cannot be told to change the Content-Type.
	KeepsType bool
}

// Keys says in which headers a token is looked for, see [request.Present].
type Keys int

// The choices.
const (
	NoKeys     Keys = iota // in Authorization alone
	KeyHeaders             // and in the headers in which clients of model APIs send a key
	AllKeys                // and in the sub-protocol of a WebSocket
)

// Body is the part of a request's body that arrived.
type Body struct {
	Data []byte
	// Truncated says that there is more, or that nobody can say.
	Truncated bool
	// Replaced says that bytes which are not UTF-8 may have become exclamation
	// marks.
	Replaced bool
}

// Verdict is the answer to a question.
type Verdict struct {
	Decision models.Decision
	Request  models.Request // what was judged, as far as it is known
	// ContentType is the media type to forward an allowed request with; "" if its body was not
	// read.
	ContentType string
	// Malformed says in plain words why the request is answered 400 without a
	// decision; "" if there is one.
	Malformed string
	// Keyed is as in [request.Presented].
	Keyed bool
	// Expires is the time at which the token expires; zero if it is not known.
	Expires time.Time
	// NotWebSocket is as in [request.Refusal].
	NotWebSocket bool
}

// Status is the HTTP status for the client.
func (v Verdict) Status() int {
	if v.Malformed != "" {
		return http.StatusBadRequest
	}
	return v.Decision.Status()
}

// Answer returns what the client of a refused request is told.
func (v Verdict) Answer(r request.Refusals, c request.Client) request.Answer {
	if v.Malformed != "" {
		return r.Failed(c, http.StatusBadRequest, models.CodeMalformed, v.Malformed)
	}
	return r.Denied(c, request.Refusal{Decision: v.Decision, Asked: v.Request, NotWebSocket: v.NotWebSocket})
}

// Reason is the first reason of a denial, "" if it is none.
func (v Verdict) Reason() string {
	switch {
	case v.Malformed != "":
		return string(models.CodeMalformed)
	case len(v.Decision.Reasons) > 0:
		return string(v.Decision.Reasons[0].Code)
	}
	return ""
}

// Judge has the question decided. Why it was not decided is logged; what the
// client did is not.
func (q *Request) Judge(ctx context.Context, a Authorizer, log *slog.Logger) Verdict {
	presented, problem := q.present()
	if problem != "" {
		return Verdict{Malformed: problem}
	}
	call := authz.Call{
		Token: presented.Token, Kind: q.Kind, KeepsNames: true, Surface: q.Surface, RequestID: q.RequestID, IP: q.Client, UserAgent: models.MaskTokens(q.Header.Get("User-Agent")),
	}
	if q.Unplaced {
		call.Client = &models.Client{UserAgent: call.UserAgent}
	}
	p, d, ok := a.Begin(ctx, call)
	if !ok {
		return Verdict{Decision: d}
	}
	v := Verdict{Keyed: presented.Keyed, Expires: p.Expires()}
	v.Decision, v.ContentType = q.decide(ctx, p, log, &v.NotWebSocket)
	v.Request = p.Request()
	return v
}

// present returns the token that the request presents, and why nobody can tell which one counts.
// Envoy joins Authorization headers with commas, which no token contains.
func (q *Request) present() (p request.Presented, problem string) {
	if slices.ContainsFunc(q.Header["Authorization"], func(line string) bool { return strings.ContainsRune(line, ',') }) {
		return p, request.TwoAuthorizations
	}
	if q.Keys == NoKeys {
		token, ok := request.Bearer(q.Header)
		if !ok {
			return p, request.TwoAuthorizations
		}
		return request.Presented{Token: token}, ""
	}
	return request.Present(q.Header, q.Keys == AllKeys)
}

// decide has the question decided. *notWebSocket is set if it is about a WebSocket
// where there is nothing but POST.
func (q *Request) decide(ctx context.Context, p *authz.Proxied, log *slog.Logger, notWebSocket *bool) (d models.Decision, contentType string) {
	if q.Misconfigured != "" {
		log.WarnContext(ctx, "a request was refused because of the proxy's configuration", "surface", q.Surface, "problem", q.Misconfigured)
		return p.Refuse(ctx, models.Because(models.PolicyError)), ""
	}
	r, err := route.Parse(q.Method, q.Target, q.Header)
	if err == nil {
		err = q.check(r)
	}
	if err != nil {
		return p.Refuse(ctx, route.Reason(err)), ""
	}
	need, websocket, err := p.Hints(ctx, r)
	switch {
	case err != nil:
		level := slog.LevelError
		if errors.Is(ctx.Err(), context.Canceled) { // the proxy went away, which is no fault
			level = slog.LevelDebug
		}
		log.Log(ctx, level, "the policy could not say how to treat a route", "surface", q.Surface, "error", err)
		return p.Refuse(ctx, models.Because(models.PolicyError)), ""
	case q.upgrades() && (!websocket || q.Method != http.MethodGet):
		*notWebSocket = q.Method == http.MethodGet && !p.Maps(ctx, http.MethodGet, r) && p.Maps(ctx, http.MethodPost, r)
		return p.Refuse(ctx, route.Reason(errWebSocket)), ""
	}
	if need != nil && q.Fixed.Entity == "" && q.Body != nil {
		if d, ok := p.Admit(ctx); !ok {
			return d, ""
		}
		if r.Body, err = q.readBody(need); err != nil {
			log.DebugContext(ctx, "a request was not judged", "surface", q.Surface, "error", err)
			if errors.Is(err, deadline.ErrSpent) {
				return p.Refuse(ctx, models.Because(models.Unavailable)), ""
			}
			return p.Refuse(ctx, bodyReason(err)), ""
		}
	}
	d = p.Decide(ctx, r, q.Fixed)
	if err := models.CheckPolicyHeaders(d.Headers); err != nil {
		log.ErrorContext(ctx, "the policy sets a header that it cannot set", "surface", q.Surface, "error", err)
		return p.Refuse(ctx, models.Because(models.PolicyError)), ""
	}
	if r.Body != nil {
		contentType = r.Body.ContentType
	}
	return d, contentType
}

var (
	errHosts     = fmt.Errorf("%w: there is more than one Host", route.ErrAmbiguous)
	errToken     = fmt.Errorf("%w: the URL holds an access token, which belongs into the Authorization header alone", route.ErrAmbiguous)
	errProtocol  = fmt.Errorf("%w: a sub-protocol holds an access token, which this proxy cannot take out", route.ErrAmbiguous)
	errDomains   = fmt.Errorf("%w: the path names another domain than the proxy's configuration", route.ErrAmbiguous)
	errWebSocket = fmt.Errorf("%w: this route is not for WebSockets", route.ErrAmbiguous)
)

// check looks for what makes a request ambiguous when a proxy asks about it.
func (q *Request) check(r models.HTTPRequest) error {
	switch {
	case strings.ContainsAny(q.Host, ", \t"): // two headers may have become one with a comma
		return errHosts
	case q.carriesToken():
		return errToken
	case q.KeepsQuery && slices.ContainsFunc(q.Header["Sec-Websocket-Protocol"], func(line string) bool { return models.MaskTokens(line) != line }):
		return errProtocol
	case q.contradicts(r):
		return errDomains
	}
	return nil
}

// contradicts reports whether the path names another domain than the operator
// does. An upstream that goes by the path would serve the one while the other was
// judged.
func (q *Request) contradicts(r models.HTTPRequest) bool {
	return q.Fixed.Domain != "" && len(r.Segments) > 1 && r.Segments[0] == "proxy" && r.Segments[1] != q.Fixed.Domain
}

// upgrades reports whether the request asks for a WebSocket. Other upgrades are
// offers, which proxies pass over.
func (q *Request) upgrades() bool {
	for _, value := range q.Header["Upgrade"] {
		for offer := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(offer), "websocket") {
				return true
			}
		}
	}
	return false
}

var (
	errTruncated = errors.New("the proxy sent only a part of the body")
	errOtherType = fmt.Errorf("%w: the body has a content type for which some readers take it for something else", route.ErrAmbiguous)
	errReplaced  = errors.New("the model's name may have had bytes that are not UTF-8; pack_as_bytes would tell")
)

// bodyReason returns what a client is told about an error of readBody.
func bodyReason(err error) models.Reason {
	switch {
	case errors.Is(err, errTruncated):
		return models.Reason{Code: models.BodyTooLarge, Message: "The body is larger than what the proxy sends along to have this request judged."}
	case errors.Is(err, errReplaced):
		return models.Reason{Code: models.BodyInvalid, Message: "The body's name of the model may have had bytes that are not UTF-8."}
	case errors.Is(err, route.ErrAmbiguous):
		return route.Reason(err)
	}
	return models.Because(models.BodyInvalid)
}

// readBody returns what a policy learns of the body, nil if it is empty. An error
// says that nobody can tell what the upstream will take it for.
func (q *Request) readBody(need *models.BodyNeed) (*models.HTTPBody, error) {
	body, err := q.Body()
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the body: %w", err)
	case body.Truncated:
		return nil, errTruncated
	case len(body.Data) == 0:
		return nil, nil
	}
	read, err := route.ReadBody(need, bytes.NewBuffer(body.Data), q.Header)
	if err != nil {
		return nil, err
	}
	for _, f := range read.Fields {
		if body.Replaced && (strings.Contains(f.Value, "!") || slices.ContainsFunc(f.Values, func(v string) bool { return strings.Contains(v, "!") })) {
			return nil, errReplaced
		}
	}
	if q.KeepsType && !route.AsRead(read, q.Header) {
		return nil, errOtherType
	}
	return read, nil
}

// carriesToken reports whether the target has something shaped like a token where
// the proxy cannot be told to take it out.
func (q *Request) carriesToken() bool {
	path, query, _ := strings.Cut(q.Target, "?")
	return masked(path) || q.KeepsQuery && masked(query)
}

func masked(text string) bool {
	plain, err := url.PathUnescape(text)
	return err == nil && models.MaskTokens(plain) != plain
}

// TokenParameters returns the names, as they are written, of the query parameters
// that have something shaped like a token in name or value.
func (q *Request) TokenParameters() []string {
	_, query, _ := strings.Cut(q.Target, "?")
	var names []string
	for pair := range strings.SplitSeq(query, "&") {
		if masked(pair) {
			name, _, _ := strings.Cut(pair, "=")
			names = append(names, name)
		}
	}
	return names
}
