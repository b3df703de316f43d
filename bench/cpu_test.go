package bench_test

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bench"
)

func TestMeasure(t *testing.T) {
	var kept []byte
	got, err := bench.Measure(func() error { kept = make([]byte, 1<<16); return nil }, 10*time.Millisecond)
	require.NoError(t, err)
	assert.Len(t, kept, 1<<16)
	assert.Positive(t, got.CPU)
	assert.EqualValues(t, 1, got.Allocs)

	_, err = bench.Measure(func() error { return io.EOF }, time.Second)
	assert.ErrorIs(t, err, io.EOF)
}
