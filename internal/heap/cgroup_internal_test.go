package heap

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAllowed(t *testing.T) {
	for name, tc := range map[string]struct {
		own   string
		files map[string]string
		want  uint64
	}{
		"none":                       {"0::/\n", nil, 0},
		"no bound":                   {"0::/a\n", map[string]string{"a/memory.max": "max\n"}, 0},
		"a container's":              {"0::/\n", map[string]string{"memory.max": "536870912\n"}, 512 << 20},
		"a path that is not mounted": {"0::/kubepods/pod1/c\n", map[string]string{"memory.max": "536870912\n"}, 512 << 20},
		"the least of them":          {"0::/a/b\n", map[string]string{"a/memory.max": "100\n", "a/b/memory.max": "200\n", "memory.max": "max"}, 100},
		"version 1":                  {"5:cpu,cpuacct:/x\n4:memory:/x\n", map[string]string{"memory/x/memory.limit_in_bytes": "300\n"}, 300},
		"version 1, no bound":        {"4:memory:/\n", map[string]string{"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		"nonsense":                   {"x\n0::/\n", map[string]string{"memory.max": "-1\n"}, 0},
	} {
		root := t.TempDir()
		for path, text := range tc.files {
			require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(root, path), []byte(text), 0o600))
		}
		assert.Equal(t, tc.want, allowed(root, tc.own), name)
	}
}

func TestPlan(t *testing.T) {
	const mib = 1 << 20
	for _, tc := range []struct{ allowed, headroom, children, limit, room uint64 }{
		{0, 32 * mib, 512 * mib, 0, 32 * mib},
		{1000 * mib, 32 * mib, 0, 900 * mib, 32 * mib},
		{1000 * mib, 32 * mib, 300 * mib, 600 * mib, 32 * mib},
		{1000 * mib, 32 * mib, 5000 * mib, 450 * mib, 32 * mib},
		{100 * mib, 32 * mib, 5000 * mib, 45 * mib, 45 * mib / 8},
	} {
		limit, room := Plan(tc.allowed, tc.headroom, tc.children)
		assert.Equal(t, []uint64{tc.limit, tc.room}, []uint64{limit, room}, "%+v", tc)
	}
}
