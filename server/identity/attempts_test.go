package identity

import (
	"errors"
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

// guesser makes attempts at passwords.
type guesser struct {
	*attempts
	*clock
	t *testing.T
}

func guessing(t *testing.T, change func(*LoginConfig)) guesser {
	t.Helper()
	cfg := DefaultLogin()
	cfg.PerAccount, cfg.PerNetwork, cfg.TrackedEntries = 20, 30, 50
	if change != nil {
		change(&cfg)
	}
	c := newClock()
	return guesser{newAttempts(cfg, c.now), c, t}
}

// from is a guess at an account. Accounts with an @ exist.
func from(account, address string) guess {
	exists := false
	for _, c := range account {
		exists = exists || c == '@'
	}
	return guess{account: account, exists: exists, from: netip.MustParseAddr(address)}
}

// try makes an attempt that comes out as o, and returns what it was told: 0 if the
// guess was let through, and how long to wait otherwise.
func (g guesser) try(in guess, o outcome) (wait int) {
	g.t.Helper()
	t, _, err := g.begin(in)
	if err != nil {
		require.Equal(g.t, models.CodeRateLimited, models.CodeOf(err))
		limited, ok := errors.AsType[*models.Error](err)
		require.True(g.t, ok)
		return limited.RetryAfter
	}
	t.finish(o)
	return 0
}

// entries returns the number of entries.
func (g guesser) entries() (n int) {
	for i := range 2 {
		n += g.pairs[i].Tracked() + g.accounts[i].Tracked() + g.networks[i].Tracked()
	}
	return n + g.wide.Tracked() + len(g.hashing) + g.familiar.Len()
}

func TestAttemptsPerAccountAndAddress(t *testing.T) {
	for _, account := range []string{"ann@example.com", "nobody"} {
		g := guessing(t, nil)
		for range 5 {
			require.Zero(t, g.try(from(account, "203.0.113.1"), wrong))
			g.advance(time.Second)
		}
		assert.Equal(t, 55, g.try(from(account, "203.0.113.1"), right))
		assert.Zero(t, g.try(from(account, "203.0.113.2"), wrong), "another address")
		assert.Zero(t, g.try(from("bob@example.com", "203.0.113.1"), wrong), "another account")
		g.advance(55 * time.Second)
		assert.Zero(t, g.try(from(account, "203.0.113.1"), wrong), "the first failure is a minute old")
		assert.Equal(t, 1, g.try(from(account, "203.0.113.1"), wrong))
	}
}

func TestAttemptsCountAnIPv6NetworkOnce(t *testing.T) {
	g := guessing(t, nil)
	for i := range 5 {
		require.Zero(t, g.try(from("ann@", fmt.Sprintf("2001:db8::%x", i+1)), wrong))
	}
	assert.Equal(t, 60, g.try(from("ann@", "2001:db8::ffff:1"), wrong))
	assert.Zero(t, g.try(from("ann@", "2001:db8:0:1::1"), wrong), "another /64")
}

func TestAttemptsPerAccount(t *testing.T) {
	g := guessing(t, nil)
	require.Zero(t, g.try(from("ann@", "198.51.100.1"), right))
	for i := range 20 {
		require.Zero(t, g.try(from("ann@", fmt.Sprintf("203.0.113.%d", i)), wrong))
	}
	stranger := from("ann@", "192.0.2.99")
	assert.Equal(t, 3600, g.try(stranger, right))

	// Strangers do not lock out known clients.
	assert.Zero(t, g.try(from("ann@", "198.51.100.1"), right), "an address of before")
	browser, session := stranger, stranger
	browser.known = "browser 1"
	session.session = func() bool { return true }
	assert.Zero(t, g.try(browser, right), "a browser of before")
	assert.Zero(t, g.try(session, right), "an address with a session")
	other := stranger
	other.from = netip.MustParseAddr("192.0.2.98")
	other.session = func() bool { return false }
	assert.NotZero(t, g.try(other, right))

	g.advance(time.Hour)
	assert.Zero(t, g.try(other, wrong))
}

// A browser that is known has a window of its own, where failures of others at the
// same address do not count, and its own do.
func TestAKnownBrowserHasItsOwnWindow(t *testing.T) {
	g := guessing(t, nil)
	neighbour, owner := from("ann@", "203.0.113.1"), from("ann@", "203.0.113.1")
	owner.known = "browser 1"
	for range 5 {
		require.Zero(t, g.try(neighbour, wrong))
	}
	require.NotZero(t, g.try(neighbour, wrong))
	for range 5 {
		require.Zero(t, g.try(owner, wrong))
	}
	assert.NotZero(t, g.try(owner, wrong), "who stole the browser's cookie does not guess on")
}

// One address that fails at many accounts is told to wait, whether they exist or not.
// A right password for an account that exists still counts, until the address has
// failed at as many accounts that exist.
func TestAttemptsPerNetwork(t *testing.T) {
	t.Run("invented accounts", func(t *testing.T) {
		g := guessing(t, nil)
		for i := range 30 {
			require.Zero(t, g.try(from(fmt.Sprintf("invented-%d", i), "203.0.113.1"), wrong))
		}
		_, later, err := g.begin(from("invented", "203.0.113.1"))
		require.Error(t, err)
		assert.True(t, later, "it has to look like a password that was checked")
		attempt, _, err := g.begin(from("ann@", "203.0.113.1"))
		require.NoError(t, err)
		assert.Equal(t, time.Minute, attempt.masked, "a wrong password is told what the invented account was told")
		assert.Equal(t, laneExisting, attempt.lane())
		attempt.finish(wrong)
		assert.Zero(t, g.try(from("invented", "203.0.113.2"), wrong), "another address")
		g.advance(time.Minute)
		assert.Zero(t, g.try(from("invented", "203.0.113.1"), wrong))
	})
	t.Run("accounts that exist", func(t *testing.T) {
		g := guessing(t, nil)
		require.Zero(t, g.try(from("old@", "203.0.113.1"), right))
		for i := range 30 {
			require.Zero(t, g.try(from(fmt.Sprintf("user-%d@", i), "203.0.113.1"), wrong))
		}
		_, later, err := g.begin(from("ann@", "203.0.113.1"))
		require.Error(t, err)
		assert.True(t, later)
		assert.Zero(t, g.try(from("old@", "203.0.113.1"), right), "who is known there gets in")
		known := from("ann@", "203.0.113.1")
		known.known = "session 1"
		assert.Zero(t, g.try(known, right))
	})
	t.Run("what exists cannot be told by counting", func(t *testing.T) {
		g := guessing(t, nil)
		for i := range 29 {
			require.Zero(t, g.try(from(fmt.Sprintf("invented-%d", i), "203.0.113.1"), wrong))
		}
		require.Zero(t, g.try(from("ann@", "203.0.113.1"), wrong))
		assert.NotZero(t, g.try(from("invented", "203.0.113.1"), wrong), "a failure at an account that exists counts as one at any")
	})
	t.Run("an IPv6 /48", func(t *testing.T) {
		g := guessing(t, nil)
		for i := range 30 * wideNetworks {
			require.Zero(t, g.try(from(fmt.Sprintf("invented-%d", i), fmt.Sprintf("2001:db8:0:%x::1", i)), wrong))
		}
		assert.NotZero(t, g.try(from("invented", "2001:db8:0:ffff::1"), wrong))
		assert.Zero(t, g.try(from("invented", "2001:db8:1:1::1"), wrong), "another /48")
	})
}

func TestAttemptsAtATime(t *testing.T) {
	g := guessing(t, nil)
	var running []*attempt
	for range 50 {
		if a, _, err := g.begin(from("ann@", "203.0.113.1")); err == nil {
			running = append(running, a)
		}
	}
	assert.Len(t, running, 5, "as many as may fail")
	for _, a := range running {
		a.finish(right)
	}

	// Twelve people at once, behind one address: some of them are in the other lane.
	running = nil
	for i := range 12 {
		a, _, err := g.begin(from(fmt.Sprintf("user-%d@", i), "203.0.113.9"))
		require.NoError(t, err)
		running = append(running, a)
	}
	_, later, err := g.begin(from("invented", "203.0.113.9"))
	require.Error(t, err)
	assert.True(t, later)
	for i, a := range running {
		assert.Equal(t, i >= atOnce, a.masked > 0)
		a.finish(right)
	}
	assert.Zero(t, g.try(from("invented", "203.0.113.9"), wrong))
}

func TestAttemptsRaceForNothing(t *testing.T) {
	g := guessing(t, nil)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			for j := range 20 {
				if a, _, err := g.begin(from(fmt.Sprintf("user-%d@", (i+j)%7), fmt.Sprintf("203.0.113.%d", j))); err == nil {
					a.finish([]outcome{untried, wrong, right}[(i+j)%3])
				}
			}
		})
	}
	all.Wait()
	for i := range 2 {
		assert.Zero(t, g.pairs[i].UnderWay())
		assert.Zero(t, g.accounts[i].UnderWay())
		assert.Zero(t, g.networks[i].UnderWay())
	}
	assert.Empty(t, g.hashing)
}

