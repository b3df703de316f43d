// Package server is the HTTP surface of Patrol: who may call what, how a request
// is read, and how every outcome is told.
//
// # The route table
//
// One table (routes.go) lists every method and path with the [caller] that it is
// for, out of a closed set. The router is built from that table and from nothing
// else, and a route that names no caller stops the program. Tests walk the router
// and hold it against the table, against the OpenAPI document in package api, and
// against every kind of caller. The gateway under /proxy/ is in the table too, but
// is reached before the router: it judges paths as they were sent, the odd ones
// included, which a router would clean or decode.
//
// # Who calls
//
// Package identity finds out who calls, and package manage does what can be done. The
// route table says which caller may come to which of it.
//
// # How a request is read
//
// JSON is read strictly: unknown, repeated and wrongly typed members, trailing
// data, other encodings and bodies over 64 KiB are refused, in words that name the
// field. What is wrong with the values of fields is reported all at once.
//
// What a request may have around that is declared in the route table and held against
// it before a handler runs (frame.go): the names in the address and in a form, each
// once, whether there is a body, and no empty part of a path. Anything else is refused
// by name, so that no call does more than it says. What ends all tokens wants to be
// told that all are meant.
//
// # How an outcome is told
//
// Everything that is not a success is an RFC 9457 problem document with a stable
// code and the id of the request, which is also in the X-Request-Id header and in
// every log line about it. One table (problem.go) maps error codes to statuses.
// Answers of 500 and above show no cause; the log has it under that id. A client
// may choose the request id if it looks like one.
//
// # Where the rules live
//
// What an operation requires and does is in methods of [manage.Service] and
// [identity.Service] that take a [models.Principal] and the API's types. JSON handlers and
// pages translate, and call the same methods.
//
// # Running
//
// [Server.Run] listens, serves, and on the end of its context lets requests in
// flight finish. Timeouts bound API requests; streams under /proxy/ lift them from
// themselves. Behind a trusted proxy the client's address is taken from
// X-Forwarded-For, and handlers find it in http.Request.RemoteAddr. Certificates
// are read again when their files change. On a database without users a setup code
// is written to a file, and the page /setup takes it; see [Server.Setup].
package server
