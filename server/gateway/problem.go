package gateway

import (
	"encoding/json"
	"net/http"

	"patrol/api"
	"patrol/models"
)

// The codes of problems that only the gateway has.
const (
	codeNoUpstream          models.Code = "no_upstream"
	codeUpstreamUnavailable models.Code = "upstream_unavailable"
	codeUpstreamTimeout     models.Code = "upstream_timeout"
	codeUpstreamAuth        models.Code = "upstream_unauthorized"
)

// problem answers with a problem document (RFC 9457) about the proxying itself.
// detail is for the client and names nothing behind the gateway.
func problem(w http.ResponseWriter, status int, code models.Code, detail string) {
	body, err := json.Marshal(api.Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail,
		Code: string(code), RequestID: w.Header().Get("X-Request-Id"),
	})
	if err != nil {
		panic(err) // strings and a number always marshal
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	protect(h)
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}
