package server

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
)

func testPasswords(t *testing.T, change func(*LoginConfig)) *Passwords {
	t.Helper()
	cfg := DefaultConfig().Login
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
			match, outdated, err := p.Verify(ctx, tc.password, tc.hash)
			require.NoError(t, err)
			assert.Equal(t, tc.match, match)
			assert.False(t, outdated)
		})
	}

	today := testPasswords(t, func(c *LoginConfig) { c.Argon2Iterations = 3 })
	match, outdated, err := today.Verify(ctx, "correct horse battery", hash)
	require.NoError(t, err)
	assert.True(t, match)
	assert.True(t, outdated, "made with other parameters")
}

func TestHashPasswordHasTheDefaultCost(t *testing.T) {
	hash, err := HashPassword("correct horse battery")
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$"), hash)
}

func TestPasswordsWaitTheirTurn(t *testing.T) {
	p := testPasswords(t, func(c *LoginConfig) { c.Concurrency, c.Queue, c.QueueTimeout = 1, 1, time.Hour })
	leave, err := p.enter(t.Context())
	require.NoError(t, err)

	waiting := make(chan error, 1)
	go func() {
		_, err := p.Hash(context.WithoutCancel(t.Context()), "correct horse battery")
		waiting <- err
	}()
	require.Eventually(t, func() bool { return p.queued.Load() == 1 }, 5*time.Second, time.Millisecond)
	_, err = p.Hash(t.Context(), "one too many")
	require.Equal(t, models.CodeUnavailable, models.CodeOf(err))

	leave()
	require.NoError(t, <-waiting)

	impatient := testPasswords(t, func(c *LoginConfig) { c.Concurrency, c.QueueTimeout = 1, time.Millisecond })
	_, err = impatient.enter(t.Context())
	require.NoError(t, err)
	_, err = impatient.enter(t.Context())
	require.Equal(t, models.CodeUnavailable, models.CodeOf(err))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = impatient.enter(gone)
	require.ErrorIs(t, err, context.Canceled)
}
