package models

import "time"

// Change says that a fact which decisions depend on was written. Every such
// write appends its changes in the same transaction; a process that caches facts
// drops what a change names.
type Change struct {
	// Seq grows in the order in which changes become visible. It is 0 for a write
	// of which nobody knows whether it was committed.
	Seq  int64
	Kind ChangeKind
	Key  string    // id of the token, user or domain; of the user for a membership
	Key2 string    // the domain of a membership, else ""
	At   time.Time // when it was written
}

// ChangeKind is what sort of fact changed.
type ChangeKind string

// The kinds of changes.
const (
	ChangeToken      ChangeKind = "token"
	ChangeUser       ChangeKind = "user"
	ChangeDomain     ChangeKind = "domain"
	ChangeMembership ChangeKind = "membership"
)

// Use is one use of a token, as last-use records keep it.
type Use struct {
	TokenID   string
	At        time.Time
	IP        string
	UserAgent string
}
