package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"patrol/api"
	"patrol/models"
	"patrol/server/request"
)

// statuses is the one table from error code to HTTP status. A code that is not
// here is a defect and answers 500.
var statuses = map[models.Code]int{
	models.CodeMalformed:        http.StatusBadRequest,
	models.CodeInvalid:          http.StatusUnprocessableEntity,
	models.CodeUnauthenticated:  http.StatusUnauthorized,
	models.CodeBadCredentials:   http.StatusUnauthorized,
	models.CodeForbidden:        http.StatusForbidden,
	models.CodeSessionRequired:  http.StatusForbidden,
	models.CodeReauthentication: http.StatusForbidden,
	models.CodeNotFound:         http.StatusNotFound,
	models.CodeCountedOnly:      http.StatusNotFound,
	models.CodeMethodNotAllowed: http.StatusMethodNotAllowed,
	models.CodeConflict:         http.StatusConflict,
	models.CodeTaken:            http.StatusConflict,
	models.CodeAlreadyRotated:   http.StatusConflict,
	models.CodeLastScope:        http.StatusConflict,
	models.CodeTokenAlive:       http.StatusConflict,
	models.CodeLimitReached:     http.StatusConflict,
	models.CodeTooLarge:         http.StatusRequestEntityTooLarge,
	models.CodeMediaType:        http.StatusUnsupportedMediaType,
	models.CodeRateLimited:      http.StatusTooManyRequests,
	models.CodeUnavailable:      http.StatusServiceUnavailable,
	models.CodeInternal:         http.StatusInternalServerError,
}

// The challenges of 401 answers outside decisions (RFC 9110 §15.5.2, RFC 6750
// §3).
const (
	challenge        = `Bearer realm="patrol"`
	challengeInvalid = `Bearer realm="patrol", error="invalid_token"`
)

// WriteError answers r with err as a problem document (RFC 9457). Messages of
// 5xx errors are fixed texts: their causes go to the log under the request id,
// which the answer carries. r must have come through [Server.Handler].
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	p := api.Problem{Type: "about:blank", RequestID: x.requestID}
	header := w.Header()

	if e, ok := errors.AsType[*models.Error](err); ok {
		p.Code, p.Detail, p.Errors, p.RotatedTo = string(e.Code), e.Message, e.Fields, e.RotatedTo
		p.Status = statuses[e.Code]
		if e.RetryAfter > 0 {
			header.Set("Retry-After", strconv.Itoa(e.RetryAfter))
		}
	}
	switch {
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		// The client is gone; the status is for the access log alone.
		p.Status, p.Code, p.Detail = http.StatusServiceUnavailable, string(models.CodeUnavailable), "The request was given up."
	case p.Status == 0 || p.Status == http.StatusInternalServerError:
		x.cause = err
		p.Status, p.Code, p.Errors = http.StatusInternalServerError, string(models.CodeInternal), nil
		p.Detail = "Something went wrong inside Patrol. The request id leads to the cause in its log."
	case p.Status == http.StatusServiceUnavailable:
		if !errors.Is(err, errBusy) { // of which there are too many to log each
			x.cause = err
		}
		p.Detail = "A part of Patrol that this needs does not answer. Try again shortly."
		if header.Get("Retry-After") == "" {
			header.Set("Retry-After", "1")
		}
	case p.Status == http.StatusUnauthorized && header.Get("WWW-Authenticate") == "":
		header.Set("WWW-Authenticate", challenge)
	}
	if x.route != nil && x.route.mount { // a handler of proxied requests failed
		x.server.secure(header)
		client := request.Client{Target: r.RequestURI, Header: r.Header, RequestID: p.RequestID}
		request.Refusals{}.Failed(client, p.Status, models.Code(p.Code), p.Detail).WriteTo(w)
		return
	}
	writeProblem(w, x, p)
}

func writeProblem(w http.ResponseWriter, x *exchange, p api.Problem) {
	header := w.Header()
	p.Title = http.StatusText(p.Status)
	x.server.secure(header)
	header["Content-Type"] = problemType
	header.Del("Content-Length") // of a body that was not written after all
	header.Del("ETag")
	writeBody(w, p.Status, p)
}
