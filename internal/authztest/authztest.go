// Package authztest gives tests of surfaces an authorizer to ask: the real one,
// on the default policy and on facts in memory that can be changed, held up and
// made to fail.
//
// The facts are small: a domain "acme" that is enabled and "ice" that is frozen;
// a user "u1" who is a member of both, and "root", a platform admin. Tokens are
// made with [World.Mint].
package authztest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies"
	"patrol/policies/engine"
	"patrol/server/authz"
)

// World is the facts and who judges by them. It is safe for concurrent use.
type World struct {
	*authz.Authorizer
	Policy *engine.Engine
	Log    *Log

	keys    models.Keyring
	mu      sync.Mutex
	pats    map[string]models.PAT
	users   map[string]models.User
	domains map[string]models.Domain
	members map[[2]string]models.Membership
	gate    func(ctx context.Context) error
}

// Log is a log in memory. It is safe for concurrent use.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends to the log.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String returns what was logged.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Logger returns a logger that writes to the log, in text, everything.
func (l *Log) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Source returns the default policy, to be changed and loaded by tests.
func Source(t testing.TB) engine.Source {
	t.Helper()
	src := engine.Source{Name: "default", Files: map[string][]byte{}}
	require.NoError(t, fs.WalkDir(policies.FS, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		src.Files[path], err = fs.ReadFile(policies.FS, path)
		return err
	}))
	return src
}

// Load compiles a policy.
func Load(t testing.TB, src engine.Source, opts ...engine.Option) *engine.Snapshot {
	t.Helper()
	s, err := engine.Load(context.Background(), src, opts...)
	require.NoError(t, err)
	return s
}

var defaultPolicy struct {
	once     sync.Once
	snapshot *engine.Snapshot
}

// New returns a world whose authorizer has not read its change feed, so that
// every call reads the facts.
func New(t testing.TB, change ...func(*authz.Config)) *World {
	t.Helper()
	defaultPolicy.once.Do(func() { defaultPolicy.snapshot = Load(t, Source(t)) })
	require.NotNil(t, defaultPolicy.snapshot, "the default policy could not be loaded")
	keys, err := models.NewKeyring(models.Key{ID: "k1", Secret: bytes.Repeat([]byte("k"), 32)})
	require.NoError(t, err)
	w := &World{
		Policy: engine.New(defaultPolicy.snapshot), Log: &Log{}, keys: keys,
		pats: map[string]models.PAT{},
		users: map[string]models.User{
			"u1":   {ID: "u1", Email: "u1@example.com"},
			"root": {ID: "root", Email: "root@example.com", Admin: true},
		},
		domains: map[string]models.Domain{
			"acme": {ID: "acme", Status: models.DomainEnabled},
			"ice":  {ID: "ice", Status: models.DomainIsFrozen},
		},
		members: map[[2]string]models.Membership{
			{"u1", "acme"}: {UserID: "u1", Domain: "acme", Role: "member"},
			{"u1", "ice"}:  {UserID: "u1", Domain: "ice", Role: "member"},
		},
	}
	cfg := authz.Config{
		Keys: keys, Policy: w.Policy, Facts: w, Feed: w, Journal: w, Logger: w.Log.Logger(), MaxStaleness: time.Hour,
	}
	for _, f := range change {
		f(&cfg)
	}
	w.Authorizer, err = authz.New(cfg)
	require.NoError(t, err)
	return w
}

// Start has the world's authorizer follow its change feed until the test ends,
// so that facts are cached. They must not be changed any more.
func (w *World) Start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	require.Eventually(t, func() bool { return w.Ready() == nil }, 10*time.Second, time.Millisecond)
}

// Mint makes a token of a user that is good for an hour.
func (w *World) Mint(t testing.TB, user string, scopes ...string) (id, text string) {
	t.Helper()
	token, err := models.Mint(rand.Reader)
	require.NoError(t, err)
	mac, keyID := w.keys.Sum(token)
	now := time.Now()
	pat := models.PAT{ID: token.ID, UserID: user, Name: "test", KeyID: keyID, MAC: mac, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
	for _, scope := range scopes {
		s, err := models.ParseScope(scope)
		require.NoError(t, err)
		s.ID = models.NewID()
		pat.Scopes = append(pat.Scopes, s)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pats[pat.ID] = pat
	return pat.ID, token.Reveal()
}

// Revoke revokes a token.
func (w *World) Revoke(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	p := w.pats[id]
	p.RevokedAt = &now
	w.pats[id] = p
}

// Gate has f called before every fact is read; its error is the read's. nil
// takes the gate away.
func (w *World) Gate(f func(ctx context.Context) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gate = f
}

// ErrDown is a good error for a gate.
var ErrDown = errors.New("the database is down")

func fact[K comparable, V any](ctx context.Context, w *World, m map[K]V, key K) (*V, error) {
	w.mu.Lock()
	v, ok := m[key]
	gate := w.gate
	w.mu.Unlock()
	if gate != nil {
		if err := gate(ctx); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil || !ok {
		return nil, err
	}
	return &v, nil
}

// PAT is part of authz.Facts.
func (w *World) PAT(ctx context.Context, id string) (*models.PAT, error) {
	return fact(ctx, w, w.pats, id)
}

// User is part of authz.Facts.
func (w *World) User(ctx context.Context, id string) (*models.User, error) {
	return fact(ctx, w, w.users, id)
}

// Domain is part of authz.Facts.
func (w *World) Domain(ctx context.Context, id string) (*models.Domain, error) {
	return fact(ctx, w, w.domains, id)
}

// Membership is part of authz.Facts.
func (w *World) Membership(ctx context.Context, user, domain string) (*models.Membership, error) {
	return fact(ctx, w, w.members, [2]string{user, domain})
}

// FeedEnd is part of authz.Feed, in which nothing ever stands.
func (w *World) FeedEnd(context.Context) (models.FeedPosition, error) {
	return models.FeedPosition{}, nil
}

// Changes is part of authz.Feed.
func (w *World) Changes(context.Context, models.FeedPosition, int) (models.FeedPage, error) {
	return models.FeedPage{Complete: true}, nil
}

// DataVersion is part of authz.Feed.
func (w *World) DataVersion(context.Context) (int64, bool, error) { return 1, true, nil }

// RecordUses is part of authz.Journal.
func (w *World) RecordUses(context.Context, []models.Use) error { return nil }

// Audit is part of authz.Journal.
func (w *World) Audit(context.Context, models.Actor, string, string, map[string]string) error {
	return nil
}
