package server

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func testAttempts(c *clock) *attempts {
	cfg := DefaultConfig().Login
	cfg.PerAccount, cfg.TrackedEntries = 20, 50
	return newAttempts(cfg, c.now)
}

func refused(t *testing.T, err error, retryAfter int) {
	t.Helper()
	require.Equal(t, models.CodeRateLimited, models.CodeOf(err))
	assert.Equal(t, retryAfter, problemOf(err).RetryAfter)
}

func TestAttemptsPerAccountAndAddress(t *testing.T) {
	c := newClock()
	a := testAttempts(c)
	home, other := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")
	for range 5 {
		_, err := a.begin("ann@example.com", home)
		require.NoError(t, err)
		c.advance(time.Second)
	}
	_, err := a.begin("ann@example.com", home)
	refused(t, err, 55)
	_, err = a.begin("ann@example.com", other)
	require.NoError(t, err, "another address")
	_, err = a.begin("bob@example.com", home)
	require.NoError(t, err, "another account")

	c.advance(55 * time.Second)
	_, err = a.begin("ann@example.com", home)
	require.NoError(t, err, "the first failure is a minute old")
	_, err = a.begin("ann@example.com", home)
	refused(t, err, 1)
}

func TestAttemptsCountAnIPv6NetworkOnce(t *testing.T) {
	c := newClock()
	a := testAttempts(c)
	for i := range 5 {
		_, err := a.begin("ann", netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1)))
		require.NoError(t, err)
	}
	_, err := a.begin("ann", netip.MustParseAddr("2001:db8::ffff:1"))
	refused(t, err, 60)
	_, err = a.begin("ann", netip.MustParseAddr("2001:db8:0:1::1"))
	require.NoError(t, err, "another /64")
}

func TestAttemptsPerAccount(t *testing.T) {
	c := newClock()
	a := testAttempts(c)
	home := netip.MustParseAddr("198.51.100.1")
	try, err := a.begin("ann", home)
	require.NoError(t, err)
	try.succeeded()

	for i := range 20 {
		_, err := a.begin("ann", netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}))
		require.NoError(t, err)
	}
	_, err = a.begin("ann", netip.MustParseAddr("192.0.2.99"))
	refused(t, err, 3600)
	_, err = a.begin("ann", home)
	require.NoError(t, err, "the owner's address is not locked out by others")

	c.advance(time.Hour)
	_, err = a.begin("ann", netip.MustParseAddr("192.0.2.99"))
	require.NoError(t, err)
}

func TestAttemptsAtATime(t *testing.T) {
	c := newClock()
	a := testAttempts(c)
	var wg sync.WaitGroup
	var mu sync.Mutex
	passed := 0
	for range 50 {
		wg.Go(func() {
			if _, err := a.begin("ann", netip.MustParseAddr("203.0.113.1")); err == nil {
				mu.Lock()
				passed++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	assert.Equal(t, 5, passed)
}

func TestAttemptsThatAreNoFailures(t *testing.T) {
	c := newClock()
	a := testAttempts(c)
	addr := netip.MustParseAddr("203.0.113.1")
	for i := range 50 {
		try, err := a.begin("ann", addr)
		require.NoError(t, err)
		if i%2 == 0 {
			try.succeeded()
		} else {
			try.takeBack()
		}
	}
}

func TestAttemptsForgetTheOldest(t *testing.T) {
	c := newClock()
	a := testAttempts(c)
	addr := netip.MustParseAddr("203.0.113.1")
	for i := range 500 {
		_, err := a.begin(fmt.Sprintf("user-%d", i), addr)
		require.NoError(t, err)
	}
	for _, n := range []int{a.pairs.order.Len(), len(a.pairs.byKey), a.accounts.order.Len(), len(a.accounts.byKey)} {
		assert.Equal(t, 50, n)
	}
}
