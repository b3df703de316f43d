package api

import (
	"strings"
	"time"
)

// Advice is the answer of `GET /api/v1/pats/{id}/advice`: what a token could do
// without, going by what it was used for.
type Advice struct {
	TokenID string `json:"token_id"`
	Name    string `json:"name"`
	// Days is the length of the period that was asked for. Coverage says how much of it is
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

// Command is the command line that follows the advice; "" if there is none.
func (a Advice) Command() string {
	switch {
	case a.Unused:
		return "patrol pat revoke " + a.TokenID
	case len(a.Narrowed) == 0:
		return ""
	}
	var b strings.Builder
	b.WriteString("patrol pat narrow " + a.TokenID)
	for _, s := range a.Narrowed {
		b.WriteString(" --scope '" + strings.ReplaceAll(s.String(), "'", `'\''`) + "'") // an entity may have one
	}
	return b.String()
}

// ScopeAdvice is about one scope.
type ScopeAdvice struct {
	Scope
	Uses       int64      `json:"uses"`
	LastUsedAt *time.Time `json:"last_used_at"`
	// Do is the advice: "keep", "remove" or "narrow".
	Do string     `json:"do"`
	To []NewScope `json:"to,omitempty"` // of "narrow"
}

// AdvicePage is the answer of `GET /api/v1/admin/advice`: the live tokens of all
// users that could do with less, those with the most unused scopes first.
type AdvicePage struct {
	Page[OwnedAdvice]
	Days int `json:"days"`
	// Coverage is the share of the period that the log covers, and Enough whether it is all
	// of it, with nothing lost. If not, no token is advised on unless that was asked for.
	Coverage LogCoverage  `json:"coverage"`
	Enough   bool         `json:"enough"`
	Tokens   AdviceTotals `json:"tokens"`
}

// AdviceTotals counts tokens on all pages.
type AdviceTotals struct {
	Judged     int `json:"judged"`     // alive and held against the log
	TooYoung   int `json:"too_young"`  // alive and made within the period, so not judged
	Narrowable int `json:"narrowable"` // of those judged: that could do with less
	Unused     int `json:"unused"`     // of these: that were not used at all
}

// OwnedAdvice is advice on anybody's token.
type OwnedAdvice struct {
	Advice
	UserID       string     `json:"user_id"`
	Email        string     `json:"email"`
	CreatedAt    time.Time  `json:"created_at"`
	ExpiresAt    time.Time  `json:"expires_at"`
	LastUsedAt   *time.Time `json:"last_used_at"`
	UnusedScopes int        `json:"unused_scopes"` // that could go
	WideScopes   int        `json:"wide_scopes"`   // that could be narrower
}

// Narrowing is the body of `POST /api/v1/pats/{id}/narrow`: the scopes that a token
// is to keep, each within one that it has.
type Narrowing struct {
	Scopes []NewScope `json:"scopes"`
}
