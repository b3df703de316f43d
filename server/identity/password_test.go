package identity

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
)

func testPasswords(t *testing.T, change func(*LoginConfig)) *Passwords {
	t.Helper()
	cfg := DefaultLogin()
	cfg.Argon2Memory = 64 // as little as goes: these tests are not about the cost
	change(&cfg)
	p, err := NewPasswords(cfg)
	require.NoError(t, err)
	return p
}

func TestPasswords(t *testing.T) {
	ctx := t.Context()
	p := testPasswords(t, func(*LoginConfig) {})
	hash, err := p.Hash(ctx, "correct horse battery")
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(hash, "$argon2id$v=19$m=64,t=2,p=1$"), hash)

	for _, tc := range []struct {
		name, password, hash string
		match                bool
	}{
		{"right", "correct horse battery", hash, true},
		{"wrong", "correct horse batterY", hash, false},
		{"cut", "correct horse", hash, false},
		{"no hash", "correct horse battery", "", false},
		{"nothing at all", "", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			match, outdated, err := p.Verify(ctx, tc.password, tc.hash, laneNew, netip.Prefix{})
			require.NoError(t, err)
			assert.Equal(t, tc.match, match)
			assert.False(t, outdated)
		})
	}

	today := testPasswords(t, func(c *LoginConfig) { c.Argon2Iterations = 3 })
	match, outdated, err := today.Verify(ctx, "correct horse battery", hash, laneNew, netip.Prefix{})
	require.NoError(t, err)
	assert.True(t, match)
	assert.True(t, outdated, "made with other parameters")
}

func TestHashPasswordHasTheDefaultCost(t *testing.T) {
	hash, err := HashPassword("correct horse battery")
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$"), hash)
}

// waits has somebody wait for a turn at hashing, who is in the queue when it returns.
func (p *Passwords) waits(t *testing.T, at lane, network string) <-chan error {
	t.Helper()
	from := netip.MustParsePrefix(network)
	line := func() int {
		p.queue.mu.Lock()
		defer p.queue.mu.Unlock()
		if element := p.queue.waiting[at].byNetwork[from]; element != nil {
			return len(element.Value.(*networkLine).line)
		}
		return 0
	}
	before, called := line(), make(chan error, 1)
	ctx := context.WithoutCancel(t.Context())
	go func() { called <- p.enter(ctx, at, from) }()
	require.Eventually(t, func() bool { return line() == before+1 || len(called) == 1 }, 30*time.Second, time.Millisecond)
	return called
}

func TestPasswordsWaitTheirTurn(t *testing.T) {
	p := testPasswords(t, func(c *LoginConfig) { c.Concurrency, c.Queue, c.QueueTimeout = 1, 1, time.Hour })
	one := netip.MustParsePrefix("203.0.113.1/32")
	require.NoError(t, p.enter(t.Context(), laneNew, one))
	waiting := p.waits(t, laneNew, "203.0.113.1/32")
	require.Equal(t, models.CodeUnavailable, models.CodeOf(p.enter(t.Context(), laneNew, one)), "one too many")
	p.queue.leave()
	require.NoError(t, <-waiting)

	impatient := testPasswords(t, func(c *LoginConfig) { c.Concurrency, c.QueueTimeout = 1, time.Millisecond })
	require.NoError(t, impatient.enter(t.Context(), laneNew, one))
	require.Equal(t, models.CodeUnavailable, models.CodeOf(impatient.enter(t.Context(), laneNew, one)))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, impatient.enter(gone, laneNew, one), context.Canceled)
	assert.Zero(t, impatient.queue.length())
	impatient.queue.leave()
	require.NoError(t, impatient.enter(t.Context(), laneNew, one), "nobody's turn was lost")
}

// A network that fills the queue waits behind all others, and gives way to them.
func TestTurnsAtHashingAreFair(t *testing.T) {
	p := testPasswords(t, func(c *LoginConfig) { c.Concurrency, c.Queue, c.QueueTimeout = 1, 8, time.Hour })
	require.NoError(t, p.enter(t.Context(), laneNew, netip.MustParsePrefix("203.0.113.1/32")))
	var flood []<-chan error
	for range 8 {
		flood = append(flood, p.waits(t, laneNew, "203.0.113.1/32"))
	}
	require.Equal(t, models.CodeUnavailable, models.CodeOf(<-p.waits(t, laneNew, "203.0.113.1/32")), "its own line is full")
	other := p.waits(t, laneNew, "203.0.113.2/32")
	require.Equal(t, models.CodeUnavailable, models.CodeOf(<-flood[7]), "the newest gives way")
	known := p.waits(t, laneKnown, "203.0.113.1/32")
	p.queue.leave()
	require.NoError(t, <-known, "who is known does not wait behind strangers")
	p.queue.leave()
	require.NoError(t, <-flood[0])
	p.queue.leave()
	require.NoError(t, <-other, "the second network is next")

	// No lane waits for good behind another.
	before := p.queue.waiting[laneNew].count
	for range 20 {
		p.waits(t, laneKnown, "203.0.113.3/32")
		p.queue.leave()
	}
	assert.Less(t, p.queue.waiting[laneNew].count, before)
}

func TestTurnsAtHashingRace(t *testing.T) {
	p := testPasswords(t, func(c *LoginConfig) { c.Concurrency, c.Queue, c.QueueTimeout = 3, 8, time.Hour })
	var all sync.WaitGroup
	var running, most atomic.Int64
	for i := range 64 {
		all.Go(func() {
			ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
			if i%5 == 0 {
				cancel() // some give up at once
			}
			defer cancel()
			network := netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i % 7)}), 32)
			for range 50 {
				if p.enter(ctx, lane(i%int(lanes)), network) != nil {
					continue
				}
				now := running.Add(1)
				for before := most.Load(); now > before && !most.CompareAndSwap(before, now); before = most.Load() {
				}
				running.Add(-1)
				p.queue.leave()
			}
		})
	}
	all.Wait()
	assert.LessOrEqual(t, most.Load(), int64(3))
	assert.Zero(t, p.queue.length())
	assert.Equal(t, 3, p.queue.free)
}
