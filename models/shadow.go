package models

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

// Divergence is one decision that another policy would have made otherwise.
type Divergence struct {
	ID      string       `json:"id"` // of the decision
	At      time.Time    `json:"at"`
	Request string       `json:"request,omitempty"` // domain:type:entity:operation; "" if a mask took it away
	TokenID string       `json:"token_id,omitempty"`
	UserID  string       `json:"user_id,omitempty"`
	Surface string       `json:"surface,omitempty"`
	Before  []ReasonCode `json:"before"` // reasons; none: allowed
	After   []ReasonCode `json:"after"`  // likewise
	Masked  bool         `json:"masked,omitempty"`
}

// KeptDivergences is the number of examples that are kept of decisions that diverge alike.
const KeptDivergences = 10

// LatestDivergences joins lists of divergences, the latest first, each once, and
// keeps the first of them.
func LatestDivergences(limit int, lists ...[]Divergence) []Divergence {
	all := slices.Concat(lists...)
	slices.SortStableFunc(all, func(a, b Divergence) int { return cmp.Compare(b.ID, a.ID) }) // ids sort by time
	all = slices.CompactFunc(all, func(a, b Divergence) bool { return a.ID == b.ID })
	return all[:min(len(all), limit)]
}

// The kinds of [ShadowCount] beside those of changes.
const (
	ShadowSame    = "same"    // the shadow decided alike
	ShadowError   = "error"   // the shadow could not be asked
	ShadowDropped = "dropped" // there was no time or room to ask it
)

// ShadowCount counts decisions for which a shadow policy's answer was of one kind.
type ShadowCount struct {
	Base    string // revision of the policy that decided
	Kind    string // of change, or one of those above
	Reasons string // codes, sorted, separated by spaces; "" without
	// Rules are the reasons with the rules that give them, as JSON.
	Rules           json.RawMessage
	Count           int64
	FirstAt, LastAt time.Time
	Examples        []Divergence // the latest, at most [KeptDivergences]
}
