package models

import "time"

// Change says that a fact which decisions depend on was written. Every such
// write appends its changes in the same transaction; a process that caches facts
// drops what a change names.
type Change struct {
	// Seq is one change's alone. It is 0 for a write of which nobody knows whether it
	// was committed.
	Seq  int64
	Kind ChangeKind
	Key  string    // id of the token, user or domain; of the user for a membership
	Key2 string    // the domain of a membership, else ""
	At   time.Time // when it was written
}

// ChangeKind is the kind of a fact that changed.
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

// FeedPosition is a reader's position in the feed of changes. The store makes it
// and understands it. The zero value is before every change.
type FeedPosition struct {
	Seq   int64  // of the last change
	Nonce string // of the same: another history of the database has another one, or none
	Seen  string // which transactions were over; "" on SQLite, where the number says it
	World string // which database on which server it was read from; likewise
}

// FeedPage is one page of the feed.
type FeedPage struct {
	Changes []Change
	Next    FeedPosition // after these changes
	// Complete says that these are all changes between the position that was asked for
	// and Next. If they may not be, or the database is not the one that it was, there are
	// no changes, and the reader must drop everything that it holds.
	Complete bool
	Awaited  bool // somebody waits until all servers have applied these changes
}
