package api

import "time"

// Advice is the answer of `GET /api/v1/pats/{id}/advice`: what a token could do
// without, going by what it was used for.
type Advice struct {
	TokenID string `json:"token_id"`
	Name    string `json:"name"`
	// Days is how long a period was asked for. Coverage says how much of it is
	// known; From in it is at the earliest when the token was made.
	Days     int         `json:"days"`
	Coverage LogCoverage `json:"coverage"`
	// Enough says whether the log covers all of the period, with nothing lost, and
	// the token has existed for as long.
	Enough bool `json:"enough"`
	// Unused says that nothing was allowed in the period: the token may be revoked.
	Unused bool          `json:"unused"`
	Scopes []ScopeAdvice `json:"scopes"`
	// Narrowed are the scopes that would have done: the body of a call that narrows.
	// Empty if there is nothing to narrow, or the token was not used.
	Narrowed []NewScope `json:"narrowed"`
}

// ScopeAdvice is about one scope.
type ScopeAdvice struct {
	Scope
	Uses       int64      `json:"uses"`
	LastUsedAt *time.Time `json:"last_used_at"`
	// Do is what is advised: "keep", "remove" or "narrow".
	Do string     `json:"do"`
	To []NewScope `json:"to,omitempty"` // of "narrow"
}

// Narrowing is the body of `POST /api/v1/pats/{id}/narrow`: the scopes that a token
// is to keep, each within one that it has.
type Narrowing struct {
	Scopes []NewScope `json:"scopes"`
}
