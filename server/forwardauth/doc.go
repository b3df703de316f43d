// Package forwardauth answers proxies that ask over HTTP whether a request may
// pass: Envoy's ext_authz with `http_service`, nginx's `auth_request`, Traefik's
// and Caddy's forward authentication, and HAProxy with a script.
//
// # Who may ask, and how
//
// Each kind of proxy says in a way of its own what the client wants (see
// [Dialect]). What one proxy writes, another passes on from the client unread: a
// handler that understood them all would let a client choose the request that is
// judged. So the operator says which peer speaks which dialect, nobody else may
// ask, and a request that carries another dialect's headers is refused rather than
// interpreted.
//
// # What is answered
//
// 200 with X-Patrol-User, X-Patrol-Domain and X-Patrol-Token-Id, which the proxy
// is to set on the request over whatever the client sent; or 401, 403 or 503 with
// a problem document, which the proxy passes on.
//
// Envoy takes every 5xx answer for a failure of this service, and lets the request
// pass if its failure_mode_allow says so. In its dialect a decision that could not
// be made is therefore answered with another status, 403 unless configured
// otherwise; code and Retry-After tell it from a refusal. Every answer comes in
// time, whatever happens (package bound), for the same reason.
//
// # What cannot be asked for
//
// None of these proxies but Envoy sends the body, so a request whose entity stands
// there is judged as one for any entity. None of them can take a parameter out of
// the query, so a request with a token there is refused.
package forwardauth
