package bundles

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"patrol/bundles/sandbox"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/policies/engine"
)

// TestMain lets the test binary be the process that a policy is checked in.
func TestMain(m *testing.M) {
	if sandbox.IsChild(os.Args[1:]) {
		os.Exit(sandbox.Main(os.Args[1:], Jobs(), os.Stdin, os.Stdout, os.Stderr))
	}
	sandbox.Replace(testenv.Program())
	os.Exit(m.Run())
}

// memoryLedger is a ledger of one server. It tells what it is told.
type memoryLedger struct {
	mu       sync.Mutex
	state    State
	archives map[string][]byte
	told     chan Record // what was activated or refused
}

func newLedger() *memoryLedger {
	return &memoryLedger{archives: map[string][]byte{}, told: make(chan Record, 100)}
}

func (l *memoryLedger) State(context.Context) (State, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, nil
}

func (l *memoryLedger) Archive(_ context.Context, digest string) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.archives[digest], nil
}

func (l *memoryLedger) Activate(_ context.Context, r Record, archive []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.Pinned && l.state.Digest != r.Digest {
		return ErrPinned
	}
	if l.state.Promoted { // and this is what was
		l.state.Pinned, l.state.Promoted = false, false
	}
	l.state.Digest, l.state.ArchiveDigest, l.state.Revision, l.state.Source = r.Digest, r.ArchiveDigest, r.Revision, r.Source
	l.archives[r.Digest] = archive
	l.told <- r
	return nil
}

// change does what another server or an operator does.
func (l *memoryLedger) change(f func(*State, map[string][]byte)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.state, l.archives)
}

func (l *memoryLedger) Refuse(_ context.Context, r Record) error {
	l.told <- r
	return nil
}

// next waits for what the ledger is told next.
func (l *memoryLedger) next(t testing.TB) Record {
	t.Helper()
	select {
	case r := <-l.told:
		return r
	case <-t.Context().Done():
		require.Fail(t, "nothing became of the candidate")
	case <-time.After(2 * time.Minute):
		require.Fail(t, "nothing became of the candidate in two minutes")
	}
	return Record{}
}

// begin runs a delivery from source, until the test ends.
func begin(t testing.TB, source Source, cfg GateConfig) (*Delivery, *memoryLedger) {
	t.Helper()
	gate, err := NewGate(cfg)
	require.NoError(t, err)
	ledger := newLedger()
	d, err := Begin(t.Context(), Config{
		Source: source, Gate: gate, Ledger: ledger, Sync: time.Hour, StartTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	require.True(t, ledger.next(t).Result.Passed)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return d, ledger
}

// embeddedFiles are the files of the bundle in the binary, with some replaced; ""
// takes one away.
func embeddedFiles(t testing.TB, replaced map[string]string) map[string][]byte {
	t.Helper()
	b, err := Read(t.Context(), "", nil)
	require.NoError(t, err)
	files := maps.Clone(b.Files)
	for name, content := range replaced {
		files[name] = []byte(content)
	}
	maps.DeleteFunc(files, func(_ string, content []byte) bool { return len(content) == 0 })
	return files
}

func packedFiles(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	content, err := pack(files)
	require.NoError(t, err)
	return content
}

// replace puts a file in the place of another at once, as careful tools do.
func replace(t testing.TB, file string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(file+".new", content, 0o600))
	require.NoError(t, os.Rename(file+".new", file))
}

// allows reports whether the policy in force allows a reader's request and denies it
// when the token is revoked.
func allows(t testing.TB, e *engine.Engine) bool {
	t.Helper()
	ok, err := answers(t.Context(), e)
	require.NoError(t, err)
	return ok
}

// answers is allows for goroutines beside the test's.
func answers(ctx context.Context, e *engine.Engine) (bool, error) {
	now := time.Unix(1790500000, 0)
	pat := models.PAT{
		ID: "aaaaaaaaaaaaaaaa", UserID: "u1", CreatedAt: now.Add(-time.Hour), ExpiresAt: now.Add(time.Hour),
		Scopes: []models.Scope{{ID: "scope-1", Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"}},
	}
	facts := engine.Facts{
		Token: engine.TokenValue(pat), User: engine.UserValue(models.User{ID: "u1"}),
		Domain:     engine.DomainValue(models.Domain{ID: "acme", Status: models.DomainEnabled}),
		Membership: engine.MembershipValue(models.Membership{UserID: "u1", Domain: "acme", Role: "member"}),
	}
	ask := models.Request{Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "read"}
	good, err := e.Current().Decide(ctx, ask, facts, now)
	if err != nil {
		return false, err
	}
	pat.RevokedAt = &now
	facts.Token = engine.TokenValue(pat)
	revoked, err := e.Current().Decide(ctx, ask, facts, now)
	return good.Allowed && !revoked.Allowed, err
}
