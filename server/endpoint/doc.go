// Package endpoint has the types of the route table, which package rest and package pages
// fill: what is served, who may call it, and what may be around a request.
//
// A route declares the names in its address and in a form, each once, whether there is a
// body, and no empty part of a path. Anything else is refused by name before the handler
// runs, so that no call does more than it says. What ends all tokens wants to be told that
// all are meant.
package endpoint
