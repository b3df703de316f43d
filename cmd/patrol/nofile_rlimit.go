//go:build linux || darwin

package main

import "golang.org/x/sys/unix"

// mostOpenFiles returns the number of files that this process may open; not ok: it is not known.
func mostOpenFiles() (most uint64, ok bool) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, false
	}
	return limit.Max, true // to which Go raises it
}
