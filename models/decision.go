package models

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Request is the question of a decision: an operation on an entity of an entity
// type in a domain. Entity `*` stands for the collection (list, create).
type Request struct {
	Domain     string
	EntityType string
	Entity     string
	Operation  string
	// Context is further data of the caller for the policy, a JSON object or nil.
	Context map[string]any
}

// Bounds of a request's context.
const (
	MaxContextDepth  = 32 // levels
	MaxContextNumber = 64 // characters of a number
)

// Scope renders the request as the scope that would cover it,
// `domain:type:entity:operation`, the form of RFC 6750's scope attribute.
func (r Request) Scope() string {
	return r.Domain + ":" + r.EntityType + ":" + r.Entity + ":" + r.Operation
}

// Same reports whether two requests ask for the same; their contexts do not count.
func (r Request) Same(other Request) bool {
	return r.Domain == other.Domain && r.EntityType == other.EntityType && r.Entity == other.Entity && r.Operation == other.Operation
}

// Reason is one cause of a denial: a stable code for programs and a message in
// plain words.
type Reason struct {
	Code    ReasonCode `json:"code"`
	Message string     `json:"message"`
}

// ReasonCode is the machine-readable part of a [Reason]. Policies may add
// codes of their own, which count as 403.
type ReasonCode string

// The reasons that Patrol knows.
const (
	TokenMissing   ReasonCode = "token_missing"
	TokenMalformed ReasonCode = "token_malformed"
	TokenUnknown   ReasonCode = "token_unknown" // unknown id or wrong secret: the same answer
	TokenRevoked   ReasonCode = "token_revoked"
	TokenExpired   ReasonCode = "token_expired"
	UserDisabled   ReasonCode = "user_disabled" // or gone
	DomainUnknown  ReasonCode = "domain_unknown"
	DomainDisabled ReasonCode = "domain_disabled"
	DomainFrozen   ReasonCode = "domain_frozen"
	NotAMember     ReasonCode = "not_a_member"
	RoleForbids    ReasonCode = "role_forbids"
	OutOfScope     ReasonCode = "out_of_scope"
	// The limits that domains set themselves; see [DomainLimits].
	LifetimeExceeded  ReasonCode = "lifetime_exceeded"
	WildcardForbidden ReasonCode = "wildcard_forbidden"
	ApprovalRequired  ReasonCode = "approval_required"
	// Withdrawn is the reason where a domain has withdrawn the token; see [Withdrawal].
	Withdrawn ReasonCode = "withdrawn"
	// IPForbidden is the reason where a token may not be used from the client's address; see [PAT.AllowsFrom].
	IPForbidden      ReasonCode = "ip_forbidden"
	UnknownOperation ReasonCode = "unknown_operation"
	RouteUnmapped    ReasonCode = "route_unmapped"
	// The reasons not to judge a proxied request: its body, or too many requests.
	BodyInvalid         ReasonCode = "body_invalid"
	BodyTooLarge        ReasonCode = "body_too_large"
	EncodingUnsupported ReasonCode = "encoding_unsupported"
	RateLimited         ReasonCode = "rate_limited"
	PolicyError         ReasonCode = "policy_error"
	Unavailable         ReasonCode = "unavailable"
)

// Status returns the HTTP status of a denial for this reason.
func (c ReasonCode) Status() int {
	switch c {
	case TokenMissing, TokenMalformed, TokenUnknown, TokenRevoked, TokenExpired, UserDisabled:
		return http.StatusUnauthorized
	case PolicyError, Unavailable:
		return http.StatusServiceUnavailable
	case BodyInvalid:
		return http.StatusBadRequest
	case BodyTooLarge:
		return http.StatusRequestEntityTooLarge
	case EncodingUnsupported:
		return http.StatusUnsupportedMediaType
	case RateLimited:
		return http.StatusTooManyRequests
	default:
		return http.StatusForbidden
	}
}

// OfPolicy reports whether a policy may give the code: it is none of those that are
// decided outside of policies. [RouteUnmapped] is decided in both.
func (c ReasonCode) OfPolicy() bool {
	_, own := goReasons[c]
	return !own || c == RouteUnmapped
}

// goReasons are the messages of the reasons that are decided in Go. Those that
// policy decides carry their message in the policy.
var goReasons = map[ReasonCode]string{
	BodyInvalid:         "The body cannot be read, or can be read in more than one way.",
	BodyTooLarge:        "The body is larger than what can be looked at on this route.",
	EncodingUnsupported: "The body has an encoding or a character set that is not read here.",
	RateLimited:         "There are too many requests. Try again shortly.",

	TokenMissing:   "No access token was sent. Send one as 'Authorization: Bearer <token>'.",
	TokenMalformed: "This is not a valid access token. It may have been cut or mistyped.",
	TokenUnknown:   "The access token is not known here.",
	RouteUnmapped:  "This path and method do not stand for anything that tokens can be allowed to do, or can be read in more than one way.",
	PolicyError:    "The policy could not judge this request. Nothing was allowed.",
	Unavailable:    "The facts that this decision needs could not be read. Nothing was allowed. Try again shortly.",
}

// OwnReasons lists the reasons that are decided in Go, sorted by code.
func OwnReasons() []Reason {
	out := make([]Reason, 0, len(goReasons))
	for _, code := range slices.Sorted(maps.Keys(goReasons)) {
		out = append(out, Reason{Code: code, Message: goReasons[code]})
	}
	return out
}

