package api

import (
	"net/http"

	"patrol/models"
)

// Denied returns the problem document of a request that d refuses, the same on
// every surface. d must be a denial.
func Denied(d models.Decision, requestID string) Problem {
	p := Problem{
		Type: "about:blank", Status: d.Status(), Code: string(models.CodeForbidden),
		RequestID: requestID, DecisionID: d.ID, Reasons: d.Reasons,
	}
	p.Title = http.StatusText(p.Status)
	switch {
	case p.Status == http.StatusUnauthorized && d.Has(models.TokenMissing):
		p.Code = string(models.CodeUnauthenticated)
	case p.Status == http.StatusUnauthorized:
		p.Code = "invalid_token" // RFC 6750 §3.1, as in the challenge
	case d.OnlyOutOfScope():
		p.Code = "insufficient_scope" // likewise
	case p.Status == http.StatusForbidden:
	case p.Status == http.StatusServiceUnavailable:
		p.Code = string(models.CodeUnavailable)
	default:
		p.Code = string(d.FirstReason()) // what is wrong with the request itself
	}
	for _, reason := range d.Reasons {
		if reason.Code.Status() == p.Status {
			p.Detail = reason.Message
			break
		}
	}
	return p
}
