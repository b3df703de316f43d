package engine

import (
	"sync"
	"sync/atomic"
)

// Engine holds the policy in force. Readers take a [Snapshot] once per call and
// finish on it, whatever is swapped in meanwhile. It is safe for use by many
// goroutines.
type Engine struct {
	current atomic.Pointer[Snapshot]

	mu       sync.Mutex // serialises Swap and OnSwap, so that fns see swaps in order
	onSwapFn []func()
}

// New returns an engine with s in force. s must not be nil.
func New(s *Snapshot) *Engine {
	e := &Engine{}
	e.current.Store(s)
	return e
}

// Current returns the policy in force; never nil.
func (e *Engine) Current() *Snapshot { return e.current.Load() }

// Swap puts s in force and returns what was before. It returns after every
// function registered with OnSwap has.
func (e *Engine) Swap(s *Snapshot) (old *Snapshot) {
	e.mu.Lock()
	defer e.mu.Unlock()
	old = e.current.Swap(s)
	for _, fn := range e.onSwapFn {
		fn()
	}
	return old
}

// OnSwap registers fn to be called after each swap, in the goroutine that
// swaps. fn must be quick and must not call Swap or OnSwap.
func (e *Engine) OnSwap(fn func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.onSwapFn = append(e.onSwapFn, fn)
}
