package decisionlog

import (
	"errors"
	"sync"

	"patrol/server/authz"
)

// entry is a decision in the buffer.
type entry struct {
	authz.Record
	seq  uint64
	size int64
	// recorded is told once whether the first sink has the decision; nil: nobody
	// waits for it.
	recorded chan<- error
}

// buffer is what gathers between two flushes. Taking a decision down is a copy
// under a lock that is held for nothing else.
type buffer struct {
	limit int64         // bytes
	full  chan struct{} // has an element when a flush should not be waited for

	mu      sync.Mutex
	bytes   int64
	seq     uint64
	allowed []entry
	refused []entry
	dropped drops
	closed  bool
}

// drops counts what was dropped.
type drops struct{ allowed, refused int64 }

func (d drops) total() int64 { return d.allowed + d.refused }

var (
	errFull   = errors.New("the decision log's buffer is full")
	errClosed = errors.New("the decision log is closed")
	errLost   = errors.New("the decision log could not keep it")
)

// put takes a decision down, dropping allowances before denials if there is no
// room. An error says that it was this one.
func (b *buffer) put(e entry, urgent bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		b.drop(e, errClosed)
		return errClosed
	}
	if b.bytes+e.size > b.limit && !e.Decision.Allowed {
		for b.bytes+e.size > b.limit && len(b.allowed) > 0 {
			last := len(b.allowed) - 1
			b.drop(b.allowed[last], errFull)
			b.bytes -= b.allowed[last].size
			b.allowed[last] = entry{}
			b.allowed = b.allowed[:last]
		}
	}
	if b.bytes+e.size > b.limit {
		b.drop(e, nil) // the caller learns of it here
		return errFull
	}
	b.seq++
	e.seq = b.seq
	b.bytes += e.size
	if e.Decision.Allowed {
		b.allowed = append(b.allowed, e)
	} else {
		b.refused = append(b.refused, e)
	}
	if urgent || b.bytes > b.limit/4 {
		select {
		case b.full <- struct{}{}:
		default:
		}
	}
	return nil
}

// drop counts one and tells whoever waits for it.
func (b *buffer) drop(e entry, why error) {
	if e.Decision.Allowed {
		b.dropped.allowed++
	} else {
		b.dropped.refused++
	}
	if e.recorded != nil && why != nil {
		e.recorded <- why
	}
}

// take moves what has gathered into the given slices, whose old content may be
// overwritten, and returns what was dropped since it was last asked.
func (b *buffer) take(allowed, refused []entry) (a, r []entry, dropped drops) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, r, dropped = b.allowed, b.refused, b.dropped
	b.allowed, b.refused, b.dropped, b.bytes = allowed[:0], refused[:0], drops{}, 0
	return a, r, dropped
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
	return b.bytes
}

// merged returns what two slices hold, each in order, in the order in which it
// came.
func merged(allowed, refused []entry) []*entry {
	out := make([]*entry, 0, len(allowed)+len(refused))
	for i, j := 0, 0; i < len(allowed) || j < len(refused); {
		if j == len(refused) || i < len(allowed) && allowed[i].seq < refused[j].seq {
			out = append(out, &allowed[i])
			i++
		} else {
			out = append(out, &refused[j])
			j++
		}
	}
	return out
}
