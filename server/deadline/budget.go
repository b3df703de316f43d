package deadline

import (
	"errors"
	"sync"
)

// The errors of [Budget.Take].
var (
	ErrShare = errors.New("the caller holds its whole share already")
	ErrSpent = errors.New("the whole budget is in use")
)

// Budget is an amount, such as bytes of memory, of which callers take what they use
// and give it back. One caller can hold no more than a share of it, so that nobody
// alone can use it up. It is safe for concurrent use.
type Budget struct {
	total, share int64

	mu   sync.Mutex
	used int64
	held map[string]int64 // by caller
}

// NewBudget returns a budget of total, of which one caller may hold share.
func NewBudget(total, share int64) *Budget {
	return &Budget{total: total, share: share, held: map[string]int64{}}
}

// Take takes n for a caller, or nothing and returns [ErrShare] or [ErrSpent].
func (b *Budget) Take(caller string, n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.used+n > b.total:
		return ErrSpent
	case b.held[caller]+n > b.share:
		return ErrShare
	}
	b.used += n
	b.held[caller] += n
	return nil
}

// Give gives n back that was taken for the caller.
func (b *Budget) Give(caller string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.held[caller] -= n; b.held[caller] <= 0 {
		delete(b.held, caller)
	}
}

// Move makes n that was taken for one caller another's, or does nothing and returns
// [ErrShare].
func (b *Budget) Move(from, to string, n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if from == to {
		return nil
	}
	if b.held[to]+n > b.share {
		return ErrShare
	}
	b.held[to] += n
	if b.held[from] -= n; b.held[from] <= 0 {
		delete(b.held, from)
	}
	return nil
}

// Used returns the part that is taken now.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
