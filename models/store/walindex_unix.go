//go:build unix

package store

import (
	"bytes"
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

// The layout of a header of the index, and of the log: a header of 32 bytes, then
// frames of 24 bytes and a page each.
const (
	walPageSize    = 14
	walFrames      = 16
	walChecksum    = 24
	walHeaderBytes = 48
	logHeader      = 32
	logSalts       = 16 // in the header
	frameHeader    = 24
	frameSalts     = 8
	frameChecksum  = 16
)

// end returns where the log ends by the index, false if that is being written, or if
// the log is empty.
func (x *walIndex) end() (b [walHeaderBytes]byte, ok bool) {
	var both [2 * walHeaderBytes]byte
	if x == nil {
		return b, false
	}
	if n, err := x.file.ReadAt(both[:], 0); n < len(both) || err != nil {
		return b, false
	}
	copy(b[:], both[:])
	return b, bytes.Equal(both[:walHeaderBytes], both[walHeaderBytes:]) && binary.NativeEndian.Uint32(b[walFrames:]) > 0
}

// foreignLog reports whether the log is not the one that the index is of: it was cut or
// overwritten, and what is written to it is not found again.
func (x *walIndex) foreignLog() bool {
	before, ok := x.end()
	if !ok {
		return false
	}
	log, err := os.Open(x.path + fileSuffixes[1])
	if err != nil {
		return false // which is found out elsewhere
	}
	defer func() { _ = log.Close() }() // it was only read
	u32 := func(offset int) int64 { return int64(binary.NativeEndian.Uint32(before[offset:])) }
	page := int64(binary.NativeEndian.Uint16(before[walPageSize:]))
	if page == 1 {
		page = 1 << 16
	}
	salts := before[walSalts : walSalts+8]
	var header [logHeader]byte
	var last [frameHeader]byte
	_, headerErr := log.ReadAt(header[:], 0)
	_, lastErr := log.ReadAt(last[:], logHeader+(u32(walFrames)-1)*(frameHeader+page))
	right := headerErr == nil && lastErr == nil &&
		bytes.Equal(header[logSalts:logSalts+8], salts) && bytes.Equal(last[frameSalts:frameSalts+8], salts) &&
		int64(binary.BigEndian.Uint32(last[frameChecksum:])) == u32(walChecksum) &&
		int64(binary.BigEndian.Uint32(last[frameChecksum+4:])) == u32(walChecksum+4)
	if right {
		return false
	}
	after, ok := x.end()
	return ok && bytes.Equal(after[walSalts:walSalts+8], salts) // else SQLite began the log anew meanwhile
}

// writable reports whether this process could open the file to write to it.
func writable(path string) bool { return unix.Access(path, unix.W_OK) == nil }
