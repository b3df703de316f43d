package window

import (
	"sync"
	"time"
)

// Once tells the first of many equal events within a length of time from the others, so that
// who repeats one cannot fill what it is written to. It is safe for concurrent use.
type Once struct {
	mu    sync.Mutex
	limit *Limit[string]
}

// NewOnce returns a [Once] that remembers so many keys.
func NewOnce(length time.Duration, size int) *Once {
	return &Once{limit: NewLimit[string](1, length, size)}
}

// First reports whether the key was not there within the length of time before now.
func (o *Once) First(now time.Time, key string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.limit.Wait(now, key) > 0 {
		return false
	}
	o.limit.Count(now, key)
	return true
}
