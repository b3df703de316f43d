// Package server is the HTTP surface of Patrol: who may call what, how a request
// is read, and how every outcome is told.
//
// # The route table
//
// One table lists every method and path with the [endpoint.Caller] that it is
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
// # How an outcome is told
//
// Everything that is not a success is an RFC 9457 problem document with a stable
// code and the id of the request, which is also in the X-Request-Id header and in
// every log line about it. One table, in package request, maps error codes to statuses.
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
