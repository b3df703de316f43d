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
// An Authorization header alone identifies the caller; a cookie beside it is not
// read. A PAT may call /authorize and /proxy/, which judge it, and pats/self. All
// other management takes a session: a cookie for browsers, or a token with a
// prefix of its own for programs. Neither transport's token is good for the other.
// The user is read at every call, so disabling one ends their sessions with the
// next. Calls that a browser could be made to send, those with a cookie and the
// sign-in itself, are refused when they come from another site.
//
// Passwords are hashed with argon2id, on half of the processors and with turns for
// every network, and wrong ones are limited per address, per account and address and
// per account; see attempts for what that does against guessing and against locking
// people out. A failed sign-in looks the same
// and takes as long whether the account exists or not. A forgotten password is
// reset by a one-time code that an administrator hands over; see [NewReset].
//
// Beside passwords people may sign in at an OpenID Connect provider; see
// [OIDCConfig]. They are known there by issuer and subject, never by an address, and
// an account that was here before is connected by its owner alone. A session that
// began there is confirmed there. A program is signed in by a password, or by a
// one-time code from a page; see [Server.SessionCode].
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
// What an operation requires and does is in methods of [Server] that take a
// [Principal] and the API's types: [Server.CreatePAT], [Server.SetMember] and so
// on. JSON handlers only translate; pages are to call the same methods. Whose a
// thing is, is decided where it is read: the store is asked for it under the
// caller's id, so that others' things are not found.
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
