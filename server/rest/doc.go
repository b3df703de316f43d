// Package rest answers programs: the JSON API. It reads requests, calls package manage or
// identity, and writes what they return in the types of package api. It has no rules.
//
// # How a request is read
//
// JSON is read strictly: unknown, repeated and wrongly typed members, trailing
// data, other encodings and bodies over 64 KiB are refused, in words that name the
// field. What is wrong with the values of fields is reported all at once.
package rest
