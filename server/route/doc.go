// Package route reads proxied requests in the one way that counts, or refuses
// to.
//
// A policy judges a path, a query and a model name; an upstream then acts on
// bytes. Whoever can write bytes that the two read differently has a way around
// the policy: `/v1/models/%2e%2e/api/pull`, `{"model":"allowed","Model":"other"}`,
// a multipart part that one parser takes for a file and another for a field. This
// package answers such input with [ErrAmbiguous] instead of with a guess, and
// callers turn that into the reason `route_unmapped`.
//
// # What is judged is what is forwarded
//
// [Parse] starts from the request target as it was sent, never from a path that
// somebody has already decoded or cleaned. It decodes exactly once. What comes
// out, a [models.HTTPRequest], is canonical: no empty, `.` or `..` segment, no
// slash, backslash, semicolon or control character inside a segment, nothing
// that would change if it were decoded again, valid UTF-8 throughout. [EscapedPath]
// and [EncodedQuery] write it out again in the one spelling that RFC 3986 readers
// agree on, and a proxy forwards that instead of the client's spelling. Parsing
// the written form gives the same request.
//
// A trailing slash is kept in Path, and forwarded, but makes no segment.
//
// # What never comes out
//
// Credential headers, cookies and the headers that Patrol itself gives upstreams
// are left out. Anything shaped like a Patrol token is masked wherever it stands,
// in paths, queries and header values ([Mask]), so that it reaches neither policy
// nor decision records nor, because the written form is forwarded, the upstream.
//
// Headers and query parameters that tell some frameworks to take the request for
// one with another method are ambiguous by their purpose and refused.
//
// # Bodies
//
// [ReadModel] finds the model that a body names. The format is the route's, which
// is to say the upstream's, and not what Content-Type claims. Both readers look at
// the whole body in bounded memory, because the last of two keys wins in some
// parsers and the first in others, and accept only what every parser reads the
// same way. They copy nothing: the caller keeps the bytes and replays them.
//
// A `_method` in such a body, which a few frameworks also obey, is refused like one
// in the query. Bodies that no route has read are not looked at.
package route
