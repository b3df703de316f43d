//go:build linux || darwin

package disk

import "golang.org/x/sys/unix"

func at(path string) (Room, bool) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return Room{}, false
	}
	size := uint64(s.Bsize) //nolint:gosec // sizes of blocks are not negative
	return Room{Free: s.Bavail * size, Total: s.Blocks * size}, true
}
