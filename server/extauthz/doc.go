// Package extauthz answers Envoy: it is the gRPC service
// envoy.service.auth.v3.Authorization, on a listener of its own.
//
// # One question
//
// Envoy sends the head of a request, and its body where the operator has
// `with_request_body`. The package reads it the way the built-in gateway reads a
// request (package route), has it judged by the same authz.Authorizer, and puts
// the decision into Envoy's words. It decides nothing itself.
//
// What the request stands for comes from the route policy. An operator's route may
// say some of it, or all, in `context_extensions`, which no client can reach:
//
//	patrol.domain, patrol.entity_type, patrol.entity, patrol.operation
//
// A key under `patrol.` that does not exist, a misspelling for example, denies as
// policy_error: half a rule is no rule.
//
// # One answer
//
// Envoy treats an error of this service, or its silence, as
// `failure_mode_allow` says, which can be "let it pass". So there is none:
// whatever happens to a request that arrived here, a panic, a flood, a database
// that hangs, a message that cannot be read, Envoy gets an explicit denial in
// time (package bound).
//
// An allowed request reaches the upstream with X-Patrol-User, X-Patrol-Domain and
// X-Patrol-Token-Id, set over whatever the client had sent; without the token,
// in header and query; without other headers in Patrol's name; and without
// Patrol's session cookie. Dynamic metadata tells access logs and rate limits
// about every decision.
//
// # The end
//
// [Server.Serve] drains: the health service says so first, and everything is still
// served until clients have had the time to notice (package linger). Then open
// connections are told to go away (GOAWAY) while what is in flight is finished, for
// a bounded time. The overall health status does not follow the database. If it did, an
// Envoy with active health checks would take Patrol out of service and, where
// `failure_mode_allow` is set, let requests pass that Patrol would have denied. The
// service name "ready" follows it, for those who want to know.
package extauthz
