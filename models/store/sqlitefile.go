package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"patrol/models"
)

// fileWatch notices that the files which a Store has open are no longer the ones
// at its database's path. SQLite itself goes on with an open file whatever
// becomes of its name: it answers from a database that no other process sees,
// and takes writes that are gone with the process.
//
// It looks at the path with each poll of the change feed, and before and after
// each write, so that no write is acknowledged that a restart would not find.
type fileWatch struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	files  [3]os.FileInfo // the database, its log and the log's index, as they were first seen; nil: not yet
	last   os.FileInfo    // of the database, at the last look
	mark   walMark        // before the last look
	index  *walIndex      // nil where it cannot be read beside SQLite
	broken *fileTrouble   // what no later look can mend

	now atomic.Pointer[fileTrouble] // nil: nothing is wrong
}

// fileTrouble describes a fault of a database's files.
type fileTrouble struct {
	what     string // in words that are safe to show to anybody
	readable bool   // what is read is still what everybody sees
}

func (t *fileTrouble) err() error {
	return models.WrapError(models.CodeUnavailable, "the database cannot be used: "+t.what, errFiles)
}

// errFiles marks errors that come from a look at the files.
var errFiles = errors.New("the files of the database are not what they should be")

// fileSuffixes are the files of a database in WAL mode. All of them stay the same
// files for as long as one process has the database open.
var fileSuffixes = [3]string{"", "-wal", "-shm"}

// watchFiles begins to watch the database at path, whose connections were just
// made. First is what was there before them: they may have been given another
// file than is there now.
func watchFiles(path string, first os.FileInfo, log *slog.Logger) (*fileWatch, error) {
	w := &fileWatch{path: path, log: log}
	w.files[0] = first
	w.index = openWALIndex(path)
	w.look()
	if t := w.now.Load(); t != nil && !t.readable {
		w.close()
		return nil, fmt.Errorf("open the database file: %s", t.what)
	}
	return w, nil
}

func (w *fileWatch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index.close()
	w.index = nil
}

// readable returns an error if nothing that is read can be trusted, by what the
// last look found.
func (w *fileWatch) readable() error {
	if w == nil {
		return nil
	}
	if t := w.now.Load(); t != nil && !t.readable {
		return t.err()
	}
	return nil
}

// look looks at the files and returns what is wrong with them, nil if nothing is.
func (w *fileWatch) look() *fileTrouble {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	found := w.broken
	if found == nil {
		var final bool
		if found, final = w.find(); final {
			w.broken = found
		}
	}
	before := w.now.Swap(found)
	switch {
	case found != nil && (before == nil || before.what != found.what):
		w.log.Error("the database file cannot be trusted: writes are refused, and decisions are too unless it says that they go on",
			"path", w.path, "cause", found.what, "decisions_go_on", found.readable)
	case found == nil && before != nil:
		w.log.Info("the database file is right again", "path", w.path)
	}
	return found
}

// find compares what is there with what was. It is final if nothing at the path
// can be trusted again by this process.
func (w *fileWatch) find() (t *fileTrouble, final bool) {
	mark := w.index.mark()
	var infos [3]os.FileInfo
	for i, suffix := range fileSuffixes {
		info, err := os.Stat(w.path + suffix)
		switch {
		case errors.Is(err, fs.ErrNotExist) && w.files[i] == nil:
			continue
		case errors.Is(err, fs.ErrNotExist):
			return &fileTrouble{what: fmt.Sprintf("the file%s is not at its path any more: it was deleted, or its folder was moved or unmounted", describeSuffix(suffix))}, false
		case err != nil:
			return &fileTrouble{what: fmt.Sprintf("the file%s cannot be looked at", describeSuffix(suffix))}, false
		case w.files[i] != nil && !os.SameFile(w.files[i], info):
			return &fileTrouble{what: fmt.Sprintf("the file%s was replaced by another one while it was open: restart to work with the new one", describeSuffix(suffix))}, true
		}
		infos[i] = info
	}
	after := w.index.mark()
	for i, info := range infos {
		if w.files[i] == nil && info != nil {
			os.SameFile(info, info) // has Windows find the identity out now, not when it is asked for
			w.files[i] = info
		}
	}
	db := infos[0]
	if w.last != nil && w.written(db) && !after.explains(w.mark) {
		return &fileTrouble{what: "the file was overwritten or cut while it was open, by something other than SQLite: restart to work with what is there now"}, true
	}
	if w.index.foreignLog() {
		return &fileTrouble{what: "the file with the suffix -wal was overwritten or cut while it was open: restart to work with what is there now"}, true
	}
	w.last, w.mark = db, mark
	if !writable(w.path) {
		return &fileTrouble{what: "the file, or the file system that it is on, is read-only", readable: true}, false
	}
	return nil, false
}

func (w *fileWatch) written(db os.FileInfo) bool {
	return db.Size() != w.last.Size() || !db.ModTime().Equal(w.last.ModTime())
}

func describeSuffix(suffix string) string {
	if suffix == "" {
		return ""
	}
	return " with the suffix " + suffix
}

// walMark says how far the log was moved into the database file. In WAL mode
// nothing else writes to that file, so that whatever was written to it shows
// here.
type walMark struct {
	known               bool // false: it could not be read, and explains everything
	salts               [2]uint32
	backfill, attempted uint32
}

// explains reports whether a database file that was written since an earlier mark
// was written by SQLite: the log was moved since, or was being moved then.
func (m walMark) explains(earlier walMark) bool {
	return !m.known || !earlier.known || m != earlier || earlier.backfill != earlier.attempted
}
