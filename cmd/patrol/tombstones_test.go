package main

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/cmd/patrol/config"
	"patrol/models"
	"patrol/models/store/storetest"
	"patrol/models/tombstones"
)

func TestClockBehindTheDatabase(t *testing.T) {
	s := storetest.New(t, "sqlite://"+filepath.Join(t.TempDir(), "patrol.db"))
	cfg, now := config.Default(), time.Now()
	require.NoError(t, checkClock(t.Context(), cfg, s, now.Add(-time.Hour)), "nothing has happened yet")
	require.NoError(t, s.Audit(t.Context(), models.Actor{}, "a", "b", nil))
	require.NoError(t, checkClock(t.Context(), cfg, s, now.Add(-9*time.Minute)))
	require.ErrorContains(t, checkClock(t.Context(), cfg, s, now.Add(-time.Hour)), "set the clock")
	cfg.Database.MaxBehind = 0
	require.NoError(t, checkClock(t.Context(), cfg, s, now.Add(-time.Hour)))
}

// TestTombstonesHoldAgainstTheDatabase: a database that goes back to an earlier
// state under a server revives no token there.
func TestTombstonesHoldAgainstTheDatabase(t *testing.T) {
	ctx, now := context.Background(), time.Now().UTC().Truncate(time.Second)
	s := storetest.New(t, "sqlite://"+filepath.Join(t.TempDir(), "patrol.db"))
	u, err := s.CreateUser(ctx, models.Actor{}, models.User{Email: "ada@example.com"})
	require.NoError(t, err)
	for _, id := range []string{"0000000000000001", "0000000000000002", "0000000000000003"} {
		_, err := s.CreatePAT(ctx, models.Actor{}, models.PAT{
			ID: id, UserID: u.ID, Name: id, KeyID: "k", MAC: []byte{1}, ExpiresAt: now.Add(time.Hour),
			Scopes: []models.Scope{{Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"}},
		})
		require.NoError(t, err)
	}
	file, _, err := tombstones.Open(filepath.Join(t.TempDir(), "t"), "here", now, true)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, file.Close()) })
	require.NoError(t, file.Append([]models.Tombstone{
		{At: now, Action: "pat.revoke", Subject: "pat:0000000000000001"},
		{At: now, Action: "pat.rotate", Subject: "pat:0000000000000002", Detail: map[string]string{"grace": "10m0s"}},
	}))
	facts := buriedFacts{Facts: s.Facts(), file: file, now: func() time.Time { return now.Add(time.Minute) }}
	read := func(id string) *models.PAT {
		p, err := facts.PAT(ctx, id)
		require.NoError(t, err)
		return p
	}
	assert.NotNil(t, read("0000000000000001").RevokedAt)
	rotated := read("0000000000000002")
	assert.Nil(t, rotated.RevokedAt)
	assert.Equal(t, now.Add(10*time.Minute), rotated.ExpiresAt)
	assert.Equal(t, now.Add(time.Hour), read("0000000000000003").ExpiresAt)
	assert.Nil(t, read("none"))
}
