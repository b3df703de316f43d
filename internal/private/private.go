// Package private looks at the modes of files that hold secrets, or that must not be
// forged: token keys, tombstones, backups, databases.
//
// Whoever can write such a file can take Patrol's place, so it is refused. Who can
// only read it learns what is in it, and orchestrators mount secrets so by default:
// that is a warning. A group that may read is taken for one that is meant to.
package private

import (
	"fmt"
	"os"
	"runtime"
)

const (
	others      = 0o002 // every user of the machine may write
	conspicuous = 0o025 // a group may write, or every user may read or enter
)

// Look says what is wrong with the mode of a file, "" if nothing is or there is no
// such file. It is grave if every user of the machine can write the file.
func Look(path string) (wrong string, grave bool) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || runtime.GOOS == "windows" { // devices are the system's; there modes say nothing
		return "", false
	}
	mode := info.Mode().Perm()
	switch {
	case mode&others != 0:
		return fmt.Sprintf("%s can be written by every user of this machine (mode %#o): chmod 600 it", path, mode), true
	case mode&conspicuous != 0:
		return fmt.Sprintf("%s is open to other users of this machine (mode %#o): chmod 600 it", path, mode), false
	}
	return "", false
}
