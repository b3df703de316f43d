// Package storetest is the conformance suite of [store]: what every database
// must do alike, concurrent writers and two Stores on one database included.
// Its [New] opens stores for the tests of other packages, too.
package storetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"patrol/models/store"
)

// New opens a migrated store on the database at url, which may be one that
// another store uses, and closes it when the test ends. Each edit may change the
// configuration.
func New(t testing.TB, url string, edit ...func(*store.Config)) *store.Store {
	t.Helper()
	c := store.Config{URL: url}
	for _, e := range edit {
		e(&c)
	}
	s, err := store.Open(context.Background(), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	_, _, err = s.Migrate(context.Background())
	require.NoError(t, err)
	return s
}

// Clock is a clock that tests set. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that stands at a time which is no whole second.
func NewClock() *Clock {
	return &Clock{now: time.Date(2026, 3, 1, 12, 0, 0, 250_000_000, time.UTC)}
}

// Now returns the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock and returns the new time.
func (c *Clock) Advance(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}
