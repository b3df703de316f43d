// Package heap has the garbage collector work less often.
//
// Go collects when as much was allocated as was alive after the last collection.
// What a server of Patrol keeps alive is small, a few tens of megabytes, and what
// it allocates for a request, mostly to evaluate the policy, is gone with the
// answer: a busy one would collect many times a second and mark the same policy
// and the same caches each time. [Headroom] lets it allocate a fixed amount first.
package heap

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// Headroom has the process allocate at least so many bytes between two collections,
// or as many as are alive if these are more, as Go does by itself. It takes the
// place of GOGC; GOMEMLIMIT stays in force. stop undoes it.
func Headroom(bytes uint64) (stop func()) {
	t := &tuner{headroom: bytes, before: debug.SetGCPercent(100)}
	t.tune()
	return t.stop
}

type tuner struct {
	headroom uint64
	before   int // the percentage that was in force

	mu      sync.Mutex
	stopped bool
}

// cycle is garbage as soon as it is made, so that a collection finds it.
type cycle struct{ _ *byte }

// tune sets the percentage for what is alive now, and has itself called after the
// next collection.
func (t *tuner) tune() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return
	}
	debug.SetGCPercent(percent(live(), t.headroom))
	runtime.AddCleanup(new(cycle), func(t *tuner) { t.tune() }, t)
}

func (t *tuner) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	debug.SetGCPercent(t.before)
}

// percent returns the value of GOGC at which a heap of so many live bytes is
// collected after headroom more, and not less than Go's own.
func percent(live, headroom uint64) int {
	const (
		least = 100
		// Go takes a heap to be at least this large, times GOGC / 100.
		smallest = 4 << 20
	)
	return int(max(headroom*100/max(live, smallest), least)) //nolint:gosec // headroom is far from 2^63
}

// live returns how many bytes the last collection left alive: objects, and what
// else GOGC counts with them.
func live() uint64 {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	var sum uint64
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			sum += s.Value.Uint64()
		}
	}
	return sum
}
