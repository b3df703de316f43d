package request

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"patrol/api"
	"patrol/models"
)

// Statuses is the one table from error code to HTTP status. A code that is not
// here is a defect and answers 500.
var Statuses = map[models.Code]int{
	models.CodeMalformed:        http.StatusBadRequest,
	models.CodeInvalid:          http.StatusUnprocessableEntity,
	models.CodeUnauthenticated:  http.StatusUnauthorized,
	models.CodeBadCredentials:   http.StatusUnauthorized,
	models.CodeForbidden:        http.StatusForbidden,
	models.CodeSessionRequired:  http.StatusForbidden,
	models.CodeReauthentication: http.StatusForbidden,
	models.CodeIPForbidden:      http.StatusForbidden,
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
	Challenge        = `Bearer realm="patrol"`
	ChallengeInvalid = `Bearer realm="patrol", error="invalid_token"`
)

// WriteError answers r with err as a problem document (RFC 9457). Messages of
// 5xx errors are fixed texts: their causes go to the log under the request id,
// which the answer carries. r must have come through the server's handler.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	x := Of(r.Context())
	p := api.Problem{Type: "about:blank", RequestID: x.ID}
	header := w.Header()

	if e, ok := errors.AsType[*models.Error](err); ok {
		p.Code, p.Detail, p.Errors, p.RotatedTo = string(e.Code), e.Message, e.Fields, e.RotatedTo
		p.Status = Statuses[e.Code]
		if e.RetryAfter > 0 {
			header.Set("Retry-After", strconv.Itoa(e.RetryAfter))
		}
	}
	switch {
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		// The client is gone; the status is for the access log alone.
		p.Status, p.Code, p.Detail = http.StatusServiceUnavailable, string(models.CodeUnavailable), "The request was given up."
	case p.Status == 0 || p.Status == http.StatusInternalServerError:
		x.Cause = err
		p.Status, p.Code, p.Errors = http.StatusInternalServerError, string(models.CodeInternal), nil
		p.Detail = "Something went wrong inside Patrol. The request id leads to the cause in its log."
	case p.Status == http.StatusServiceUnavailable:
		if !errors.Is(err, ErrBusy) { // of which there are too many to log each
			x.Cause = err
		}
		p.Detail = "A part of Patrol that this needs does not answer. Try again shortly."
		if header.Get("Retry-After") == "" {
			header.Set("Retry-After", "1")
		}
	case p.Status == http.StatusUnauthorized && header.Get("WWW-Authenticate") == "":
		header.Set("WWW-Authenticate", Challenge)
	}
	if x.Route != nil && x.Route.Mount { // a handler of proxied requests failed
		Secure(header)
		client := Client{Target: r.RequestURI, Header: r.Header, RequestID: p.RequestID}
		Refusals{}.Failed(client, p.Status, models.Code(p.Code), p.Detail).WriteTo(w)
		return
	}
	writeProblem(w, p)
}

// WriteDenied answers r with the decision that refused its sender what they asked for.
func WriteDenied(w http.ResponseWriter, r *http.Request, d models.Decision, asked models.Request) {
	header := w.Header()
	if challenge := d.Challenge(asked); challenge != "" {
		header.Set("WWW-Authenticate", challenge)
	}
	header.Set(HeaderDecision, d.ID)
	if d.Status() == http.StatusServiceUnavailable {
		header.Set("Retry-After", "1")
	}
	writeProblem(w, api.Denied(d, Of(r.Context()).ID))
}

func writeProblem(w http.ResponseWriter, p api.Problem) {
	header := w.Header()
	p.Title = http.StatusText(p.Status)
	Secure(header)
	header["Content-Type"] = problemType
	header.Del("Content-Length") // of a body that was not written after all
	header.Del("ETag")
	writeJSON(w, p.Status, p)
}

// The headers of every answer of the API (OWASP REST Security Cheat Sheet). The
// slices are shared; nothing may write into them. With a length equal to their
// capacity, Header.Add copies.
var (
	noStore    = []string{"no-store"}
	noSniff    = []string{"nosniff"}
	noFraming  = []string{"DENY"}
	noReferrer = []string{"no-referrer"}
	noContent  = []string{"default-src 'none'; frame-ancestors 'none'"}
	sameOrigin = []string{"same-origin"}
)

// Secure sets them.
func Secure(h http.Header) {
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = noSniff
	h["X-Frame-Options"] = noFraming
	h["Referrer-Policy"] = noReferrer
	h["Content-Security-Policy"] = noContent
	h["Cross-Origin-Resource-Policy"] = sameOrigin
	h["Cross-Origin-Opener-Policy"] = sameOrigin
}
