package authz

import (
	"container/list"
	"context"
	"errors"
	"net/netip"
	"sync"
)

const (
	// maxWaiting bounds the calls that wait in a line. Each takes memory, and a
	// line that long does not get to its end in time.
	maxWaiting = 4096
	// maxWaitingAlike bounds those of one address.
	maxWaitingAlike = 512
)

var errLineFull = errors.New("too many wait already")

// fairLine is a number of places, and a line for them in which addresses take
// turns: a place that becomes free goes to the address that was served longest ago,
// and there to whoever came first.
type fairLine struct {
	mu      sync.Mutex
	free    int
	waiting int
	turns   *list.List // of *party, the next one first; each has somebody waiting
	parties map[netip.Prefix]*list.Element
}

// party is those who wait behind one address, the first one first.
type party struct {
	key  netip.Prefix
	line *list.List // of chan struct{}, closed when it is their turn
}

func newFairLine(places int) *fairLine {
	return &fairLine{free: places, turns: list.New(), parties: map[netip.Prefix]*list.Element{}}
}

// enter waits for a place until ctx ends. The caller calls leave once.
func (l *fairLine) enter(ctx context.Context, key netip.Prefix) (leave func(), err error) {
	l.mu.Lock()
	if l.free > 0 { // then nobody waits
		l.free--
		l.mu.Unlock()
		return l.leave, nil
	}
	turn, ok := l.parties[key]
	if l.waiting >= maxWaiting || ok && turn.Value.(*party).line.Len() >= maxWaitingAlike {
		l.mu.Unlock()
		return nil, errLineFull
	}
	if !ok {
		turn = l.turns.PushBack(&party{key: key, line: list.New()})
		l.parties[key] = turn
	}
	called := make(chan struct{})
	own := turn.Value.(*party).line.PushBack(called)
	l.waiting++
	l.mu.Unlock()

	select {
	case <-called:
		return l.leave, nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-called: // at the same time
		l.passOn()
	default:
		l.drop(turn, own)
	}
	return nil, ctx.Err()
}

func (l *fairLine) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.passOn()
}

// passOn gives a place to whose turn it is.
func (l *fairLine) passOn() {
	turn := l.turns.Front()
	if turn == nil {
		l.free++
		return
	}
	first := turn.Value.(*party).line.Front()
	close(first.Value.(chan struct{}))
	l.turns.MoveToBack(turn)
	l.drop(turn, first)
}

// drop takes somebody out of the line.
func (l *fairLine) drop(turn, one *list.Element) {
	p := turn.Value.(*party)
	p.line.Remove(one)
	l.waiting--
	if p.line.Len() == 0 {
		l.turns.Remove(turn)
		delete(l.parties, p.key)
	}
}
