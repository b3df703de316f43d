package gateway

import (
	"net/http"
	"strings"

	"patrol/models"
	"patrol/server/request"
	"patrol/server/route"
)

// untrusted are the request headers that do not pass, in lower case: credentials
// meant for Patrol, and names under which one proxy or another tells its upstream
// who the client is or where it wanted to go.
var untrusted = map[string]bool{
	"authorization": true, "proxy-authorization": true, "cookie": true, "cookie2": true,
	"forwarded": true, "x-real-ip": true, "x-client-ip": true, "client-ip": true, "true-client-ip": true,
	"x-cluster-client-ip": true, "cf-connecting-ip": true, "fastly-client-ip": true,
	"x-request-id": true, "proxy": true, "http2-settings": true, "content-length": true,
}

var untrustedPrefixes = []string{
	route.IdentityPrefix, request.GuardrailsPrefix,
	"x-forwarded-", "x-original-", "x-rewrite-", "x-envoy-", "proxy-",
}

// cleanRequestHeader removes from h what an upstream must not see or would be
// wrong to believe, and masks tokens in the rest.
func cleanRequestHeader(h http.Header) {
	for name, values := range h {
		if dropped(strings.ToLower(name), untrusted, untrustedPrefixes) || request.Foreign(name) || !route.IsPlainName(name) {
			delete(h, name)
			continue
		}
		for i, value := range values {
			values[i] = models.MaskTokens(value)
		}
	}
}

// digests are the headers that say what the bytes of a body are, which is not true any
// more of one that names its model in another spelling.
var digests = []string{"Content-Md5", "Digest", "Content-Digest", "Repr-Digest"}

func dropped(lower string, names map[string]bool, prefixes []string) bool {
	if names[lower] {
		return true
	}
	for _, prefix := range prefixes {
		if strings.HasPrefix(lower, prefix) {
			return true
		}
	}
	return false
}

// originWide are the answer headers that speak for the whole origin, or for
// Patrol, in lower case. An upstream has no say there.
var originWide = map[string]bool{
	"set-cookie": true, "set-cookie2": true, "clear-site-data": true, "service-worker-allowed": true,
	"strict-transport-security": true, "public-key-pins": true, "public-key-pins-report-only": true, "expect-ct": true,
	"alt-svc": true, "nel": true, "report-to": true, "reporting-endpoints": true, "origin-agent-cluster": true,
	"accept-ch": true, "critical-ch": true, "accept-ch-lifetime": true, "permissions-policy": true, "document-policy": true,
	"content-security-policy-report-only": true, "refresh": true, "x-request-id": true,
	"www-authenticate": true, "proxy-authenticate": true, "authentication-info": true, "proxy-authentication-info": true,
	"set-login": true, "timing-allow-origin": true, "speculation-rules": true, "sourcemap": true, "x-sourcemap": true, "x-sendfile": true, "x-lighttpd-send-file": true, "x-litespeed-location": true, "x-reproxy-url": true, "x-reproxy-file": true,
}

// Headers of the prefix access-control- let scripts of other origins read an answer; cors.go sets them.
// Headers of the prefix x-accel- are orders to an nginx in front.
var originWidePrefixes = []string{route.IdentityPrefix, "access-control-", "x-accel-"}

// cleanAnswerHeader removes from h what would let an upstream act for Patrol's
// origin.
func cleanAnswerHeader(h http.Header) {
	for name := range h {
		if dropped(strings.ToLower(strings.TrimPrefix(name, http.TrailerPrefix)), originWide, originWidePrefixes) {
			delete(h, name)
		}
	}
}

// private says to caches that an answer belongs to one client. The token of its request stands
// in a header that caches do not know for a credential, as they know Authorization (RFC 9111
// §3.5). What else the upstream says of caching stays, but for what is said to shared caches.
func private(h http.Header) {
	directives := []string{"private"}
	for _, line := range h["Cache-Control"] {
		for directive := range strings.SplitSeq(line, ",") {
			name, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
			switch name {
			case "", "public", "private", "s-maxage", "proxy-revalidate":
			default:
				directives = append(directives, strings.TrimSpace(directive))
			}
		}
	}
	h["Cache-Control"] = []string{strings.Join(directives, ", ")}
	for name := range h {
		lower := strings.ToLower(name)
		if strings.HasSuffix(lower, "-cache-control") || lower == "surrogate-control" { // RFC 9213
			delete(h, name)
		}
	}
}

// protect keeps a browser from giving an answer the powers of Patrol's origin:
// a sandboxed document has an origin of its own and runs no script.
func protect(h http.Header) {
	h["Content-Security-Policy"] = []string{"sandbox"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
}
