package tombstones

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 123_456_000, time.UTC)

func revoked(id string) models.Tombstone {
	until := now.Add(time.Hour)
	return models.Tombstone{At: now, Action: "pat.revoke", Subject: "pat:" + id, Detail: map[string]string{"by": "owner"}, Until: &until}
}

func open(t *testing.T, path string) *File {
	t.Helper()
	f, _, err := Open(path, "here", now, false)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func content(t *testing.T, path string) Content {
	t.Helper()
	c, err := Read(path)
	require.NoError(t, err)
	return c
}

func TestTombstonesComeBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t")
	f := open(t, path)
	require.NoError(t, f.Append([]models.Tombstone{revoked("a"), revoked("b")}))
	at, ok := f.Ended("a")
	assert.True(t, ok)
	assert.Equal(t, now, at)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.EqualValues(t, 0o600, info.Mode().Perm())
	require.NoError(t, f.Close())

	again, stones, err := Open(path, "here", now, true)
	require.NoError(t, err)
	t.Cleanup(func() { _ = again.Close() })
	assert.Equal(t, []models.Tombstone{revoked("a"), revoked("b")}, stones)
	assert.Equal(t, f.ID(), again.ID())
	_, ok = again.Ended("b")
	assert.True(t, ok)
	_, _, err = Open(path, "elsewhere", now, false)
	require.ErrorContains(t, err, "another installation")
}

// TestDamage: what was cut before anybody was told of success is no damage; all
// else is.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t")
	f := open(t, path)
	for _, id := range []string{"a", "b", "c"} {
		require.NoError(t, f.Append([]models.Tombstone{revoked(id)}))
	}
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	for n := range whole { // cut anywhere
		c, err := parse(bytes.NewReader(whole[:n]))
		if n < len(lines[0]) {
			require.ErrorIs(t, err, errNoHeader, n)
			continue
		}
		require.NoError(t, err)
		require.Zero(t, c.Damaged, n)
		require.Len(t, c.Tombstones, bytes.Count(whole[:n], []byte("\n"))-1, n)
	}
	for n := range whole { // another byte anywhere
		bad := bytes.Clone(whole)
		bad[n] ^= 0x20
		c, err := parse(bytes.NewReader(bad))
		require.True(t, err != nil || c.Damaged > 0 || c.Torn || len(c.Tombstones) == 3 && strings.EqualFold(string(bad), string(whole)), "byte %d", n)
	}

	// A file that was cut is gone on with, and what follows is read.
	require.NoError(t, os.WriteFile(path, whole[:len(whole)-7], 0o600))
	g := open(t, path)
	require.NoError(t, g.Append([]models.Tombstone{revoked("d")}))
	c := content(t, path)
	assert.Zero(t, c.Damaged)
	require.Len(t, c.Tombstones, 3)
	assert.Equal(t, "pat:d", c.Tombstones[2].Subject)
}

func TestManyAppendAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t")
	files := []*File{open(t, path), open(t, path)} // a server and a command
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() { assert.NoError(t, files[i%2].Append([]models.Tombstone{revoked(fmt.Sprint(i))})) })
	}
	wg.Wait()
	c := content(t, path)
	assert.Len(t, c.Tombstones, 100)
	assert.Zero(t, c.Damaged)
}

func TestReplacedFileIsWrittenAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t")
	f := open(t, path)
	require.NoError(t, f.Append([]models.Tombstone{revoked("a")}))
	require.NoError(t, os.Remove(path))
	require.NoError(t, f.Append([]models.Tombstone{revoked("b")}))
	c := content(t, path)
	require.Len(t, c.Tombstones, 1)
	assert.Equal(t, "pat:b", c.Tombstones[0].Subject)
	assert.Equal(t, f.ID(), c.Header.ID)
}

func TestCompaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t")
	f := open(t, path)
	for i := range 150 {
		require.NoError(t, f.Append([]models.Tombstone{revoked(fmt.Sprint(i))}))
	}
	forever := models.Tombstone{At: now, Action: "user.disable", Subject: "user:eve"}
	require.NoError(t, f.Append([]models.Tombstone{forever}))
	later := now.Add(time.Hour + keepExpired)
	g, stones, err := Open(path, "here", later, true)
	require.NoError(t, err)
	t.Cleanup(func() { _ = g.Close() })
	assert.Len(t, stones, 151)
	c := content(t, path)
	require.Equal(t, []models.Tombstone{forever}, c.Tombstones)
	assert.Equal(t, f.ID(), c.Header.ID)
	require.NoError(t, f.Append([]models.Tombstone{revoked("late")}), "who has the old file open writes to the new one")
	assert.Len(t, content(t, path).Tombstones, 2)
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Len(t, entries, 1, "no temporary file stays")
}

