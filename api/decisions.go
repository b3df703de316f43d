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
	Revision   string          `json:"revision"`
	// RequestedBy is the client's address.
	RequestedBy string `json:"requested_by,omitempty"`
	Method      string `json:"method,omitempty"` // of a proxied request
	Path        string `json:"path,omitempty"`
	// Microseconds is how long it took to decide.
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
