package extauthz

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"

	"patrol/models"
	"patrol/server/check"
	"patrol/server/request"
)

// identityHeaders tell an upstream who is calling. Envoy has names in lower case.
var identityHeaders = [...]string{
	strings.ToLower(models.HeaderUser), strings.ToLower(models.HeaderDomain), strings.ToLower(models.HeaderTokenID),
}

// decisionHeader tells the client which decision its request got.
var decisionHeader = strings.ToLower(request.HeaderDecision)

// expiresHeader tells the client when its token expires.
var expiresHeader = strings.ToLower(request.HeaderTokenExpires)

// answer puts a verdict into Envoy's words. Under a dry run it lets everything
// through.
func (s *Server) answer(v verdict) reply {
	dry := s.dryRun || s.routeDryRun && v.asked.dryRun
	switch {
	case v.Malformed == "" && v.Decision.Allowed:
		return reply{s.allow(v, false), outcomeAllow}
	case dry:
		s.logger.Info("a request was let through that would have been refused",
			"decision_id", v.Decision.ID, "token_id", v.Decision.TokenID, "status", v.Status(), "reason", v.Reason())
		return reply{s.allow(v, true), outcomeDryRun}
	default:
		return reply{s.deny(v), v.outcome()}
	}
}

func (s *Server) allow(v verdict, dry bool) *authv3.CheckResponse {
	m := mutations{
		set:    make([]*corev3.HeaderValueOption, 0, len(identityHeaders)+len(v.Decision.Headers)),
		remove: make([]string, 0, len(s.remove)+2),
	}
	m.put(identityHeaders[0], v.Decision.UserID)
	m.put(identityHeaders[2], v.Decision.TokenID)
	m.put(identityHeaders[1], v.domain())
	for name, value := range v.Decision.Headers {
		m.put(strings.ToLower(name), value)
	}
	if v.ContentType != "" && !slices.Equal(v.asked.Header["Content-Type"], []string{v.ContentType}) {
		m.put("content-type", v.ContentType)
	}
	for _, name := range s.remove {
		// A dry run must not break what worked before Patrol, such as another
		// credential in the same header.
		if !dry || name != "authorization" || v.Decision.TokenID != "" {
			m.put(name, "")
		}
	}
	for _, name := range v.asked.raw {
		if request.Reserved(name) || !dry && request.Foreign(name) && !slices.Contains(s.keep, name) {
			m.put(name, "")
		}
	}
	if v.asked.Keys != check.NoKeys {
		for _, e := range request.KeyEdits(v.asked.Header) {
			m.put(strings.ToLower(e.Name), e.Value)
		}
	}
	for name, values := range v.asked.Header {
		if value := strings.Join(values, ","); name != "Authorization" && name != "Cookie" && models.MaskTokens(value) != value {
			m.put(strings.ToLower(name), models.MaskTokens(value)) // a token that has lost its way
		}
	}
	if cookies, changed := withoutSession(v.asked.Header["Cookie"]); changed {
		m.put("cookie", cookies)
	}
	ok := &authv3.OkHttpResponse{
		Headers: m.set, HeadersToRemove: m.remove,
		QueryParametersToRemove: v.asked.TokenParameters(),
	}
	if v.Decision.ID != "" {
		ok.ResponseHeadersToAdd = []*corev3.HeaderValueOption{header(decisionHeader, v.Decision.ID)}
	}
	if !v.Expires.IsZero() {
		ok.ResponseHeadersToAdd = append(ok.ResponseHeadersToAdd, header(expiresHeader, request.FormatExpiry(v.Expires)))
	}
	if v.Keyed { // beside what the upstream says: the stricter of two counts (RFC 9111 §4.2.1)
		private := header("cache-control", "private")
		private.AppendAction = corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD
		ok.ResponseHeadersToAdd = append(ok.ResponseHeadersToAdd, private)
		for _, name := range [...]string{"cdn-cache-control", "surrogate-control"} { // which count before it in shared caches (RFC 9213)
			none := header(name, "no-store")
			none.AppendAction = corev3.HeaderValueOption_OVERWRITE_IF_EXISTS
			ok.ResponseHeadersToAdd = append(ok.ResponseHeadersToAdd, none)
		}
	}
	return &authv3.CheckResponse{
		Status:          &statuspb.Status{Code: int32(codes.OK)},
		HttpResponse:    &authv3.CheckResponse_OkResponse{OkResponse: ok},
		DynamicMetadata: v.metadata(dry),
	}
}

// mutations are the changes of an allowed request's headers. Envoy removes
// after it sets, so each name is on one side only: the first word counts.
type mutations struct {
	set    []*corev3.HeaderValueOption
	remove []string
}

// put sets a header, or with an empty value removes it.
func (m *mutations) put(name, value string) {
	switch {
	case slices.Contains(m.remove, name):
	case slices.ContainsFunc(m.set, func(h *corev3.HeaderValueOption) bool { return h.GetHeader().GetKey() == name }):
	case value == "":
		m.remove = append(m.remove, name)
	default:
		m.set = append(m.set, header(name, value))
	}
}

// domain is the domain of the allowed request; "" if that is not known, as can be
// under a dry run.
func (v *verdict) domain() string {
	if v.Decision.TokenID == "" {
		return ""
	}
	return v.Request.Domain
}

// withoutSession returns the cookies without Patrol's own, and whether there was
// one: the pages may share the host with what Envoy protects.
func withoutSession(values []string) (rest string, changed bool) {
	var keep []string
	for _, value := range values {
		for pair := range strings.SplitSeq(value, ";") {
			pair = strings.TrimSpace(pair)
			name, _, _ := strings.Cut(pair, "=")
			switch name = strings.TrimSpace(name); {
			case request.OwnCookie(name):
				changed = true
			case name != "":
				keep = append(keep, pair)
			}
		}
	}
	return strings.Join(keep, "; "), changed
}

func (s *Server) deny(v verdict) *authv3.CheckResponse {
	a := v.Answer(s.refusals, request.Client{Target: v.asked.Target, Header: v.asked.Header, RequestID: v.asked.RequestID})
	denied := &authv3.DeniedHttpResponse{
		Status: &typev3.HttpStatus{Code: typev3.StatusCode(a.Status)}, //nolint:gosec // one of a few three-digit numbers
		Body:   string(a.Body),
	}
	for _, name := range slices.Sorted(maps.Keys(a.Header)) {
		denied.Headers = append(denied.Headers, header(strings.ToLower(name), a.Header.Get(name)))
	}
	code := codes.PermissionDenied
	switch a.Status {
	case http.StatusUnauthorized:
		code = codes.Unauthenticated
	case http.StatusServiceUnavailable:
		code = codes.Unavailable
	case http.StatusBadRequest, http.StatusUnsupportedMediaType:
		code = codes.InvalidArgument
	case http.StatusTooManyRequests, http.StatusRequestEntityTooLarge:
		code = codes.ResourceExhausted
	}
	return &authv3.CheckResponse{
		Status:          &statuspb.Status{Code: int32(code)},
		HttpResponse:    &authv3.CheckResponse_DeniedResponse{DeniedResponse: denied},
		DynamicMetadata: v.metadata(false),
	}
}

func header(name, value string) *corev3.HeaderValueOption {
	h := new(struct { // in one piece
		option corev3.HeaderValueOption
		value  corev3.HeaderValue
	})
	h.value.Key, h.value.Value = name, value
	h.option.Header, h.option.AppendAction = &h.value, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
	return &h.option
}
