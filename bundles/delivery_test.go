package bundles

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// following is a delivery from an archive, which holds revision v1.
func following(t *testing.T) (d *Delivery, ledger *memoryLedger, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "policy.tar.gz")
	replace(t, file, revised(t, "v1"))
	source, err := NewSource(Options{Source: file, Interval: 5 * time.Millisecond})
	require.NoError(t, err)
	d, ledger = begin(t, source, GateConfig{MinCoverage: -1})
	return d, ledger, file
}

// rollBack puts a revision in force that the ledger keeps, and pins it.
func (l *memoryLedger) rollBack(t *testing.T, archive []byte) {
	t.Helper()
	b, err := Unpack(t.Context(), "kept", archive, nil)
	require.NoError(t, err)
	l.change(func(s *State, archives map[string][]byte) {
		archives[b.Digest()] = archive
		s.Digest, s.ArchiveDigest, s.Revision, s.Pinned = b.Digest(), ArchiveDigest(archive), b.Revision(), true
	})
}

func (d *Delivery) revision() string { return d.Engine().Current().Revision() }

// TestPinned holds that a roll back stays in force whatever the source brings, and
// that what it brought meanwhile comes into force when it is followed again.
func TestPinned(t *testing.T) {
	d, ledger, file := following(t)
	replace(t, file, revised(t, "v2"))
	require.Equal(t, "v2", ledger.next(t).Revision)
	require.Eventually(t, func() bool { return d.revision() == "v2" }, time.Minute, time.Millisecond)

	_, _, changed := d.Archive()
	ledger.rollBack(t, revised(t, "v1"))
	require.NoError(t, d.Sync(t.Context()))
	assert.Equal(t, "v1", d.revision())
	assert.True(t, d.Status().Active.Pinned)
	archive, digest, _ := d.Archive()
	assert.Equal(t, revised(t, "v1"), archive)
	assert.Equal(t, ArchiveDigest(archive), digest)
	select {
	case <-changed:
	default:
		assert.Fail(t, "those who wait for another policy are not told")
	}

	replace(t, file, revised(t, "v3"))
	require.Eventually(t, func() bool {
		return testutil.ToFloat64(d.metrics.candidates.WithLabelValues(outcomeHeld)) == 1
	}, time.Minute, time.Millisecond)
	p := d.Status().Source.Pending
	require.NotNil(t, p)
	assert.Equal(t, "v3", p.Revision)
	assert.False(t, p.Refused)
	assert.Equal(t, "v1", d.revision())
	assert.Empty(t, ledger.told)

	ledger.change(func(s *State, _ map[string][]byte) { s.Pinned, s.Resumed = false, s.Resumed+1 })
	require.NoError(t, d.Sync(t.Context()))
	require.Equal(t, "v3", ledger.next(t).Revision)
	require.Eventually(t, func() bool { return d.revision() == "v3" && d.Status().Source.Pending == nil }, time.Minute, time.Millisecond)
}

// TestResumedJudgesAgain holds that what was refused is judged again on demand, and only
// then.
func TestResumedJudgesAgain(t *testing.T) {
	d, ledger, file := following(t)
	replace(t, file, packedFiles(t, lightFiles(t, map[string]string{"x/x.rego": "package patrol.x\n\np := q"})))
	require.False(t, ledger.next(t).Result.Passed)
	require.NoError(t, d.Sync(t.Context()))
	assert.Empty(t, ledger.told)
	ledger.change(func(s *State, _ map[string][]byte) { s.Resumed++ })
	require.NoError(t, d.Sync(t.Context()))
	require.False(t, ledger.next(t).Result.Passed)
	assert.Equal(t, "v1", d.revision())
}

// TestDamagedLedger holds that an archive that is not what was put in force does not
// come into force, at whatever point it is read, and that the old policy stays.
func TestDamagedLedger(t *testing.T) {
	v2 := revised(t, "v2")
	other, err := Unpack(t.Context(), "other", v2, nil)
	require.NoError(t, err)
	v1, err := Unpack(t.Context(), "v1", revised(t, "v1"), nil)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		archive       []byte
		archiveDigest string
		says          string
	}{
		"changed":             {append(revised(t, "v2"), 0), ArchiveDigest(v2), "is not what was kept: its archive is sha256:"},
		"gone":                {nil, ArchiveDigest(v2), "is not what was kept: its archive is sha256:"},
		"another policy":      {v1.Archive, ArchiveDigest(v1.Archive), "is not what was kept: its digest is sha256:"},
		"not even an archive": {[]byte("x"), ArchiveDigest([]byte("x")), "not a gzipped tar archive"},
	} {
		t.Run(name, func(t *testing.T) {
			d, ledger, file := following(t)
			ledger.change(func(s *State, archives map[string][]byte) {
				archives[other.Digest()] = c.archive
				s.Digest, s.ArchiveDigest, s.Revision, s.Pinned = other.Digest(), c.archiveDigest, "v2", true
			})
			err := d.Sync(t.Context())
			require.ErrorContains(t, err, c.says)
			assert.Equal(t, err.Error(), d.Status().SyncError)
			assert.Equal(t, "v1", d.revision())
			assert.Equal(t, "v1", d.Status().Active.Revision)
			require.ErrorContains(t, d.Sync(t.Context()), "cannot be put in force here; see the log", "it is not tried again at once")

			// Nor does a server start with it.
			require.NoError(t, os.Remove(file))
			_, err = restart(t, file, ledger)
			require.ErrorContains(t, err, c.says)

			// A policy that is sound again is followed.
			ledger.rollBack(t, revised(t, "v3"))
			require.NoError(t, d.Sync(t.Context()))
			assert.Equal(t, "v3", d.revision())
			assert.Empty(t, d.Status().SyncError)
		})
	}
}