// Decision is the answer to a [Request].
type Decision struct {
	ID       string // unique to this call
	Allowed  bool
	Reasons  []Reason // why not, sorted by code; empty if allowed
	TokenID  string   // empty unless the token's secret verified
	UserID   string   // likewise
	ScopeID  string   // the scope that granted it, if allowed
	Revision string   // of the policy that judged
	// Headers are the policy's headers for the upstream, if allowed.
	Headers map[string]string
	// Labels are the policy's labels for the decision, for alerts and for readers of the log.
	Labels map[string]string
	// Waived are the reasons against it that waivers and exceptions lifted, sorted by code.
	Waived []Waiver
}

// Waiver is a reason to deny that did not count.
type Waiver struct {
	Code ReasonCode `json:"code"`
	// Because and Until, in Unix seconds, are of an exception that a policy makes. A waiver, of
	// the manifest and the server together, has none.
	Because string `json:"because,omitempty"`
	Until   int64  `json:"until,omitempty"`
}

// Compare orders by code; of one code, what ends later comes first.
func (w Waiver) Compare(other Waiver) int {
	return cmp.Or(cmp.Compare(w.Code, other.Code), cmp.Compare(other.Until, w.Until), cmp.Compare(w.Because, other.Because))
}

// Deny returns a denial for one of the reasons that Go decides.
func Deny(code ReasonCode) Decision { return DenyFor(Because(code)) }

// DenyFor returns a denial for one reason.
func DenyFor(reason Reason) Decision { return Decision{Reasons: []Reason{reason}} }

// Because returns one of the reasons that Go decides, with its general message.
func Because(code ReasonCode) Reason { return Reason{Code: code, Message: goReasons[code]} }

// Together puts the decisions about the questions of one request together: it is allowed if
// all are, and else denied for all their reasons, a 401 hiding every 403 as ever. It has the id
// of the first denial, or of the first decision, which is number which. The headers of all count;
// whoever calls has made sure that they do not disagree.
func Together(decisions []Decision) (d Decision, which int) {
	which = max(0, slices.IndexFunc(decisions, func(d Decision) bool { return !d.Allowed }))
	d = decisions[which]
	if d.Allowed {
		for _, other := range decisions {
			if len(other.Headers) > 0 {
				headers := maps.Clone(other.Headers)
				maps.Copy(headers, d.Headers)
				d.Headers = headers
			}
			for _, w := range other.Waived {
				if !slices.Contains(d.Waived, w) {
					d.Waived = append(slices.Clip(d.Waived), w)
				}
			}
		}
		slices.SortFunc(d.Waived, Waiver.Compare)
		d.Labels = labelsOf(decisions, which)
		return d, which
	}
	d.Reasons, d.Labels = nil, labelsOf(decisions, which)
	unauthorized := false
	for _, other := range decisions {
		for _, r := range other.Reasons {
			if !slices.Contains(d.Reasons, r) {
				d.Reasons = append(d.Reasons, r)
				unauthorized = unauthorized || r.Code.Status() == http.StatusUnauthorized
			}
		}
	}
	if unauthorized {
		d.Reasons = slices.DeleteFunc(d.Reasons, func(r Reason) bool { return r.Code.Status() == http.StatusForbidden })
	}
	slices.SortFunc(d.Reasons, func(a, b Reason) int {
		return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Message, b.Message))
	})
	return d, which
}

// labelsOf are the labels of all decisions; where two differ in one, that of number which
// counts, and else the first.
func labelsOf(decisions []Decision, which int) (all map[string]string) {
	for _, d := range append([]Decision{decisions[which]}, decisions...) {
		for name, value := range d.Labels {
			if _, said := all[name]; !said {
				if all == nil {
					all = map[string]string{}
				}
				all[name] = value
			}
		}
	}
	return all
}

// Status returns what the end client is told: 200 if allowed, else the status of
// the reasons, 503 before 401 before 403 before the others.
func (d Decision) Status() int {
	if d.Allowed {
		return http.StatusOK
	}
	status := 0
	for _, r := range d.Reasons {
		switch s := r.Code.Status(); {
		case s == http.StatusServiceUnavailable:
			return s
		case s == http.StatusUnauthorized || status == 0:
			status = s
		case s == http.StatusForbidden && status != http.StatusUnauthorized:
			status = s
		}
	}
	if status == 0 {
		return http.StatusForbidden
	}
	return status
}

// Has reports whether code is among the reasons.
func (d Decision) Has(code ReasonCode) bool {
	return slices.ContainsFunc(d.Reasons, func(r Reason) bool { return r.Code == code })
}

// Challenge returns the value of the WWW-Authenticate header for a denial (RFC
// 6750 §3) and "" where there is none. req names the scope that was needed. A
// client takes insufficient_scope for an invitation to come back with more scopes,
// so it is said only where that would help: if nothing else was wrong.
func (d Decision) Challenge(req Request) string {
	const realm = `Bearer realm="patrol"`
	switch d.Status() {
	case http.StatusUnauthorized:
		if d.Has(TokenMissing) { // §3.1: no error code if no token was sent
			return realm
		}
		return realm + `, error="invalid_token"`
	case http.StatusForbidden:
		if !d.OnlyOutOfScope() {
			return ""
		}
		scope := req.Scope()
		if !quotable(scope) { // §3: scope-tokens only
			return realm + `, error="insufficient_scope"`
		}
		return realm + `, error="insufficient_scope", scope="` + scope + `"`
	}
	return ""
}

// OnlyOutOfScope reports whether a token with more scopes would have been allowed:
// nothing else was wrong.
func (d Decision) OnlyOutOfScope() bool {
	return len(d.Reasons) == 1 && d.Reasons[0].Code == OutOfScope
}

// quotable reports whether s can stand in a quoted scope attribute: RFC 6749
// §3.3 scope-token characters, and something in every field.
func quotable(s string) bool {
	return !strings.HasPrefix(s, ":") && !strings.HasSuffix(s, ":") && scopeChars(s)
}
