package heap

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// Allowed returns how much memory the control groups of this process let it have, 0 if
// they set no bound or there are none.
func Allowed() uint64 {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0
	}
	return allowed("/sys/fs/cgroup", string(own))
}

// allowed looks at each group from that of the process up to the root: the least bound
// is in force. In a container the path may be one that is not mounted there; then the
// root is the container's own group.
func allowed(root, own string) uint64 {
	var least uint64
	for line := range strings.Lines(own) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3) // id:controllers:path
		if len(parts) < 3 {
			continue
		}
		base, file := root, "memory.max"
		switch {
		case parts[1] == "":
		case strings.Contains(","+parts[1]+",", ",memory,"): // version 1
			base, file = filepath.Join(root, "memory"), "memory.limit_in_bytes"
		default:
			continue
		}
		for at := filepath.Clean("/" + parts[2]); ; at = filepath.Dir(at) {
			if n := bound(filepath.Join(base, at, file)); n > 0 && (least == 0 || n < least) {
				least = n
			}
			if at == "/" {
				break
			}
		}
	}
	return least
}

// unbounded is more than any machine has: version 1 writes such a number for no bound.
const unbounded = 1 << 60

func bound(path string) uint64 {
	text, err := os.ReadFile(path) //nolint:gosec // below the folder of control groups
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || n >= unbounded { // "max"
		return 0
	}
	return n
}

// Limit has the garbage collector keep the Go heap to so many bytes, as GOMEMLIMIT does.
// stop undoes it.
func Limit(bytes uint64) (stop func()) {
	before := debug.SetMemoryLimit(int64(min(bytes, unbounded)))
	return func() { debug.SetMemoryLimit(before) }
}

// Plan divides what a process may have: limit is for the Go heap, and headroom at most
// what is asked for. Processes that it starts, of which each may have so much as children
// says, get what is left; where that is more than half, the half.
func Plan(allowed, headroom, children uint64) (limit, room uint64) {
	if allowed == 0 {
		return 0, headroom
	}
	const elsewhere = 10 // a tenth is for stacks, buffers of the kernel, and SQLite's caches
	usable := allowed - allowed/elsewhere
	limit = usable - min(children, usable/2)
	return limit, min(headroom, limit/8)
}
