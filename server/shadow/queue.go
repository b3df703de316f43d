package shadow

import (
	"sync"

	"patrol/server/authz"
)

// queue holds the decisions that wait to be judged. It holds no more bytes than its limit, counting
// what was taken and is still being worked on.
type queue struct {
	limit int64
	wake  chan struct{} // has an element when something was put in

	mu      sync.Mutex
	bytes   int64
	records []authz.Record
	dropped int64
}

func newQueue(limit int64) *queue { return &queue{limit: limit, wake: make(chan struct{}, 1)} }

// put adds a record if there is room.
func (q *queue) put(r authz.Record) {
	size := r.Size()
	q.mu.Lock()
	if q.bytes+size > q.limit {
		q.dropped++
		q.mu.Unlock()
		return
	}
	q.bytes += size
	q.records = append(q.records, r)
	first := len(q.records) == 1
	q.mu.Unlock()
	if first {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// take returns all that waits, in exchange for a slice whose content is done with,
// and how many were dropped since it was last asked.
func (q *queue) take(done []authz.Record) (records []authz.Record, dropped int64) {
	clear(done)
	q.mu.Lock()
	defer q.mu.Unlock()
	records, dropped = q.records, q.dropped
	q.records, q.dropped = done[:0], 0
	return records, dropped
}

// release makes room for others in place of records that were taken.
func (q *queue) release(records []authz.Record) {
	var size int64
	for i := range records {
		size += records[i].Size()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= size
}

func (q *queue) size() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}