// fullDisk takes a part of what it is given, and no more.
type fullDisk struct {
	*os.File
	left int
}

var errFull = errors.New("no space left on device")

func (d *fullDisk) Write(b []byte) (int, error) {
	n := min(d.left, len(b))
	d.left -= n
	if n, err := d.File.Write(b[:n]); err != nil {
		return n, err
	}
	if n < len(b) {
		return n, errFull
	}
	return n, nil
}

func TestFailedWritesAreToldAndMended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t")
	f := open(t, path)
	file, ok := f.file.(*os.File)
	require.True(t, ok)
	disk := &fullDisk{File: file, left: 25}
	f.file = disk
	require.ErrorIs(t, f.Append([]models.Tombstone{revoked("a")}), errFull)
	_, ok = f.Ended("a")
	assert.True(t, ok, "this process knows it all the same")
	require.ErrorIs(t, f.Append([]models.Tombstone{revoked("b")}), errFull)
	disk.left = 9 // enough for a part of the mark
	require.ErrorIs(t, f.Append([]models.Tombstone{revoked("b")}), errFull)
	disk.left = 1 << 20
	require.NoError(t, f.Append([]models.Tombstone{revoked("c")}))
	c := content(t, path)
	assert.Zero(t, c.Damaged, "nobody was told that it is there")
	var subjects []string
	for _, stone := range c.Tombstones {
		subjects = append(subjects, stone.Subject)
	}
	assert.Equal(t, []string{"pat:a", "pat:b", "pat:b", "pat:c"}, subjects, "what could not be written comes first")
	assert.False(t, f.Unwritten())

	// The rest is written without further appends, and at the end.
	disk.left = 0
	require.ErrorIs(t, f.Append([]models.Tombstone{revoked("d")}), errFull)
	assert.True(t, f.Unwritten())
	require.ErrorIs(t, f.Append(nil), errFull, "it is not said to be there")
	disk.left = 1 << 20
	require.NoError(t, f.Append(nil))
	assert.False(t, f.Unwritten())
	disk.left = 0
	require.ErrorIs(t, f.Append([]models.Tombstone{revoked("e")}), errFull)
	disk.left = 1 << 20
	require.NoError(t, f.Close())
	c = content(t, path)
	require.Len(t, c.Tombstones, 6)
	assert.Equal(t, "pat:e", c.Tombstones[5].Subject)
}

// TestTwoWriters: servers that were given one path by mistake, or a server and a
// command, lose nothing of each other's, also while one compacts.
func TestTwoWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t")
	files := []*File{open(t, path), open(t, path)}
	const each = 100
	var writing sync.WaitGroup
	for i, f := range files {
		writing.Go(func() {
			for n := range each {
				assert.NoError(t, f.Append([]models.Tombstone{revoked(fmt.Sprint(i, "-", n))}))
			}
		})
	}
	for range 20 {
		f := open(t, path)
		c := content(t, path)
		require.NoError(t, f.Append([]models.Tombstone{revoked("between")}), "after it was read")
		require.NoError(t, f.compact(c.Tombstones, c.size))
		require.NoError(t, f.Close())
	}
	writing.Wait()
	c := content(t, path)
	assert.Zero(t, c.Damaged)
	got := map[string]bool{}
	for _, stone := range c.Tombstones {
		got[stone.Subject] = true
	}
	assert.Len(t, got, len(files)*each+1)
}

func FuzzParse(f *testing.F) {
	header, err := encode(record{Header: &Header{Format: format, ID: "f", Installation: "i"}})
	require.NoError(f, err)
	stone := revoked("a")
	line, err := encode(record{Tombstone: &stone})
	require.NoError(f, err)
	f.Add(append(header, line...))
	f.Add(append(header, line[:9]...))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parse(bytes.NewReader(text))
		if err == nil && c.Header.Format != format {
			t.Errorf("read a file without a header")
		}
	})
}
