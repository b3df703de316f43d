package extauthz

import (
	"errors"
	"net/http"
	"net/netip"
	"net/textproto"
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"patrol/models"
	"patrol/server/check"
	"patrol/server/request"
)

// asked is one CheckRequest, read but not judged.
type asked struct {
	check.Request
	raw    []string // the names of the headers as they came, in lower case
	values []string // room for those of the headers
	dryRun bool     // the operator's route asks for it
}

// partialBody is the header in which Envoy says whether the body that it sent is
// only the beginning.
const partialBody = "X-Envoy-Auth-Partial-Body"

// The context extensions.
const (
	extensionPrefix     = "patrol."
	extensionDomain     = extensionPrefix + "domain"
	extensionEntityType = extensionPrefix + "entity_type"
	extensionEntity     = extensionPrefix + "entity"
	extensionOperation  = extensionPrefix + "operation"
	extensionKind       = extensionPrefix + "upstream_kind"
	extensionDryRun     = extensionPrefix + "dry_run"
)

// errMalformed is the error for a message that is no question about an HTTP
// request.
var errMalformed = errors.New("the message is not a question about an HTTP request")

// read takes apart what Envoy sent.
func (s *Server) read(req *authv3.CheckRequest) (asked, error) {
	attributes := req.GetAttributes()
	in := attributes.GetRequest().GetHttp()
	if in == nil {
		return asked{}, errMalformed
	}
	q := asked{Request: check.Request{Surface: surface, Method: in.GetMethod(), Target: in.GetPath(), Host: in.GetHost()}}
	q.readHeaders(in)
	if s.cfg.KeyHeaders {
		q.Keys = check.AllKeys
	}
	q.readExtensions(attributes.GetContextExtensions())
	if q.RequestID = q.Header.Get("X-Request-Id"); !request.ValidID(q.RequestID) {
		q.RequestID = models.NewID()
	}
	q.Body = func() (check.Body, error) { return body(in, q.Header), nil }
	// Envoy's socket address is the client's, or what its own trust in
	// X-Forwarded-For makes of that.
	source, err := netip.ParseAddr(attributes.GetSource().GetAddress().GetSocketAddress().GetAddress())
	if err == nil {
		q.Client = s.trusted.Client(request.Plain(source), q.Header)
	}
	return q, nil
}

// body is the body that Envoy sent: as bytes, or as text in which bytes that
// are not UTF-8 have been replaced, which pack_as_bytes decides.
func body(in *authv3.AttributeContext_HttpRequest, header http.Header) check.Body {
	b := check.Body{Data: in.GetRawBody()}
	if len(b.Data) == 0 {
		b.Data, b.Replaced = []byte(in.GetBody()), true
	}
	for _, value := range header[partialBody] {
		b.Truncated = b.Truncated || value != "false"
	}
	return b
}

// readHeaders collects the headers from either form that Envoy has for them: a
// map, in which it has joined repeated ones with commas, or a list.
func (q *asked) readHeaders(in *authv3.AttributeContext_HttpRequest) {
	list := in.GetHeaderMap().GetHeaders()
	count := len(in.GetHeaders()) + len(list)
	q.Header = make(http.Header, count)
	both := make([]string, 2*count)
	q.raw, q.values = both[:0:count], both[count:]
	for name, value := range in.GetHeaders() {
		q.addHeader(name, value)
	}
	for _, h := range list {
		value := h.GetValue()
		if raw := h.GetRawValue(); len(raw) > 0 {
			value = string(raw)
		}
		q.addHeader(h.GetKey(), value)
	}
}

func (q *asked) addHeader(name, value string) {
	if strings.HasPrefix(name, ":") {
		return // HTTP/2 pseudo headers; method and path are fields of their own
	}
	q.raw = append(q.raw, strings.ToLower(name))
	name = textproto.CanonicalMIMEHeaderKey(name)
	if prior, ok := q.Header[name]; ok {
		q.Header[name] = append(prior, value)
		return
	}
	q.values[0] = value
	q.Header[name], q.values = q.values[:1:1], q.values[1:]
}

func (q *asked) readExtensions(extensions map[string]string) {
	for key, value := range extensions {
		switch key {
		case extensionDomain:
			q.Fixed.Domain = value
		case extensionEntityType:
			q.Fixed.EntityType = value
		case extensionEntity:
			q.Fixed.Entity = value
		case extensionOperation:
			q.Fixed.Operation = value
		case extensionKind:
			if q.Kind = models.UpstreamKind(value); !q.Kind.Known() {
				q.Misconfigured = "the context extension " + key + " is none of " + models.KindList()
			}
		case extensionDryRun:
			q.dryRun = value == "true"
		default:
			if strings.HasPrefix(key, extensionPrefix) {
				q.Misconfigured = "there is no context extension " + key
			}
			continue
		}
		if value == "" { // an empty value fixes nothing, which is not what was meant
			q.Misconfigured = "the context extension " + key + " is empty"
		}
	}
}
