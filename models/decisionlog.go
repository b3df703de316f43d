package models

import (
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"time"
)

// SurfaceInquiry is the surface of a decision about a user, or about a token that nobody showed.
// It is no use of a token.
const SurfaceInquiry = "inquiry"

// Surfaces are those on which decisions are made: labels of metrics, and choices of the log.
var Surfaces = []string{"authorize", "gateway", "forwardauth", "extauthz", "page", "api", "authzen", "oauth", SurfaceInquiry}

// LoggedDecision is one line of the decision log: a decision with all that it was
// made on, so that it can be explained, and made again, later. It holds no secret.
type LoggedDecision struct {
	Decision
	At      time.Time     // when it was made
	Took    time.Duration // from the call to the decision
	Surface string        // where it was asked for: authorize, gateway, …
	// RequestID is the id of the request that it was made for, "" if that had none. A
	// request may ask several questions, each of which has a decision.
	RequestID string
	// RequestedBy is the client's address, "" if unknown.
	RequestedBy string
	// Method and Path are of a proxied request, else "".
	Method, Path string
	// Request is the question; its fields are empty as far as that is not
	// known, and its Context is nil: Input has it.
	Request Request
	// Input is the policy's input; nil if it was not asked, or if a mask
	// took all of it away.
	Input *DecisionInput
	// Erased and Masked are the JSON pointers of what a mask removed and
	// replaced.
	Erased, Masked []string
}

// DecisionInput is the input of a decision beside the request. What is nil was
// absent.
type DecisionInput struct {
	Token, User, Domain, Membership *Fact
	Context                         string // a JSON object; "" for an empty one
	Client, HTTP                    string // the same, of what the policy reads; "" if absent
	Now                             int64  // input.now, in Unix seconds
}

// Fact is one part of an input, as JSON. Facts outlive decisions, so that a log
// can keep each once, under its key, a digest of the text.
type Fact struct {
	Key  [16]byte
	JSON string
}

// Outcome is the kind of answer that a decision was.
type Outcome string

// The outcomes of decisions.
const (
	OutcomeAllow Outcome = "allow"
	OutcomeDeny  Outcome = "deny"
	OutcomeError Outcome = "error" // policy_error or unavailable
)

// Outcome returns what kind of answer the decision is.
func (d Decision) Outcome() Outcome {
	switch {
	case d.Allowed:
		return OutcomeAllow
	case d.Status() == http.StatusServiceUnavailable:
		return OutcomeError
	default:
		return OutcomeDeny
	}
}

// FirstReason returns the code of the first reason, "" if allowed.
func (d Decision) FirstReason() ReasonCode {
	if len(d.Reasons) == 0 {
		return ""
	}
	return d.Reasons[0].Code
}

// InputMasked reports whether the input is not what the policy judged, because a
// mask has changed it.
func (l LoggedDecision) InputMasked() bool { return len(l.MaskedInput()) > 0 }

// MaskedInput returns the JSON pointers of what a mask has changed in the input.
func (l LoggedDecision) MaskedInput() (pointers []string) {
	for _, list := range [...][]string{l.Erased, l.Masked} {
		for _, pointer := range list {
			if strings.HasPrefix(pointer, "/input") {
				pointers = append(pointers, pointer)
			}
		}
	}
	return pointers
}

// HeadersKnown reports whether Headers are those that the policy gave, rather than
// what a mask left of them.
func (l LoggedDecision) HeadersKnown() bool {
	changed := func(pointer string) bool { return strings.HasPrefix(pointer, "/result/headers") }
	return !slices.ContainsFunc(l.Erased, changed) && !slices.ContainsFunc(l.Masked, changed)
}

const (
	timeLength   = 7                     // base62 characters of milliseconds: good until 2081
	randomLength = IDLength - timeLength // 53 bits, to tell those of one millisecond apart
)

// NewDecisionID draws the id of a decision made at now. Ids sort by time, as text
// compared byte by byte, so that a log can be kept and cut in their order.
func NewDecisionID(now time.Time) string {
	random, err := randomBase62(rand.Reader, randomLength)
	if err != nil { // crypto/rand never fails; it ends the program instead
		panic(err)
	}
	return DecisionIDsFrom(now) + random
}

// DecisionIDsFrom returns what sorts before every id of a decision made at t or
// later, to the millisecond, and after all earlier ones.
func DecisionIDsFrom(t time.Time) string {
	const last = 62*62*62*62*62*62*62 - 1
	var out [timeLength]byte
	n := min(max(t.UnixMilli(), 0), last)
	for i := timeLength - 1; i >= 0; i-- {
		out[i] = base62[n%int64(len(base62))]
		n /= int64(len(base62))
	}
	return string(out[:])
}

// UsedScope counts how often a scope of a token allowed one kind of request on
// one day.
type UsedScope struct {
	Day        time.Time // UTC midnight
	TokenID    string
	ScopeID    string
	Domain     string
	EntityType string
	Entity     string
	Operation  string
	Count      int64
	LastAt     time.Time
}

// CountedOutcome counts the decisions about a token on one day. TokenID is "" for
// what presented no token that verified; see [CountedRefusals] for more about those.
type CountedOutcome struct {
	Day     time.Time // UTC midnight
	TokenID string
	Outcome Outcome
	Reason  ReasonCode // the first one
	Count   int64
}

// LoggedDay says how much of one day's decisions the log took.
type LoggedDay struct {
	Day      time.Time // UTC midnight
	Recorded int64
	Dropped  int64
}

// DecisionCounts are the totals of a period of the log.
type DecisionCounts struct {
	Outcomes []CountedOutcome
	Used     []UsedScope
	Days     []LoggedDay
	Refusals []CountedRefusals
}

// DayOf returns the beginning of a time's day in UTC, which is what counts are
// kept by.
func DayOf(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }
