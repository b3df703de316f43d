package window

import (
	"container/list"
	"net/netip"
	"slices"
	"time"

	"patrol/models"
)

// TooSoon tells a client when to come again.
func TooSoon(wait time.Duration, message string) error {
	err := models.NewError(models.CodeRateLimited, message)
	err.RetryAfter = int((wait + time.Second - 1) / time.Second)
	return err
}

// Limit permits so many failures of each key within a length of time.
type Limit[K comparable] struct {
	bound   int
	length  time.Duration
	failed  *Recent[K]
	pending map[K]int // attempts under way, as many as there are at most
}

// NewLimit permits so many failures in a length of time, and remembers so many keys.
func NewLimit[K comparable](bound int, length time.Duration, size int) *Limit[K] {
	return &Limit[K]{bound: bound, length: length, failed: NewRecent[K](size), pending: map[K]int{}}
}

// Wait returns how long it is until another attempt is permitted, 0 if it is now.
// Looking makes no entry. The zero prefix stands for no network, and has no limit.
func (l *Limit[K]) Wait(now time.Time, key K) time.Duration {
	var failures Window
	if w := l.failed.Peek(key); w != nil {
		failures = *w
	}
	bound := l.bound - l.pending[key]
	if any(key) == any(netip.Prefix{}) {
		return 0
	}
	if bound <= 0 { // those under way may be right
		return max(time.Second, failures.Wait(now, l.length, l.bound))
	}
	return failures.Wait(now, l.length, bound)
}

// Hold counts n attempts more as under way.
func (l *Limit[K]) Hold(key K, n int) {
	if l.pending[key] += n; l.pending[key] == 0 {
		delete(l.pending, key)
	}
}

// UnderWay returns for how many keys attempts are under way.
func (l *Limit[K]) UnderWay() int { return len(l.pending) }

// Tracked returns how much is remembered.
func (l *Limit[K]) Tracked() int { return l.failed.order.Len() + len(l.pending) }

// Count notes a failure.
func (l *Limit[K]) Count(now time.Time, key K) {
	if any(key) == any(netip.Prefix{}) {
		return
	}
	l.failed.Get(key).Add(now, l.bound)
}

// Window holds the times of the newest events, oldest first, in Unix nanoseconds.
type Window struct{ times []int64 }

// Wait returns how long it is until fewer than limit events lie within length
// before now; 0 if that is so already.
func (w *Window) Wait(now time.Time, length time.Duration, limit int) time.Duration {
	if len(w.times) < limit {
		return 0
	}
	return max(0, time.Unix(0, w.times[len(w.times)-limit]).Add(length).Sub(now))
}

// Add notes an event and forgets all but the newest keep.
func (w *Window) Add(now time.Time, keep int) {
	if len(w.times) >= keep {
		w.times = append(w.times[:0], w.times[len(w.times)-keep+1:]...)
	}
	w.times = append(w.times, now.UnixNano())
	slices.Sort(w.times) // attempts end in another order than they began
}

// Recent is a map of windows that forgets the one unused for longest when it is
// full.
type Recent[K comparable] struct {
	size  int
	byKey map[K]*list.Element
	order *list.List // of *entry[K], most recently used first
}

type entry[K comparable] struct {
	key K
	Window
}

// NewRecent keeps the windows of so many keys.
func NewRecent[K comparable](size int) *Recent[K] {
	return &Recent[K]{size: size, byKey: map[K]*list.Element{}, order: list.New()}
}

// Len returns how many windows are kept.
func (r *Recent[K]) Len() int { return r.order.Len() }

// Get returns the Window of key, a new one if there is none.
func (r *Recent[K]) Get(key K) *Window {
	if w := r.Peek(key); w != nil {
		return w
	}
	if r.order.Len() >= r.size {
		oldest := r.order.Back()
		delete(r.byKey, r.order.Remove(oldest).(*entry[K]).key)
	}
	e := &entry[K]{key: key}
	r.byKey[key] = r.order.PushFront(e)
	return &e.Window
}

// Peek returns the Window of key, or nil.
func (r *Recent[K]) Peek(key K) *Window {
	element, ok := r.byKey[key]
	if !ok {
		return nil
	}
	r.order.MoveToFront(element)
	return &element.Value.(*entry[K]).Window
}
