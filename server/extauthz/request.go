package extauthz

import (
	"bytes"
	"errors"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"patrol/models"
	"patrol/server/route"
)

// question is one CheckRequest, read but not judged.
type question struct {
	method, target string
	header         http.Header // names in canonical form
	raw            []string    // the names as they came, in lower case
	body           body
	client         netip.Addr
	fixed          models.Request // by the operator's route
	dryRun         bool           // the operator's route asks for it
	misconfigured  string         // the context extension that does not exist, or ""
}

// body is what Envoy sent of the request's body.
type body struct {
	data      []byte
	truncated bool
	// replaced says that bytes which were not UTF-8 have become exclamation marks,
	// as they do unless pack_as_bytes is set.
	replaced bool
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
	extensionDryRun     = extensionPrefix + "dry_run"
)

// errMalformed is the error for a message that is no question about an HTTP
// request.
var errMalformed = errors.New("the message is not a question about an HTTP request")

// errTwoCredentials is the error for more than one Authorization header.
var errTwoCredentials = errors.New("the request has more than one Authorization header")

// read takes apart what Envoy sent.
func (s *Server) read(req *authv3.CheckRequest) (question, error) {
	attributes := req.GetAttributes()
	in := attributes.GetRequest().GetHttp()
	if in == nil {
		return question{}, errMalformed
	}
	q := question{method: in.GetMethod(), target: in.GetPath()}
	q.readHeaders(in)
	q.readExtensions(attributes.GetContextExtensions())

	q.body.truncated = false
	for _, value := range q.header[partialBody] {
		q.body.truncated = q.body.truncated || value != "false"
	}
	if q.body.data = in.GetRawBody(); len(q.body.data) == 0 {
		q.body.data, q.body.replaced = []byte(in.GetBody()), true
	}
	// Envoy's socket address is the client's, or what its own trust in
	// X-Forwarded-For makes of that.
	source, err := netip.ParseAddr(attributes.GetSource().GetAddress().GetSocketAddress().GetAddress())
	if err == nil {
		q.client = s.trusted.client(source.Unmap().WithZone(""), strings.Join(q.header["X-Forwarded-For"], ","))
	}
	return q, nil
}

// readHeaders collects the headers from either form that Envoy has for them: a
// map, in which it has joined repeated ones with commas, or a list.
func (q *question) readHeaders(in *authv3.AttributeContext_HttpRequest) {
	list := in.GetHeaderMap().GetHeaders()
	q.header = make(http.Header, len(in.GetHeaders())+len(list))
	q.raw = make([]string, 0, len(in.GetHeaders())+len(list))
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

func (q *question) addHeader(name, value string) {
	if strings.HasPrefix(name, ":") {
		return // HTTP/2 pseudo headers; method and path are fields of their own
	}
	q.raw = append(q.raw, strings.ToLower(name))
	name = textproto.CanonicalMIMEHeaderKey(name)
	q.header[name] = append(q.header[name], value)
}

func (q *question) readExtensions(extensions map[string]string) {
	for key, value := range extensions {
		switch key {
		case extensionDomain:
			q.fixed.Domain = value
		case extensionEntityType:
			q.fixed.EntityType = value
		case extensionEntity:
			q.fixed.Entity = value
		case extensionOperation:
			q.fixed.Operation = value
		case extensionDryRun:
			q.dryRun = value == "true"
		default:
			if strings.HasPrefix(key, extensionPrefix) {
				q.misconfigured = key
			}
			continue
		}
		if value == "" { // an empty value fixes nothing, which is not what was meant
			q.misconfigured = key
		}
	}
}

// token returns the token that the request presents, "" if it presents none, as
// the gateway does: the Authorization header alone counts.
func (q *question) token() (string, error) {
	values := q.header["Authorization"]
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1 || strings.ContainsRune(values[0], ','):
		// Envoy joins repeated headers with commas. No token contains one.
		return "", errTwoCredentials
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", nil
	}
	return strings.Trim(token, " "), nil
}

// model returns the model that the body names. An error says that nobody can
// tell which the upstream will take it to be.
func (q *question) model(need models.BodyNeed) (string, error) {
	if q.body.truncated {
		return "", errTruncated
	}
	model, err := route.ReadModel(need, bytes.NewBuffer(q.body.data), q.header)
	if err != nil {
		return "", err
	}
	if q.body.replaced && strings.Contains(model, "!") {
		return "", errReplaced
	}
	return model, nil
}

var (
	errTruncated = errors.New("Envoy sent only the beginning of the body")
	errReplaced  = errors.New("the model's name may have had bytes that are not UTF-8; pack_as_bytes would tell")
)

// tokenParameters returns the names, as they are written, of the query parameters
// that have something shaped like a token in name or value.
func tokenParameters(target string) []string {
	_, query, _ := strings.Cut(target, "?")
	var names []string
	for pair := range strings.SplitSeq(query, "&") {
		if text, err := url.QueryUnescape(pair); err == nil && route.Mask(text) != text {
			name, _, _ := strings.Cut(pair, "=")
			names = append(names, name)
		}
	}
	return names
}

// tokenInPath reports whether the path has something shaped like a token, which
// Envoy cannot be asked to take out.
func tokenInPath(target string) bool {
	path, _, _ := strings.Cut(target, "?")
	text, err := url.PathUnescape(path)
	return err == nil && route.Mask(text) != text
}

