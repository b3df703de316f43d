// Package api is what programs outside Patrol may depend on: the wire types of
// the HTTP interface, a client for it, and its OpenAPI 3.1 document.
package api
