package decisionlog

import (
	"errors"
	"sync"

	"patrol/server/authz"
)

// entry is a decision in the buffer.
type entry struct {
	authz.Record
	size int64
	// recorded is told once whether the first place has the decision; nil: nobody
	// waits for it.
	recorded chan<- error
}

// buffer holds the decisions between two flushes. Taking a decision down is a copy
// under a lock that is held for nothing else. What is about no token that verified
// has room of its own.
type buffer struct {
	full chan struct{} // has an element when a flush should not be waited for

	mu       sync.Mutex
	verified *fair[entry]
	dropped  drops // of these

	refused      []entry
	refusedBytes int64
	refusedLimit int64
	closed       bool
}

// drops counts what was dropped.
type drops struct{ allowed, refused int64 }

func (d drops) total() int64 { return d.allowed + d.refused }

func (d *drops) add(allowed bool) {
	if allowed {
		d.allowed++
	} else {
		d.refused++
	}
}

var (
	errFull   = errors.New("the decision log's buffer is full")
	errClosed = errors.New("the decision log is closed")
	errLost   = errors.New("the decision log could not keep it")
)

func newBuffer(limit int64) *buffer {
	b := &buffer{full: make(chan struct{}, 1), refusedLimit: limit / refusedPart}
	b.verified = newFair(limit, func(e *entry, allowed bool) {
		b.dropped.add(allowed)
		if e.recorded != nil {
			e.recorded <- errFull
		}
	})
	return b
}

// put takes a decision about a token that verified down. An error says that there
// was no room.
func (b *buffer) put(e entry, urgent bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	allowed := e.Decision.Allowed
	if b.closed {
		b.dropped.add(allowed)
		return errClosed
	}
	if !b.verified.put(e, e.Decision.UserID, e.Decision.TokenID, allowed, e.size) {
		b.dropped.add(allowed)
		return errFull
	}
	if urgent || b.verified.bytes > b.verified.limit/4 {
		b.signal()
	}
	return nil
}

// putRefused takes a refusal without such a token down, if there is room.
func (b *buffer) putRefused(e entry) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.refusedBytes+e.size > b.refusedLimit {
		return false
	}
	b.refusedBytes += e.size
	b.refused = append(b.refused, e)
	return true
}

func (b *buffer) signal() {
	select {
	case b.full <- struct{}{}:
	default:
	}
}

// take moves what has gathered into the given slices, whose old content may be
// overwritten, and returns what was dropped since it was last asked.
func (b *buffer) take(verified []slot[entry], refused []entry) (v []slot[entry], r []entry, dropped drops) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, r, dropped = b.verified.swap(verified), b.refused, b.dropped
	b.refused, b.refusedBytes, b.dropped = refused[:0], 0, drops{}
	return v, r, dropped
}

// close has all further decisions dropped.
func (b *buffer) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

func (b *buffer) size() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.verified.bytes + b.refusedBytes
}
