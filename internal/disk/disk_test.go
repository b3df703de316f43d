package disk_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/disk"
)

func TestAt(t *testing.T) {
	dir := t.TempDir()
	here, ok := disk.At(dir)
	require.True(t, ok)
	assert.NotZero(t, here.Total)
	assert.LessOrEqual(t, here.Free, here.Total)
	later, ok := disk.At(filepath.Join(dir, "not", "there", "yet.db"))
	require.True(t, ok)
	assert.Equal(t, here.Total, later.Total)
}
