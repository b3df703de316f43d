package authz_test

import (
	"context"
	"hash/crc32"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/server/authz"
)

// A fact that is being read from the database of before, when the cache begins anew,
// is not what later calls find.
func TestLoadFromAnotherWorld(t *testing.T) {
	b := newBed(t, nil)
	b.start(t)
	reading, goOn := make(chan struct{}), make(chan struct{})
	b.world.setGate(func(_ context.Context, key string) {
		if strings.HasPrefix(key, "domain ") {
			close(reading)
			<-goOn
		}
	})
	answered := make(chan models.Decision)
	go func() { answered <- b.ask(b.token) }()
	<-reading // the domain was enabled there
	b.world.setGate(nil)
	b.world.set(func() {
		b.world.domains["acme"] = models.Domain{ID: "acme", Status: models.DomainIsDisabled}
		b.world.name = "another"
		b.world.version++
	})
	require.Eventually(t, func() bool { return strings.Contains(b.log.String(), "does not go on where it was left") }, 10*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return b.ask(b.token).Has(models.DomainDisabled) }, 10*time.Second, time.Millisecond)
	close(goOn)
	<-answered // as it was when it was asked
	for range 3 {
		assert.Equal(t, []models.ReasonCode{models.DomainDisabled}, codes(b.ask(b.token)))
	}
}

// A caller that goes away while a fact is read does not end the reading for the others that wait
// for it, and a store that does not answer holds nobody longer than a look-up may take.
func TestOneReadingForMany(t *testing.T) {
	for name, answers := range map[string]bool{"the store answers": true, "the store does not": false} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, func(c *authz.Config) {
				if !answers {
					c.LookupTimeout = 50 * time.Millisecond
				}
			})
			b.start(t)
			reading, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			b.world.setGate(func(ctx context.Context, key string) {
				if strings.HasPrefix(key, "domain ") {
					once.Do(func() { close(reading) })
					select {
					case <-goOn:
					case <-waited(ctx, answers):
					}
				}
			})
			ctx, goAway := context.WithCancel(t.Context())
			first, second := make(chan models.Decision, 1), make(chan models.Decision, 1)
			go func() { first <- b.Authorize(ctx, authz.Call{Token: b.token, Request: readAll}) }()
			<-reading
			go func() { second <- b.ask(b.token) }()
			goAway()
			assert.False(t, (<-first).Allowed)
			if answers {
				close(goOn)
				assert.True(t, (<-second).Allowed)
				return
			}
			assert.True(t, (<-second).Has(models.Unavailable))
			close(goOn)
		})
	}
}

// waited is the end of a reading that heeds its context; nil for one that does not.
func waited(ctx context.Context, heeds bool) <-chan struct{} {
	if heeds {
		return ctx.Done()
	}
	return nil
}

// A process that stood still in the middle of a decision does not answer by what it
// knew before.
func TestPausedProcess(t *testing.T) {
	const staleness = 5 * time.Second
	revoke := func(b *bed) {
		b.clock.advance(staleness + time.Second)
		b.world.set(func() {
			now := b.clock.Now()
			b.pat.RevokedAt = &now
			b.world.pats[b.pat.ID] = b.pat
		})
	}
	t.Run("while it reads", func(t *testing.T) {
		b := newBed(t, func(c *authz.Config) { c.MaxStaleness = staleness })
		b.world.setGate(func(_ context.Context, key string) {
			if strings.HasPrefix(key, "member ") {
				b.world.setGate(nil)
				revoke(b)
			}
		})
		assert.Equal(t, []models.ReasonCode{models.TokenRevoked}, codes(b.ask(b.token)), "it is judged again")
	})
	t.Run("in a batch", func(t *testing.T) {
		b := newBed(t, func(c *authz.Config) { c.MaxStaleness = staleness })
		reads := 0
		b.world.setGate(func(_ context.Context, key string) {
			if strings.HasPrefix(key, "member ") {
				if reads++; reads == 2 {
					revoke(b)
				}
			}
		})
		out := b.AuthorizeBatch(context.Background(), authz.Call{Token: b.token, Surface: "test"}, []models.Request{readAll, readAll, readAll})
		assert.True(t, out[0].Allowed)
		assert.Equal(t, []models.ReasonCode{models.TokenRevoked}, codes(out[1]))
		assert.Equal(t, []models.ReasonCode{models.TokenRevoked}, codes(out[2]))
	})
	t.Run("while it is recorded", func(t *testing.T) {
		rec := &pausing{}
		b := newBed(t, func(c *authz.Config) { c.MaxStaleness, c.Recorder = staleness, rec })
		require.True(t, b.ask(b.token).Allowed)
		rec.pause = func() { revoke(b) }
		d := b.ask(b.token)
		assert.Equal(t, []models.ReasonCode{models.Unavailable}, codes(d), "it is withheld")
		assert.Contains(t, b.log.String(), "the process stood still")
		rec.pause = nil
		assert.Equal(t, []models.ReasonCode{models.TokenRevoked}, codes(b.ask(b.token)))
	})
}

