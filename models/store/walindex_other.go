//go:build !unix

package store

import "os"

// walIndex cannot be read beside SQLite: where locks are mandatory, the bytes that
// SQLite locks are closed to everybody else. There, neither can a file that is
// open be overwritten by a program that asks for it in the usual way.
type walIndex struct{}

func openWALIndex(string) *walIndex { return nil }

func (*walIndex) close() {}

func (*walIndex) mark() walMark { return walMark{} }

func (*walIndex) foreignLog() bool { return false }

// writable reports whether the file is not marked read-only.
func writable(path string) bool {
	info, err := os.Stat(path)
	return err != nil || info.Mode().Perm()&0o200 != 0
}
