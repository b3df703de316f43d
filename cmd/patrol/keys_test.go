package main

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/cmd/patrol/config"
	"patrol/internal/secret"
)

type usedKeys []string

func (u usedKeys) KeyIDs(context.Context) ([]string, error) { return u, nil }

func TestTokenKeys(t *testing.T) {
	const postgres = "postgres://u:hunter2@h/d"
	for name, tc := range map[string]struct {
		database, ring string
		used           usedKeys
		want           string // the current key, or
		err            string // part of the error
	}{
		"SQLite, first start":           {want: "k20261231"},
		"SQLite, its ring is gone":      {used: usedKeys{"k1"}, err: "stored tokens need the key k1, but"},
		"configured":                    {ring: testKeys, want: "test"},
		"configured, with tokens":       {ring: testKeys, used: usedKeys{"test"}, want: "test"},
		"configured, but not the right": {ring: testKeys, used: usedKeys{"k1", "k2", "test"}, err: "stored tokens need the keys k1, k2, which token_keys does not have"},
		"PostgreSQL, none":              {database: postgres, err: "token_keys (PATROL_TOKEN_KEYS) is required with PostgreSQL"},
		"PostgreSQL, none, with tokens": {database: postgres, used: usedKeys{"k1"}, err: "stored tokens need the key k1: set token_keys"},
		"PostgreSQL, configured":        {database: postgres, ring: testKeys, want: "test"},
		"PostgreSQL, not the right":     {database: postgres, ring: testKeys, used: usedKeys{"k1"}, err: "need the key k1, which"},
		"a file that is not there":      {ring: "absent/keys", err: "token_keys is neither a ring"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config.Default()
			cfg.DataDir = filepath.Join(t.TempDir(), "data")
			cfg.Database.URL = config.SQLiteIn(cfg.DataDir)
			if tc.database != "" {
				cfg.Database.URL = config.URL(tc.database)
			}
			cfg.TokenKeys = secret.Text(tc.ring)
			ring, err := tokenKeys(t.Context(), cfg, tc.used, time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC))
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				assert.NotContains(t, err.Error(), "hunter2")
				assert.NoFileExists(t, filepath.Join(cfg.DataDir, keyFile))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tc.want, ring.Current())
		})
	}
}

// TestOneRing starts many servers at a time on one empty folder: they must agree.
func TestOneRing(t *testing.T) {
	cfg := config.Default()
	cfg.DataDir = filepath.Join(t.TempDir(), "data")
	cfg.Database.URL = config.SQLiteIn(cfg.DataDir)
	var wg sync.WaitGroup
	secrets := make([]string, 8)
	for i := range secrets {
		wg.Go(func() {
			_, err := tokenKeys(t.Context(), cfg, usedKeys{}, time.Now())
			assert.NoError(t, err)
			content, err := os.ReadFile(filepath.Join(cfg.DataDir, keyFile))
			assert.NoError(t, err)
			secrets[i] = string(content)
		})
	}
	wg.Wait()
	for _, s := range secrets {
		assert.Equal(t, secrets[0], s)
	}
	left, err := os.ReadDir(cfg.DataDir)
	require.NoError(t, err)
	assert.Len(t, left, 1, "no temporary file stays")
}
