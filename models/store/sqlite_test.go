package store_test

import (
	"context"
	"database/sql"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/models/store/storetest"
)

func TestSQLiteFilesAreForTheirOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	s := storetest.New(t, "sqlite://"+filepath.Join(dir, "patrol.db"))
	_, err := s.CreateDomain(t.Context(), models.Actor{}, models.Domain{ID: "acme"})
	require.NoError(t, err)
	modes := map[string]fs.FileMode{}
	require.NoError(t, filepath.WalkDir(filepath.Dir(dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		modes[filepath.Base(path)] = info.Mode().Perm()
		return err
	}))
	assert.Equal(t, map[string]fs.FileMode{
		"new": 0o700, "data": 0o700,
		"patrol.db": 0o600, "patrol.db-wal": 0o600, "patrol.db-shm": 0o600, "patrol.db-migrate": 0o600,
	}, modes)
}

func TestSQLitePathsAreTakenLiterally(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range []struct{ url, file string }{
		{"sqlite://patrol.db", "patrol.db"},
		{"sqlite://a/b/patrol.db", "a/b/patrol.db"},
		{"sqlite://" + filepath.Join(os.Getenv("PWD"), "absolute.db"), "absolute.db"},
		{"sqlite://why?_pragma=foreign_keys(0)&mode=ro.db", "why?_pragma=foreign_keys(0)&mode=ro.db"},
		{"sqlite://100%41 #1.db", "100%41 #1.db"},
		{"sqlite://it's \"quoted\" ü\\.db", "it's \"quoted\" ü\\.db"},
		{"sqlite://file:x.db", "file:x.db"},
		{"sqlite://dir?/#/%2e%2e/patrol.db", "dir?/#/%2e%2e/patrol.db"},
	} {
		s := storetest.New(t, c.url)
		require.NoError(t, s.Ping(t.Context()), c.url)
		_, err := os.Stat(c.file)
		assert.NoError(t, err, c.url)
	}
}

func TestSQLiteOutlivesTheWorkingDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	s, err := store.Open(t.Context(), store.Config{URL: "sqlite://patrol.db"})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	t.Chdir(t.TempDir())
	_, _, err = s.Migrate(t.Context())
	require.NoError(t, err)
	_, err = os.Stat("patrol.db-migrate")
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestSQLiteThatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk.db")
	require.NoError(t, os.WriteFile(junk, []byte("this is no database, whatever its name may say, and long enough"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder.db"), 0o700))
	for name, url := range map[string]string{
		"no database":  "sqlite://" + junk,
		"a folder":     "sqlite://" + filepath.Join(dir, "folder.db"),
		"below a file": "sqlite://" + filepath.Join(junk, "patrol.db"),
	} {
		_, err := store.Open(t.Context(), store.Config{URL: url})
		require.Error(t, err, name)
		assert.Equal(t, models.CodeInternal, models.CodeOf(err), "%s: waiting does not help: %v", name, err)
	}
}

// Another process that holds the lock for too long is no reason to fail in any
// other way than that the database is not available, and to wait longer than
// the caller does.
func TestSQLiteHeldByAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "patrol.db")
	s := storetest.New(t, "sqlite://"+path)
	other, err := sql.Open("sqlite", "file://"+path+"?_txlock=immediate")
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	tx, err := other.BeginTx(t.Context(), nil)
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = s.CreateDomain(ctx, models.Actor{}, models.Domain{ID: "acme"})
	require.Equal(t, models.CodeUnavailable, models.CodeOf(err), "%v", err)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	d, err := s.Domain(t.Context(), "acme")
	require.NoError(t, err, "readers do not wait for writers")
	assert.Nil(t, d)

	require.NoError(t, tx.Rollback())
	_, err = s.CreateDomain(t.Context(), models.Actor{}, models.Domain{ID: "acme"})
	require.NoError(t, err)
}

func TestManyOpenOneNewSQLite(t *testing.T) {
	url := testenv.SQLite(t)
	errs := make(chan error)
	const n = 8
	for range n {
		go func() {
			s, err := store.Open(context.Background(), store.Config{URL: url})
			if err == nil {
				_, _, err = s.Migrate(context.Background())
			}
			if err == nil {
				err = s.CheckSchema(context.Background())
			}
			if s != nil {
				_ = s.Close()
			}
			errs <- err
		}()
	}
	for range n {
		assert.NoError(t, <-errs)
	}
}
