//go:build unix

package store

import (
	"encoding/binary"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// walIndex reads the index of a database's log beside SQLite.
//
// POSIX drops all locks that a process holds on a file as soon as the process
// closes any descriptor of it. So the file is opened once for all Stores of this
// process on one database, and closed after the last of them.
type walIndex struct {
	path  string
	file  *os.File
	users int
}

var walIndexes = struct {
	sync.Mutex
	byPath map[string]*walIndex
}{byPath: map[string]*walIndex{}}

// openWALIndex returns nil if there is none that can be read: then overwritten
// files are not noticed, and everything else is.
func openWALIndex(path string) *walIndex {
	walIndexes.Lock()
	defer walIndexes.Unlock()
	x := walIndexes.byPath[path]
	if x == nil {
		f, err := os.Open(path + fileSuffixes[2]) //nolint:gosec // the path is the operator's setting
		if err != nil {
			return nil
		}
		x = &walIndex{path: path, file: f}
		walIndexes.byPath[path] = x
	}
	x.users++
	return x
}

// close must come after the connections of the Store were closed.
func (x *walIndex) close() {
	if x == nil {
		return
	}
	walIndexes.Lock()
	defer walIndexes.Unlock()
	if x.users--; x.users == 0 {
		delete(walIndexes.byPath, x.path)
		_ = x.file.Close() // it was only read
	}
}

// The layout of the index, from SQLite's file format: two copies of a header of
// 48 bytes, then how far the log was moved.
const (
	walSalts      = 32 // in the header
	walBackfill   = 96
	walAttempted  = 128
	walIndexBytes = 136
)

func (x *walIndex) mark() walMark {
	if x == nil {
		return walMark{}
	}
	var b [walIndexBytes]byte
	if n, err := x.file.ReadAt(b[:], 0); n < len(b) || err != nil {
		return walMark{}
	}
	at := func(offset int) uint32 { return binary.NativeEndian.Uint32(b[offset:]) }
	return walMark{known: true, salts: [2]uint32{at(walSalts), at(walSalts + 4)}, backfill: at(walBackfill), attempted: at(walAttempted)}
}

// writable reports whether this process could open the file to write to it.
func writable(path string) bool { return unix.Access(path, unix.W_OK) == nil }