// pausing is a recorder during whose work something happens.
type pausing struct{ pause func() }

func (p *pausing) Record(context.Context, authz.Record) error {
	if p.pause != nil {
		p.pause()
	}
	return nil
}

// Full consistency reads all facts anew, for whoever has the secret.
func TestFullConsistency(t *testing.T) {
	full := func(b *bed, token string) models.Decision {
		return b.Authorize(context.Background(), authz.Call{Token: token, Request: readAll, Surface: "test", Full: true})
	}
	t.Run("what is cached does not count", func(t *testing.T) {
		for name, change := range map[string]func(b *bed){
			"token":      func(b *bed) { now := b.clock.Now(); b.pat.RevokedAt = &now; b.world.pats[b.pat.ID] = b.pat },
			"no token":   func(b *bed) { delete(b.world.pats, b.pat.ID) },
			"user":       func(b *bed) { b.world.users["u1"] = models.User{ID: "u1", Disabled: true} },
			"domain":     func(b *bed) { b.world.domains["acme"] = models.Domain{ID: "acme", Status: models.DomainIsFrozen} },
			"membership": func(b *bed) { delete(b.world.members, [2]string{"u1", "acme"}) },
		} {
			b := newBed(t, nil)
			b.start(t)
			require.True(t, b.ask(b.token).Allowed)
			b.world.set(func() { change(b) }) // of which the feed does not tell
			require.True(t, b.ask(b.token).Allowed, name)
			assert.False(t, full(b, b.token).Allowed, name)
			assert.False(t, b.ask(b.token).Allowed, "%s: what was cached is gone", name)
		}
	})
	t.Run("a wrong secret costs no more than without", func(t *testing.T) {
		b := newBed(t, nil)
		b.start(t)
		require.True(t, b.ask(b.token).Allowed)
		before := b.world.allReads()
		other, err := models.Mint(strings.NewReader(strings.Repeat("a", 4096)))
		require.NoError(t, err)
		forged := withID(other.Reveal(), b.pat.ID)
		for range 50 {
			assert.Equal(t, []models.ReasonCode{models.TokenUnknown}, codes(full(b, forged)))
		}
		assert.Equal(t, before, b.world.allReads())
	})
	t.Run("so many at a time", func(t *testing.T) {
		b := newBed(t, func(c *authz.Config) { c.MaxFull, c.LookupTimeout = 1, 20*time.Millisecond })
		b.start(t)
		require.True(t, b.ask(b.token).Allowed)
		reading, goOn := make(chan struct{}), make(chan struct{})
		b.world.setGate(func(context.Context, string) { b.world.setGate(nil); close(reading); <-goOn })
		first := make(chan models.Decision)
		go func() { first <- full(b, b.token) }()
		<-reading
		assert.Equal(t, []models.ReasonCode{models.Unavailable}, codes(full(b, b.token)))
		assert.True(t, b.ask(b.token).Allowed, "others do not wait")
		close(goOn)
		<-first
		assert.True(t, full(b, b.token).Allowed)
	})
}

// Only those who wait for the feed to be applied are told its position.
func TestAcknowledgements(t *testing.T) {
	acknowledged := make(chan models.FeedPosition, 100)
	b := newBed(t, func(c *authz.Config) {
		c.Acknowledge = func(_ context.Context, at models.FeedPosition) error { acknowledged <- at; return nil }
	})
	b.start(t)
	<-acknowledged // of the start: whoever waits may have begun before
	change := func(awaited bool) {
		b.world.set(func() { b.world.awaited = awaited })
		b.world.change(func() {}, models.Change{Kind: models.ChangeUser, Key: "u1"})
	}
	change(false)
	reads := func() int { return b.world.readsOf("user u1") }
	before := reads()
	require.Eventually(t, func() bool { b.ask(b.token); return reads() > before }, 10*time.Second, time.Millisecond)
	assert.Empty(t, acknowledged)
	change(true)
	assert.EqualValues(t, 2, (<-acknowledged).Seq)
}

// withID is a token's text with another id, and the checksum that goes with it.
func withID(text, id string) string {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	body := models.TokenPrefix + id + text[len(models.TokenPrefix)+len(id):len(text)-6]
	sum, n := [6]byte{}, crc32.ChecksumIEEE([]byte(body))
	for i := range sum {
		sum[5-i] = alphabet[n%62]
		n /= 62
	}
	return body + string(sum[:])
}
