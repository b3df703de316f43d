package identity

import (
	"container/list"
	"context"
	"errors"
	"net/netip"
	"sync"
)

// lane is an order of turns at hashing. Whoever is known does not wait behind those
// who are not.
type lane int

const (
	laneKnown    lane = iota // whom an account knows, and who holds a code
	laneExisting             // accounts that exist, from a network that is over its limit
	laneNew                  // everybody else
	lanes
)

// turns says which lane goes first, turn by turn: none waits for good.
var turns = [...][lanes]lane{
	{laneKnown, laneExisting, laneNew},
	{laneKnown, laneNew, laneExisting},
	{laneKnown, laneExisting, laneNew},
	{laneNew, laneKnown, laneExisting},
	{laneKnown, laneExisting, laneNew},
	{laneKnown, laneNew, laneExisting},
	{laneKnown, laneNew, laneExisting},
	{laneExisting, laneKnown, laneNew},
}

// hashQueue hands out turns at hashing, so many at a time. Within a lane networks take
// turns, so that one of them holds up itself and no other. If a lane is full, the
// newest of the network that waits the most gives way to one that waits less.
type hashQueue struct {
	mu      sync.Mutex
	free    int // turns that nobody has
	limit   int // that wait, in each lane
	turn    int
	waiting [lanes]fairLane
}

// fairLane are those who wait in one lane, by network.
type fairLane struct {
	count     int
	byNetwork map[netip.Prefix]*list.Element
	order     list.List // of *networkLine: whose turn is next comes first
}

type networkLine struct {
	network netip.Prefix
	line    []*hashWaiter
}

type hashWaiter struct {
	network netip.Prefix
	lane    lane
	// called gets nil for a turn, or why there is none. The queue sends once.
	called chan error
}

func newHashQueue(free, limit int) *hashQueue {
	q := &hashQueue{free: free, limit: limit}
	for i := range q.waiting {
		q.waiting[i].byNetwork = map[netip.Prefix]*list.Element{}
	}
	return q
}

// enter waits for a turn. leave must be called after it.
func (q *hashQueue) enter(ctx context.Context, at lane, from netip.Prefix) error {
	q.mu.Lock()
	if q.free > 0 { // then nobody waits
		q.free--
		q.mu.Unlock()
		return nil
	}
	w := &hashWaiter{network: from, lane: at, called: make(chan error, 1)}
	if !q.waiting[at].join(w, q.limit) {
		q.mu.Unlock()
		return errBusyHashing
	}
	q.mu.Unlock()
	select {
	case err := <-w.called:
		return err
	case <-ctx.Done():
	}
	q.mu.Lock()
	left := q.waiting[at].leave(w)
	q.mu.Unlock()
	if !left && <-w.called == nil { // it was called at the same time: the turn goes to the next
		q.leave()
	}
	if errors.Is(context.Cause(ctx), errBusyHashing) {
		return errBusyHashing
	}
	return ctx.Err()
}

// leave ends a turn, and gives it to the next.
func (q *hashQueue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	order := turns[q.turn%len(turns)]
	q.turn++
	for _, at := range order {
		if w := q.waiting[at].next(); w != nil {
			w.called <- nil
			return
		}
	}
	q.free++
}

// length returns the number of those who wait.
func (q *hashQueue) length() (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.waiting {
		n += q.waiting[i].count
	}
	return n
}

// join adds w, and returns false if there is no place for it.
func (l *fairLane) join(w *hashWaiter, limit int) bool {
	own := 0
	if element := l.byNetwork[w.network]; element != nil {
		own = len(element.Value.(*networkLine).line)
	}
	if l.count >= limit && !l.displace(own+1) {
		return false
	}
	element := l.byNetwork[w.network]
	if element == nil {
		element = l.order.PushBack(&networkLine{network: w.network})
		l.byNetwork[w.network] = element
	}
	line := element.Value.(*networkLine)
	line.line = append(line.line, w)
	l.count++
	return true
}

// displace sends the newest of the longest line away, if that line is longer than
// one of the given length.
func (l *fairLane) displace(than int) bool {
	var longest *networkLine
	for e := l.order.Front(); e != nil; e = e.Next() {
		if line := e.Value.(*networkLine); longest == nil || len(line.line) > len(longest.line) {
			longest = line
		}
	}
	if longest == nil || len(longest.line) <= than {
		return false
	}
	last := longest.line[len(longest.line)-1]
	l.leave(last)
	last.called <- errBusyHashing
	return true
}

// next takes out whose turn it is, nil if nobody waits.
func (l *fairLane) next() *hashWaiter {
	element := l.order.Front()
	if element == nil {
		return nil
	}
	line := element.Value.(*networkLine)
	w := line.line[0]
	l.order.MoveToBack(element)
	l.leave(w)
	return w
}

// leave takes w out, and returns false if it was out already.
func (l *fairLane) leave(w *hashWaiter) bool {
	element := l.byNetwork[w.network]
	if element == nil {
		return false
	}
	line := element.Value.(*networkLine)
	for i, other := range line.line {
		if other != w {
			continue
		}
		line.line = append(line.line[:i], line.line[i+1:]...)
		l.count--
		if len(line.line) == 0 {
			l.order.Remove(element)
			delete(l.byNetwork, w.network)
		}
		return true
	}
	return false
}
