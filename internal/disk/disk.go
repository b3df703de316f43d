// Package disk measures the free space of the file system of a file.
package disk

import (
	"os"
	"path/filepath"
)

// Room is the space of a file system, in bytes.
type Room struct {
	Free  uint64 // for this user
	Total uint64
}

// At returns the room where path lies, or would lie if it is not there yet. It is not ok if
// that cannot be found out here.
func At(path string) (room Room, ok bool) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Room{}, false
	}
	for {
		if _, err := os.Stat(path); err == nil {
			return at(path)
		}
		above := filepath.Dir(path)
		if above == path {
			return Room{}, false
		}
		path = above
	}
}