// Nothing is remembered of what was not tried, or was right but for the address.
func TestAttemptsRememberOnlyFailures(t *testing.T) {
	g := guessing(t, nil)
	for i := range 500 {
		a, _, err := g.begin(from(fmt.Sprintf("user-%d@", i), fmt.Sprintf("203.0.%d.1", i%250)))
		require.NoError(t, err)
		a.finish(untried)
	}
	assert.Zero(t, g.entries())
	for range 5 {
		g.try(from("ann@", "203.0.113.1"), wrong)
	}
	before := g.entries()
	for range 100 {
		assert.NotZero(t, g.try(from("ann@", "203.0.113.1"), wrong))
	}
	assert.Equal(t, before, g.entries(), "a refusal leaves no trace")
}

// What is remembered is bounded, and invented names make nothing of an account
// forgotten.
func TestAttemptsForgetTheOldest(t *testing.T) {
	g := guessing(t, nil)
	for i := range 20 {
		require.Zero(t, g.try(from("ann@", fmt.Sprintf("198.51.100.%d", i)), wrong))
	}
	for i := range 2000 {
		g.try(from(fmt.Sprintf("invented-%d", i), fmt.Sprintf("10.0.%d.%d", i/250, i%250)), wrong)
	}
	assert.LessOrEqual(t, g.entries(), 8*50)
	assert.NotZero(t, g.try(from("ann@", "192.0.2.1"), right), "the account's failures are still known")
}
