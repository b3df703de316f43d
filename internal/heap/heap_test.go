package heap_test

import (
	"runtime"
	"runtime/metrics"
	"testing"

	"github.com/stretchr/testify/assert"

	"patrol/internal/heap"
)

func collections() uint64 { return read("/gc/cycles/total:gc-cycles") }

func read(name string) uint64 {
	sample := []metrics.Sample{{Name: name}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

var sink []byte //nolint:gochecknoglobals // what is kept here is not optimised away

// allocate allocates so many MiB that nobody keeps.
func allocate(mib int) {
	for range mib * 16 {
		sink = make([]byte, 64<<10)
	}
}

func TestHeadroom(t *testing.T) {
	count := func(mib int) uint64 {
		runtime.GC()
		before := collections()
		allocate(mib)
		return collections() - before
	}
	without := count(512)
	stop := heap.Headroom(256 << 20)
	defer stop()
	assert.Eventually(t, func() bool {
		with := count(512)
		return with >= 1 && with <= 4 && with < without/4
	}, 10e9, 10e6, "%d times without", without)

	stop()
	assert.Eventually(t, func() bool { return count(512) > without/2 }, 10e9, 10e6)
}