func restart(t *testing.T, file string, ledger *memoryLedger) (*Delivery, error) {
	t.Helper()
	gate, err := NewGate(GateConfig{MinCoverage: -1})
	require.NoError(t, err)
	source, err := NewSource(Options{Source: file, Interval: 5 * time.Millisecond})
	require.NoError(t, err)
	return Begin(t.Context(), Config{
		Source: source, Gate: gate, Ledger: ledger, Sync: time.Hour, StartTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler),
	})
}

// TestRestartWithoutTheSource holds that a server whose source is away starts with what
// was in force, if that came from there and still passes.
func TestRestartWithoutTheSource(t *testing.T) {
	_, ledger, file := following(t)
	require.NoError(t, os.Remove(file))
	d, err := restart(t, file, ledger)
	require.NoError(t, err)
	assert.Equal(t, "v1", d.revision())
	s := d.Status()
	assert.False(t, s.Source.Reached)
	assert.Contains(t, s.Source.Error, "no such file")
	assert.InDelta(t, 0, testutil.ToFloat64(d.metrics.reached), 0)

	_, err = restart(t, filepath.Join(t.TempDir(), "elsewhere"), ledger)
	require.ErrorContains(t, err, "came from another source, "+file)

	// A pinned one is wanted whatever the source is.
	ledger.rollBack(t, revised(t, "v1"))
	d, err = restart(t, filepath.Join(t.TempDir(), "elsewhere"), ledger)
	require.NoError(t, err)
	assert.Equal(t, "v1", d.revision())

	// A server does not start with a policy that no longer passes, such as after an upgrade.
	broken := packedFiles(t, lightFiles(t, map[string]string{"x/x.rego": "package patrol.x\n\np := q"}))
	ledger.rollBack(t, broken)
	_, err = restart(t, file, ledger)
	require.ErrorContains(t, err, "x/x.rego:3:")

	_, err = restart(t, file, newLedger())
	require.ErrorContains(t, err, "there is no policy to begin with")
}

// TestFolderAfterAnOutage holds that a folder that was away and is back as it was is
// known to be back.
func TestFolderAfterAnOutage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policy")
	for name, content := range lightFiles(t, nil) {
		file := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
		require.NoError(t, os.WriteFile(file, content, 0o600))
	}
	source, err := NewSource(Options{Source: dir, Interval: 5 * time.Millisecond})
	require.NoError(t, err)
	d, ledger := begin(t, source, GateConfig{MinCoverage: -1})
	require.NoError(t, os.Rename(dir, dir+".away"))
	require.Eventually(t, func() bool { return !d.Status().Source.Reached }, time.Minute, time.Millisecond)
	assert.Contains(t, d.Status().Source.Error, "no such file")
	require.NoError(t, os.Rename(dir+".away", dir))
	require.Eventually(t, func() bool { return d.Status().Source.Reached }, time.Minute, time.Millisecond)
	assert.Empty(t, d.Status().Source.Error)
	assert.Empty(t, ledger.told, "it is the same")
}

// TestKeptReady holds that what was in force before is in force again without being
// read or loaded.
func TestKeptReady(t *testing.T) {
	d, ledger, file := following(t)
	first := d.Engine().Current()
	replace(t, file, revised(t, "v2"))
	ledger.next(t)
	require.Eventually(t, func() bool { return d.revision() == "v2" }, time.Minute, time.Millisecond)
	second := d.Engine().Current()
	v1, err := Unpack(t.Context(), "v1", revised(t, "v1"), nil)
	require.NoError(t, err)
	for range 3 {
		ledger.rollBack(t, v1.Archive)
		ledger.change(func(_ *State, archives map[string][]byte) { delete(archives, v1.Digest()) })
		require.NoError(t, d.Sync(t.Context()))
		assert.Same(t, first, d.Engine().Current())
		archive, digest, _ := d.Archive()
		assert.Equal(t, v1.Archive, archive)
		assert.Equal(t, ArchiveDigest(archive), digest)
		ledger.rollBack(t, revised(t, "v2"))
		require.NoError(t, d.Sync(t.Context()))
		assert.Same(t, second, d.Engine().Current())
	}
	// Only so many stay, and only small ones.
	for _, revision := range []string{"v3", "v4", "v5", "v6"} {
		ledger.rollBack(t, revised(t, revision))
		require.NoError(t, d.Sync(t.Context()))
	}
	d.mu.Lock()
	assert.Len(t, d.ready, keptReady)
	d.mu.Unlock()
	large := packedFiles(t, lightFiles(t, map[string]string{
		".manifest":          `{"roots": ["patrol"], "revision": "large"}`,
		"patrol/x/data.json": `{"text": "` + strings.Repeat("x", keptReadySize) + `"}`,
	}))
	ledger.rollBack(t, large)
	require.NoError(t, d.Sync(t.Context()))
	assert.Equal(t, "large", d.revision())
	ledger.rollBack(t, revised(t, "v6"))
	require.NoError(t, d.Sync(t.Context()))
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.ready {
		assert.NotEqual(t, "large", l.snapshot.Revision())
	}
}
