package store_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/models/store/storetest"
)

// overwrite writes the content of one file over another, which stays the same
// file, as cp does.
func overwrite(t testing.TB, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	require.NoError(t, err)
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_TRUNC, 0)
	require.NoError(t, err)
	_, err = f.Write(content)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// mishap is something that befalls the files of a database under a running
// server. Old is a database of an earlier time.
type mishap struct {
	name   string
	befall func(t testing.TB, db, old string)
	mend   func(t testing.TB, db string) // nil: only a restart does
	says   string
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	require.NoError(t, os.Rename(from, to))
}

var mishaps = []mishap{
	{
		name:   "deleted",
		befall: func(t testing.TB, db, _ string) { require.NoError(t, os.Remove(db)) },
		says:   "the file is not at its path any more",
	},
	{
		name:   "moved away and back",
		befall: func(t testing.TB, db, _ string) { rename(t, db, db+".away") },
		mend:   func(t testing.TB, db string) { rename(t, db+".away", db) },
		says:   "the file is not at its path any more",
	},
	{
		name:   "folder moved away and back, or unmounted",
		befall: func(t testing.TB, db, _ string) { rename(t, filepath.Dir(db), filepath.Dir(db)+".away") },
		mend:   func(t testing.TB, db string) { rename(t, filepath.Dir(db)+".away", filepath.Dir(db)) },
		says:   "its folder was moved or unmounted",
	},
	{
		name:   "replaced by rename",
		befall: func(t testing.TB, db, old string) { rename(t, old, db) },
		says:   "the file was replaced by another one",
	},
	{
		name: "deleted and copied anew",
		befall: func(t testing.TB, db, old string) {
			require.NoError(t, os.Remove(db))
			content, err := os.ReadFile(old)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(db, content, 0o600))
		},
		says: "the file was replaced by another one",
	},
	{
		name: "a symbolic link to another one",
		befall: func(t testing.TB, db, old string) {
			require.NoError(t, os.Remove(db))
			require.NoError(t, os.Symlink(old, db))
		},
		says: "the file was replaced by another one",
	},
	{
		name:   "restored in place",
		befall: func(t testing.TB, db, old string) { overwrite(t, old, db) },
		says:   "the file was overwritten or cut",
	},
	{
		name:   "cut to nothing",
		befall: func(t testing.TB, db, _ string) { require.NoError(t, os.Truncate(db, 0)) },
		says:   "the file was overwritten or cut",
	},
	{
		name:   "its log deleted",
		befall: func(t testing.TB, db, _ string) { require.NoError(t, os.Remove(db+"-wal")) },
		says:   "the file with the suffix -wal is not at its path any more",
	},
	{
		name:   "its log of another database",
		befall: func(t testing.TB, db, old string) { rename(t, old, db+"-wal") },
		says:   "the file with the suffix -wal was replaced",
	},
	{
		name:   "its log cut",
		befall: func(t testing.TB, db, _ string) { require.NoError(t, os.Truncate(db+"-wal", 0)) },
		says:   "the file with the suffix -wal was overwritten or cut",
	},
	{
		name:   "its log overwritten in place",
		befall: func(t testing.TB, db, old string) { overwrite(t, old, db+"-wal") },
		says:   "the file with the suffix -wal was overwritten or cut",
	},
	{
		name:   "its index deleted",
		befall: func(t testing.TB, db, _ string) { require.NoError(t, os.Remove(db+"-shm")) },
		says:   "the file with the suffix -shm is not at its path any more",
	},
	{
		name: "the folder replaced by a restored one",
		befall: func(t testing.TB, db, old string) {
			rename(t, filepath.Dir(db), filepath.Dir(db)+".away")
			require.NoError(t, os.Mkdir(filepath.Dir(db), 0o700))
			rename(t, old, db)
		},
		says: "replaced by another one",
	},
}

// TestSQLiteFileMishaps: whatever becomes of the files, no write is acknowledged
// that a restart would not find, and nothing is read that other processes do not
// see.
func TestSQLiteFileMishaps(t *testing.T) {
	for _, m := range mishaps {
		t.Run(m.name, func(t *testing.T) {
			dir := t.TempDir()
			db, old := filepath.Join(dir, "data", "patrol.db"), filepath.Join(dir, "old.db")
			before := storetest.New(t, "sqlite://"+old)
			require.NoError(t, before.Close())
			var log syncBuffer
			s := openMishap(t, db, &log)
			_, err := s.CreateDomain(t.Context(), models.Actor{}, models.Domain{ID: "before"})
			require.NoError(t, err)
			_, _, err = s.DataVersion(t.Context())
			require.NoError(t, err)

			m.befall(t, db, old)
			_, err = s.CreateDomain(t.Context(), models.Actor{}, models.Domain{ID: "after"})
			require.Equal(t, models.CodeUnavailable, models.CodeOf(err), "a write was acknowledged: %v", err)
			require.ErrorContains(t, err, m.says)
			_, _, err = s.DataVersion(t.Context())
			require.ErrorContains(t, err, m.says)
			require.ErrorContains(t, s.Ping(t.Context()), m.says)
			_, err = s.Domain(t.Context(), "before")
			require.Equal(t, models.CodeUnavailable, models.CodeOf(err))
			assert.Contains(t, s.Trouble(), m.says)
			assert.NotContains(t, s.Trouble(), dir, "anybody may read it")
			assert.Contains(t, log.String(), m.says)

			if m.mend == nil {
				return
			}
			m.mend(t, db)
			_, err = s.CreateDomain(t.Context(), models.Actor{}, models.Domain{ID: "after"})
			require.NoError(t, err)
			require.NoError(t, s.Ping(t.Context()))
			assert.Empty(t, s.Trouble())
			assert.Contains(t, log.String(), "the database file is right again")
			d, err := storetest.New(t, "sqlite://"+db).Domain(t.Context(), "after")
			require.NoError(t, err)
			assert.NotNil(t, d, "another process finds it")
		})
	}
}

