package bundles

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// handed is a source that holds what a test hands it.
type handed struct{ bundles chan *Bundle }

func (handed) Name() string { return "handed" }

func (s handed) Next(ctx context.Context) (*Bundle, error) {
	select {
	case b := <-s.bundles:
		return b, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func bundleOf(t *testing.T, revision string) *Bundle {
	t.Helper()
	files := lightFiles(t, map[string]string{".manifest": `{"revision": "` + revision + `", "roots": ["patrol"]}`})
	b, err := Unpack(t.Context(), "handed", packedFiles(t, files), nil)
	require.NoError(t, err)
	return b
}

// promoted puts a bundle in force by hand, ahead of the source.
func (l *memoryLedger) promoted(b *Bundle) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = State{Digest: b.Digest(), ArchiveDigest: ArchiveDigest(b.Archive), Revision: b.Revision(), Source: "elsewhere", Pinned: true, Promoted: true}
	l.archives[b.Digest()] = b.Archive
}

func TestThePinOfAPromotionEndsWhenTheSourceHasTheSame(t *testing.T) {
	one, two, three := bundleOf(t, "one"), bundleOf(t, "two"), bundleOf(t, "three")
	source := handed{make(chan *Bundle, 1)}
	source.bundles <- one
	d, ledger := begin(t, source, GateConfig{MinCoverage: -1})
	ledger.promoted(two)
	require.NoError(t, d.Sync(t.Context()))
	assert.Equal(t, "two", d.Engine().Current().Revision())
	assert.True(t, d.Status().Active.Promoted)

	source.bundles <- three
	require.Eventually(t, func() bool { return d.Status().Source.Pending != nil }, time.Minute, 5*time.Millisecond)
	assert.Equal(t, Pending{Digest: three.Digest(), Revision: "three"}, *d.Status().Source.Pending, "what is another waits")
	assert.Equal(t, "two", d.Engine().Current().Revision())

	source.bundles <- two
	assert.Equal(t, "two", ledger.next(t).Revision)
	require.Eventually(t, func() bool { return !d.Status().Active.Pinned }, time.Minute, 5*time.Millisecond)
	assert.Nil(t, d.Status().Source.Pending)
	assert.Equal(t, "handed", d.Status().Active.Source)
	source.bundles <- three
	assert.Equal(t, "three", ledger.next(t).Revision, "the source is followed again")
}

func TestASourceThatIsBehindIsNotLookedAtWhenAPromotionsPinEnds(t *testing.T) {
	one, two := bundleOf(t, "one"), bundleOf(t, "two")
	source := handed{make(chan *Bundle, 1)}
	source.bundles <- one
	d, ledger := begin(t, source, GateConfig{MinCoverage: -1})
	ledger.promoted(two)
	require.NoError(t, d.Sync(t.Context()))
	ledger.mu.Lock()
	ledger.state.Pinned, ledger.state.Promoted = false, false // another server's source has it
	ledger.mu.Unlock()
	require.NoError(t, d.Sync(t.Context()))
	assert.False(t, d.Status().Active.Pinned)
	select {
	case <-d.reconsider:
		require.Fail(t, "the old policy would come back")
	default:
	}
	assert.Equal(t, "two", d.Engine().Current().Revision())
}

func TestAServerThatStartsWithWhatWasPromotedEndsThePin(t *testing.T) {
	two := bundleOf(t, "two")
	ledger := newLedger()
	ledger.promoted(two)
	source := handed{make(chan *Bundle, 1)}
	source.bundles <- two
	gate, err := NewGate(GateConfig{MinCoverage: -1})
	require.NoError(t, err)
	d, err := Begin(t.Context(), Config{
		Source: source, Gate: gate, Ledger: ledger, Sync: time.Hour, StartTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	assert.Equal(t, "two", d.Engine().Current().Revision())
	assert.False(t, d.Status().Active.Pinned)
}
