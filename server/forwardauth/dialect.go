package forwardauth

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"patrol/models"
	"patrol/server/check"
	"patrol/server/request"
	"patrol/server/route"
)

// Prefix is the path for proxies. Envoy uses paths under it.
const Prefix = "/forward-auth"

// spoken is a pair of headers in which a dialect says what the client wants.
type spoken struct{ method, target string }

var (
	original  = spoken{"X-Original-Method", "X-Original-Uri"}
	forwarded = spoken{"X-Forwarded-Method", "X-Forwarded-Uri"}
)

// headersOf are the headers of each dialect that has any.
var headersOf = map[Dialect]spoken{Nginx: original, HAProxy: original, Traefik: forwarded, Caddy: forwarded}

// telling are the headers that tell some dialect or other what the client wants,
// those of relatives that are not spoken here included.
var telling = []string{
	original.method, original.target, "X-Original-Url",
	forwarded.method, forwarded.target, "X-Forwarded-Path", "X-Auth-Request-Redirect", "X-Rewrite-Url",
	"X-Envoy-Original-Path", "X-Envoy-Original-Method",
}

// errForeign is in the chain of every error that says that a request does not
// speak its peer's dialect.
var errForeign = errors.New("the request does not speak the dialect of its peer")

// read returns the question that r asks in the dialect d.
func (h *Handler) read(d Dialect, r *http.Request, peer netip.Addr) (*check.Request, error) {
	own, hasHeaders := headersOf[d]
	for _, name := range telling {
		if (!hasHeaders || name != own.method && name != own.target) && r.Header[name] != nil {
			return nil, fmt.Errorf("%w: it has %s", errForeign, name)
		}
	}
	q := &check.Request{Surface: surface, Header: r.Header, Client: peer, Unplaced: true, KeepsQuery: true, KeepsType: true}
	if slices.Contains(h.cfg.KeyHeaders, d) {
		q.Keys = check.KeyHeaders
	}
	if client, ok := request.LastHop(r.Header); ok {
		// Envoy appends its own address to that of its clients.
		q.Client, q.Unplaced = client, d == Envoy
	}
	if !hasHeaders {
		return q, h.readEnvoy(q, r)
	}
	var err error
	if q.Method, err = only(r.Header, own.method); err != nil {
		return nil, err
	}
	if q.Target, err = only(r.Header, own.target); err != nil {
		return nil, err
	}
	for name := range r.Header {
		if request.Reserved(name) && !overwritten(d, name) {
			return nil, fmt.Errorf("%w: it has a header that speaks for Patrol", errForeign)
		}
	}
	q.Misconfigured = readFixed(q, r.RequestURI)
	q.Header = r.Header.Clone()
	q.Header.Del(own.method)
	q.Header.Del(own.target)
	return q, nil
}

// overwritten reports whether a proxy can be trusted to take out what the client says
// in a header that speaks for Patrol. All can, by the beginning of the name, but
// nginx, which overwrites headers by their whole name; and none can in a name that
// is another one only to some servers, such as X_Patrol_User.
func overwritten(d Dialect, name string) bool {
	if d == Nginx {
		return request.IsIdentity(name) || strings.EqualFold(name, request.HeaderGuardrails)
	}
	return route.IsPlainName(name)
}

// readEnvoy reads what Envoy has put into method, target and body.
func (h *Handler) readEnvoy(q *check.Request, r *http.Request) error {
	target, ok := strings.CutPrefix(r.RequestURI, Prefix)
	if !ok || !strings.HasPrefix(target, "/") {
		return fmt.Errorf("%w: it does not ask under %s/", errForeign, Prefix)
	}
	q.Method, q.Target, q.Host = r.Method, target, r.Host
	q.Body = func() (check.Body, error) {
		data, err := h.receive(q, r.Body)
		if err != nil {
			return check.Body{}, err
		}
		// Envoy replaces bytes that are not UTF-8 unless pack_as_bytes is set, and
		// does not say which. Whether this is all of the body it says only if the
		// operator lets that header pass.
		whole := r.Header[partialBody]
		return check.Body{
			Data: data, Replaced: true,
			Truncated: len(data) > 0 && (len(whole) != 1 || whole[0] != "false") || int64(len(data)) > h.cfg.MaxBodyBytes,
		}, nil
	}
	return nil
}

// partialBody is the header in which Envoy says whether the body that it sends is
// only the beginning.
const partialBody = "X-Envoy-Auth-Partial-Body"

// only returns the value of a header that must be there once.
func only(h http.Header, name string) (string, error) {
	if values := h[name]; len(values) == 1 {
		return values[0], nil
	}
	return "", fmt.Errorf("%w: it must have %s once, not %d times", errForeign, name, len(h[name]))
}

// readFixed reads what the operator says about the request in the path at which the
// proxy asks: /forward-auth/domain=acme/entity_type=models/…, with domain,
// entity_type, entity, operation and kind, the upstream's, percent-encoded where
// necessary. What follows a question mark is not looked at: some proxies put the
// client's query there.
func readFixed(q *check.Request, target string) (problem string) {
	path, _, _ := strings.Cut(target, "?")
	rest := strings.TrimPrefix(strings.TrimPrefix(path, Prefix), "/")
	if rest == "" {
		return ""
	}
	kind := ""
	fields := map[string]*string{
		"domain": &q.Fixed.Domain, "entity_type": &q.Fixed.EntityType, "entity": &q.Fixed.Entity, "operation": &q.Fixed.Operation, "kind": &kind,
	}
	for pair := range strings.SplitSeq(rest, "/") {
		name, raw, _ := strings.Cut(pair, "=")
		value, err := url.PathUnescape(raw)
		field := fields[name]
		if field == nil || *field != "" || value == "" || err != nil {
			return "the path at which it asks may say domain, entity_type, entity, operation and kind, each once as name=value, and nothing else"
		}
		*field = value
	}
	if q.Kind = models.UpstreamKind(kind); !q.Kind.Known() {
		return "the path at which it asks has a kind that is none of " + models.KindList()
	}
	return ""
}
