package credentials_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/cmd/patrol/credentials"
)

func TestKeepsOneSignInForEachServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "on", "demand", "c.json")
	s, err := credentials.Update(path, func(s *credentials.Store) {
		s.Set("https://a", credentials.SignIn{Email: "ada@example.com", SessionToken: "one"})
	})
	require.NoError(t, err)
	assert.Equal(t, "https://a", s.Current)
	_, err = credentials.Update(path, func(s *credentials.Store) {
		s.Set("https://b", credentials.SignIn{Email: "bob@example.com", SessionToken: "two"})
	})
	require.NoError(t, err)

	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	dir, err := os.Stat(filepath.Dir(path))
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o700), dir.Mode().Perm())

	s, err = credentials.Load(path)
	require.NoError(t, err)
	assert.Equal(t, "https://b", s.Current)
	assert.Equal(t, "one", s.Servers["https://a"].SessionToken)
	s, err = credentials.Update(path, func(s *credentials.Store) {
		assert.True(t, s.Forget("https://b"))
		assert.False(t, s.Forget("https://b"))
	})
	require.NoError(t, err)
	assert.Empty(t, s.Current)

	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Len(t, left, 2, "the file and its lock; no temporary file stays")
}

// Many sign-ins at once are all kept.
func TestTwoSignInsAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.json")
	const many = 20
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			_, err := credentials.Update(path, func(s *credentials.Store) {
				s.Set(fmt.Sprintf("https://%d", i), credentials.SignIn{SessionToken: "x"})
			})
			assert.NoError(t, err)
		})
	}
	all.Wait()
	s, err := credentials.Load(path)
	require.NoError(t, err)
	assert.Len(t, s.Servers, many)
}

func TestRefusesWhatOthersCanRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.json")
	require.NoError(t, os.WriteFile(path, []byte(`{"servers":{}}`), 0o600))
	require.NoError(t, os.Chmod(path, 0o640))
	_, err := credentials.Load(path)
	assert.ErrorContains(t, err, "others can read")
}

func TestDamagedFileIsNotQuoted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.json")
	require.NoError(t, os.WriteFile(path, []byte(`{"servers": hunter2`), 0o600))
	_, err := credentials.Load(path)
	require.ErrorContains(t, err, "damaged")
	assert.NotContains(t, err.Error(), "hunter2")
}

func TestPath(t *testing.T) {
	env := map[string]string{"XDG_CONFIG_HOME": "/config"}
	getenv := func(name string) string { return env[name] }
	path, err := credentials.Path("", getenv)
	require.NoError(t, err)
	assert.Equal(t, filepath.FromSlash("/config/patrol/credentials.json"), path)
	path, err = credentials.Path("/elsewhere", getenv)
	require.NoError(t, err)
	assert.Equal(t, "/elsewhere", path)
}
