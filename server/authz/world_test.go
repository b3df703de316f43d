package authz_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"patrol/bundles"
	"patrol/models"
	"patrol/policies/engine"
	"patrol/server/authz"
)

// world is a store in memory whose reads can be counted, held up and made to
// fail. Writes through it append to its change feed, as the real store's do.
type world struct {
	mu      sync.Mutex
	pats    map[string]models.PAT
	users   map[string]models.User
	domains map[string]models.Domain
	members map[[2]string]models.Membership
	changes []models.Change
	pruned  int    // this many of changes are gone
	name    string // of the world, which becomes another one by a failover
	awaited bool   // somebody waits for the changes to be acknowledged
	version int64
	reads   map[string]int // by "pat <id>", "user <id>", …
	fail    error          // of every fact read
	feedErr error
	gate    func(ctx context.Context, key string) // called before each fact read, without the lock
	uses    []models.Use
	audits  []string
	keys    models.Keyring
}

func newWorld(t testing.TB) *world {
	keys, err := models.NewKeyring(models.Key{ID: "k1", Secret: bytes.Repeat([]byte("k"), 32)})
	require.NoError(t, err)
	return &world{
		pats: map[string]models.PAT{}, users: map[string]models.User{}, domains: map[string]models.Domain{},
		members: map[[2]string]models.Membership{}, reads: map[string]int{}, keys: keys,
		// A platform starts with these; tests change what they are about.
	}
}

// read is one fact read of get.
func read[T any](ctx context.Context, w *world, key string, get func() (T, bool)) (*T, error) {
	w.mu.Lock()
	gate := w.gate
	w.mu.Unlock()
	// The fact is read first and the gate passed then: a held-up read comes back
	// with what was true before.
	w.mu.Lock()
	w.reads[key]++
	err := w.fail
	v, ok := get()
	w.mu.Unlock()
	if gate != nil {
		gate(ctx, key)
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil || !ok:
		return nil, err
	}
	return &v, nil
}

func (w *world) PAT(ctx context.Context, id string) (*models.PAT, error) {
	return read(ctx, w, "pat "+id, func() (models.PAT, bool) { p, ok := w.pats[id]; return p, ok })
}

func (w *world) User(ctx context.Context, id string) (*models.User, error) {
	return read(ctx, w, "user "+id, func() (models.User, bool) { u, ok := w.users[id]; return u, ok })
}

func (w *world) Domain(ctx context.Context, id string) (*models.Domain, error) {
	return read(ctx, w, "domain "+id, func() (models.Domain, bool) { d, ok := w.domains[id]; return d, ok })
}

func (w *world) Membership(ctx context.Context, user, domain string) (*models.Membership, error) {
	return read(ctx, w, "member "+user+" "+domain, func() (models.Membership, bool) {
		m, ok := w.members[[2]string{user, domain}]
		return m, ok
	})
}

func (w *world) FeedEnd(context.Context) (models.FeedPosition, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return models.FeedPosition{Seq: int64(len(w.changes)), World: w.name}, w.feedErr
}

func (w *world) Changes(_ context.Context, after models.FeedPosition, limit int) (models.FeedPage, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.feedErr != nil {
		return models.FeedPage{}, w.feedErr
	}
	if int(after.Seq) < w.pruned || len(w.changes)-int(after.Seq) > limit || after.World != w.name {
		return models.FeedPage{}, nil
	}
	return models.FeedPage{
		Changes: append([]models.Change(nil), w.changes[after.Seq:]...), Complete: true, Awaited: w.awaited,
		Next: models.FeedPosition{Seq: int64(len(w.changes)), World: w.name},
	}, nil
}

func (w *world) DataVersion(context.Context) (int64, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.version, true, w.feedErr
}

func (w *world) RecordUses(_ context.Context, uses []models.Use) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.uses = append(w.uses, uses...)
	return nil
}

