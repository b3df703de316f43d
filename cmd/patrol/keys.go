package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"patrol/cmd/patrol/config"
	"patrol/models"
)

// keyFile is the ring that Patrol makes for itself, in the data folder.
const keyFile = "token.keys"

// keyUsers tells which keys the stored tokens were hashed with.
type keyUsers interface {
	KeyIDs(ctx context.Context) ([]string, error)
}

// tokenKeys returns the ring to serve with. It refuses a ring that lacks the key
// of a stored token: that token would be refused as unknown, and nobody could see
// why. Without any ring and any token it makes one, for SQLite only: where several
// servers share a database, each would make its own.
func tokenKeys(ctx context.Context, cfg config.Config, stored keyUsers, now time.Time) (models.Keyring, error) {
	used, err := stored.KeyIDs(ctx)
	if err != nil {
		return models.Keyring{}, fmt.Errorf("read which keys the tokens need: %w", err)
	}
	ring, from, err := configuredKeys(cfg)
	if err != nil {
		return models.Keyring{}, err
	}
	if from == "" {
		if ring, from, err = ownKeys(cfg, used, now); err != nil {
			return models.Keyring{}, err
		}
	}
	if missing := lacking(ring, used); len(missing) > 0 {
		return models.Keyring{}, fmt.Errorf("stored tokens need the %s, which %s does not have: add it behind the current key", naming(missing), from)
	}
	return ring, nil
}

// keyRingFile returns the file that the ring is in, "" if it is in the settings
// themselves, or nowhere.
func keyRingFile(cfg config.Config) string {
	if path, ok := cfg.KeyringFile(); ok {
		return path
	}
	if cfg.TokenKeys == "" && cfg.Database.OnSQLite() {
		return filepath.Join(cfg.DataDir, keyFile)
	}
	return ""
}

// configuredKeys returns the ring from the settings and where it was; nowhere if
// from is "".
func configuredKeys(cfg config.Config) (ring models.Keyring, from string, err error) {
	ring, ok, err := cfg.Keyring()
	if err != nil || !ok {
		return models.Keyring{}, "", err
	}
	return ring, "token_keys", nil
}

// ownKeys returns the ring in the data folder, which it makes if no token needs
// another.
func ownKeys(cfg config.Config, used []string, now time.Time) (ring models.Keyring, from string, err error) {
	path := filepath.Join(cfg.DataDir, keyFile)
	if !cfg.Database.OnSQLite() {
		if len(used) > 0 {
			return models.Keyring{}, "", fmt.Errorf("stored tokens need the %s: set token_keys (PATROL_TOKEN_KEYS)", naming(used))
		}
		return models.Keyring{}, "", errors.New("token_keys (PATROL_TOKEN_KEYS) is required with PostgreSQL, the same on every server: " +
			`for example k1:$(openssl rand -base64 32)`)
	}
	ring, err = readKeys(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return ring, path, err
	}
	if len(used) > 0 {
		return models.Keyring{}, "", fmt.Errorf("stored tokens need the %s, but %s is not there: restore it, or set token_keys (PATROL_TOKEN_KEYS)", naming(used), path)
	}
	if err := makeDataDir(cfg); err != nil {
		return models.Keyring{}, "", err
	}
	if err := makeKeys(path, now); err != nil {
		return models.Keyring{}, "", fmt.Errorf("make the token keys: %w", err)
	}
	ring, err = readKeys(path) // another process may have been quicker: its ring counts
	return ring, path, err
}

func readKeys(path string) (models.Keyring, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the folder
	if err != nil {
		return models.Keyring{}, fmt.Errorf("read the token keys: %w", err)
	}
	ring, err := models.ParseKeyring(string(text))
	if err != nil {
		return models.Keyring{}, fmt.Errorf("read the token keys in %s: %w", path, err)
	}
	return ring, nil
}

// makeKeys writes a ring with one new key to path, unless a file is there. The
// file appears whole, readable by its owner alone, and on the disk: a token whose
// key a power cut took away is lost.
func makeKeys(path string, now time.Time) (err error) {
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+keyFile+"-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(tmp.Name())) }()
	_, err = fmt.Fprintf(tmp, "k%s:%s\n", now.UTC().Format("20060102"), base64.StdEncoding.EncodeToString(secret[:]))
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	// A link, unlike a rename, does not replace what is there.
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path) //nolint:gosec // the operator names the folder
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// lacking returns the used keys that the ring does not have.
func lacking(ring models.Keyring, used []string) []string {
	return slices.DeleteFunc(slices.Clone(used), func(id string) bool { return slices.Contains(ring.IDs(), id) })
}

func naming(ids []string) string {
	if len(ids) == 1 {
		return "key " + ids[0]
	}
	return "keys " + strings.Join(ids, ", ")
}