func openMishap(t *testing.T, db string, log io.Writer) *store.Store {
	t.Helper()
	return storetest.New(t, "sqlite://"+db, func(c *store.Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) })
}

// syncBuffer is a buffer that many goroutines write to.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestSQLiteFilesThatAreWellAreTrusted has several Stores, and SQLite's own
// maintenance, work on one file: nothing of it looks like a mishap.
func TestSQLiteFilesThatAreWellAreTrusted(t *testing.T) {
	db := filepath.Join(t.TempDir(), "patrol.db")
	var log syncBuffer
	s := openMishap(t, db, &log)
	stop := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, _, err := s.DataVersion(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	big := string(bytes.Repeat([]byte("x"), 400))
	for i := range 3 {
		other, err := store.Open(t.Context(), store.Config{URL: "sqlite://" + db})
		require.NoError(t, err)
		for j := range 300 { // enough for SQLite to move its log by itself
			require.NoError(t, other.Audit(t.Context(), models.Actor{UserAgent: big}, "a", big, map[string]string{"n": big}))
			if j%50 == 0 {
				require.NoError(t, s.Audit(t.Context(), models.Actor{}, "b", big, nil))
			}
		}
		require.NoError(t, other.Close())
		for _, statement := range []string{"VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA wal_checkpoint(PASSIVE)", "REINDEX"} {
			_, err := raw(t, "sqlite://"+db).ExecContext(t.Context(), statement)
			require.NoError(t, err, statement)
			require.NoError(t, s.Audit(t.Context(), models.Actor{}, "c", fmt.Sprint(i), nil))
		}
	}
	close(stop)
	looking.Wait()
	require.Empty(t, s.Trouble())
	assert.NotContains(t, log.String(), "cannot be trusted")
}

// TestReadOnlySQLiteFile: what is read stays true, so decisions go on. Root may write
// to such a file, and notices nothing; so it is another user who tries.
func TestReadOnlySQLiteFile(t *testing.T) {
	if testenv.Unprivileged(t) {
		return
	}
	db := filepath.Join(t.TempDir(), "patrol.db")
	s := storetest.New(t, "sqlite://"+db)
	_, err := s.CreateDomain(t.Context(), models.Actor{}, models.Domain{ID: "before"})
	require.NoError(t, err)
	for name, path := range map[string]string{"the file": db, "its folder": filepath.Dir(db)} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.NoError(t, os.Chmod(path, info.Mode().Perm()&^0o222))
		if path == db {
			_, err = s.CreateDomain(t.Context(), models.Actor{}, models.Domain{ID: "after"})
			require.Equal(t, models.CodeUnavailable, models.CodeOf(err), "%s: %v", name, err)
			require.ErrorContains(t, err, "is read-only", name)
			require.ErrorContains(t, s.Writable(t.Context()), "is read-only", name)
			require.NoError(t, s.Ping(t.Context()), name)
		}
		_, _, err = s.DataVersion(t.Context())
		require.NoError(t, err, "%s: decisions go on", name)
		d, err := s.Domain(t.Context(), "before")
		require.NoError(t, err)
		assert.NotNil(t, d, name)
		d, err = s.Domain(t.Context(), "after")
		require.NoError(t, err)
		assert.Nil(t, d, name)
		require.NoError(t, os.Chmod(path, info.Mode().Perm()))
		require.NoError(t, s.Ping(t.Context()), name)
	}
	_, err = s.CreateDomain(t.Context(), models.Actor{}, models.Domain{ID: "after"})
	require.NoError(t, err, "it is writable again")
}

// TestOverwrittenBetweenCheckpoints: the log's index tells SQLite's own writes to
// the file from others', also right after one of SQLite's.
func TestOverwrittenBetweenCheckpoints(t *testing.T) {
	dir := t.TempDir()
	db, old := filepath.Join(dir, "patrol.db"), filepath.Join(dir, "old.db")
	require.NoError(t, storetest.New(t, "sqlite://"+old).Close())
	s := storetest.New(t, "sqlite://"+db)
	require.NoError(t, s.Audit(t.Context(), models.Actor{}, "a", "b", nil))
	_, err := raw(t, "sqlite://"+db).ExecContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)")
	require.NoError(t, err)
	require.NoError(t, s.Ping(t.Context()))
	overwrite(t, old, db)
	require.NoError(t, os.Chtimes(db, time.Now(), time.Now().Add(time.Second))) // a coarse clock must not hide it from the test
	require.ErrorContains(t, s.Ping(t.Context()), "the file was overwritten")
}