func (w *world) Audit(_ context.Context, by models.Actor, action, subject string, _ map[string]string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.audits = append(w.audits, string(by.Kind)+" "+action+" "+subject)
	return nil
}

// change makes a write with the changes it announces, and returns them.
func (w *world) change(write func(), changes ...models.Change) []models.Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	write()
	w.version++
	for i := range changes {
		changes[i].Seq = int64(len(w.changes)) + 1
		w.changes = append(w.changes, changes[i])
	}
	return changes
}

func (w *world) setGate(gate func(ctx context.Context, key string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gate = gate
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) readsOf(key string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reads[key]
}

func (w *world) allReads() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.reads)
}

// clock is a clock that moves only when told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// bed is an authorizer in a world, with one user, one domain and one token that
// may read every model there.
type bed struct {
	*authz.Authorizer
	world  *world
	clock  *clock
	policy *engine.Engine
	log    *lockedBuffer
	pat    models.PAT
	token  string
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// loadPolicy compiles the embedded policy once for all tests.
var loadPolicy = sync.OnceValues(func() (*engine.Snapshot, error) {
	src, err := bundles.Open(context.Background(), "")
	if err != nil {
		return nil, err
	}
	// A machine that is busy with other tests must not make a policy time out.
	return engine.Load(context.Background(), src, engine.WithTimeout(time.Minute))
})

func embedded(t testing.TB) *engine.Snapshot {
	t.Helper()
	s, err := loadPolicy()
	require.NoError(t, err)
	return s
}

func newBed(t testing.TB, change func(*authz.Config)) *bed {
	t.Helper()
	b := &bed{
		world:  newWorld(t),
		clock:  &clock{now: time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)},
		policy: engine.New(embedded(t)),
		log:    &lockedBuffer{},
	}
	b.world.users["u1"] = models.User{ID: "u1", Email: "u1@example.com"}
	b.world.domains["acme"] = models.Domain{ID: "acme", Status: models.DomainEnabled}
	b.world.members[[2]string{"u1", "acme"}] = models.Membership{UserID: "u1", Domain: "acme", Role: "member"}
	b.pat, b.token = b.mint(t)
	cfg := authz.Config{
		Keys: b.world.keys, Policy: b.policy, Facts: b.world, Feed: b.world, Journal: b.world,
		Logger: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Clock: b.clock.Now,
		PollInterval: time.Millisecond, MaxStaleness: time.Hour,
	}
	if change != nil {
		change(&cfg)
	}
	a, err := authz.New(cfg)
	require.NoError(t, err)
	b.Authorizer = a
	return b
}

// mint puts a new token of u1 into the world without announcing it.
func (b *bed) mint(t testing.TB) (models.PAT, string) {
	t.Helper()
	token, err := models.Mint(rand.Reader)
	require.NoError(t, err)
	mac, keyID := b.world.keys.Sum(token)
	pat := models.PAT{
		ID: token.ID, UserID: "u1", Name: "ci", KeyID: keyID, MAC: mac,
		CreatedAt: b.clock.Now(), ExpiresAt: b.clock.Now().Add(time.Hour),
		Scopes: []models.Scope{{ID: "s1", Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"}},
	}
	b.world.set(func() { b.world.pats[pat.ID] = pat })
	return pat, token.Reveal()
}

// start runs the feed reader until the test ends and waits for its first read.
func (b *bed) start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	require.Eventually(t, func() bool { return b.Ready() == nil }, 10*time.Second, time.Millisecond)
}

var readAll = models.Request{Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"}

func (b *bed) ask(token string) models.Decision {
	return b.Authorize(context.Background(), authz.Call{Token: token, Request: readAll, Surface: "test"})
}

func codes(d models.Decision) []models.ReasonCode {
	var out []models.ReasonCode
	for _, r := range d.Reasons {
		out = append(out, r.Code)
	}
	return out
}

var errDown = errors.New("the database is down")
