package gateway

import (
	"patrol/models"
	"patrol/server/request"
)

// The codes of problems that only the gateway has.
const (
	codeNoUpstream          models.Code = "no_upstream"
	codeUpstreamUnavailable models.Code = "upstream_unavailable"
	codeUpstreamTimeout     models.Code = "upstream_timeout"
	codeUpstreamAuth        models.Code = "upstream_unauthorized"
)

// deny answers that the request was denied.
func (x *exchange) deny(why request.Refusal) {
	x.answer(x.refusals().Denied(x.client(), why))
}

// fail answers that the proxying itself failed. detail is for the client and names
// nothing behind the gateway.
func (x *exchange) fail(status int, code models.Code, detail string) {
	x.answer(x.refusals().Failed(x.client(), status, code, detail))
}

func (x *exchange) answer(a request.Answer) {
	protect(x.w.Header())
	x.tell(a.Header, func() { a.WriteTo(x.w) })
}

func (x *exchange) client() request.Client {
	return request.Client{Target: x.r.RequestURI, Header: x.r.Header, RequestID: x.requestID}
}

// refusals returns what writes refusals, with the pages where the client has found
// the gateway, unless it is known where they are.
func (x *exchange) refusals() request.Refusals {
	return x.g.refusals
}
