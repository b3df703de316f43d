package bench_test

import (
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bench"
)

func TestMeasure(t *testing.T) {
	var workers atomic.Int32
	got, err := bench.Measure(func() bench.Op {
		var kept []byte
		workers.Add(1)
		return func() error { kept = append(kept[:0:0], make([]byte, 1<<16)...); return nil }
	}, 20*time.Millisecond)
	require.NoError(t, err)
	assert.EqualValues(t, runtime.GOMAXPROCS(0), workers.Load())
	assert.Positive(t, got.CPU)
	assert.InDelta(t, 1.5, got.Allocs, 0.6)

	_, err = bench.Measure(func() bench.Op { return func() error { return io.EOF } }, time.Second)
	assert.ErrorIs(t, err, io.EOF)
}
