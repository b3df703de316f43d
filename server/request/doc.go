// Package request writes the answers to proxied requests that do not reach their
// upstream, the same on every surface: the built-in gateway, and proxies that ask
// over gRPC or HTTP.
//
// # One document, read by everybody
//
// Every answer is a problem document (RFC 9457). Whoever calls a model does so
// through an SDK, which looks for the error where its own service has it, and shows
// "no body" if there is nothing. So the document says the same a second time, as
// the member `error`, in the form that the clients of the path read:
//
//	OpenAI      {"error": {"message", "type", "code", "param"}}    paths that are not one of the following
//	Anthropic   {"type": "error", "error": {"type", "message"}}    /v1/messages, or with the header Anthropic-Version
//	Ollama      {"error": "message"}                               /api/…
//	JSON-RPC    {"jsonrpc", "id", "error": {"code", "message", "data"}}   /mcp, or with the header Mcp-Protocol-Version
//
// Anthropic's `type` and that of RFC 9457 are one member. There it is "error", which
// is a URI reference as RFC 9457 asks for, unless the client's Accept header names
// application/problem+json: then it is "about:blank", and `error` stays. A JSON-RPC
// object has no members but its own, so the document is its `error.data`.
//
// The content type is application/problem+json, or application/json if that is what
// the Accept header names: there are clients that look into no other. People with a
// browser get a page, and who asks for plain text gets that.
//
// # What a message says
//
// Who asked (the token's public id), for what, why it was refused, and what to do
// about it. Nothing in it is secret or can be taken for markup: names of entities
// are printed only once they are known to be valid, tokens are masked, and no
// message is longer than a few hundred characters.
package request
