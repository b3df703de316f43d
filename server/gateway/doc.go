// Package gateway is the built-in proxy under /proxy/{domain}/: it has each
// request judged and streams the allowed ones to the upstream of their domain.
//
// # The path of a request
//
//  1. The bearer token is taken from the one Authorization header, and verified
//     before anything else happens: no byte of the body is read for a caller
//     without a valid secret, and none is asked for with 100 Continue.
//  2. Package route reads the request target as it was sent. What can be read in
//     two ways is refused.
//  3. The policy says whether the route needs the model that the body names. Only
//     then is the body read, up to a limit, and kept: in memory while it is small,
//     else in a file that has no name any more.
//  4. The request is judged. The domain that is judged is always the path's.
//  5. What was judged is forwarded: the canonical path and query, not the
//     client's spelling, and the kept body whole, byte for byte.
//  6. While the answer streams, the request is watched. Once it would no longer be
//     allowed, or has lived for [Config.MaxStream], both connections are cut; what
//     the client sees is an answer that breaks off, never one that looks complete.
//
// # What an upstream may believe
//
// X-Patrol-User (the user's id), X-Patrol-Domain, X-Patrol-Token-Id, X-Request-Id,
// X-Forwarded-For, -Host and -Proto, the X-Patrol- and X-Guardrails- headers that
// the policy sets, and the headers and the credential that the operator
// configured. All of them replace whatever the client sent. Other identity headers
// that proxies are known to set are removed, as are cookies, credentials of the
// Authorization family, headers that rewrite the path, trailers of the request,
// and every header whose name has a character other than letters, digits and
// hyphens, because servers fold such names into others. Anything shaped like a
// Patrol token is masked wherever else it stands.
//
// # What a client may believe
//
// The answers share an origin with Patrol's own pages, so an upstream must not be
// able to act as that origin. Every answer is sandboxed (Content-Security-Policy:
// sandbox) and nosniff; cookies and every header that speaks for the whole origin
// (Strict-Transport-Security, Clear-Site-Data, Alt-Svc, …) are dropped, as are
// X-Patrol- headers, Refresh, orders to a proxy in front (X-Accel-…), and informational
// answers (1xx).
//
// Location, Link and what SDKs follow with their token (Operation-Location and its
// like) are translated if they stay behind the gateway, and read as strictly as the
// client's next request will be. They are dropped if they lead elsewhere on the
// upstream's or Patrol's own host, or are read in two ways. Only Location and
// Content-Location may name another host: programs that follow leave Authorization
// behind there. They do not with other headers, nor do they leave the body behind after
// 307 and 308; then Location is dropped too.
//
// A 401 or 407 of an upstream is about the credential that the gateway holds, and
// must not read as one about the caller's token: it becomes a 502. So do failures
// to reach the upstream; a slow one is a 504. None of these answers names it. All
// of the gateway's own answers are problem documents, in the form that the path's
// clients read (package request).
//
// # Limits
//
// Nothing here sends a request twice that could have had an effect: GET and HEAD are
// sent again if an idle connection turns out to be closed, others only if not a byte
// was written. HTTP_PROXY and its
// relatives in the environment are not obeyed: where requests go is what the
// configuration says. The timeouts of the server around must not cut streams; the
// gateway lifts them and sets its own.
package gateway
