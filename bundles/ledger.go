package bundles

import (
	"context"
	"errors"
	"time"
)

// Ledger keeps which policy is in force and what was before. All servers on one
// database share it and follow it, so that each ends with the same policy.
type Ledger interface {
	// State returns what is in force; the zero State if nothing ever was.
	State(ctx context.Context) (State, error)
	// Archive returns the archive of a kept revision by its digest.
	Archive(ctx context.Context, digest string) ([]byte, error)
	// Activate puts a revision in force. It does nothing if that is in force, but that it
	// ends the pin of a promotion, and is ErrPinned while another one is pinned.
	Activate(ctx context.Context, r Record, archive []byte) error
	// Refuse notes that a candidate was refused. It does nothing if that was the last
	// thing to happen.
	Refuse(ctx context.Context, r Record) error
}

// ErrPinned says that a revision is pinned, so that none but it may be in force.
var ErrPinned = errors.New("the policy in force is pinned until the source is followed again")

// State is which policy is in force.
type State struct {
	Digest        string // of the files that take part in evaluation, see [engine.Source.Digest]
	ArchiveDigest string // see [ArchiveDigest]
	Revision      string
	Source        string
	Since         time.Time
	// Pinned says that it stays in force whatever the source holds.
	Pinned bool
	// Promoted says that it was put in force by hand, ahead of the source, so that it is
	// pinned until the source holds the same.
	Promoted bool
	// Resumed grows each time that servers are told to follow the source again.
	Resumed int64
}

// Record describes a candidate.
type Record struct {
	Digest        string // "" if it could not be read
	ArchiveDigest string
	Revision      string
	Source        string
	SignedBy      string // id of the key; "" without
	Result        Result
}

// held reports whether a bundle is kept out of force by a pin. What was promoted is
// no stranger to its own source.
func (s State) held(digest string) bool {
	return s.Pinned && !(s.Promoted && s.Digest == digest)
}
