package api

import (
	"encoding/json"
	"time"

	"patrol/models"
)

// LoggedDecision is a decision of the log: of `GET /api/v1/decisions`, and with
// its event of `GET /api/v1/decisions/{id}`.
type LoggedDecision struct {
	ID         string          `json:"id"`
	At         time.Time       `json:"at"`
	Outcome    models.Outcome  `json:"outcome"`
	Status     int             `json:"status"`
	Reasons    []models.Reason `json:"reasons"`
	Surface    string          `json:"surface"`
	Domain     string          `json:"domain,omitempty"`
	EntityType string          `json:"entity_type,omitempty"`
	Entity     string          `json:"entity,omitempty"`
	Operation  string          `json:"operation,omitempty"`
	TokenID    string          `json:"token_id,omitempty"` // only if its secret verified
	UserID     string          `json:"user_id,omitempty"`
	ScopeID    string          `json:"scope_id,omitempty"`
	// RequestID is the same for all questions of one request.
	RequestID string `json:"request_id,omitempty"`
	Revision  string `json:"revision"`
	// Labels are the policy's labels for the decision, and Waived the reasons against it that were
	// waived.
	Labels map[string]string `json:"labels,omitempty"`
	Waived []Waived          `json:"waived,omitempty"`
	// RequestedBy is the client's address.
	RequestedBy string `json:"requested_by,omitempty"`
	Method      string `json:"method,omitempty"` // of a proxied request
	Path        string `json:"path,omitempty"`
	// Microseconds is the time that it took to decide.
	Microseconds int64 `json:"microseconds"`
	// Event is all of it, in the format of OPA's decision log.
	Event json.RawMessage `json:"event,omitempty"`
}

// OutcomeCounts counts decisions by outcome.
type OutcomeCounts struct {
	Allow int64 `json:"allow"`
	Deny  int64 `json:"deny"`
	Error int64 `json:"error"`
}

// DecisionSummary is the answer of `GET /api/v1/pats/{id}/decisions`: the last seven
// days, today included, in UTC.
type DecisionSummary struct {
	OutcomeCounts
	Reasons  map[string]int64 `json:"reasons"` // by the first reason
	Days     []DecisionDay    `json:"days"`    // oldest first
	Coverage LogCoverage      `json:"coverage"`
}

// DecisionDay is one day of a summary.
type DecisionDay struct {
	Date string `json:"date"` // 2027-01-31
	OutcomeCounts
}

// LogCoverage says what counts rest on: how much of a period the decision log has
// taken down.
type LogCoverage struct {
	Since time.Time `json:"since"` // the beginning of the period
	Until time.Time `json:"until"`
	// From is since when in the period the log is known to have been kept; null:
	// it was not, or nothing was decided yet.
	From     *time.Time `json:"from"`
	Recorded int64      `json:"recorded"` // decisions on all tokens
	Lost     int64      `json:"lost"`     // that were made and not taken down
}

// CountedRefusals counts the refusals of one kind that one address got in a minute, or an
// hour, without showing a token that verifies: of `GET /api/v1/refusals`.
type CountedRefusals struct {
	From    time.Time `json:"from"`
	Seconds int64     `json:"seconds"`
	Address string    `json:"address,omitempty"` // or network
	Reason  string    `json:"reason"`
	Calls   int64     `json:"calls"` // a batch is one
	// Decisions counts answers with an id of their own, and Kept those of them that
	// were taken down.
	Decisions int64 `json:"decisions"`
	Kept      int64 `json:"kept"`
}

// DecisionLog says how far back the decision log reaches: the answer of `GET
// /api/v1/decision-log`.
type DecisionLog struct {
	RetentionSeconds int64      `json:"retention_seconds"`
	MaxRows          int64      `json:"max_rows"` // 0: any number
	Verified         LogClass   `json:"verified"` // about tokens whose secret verified
	Refused          LogClass   `json:"refused"`  // what is kept of others
	BusiestToken     string     `json:"busiest_token,omitempty"`
	BusiestRows      int64      `json:"busiest_rows,omitempty"`
	CountedAt        *time.Time `json:"counted_at"`
}

// LogClass is the period that the log covers for one kind of decisions.
type LogClass struct {
	Rows          int64      `json:"rows"` // at CountedAt
	CompleteSince *time.Time `json:"complete_since"`
	// CutShort says that less is there than the retention says, because there were
	// more than MaxRows.
	CutShort bool `json:"cut_short"`
}
