package identity

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/alexedwards/argon2id"

	"patrol/models"
)

// Passwords hashes and checks passwords with argon2id (RFC 9106), in PHC form.
// One hash takes megabytes and milliseconds on purpose. So that decisions do not pay
// for it, only as many are computed at a time as leave processors to them, half of
// all unless the settings say otherwise; others wait for their turn in a queue in
// which no network holds up another.
type Passwords struct {
	cfg    LoginConfig
	params *argon2id.Params
	queue  *hashQueue
	decoy  string // the hash of a password that nobody knows
}

// NewPasswords returns a hasher. It fails if the system has no randomness.
func NewPasswords(cfg LoginConfig) (*Passwords, error) {
	p := &Passwords{
		cfg: cfg,
		params: &argon2id.Params{
			Memory: cfg.Argon2Memory, Iterations: cfg.Argon2Iterations, Parallelism: cfg.Argon2Lanes,
			SaltLength: 16, KeyLength: 32,
		},
		queue: newHashQueue(cfg.Concurrency, cfg.Queue),
	}
	var err error
	p.decoy, err = argon2id.CreateHash(models.NewID()+models.NewID(), p.params)
	if err != nil {
		return nil, fmt.Errorf("hash a password: %w", err)
	}
	return p, nil
}

// Hash returns the hash to store for a password. It fails with CodeUnavailable
// if too many are being hashed. Who sets a password has proven who they are before.
func (p *Passwords) Hash(ctx context.Context, password string) (string, error) {
	if err := p.enter(ctx, laneKnown, netip.Prefix{}); err != nil {
		return "", err
	}
	defer p.queue.leave()
	hash, err := argon2id.CreateHash(password, p.params)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	return hash, nil
}

// Verify reports whether password is the one that hash was made from, and
// whether the hash was made with other parameters than today's and should be
// replaced. An empty hash, that of an unknown account or one without a password,
// matches nothing and takes as long as any other.
//
// Callers wait in a lane, and there behind others of the same network.
func (p *Passwords) Verify(ctx context.Context, password, hash string, at lane, from netip.Prefix) (match, outdated bool, err error) {
	if err := p.enter(ctx, at, from); err != nil {
		return false, false, err
	}
	defer p.queue.leave()
	known := hash != ""
	if !known {
		hash = p.decoy
	}
	match, params, err := argon2id.CheckHash(password, hash)
	if err != nil {
		return false, false, fmt.Errorf("check a stored password hash: %w", err)
	}
	return match && known, *params != *p.params, nil
}

// enter waits for a turn at hashing, for as long as the settings permit.
func (p *Passwords) enter(ctx context.Context, at lane, from netip.Prefix) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.cfg.QueueTimeout, errBusyHashing)
	defer cancel()
	return p.queue.enter(ctx, at, from)
}

var errBusyHashing = models.NewError(models.CodeUnavailable, "too many sign-ins at a time")

// HashPassword returns the hash to store for a password, with the default
// parameters and outside of any queue: for commands at the shell.
func HashPassword(password string) (string, error) {
	cfg := DefaultLogin()
	return argon2id.CreateHash(password, &argon2id.Params{
		Memory: cfg.Argon2Memory, Iterations: cfg.Argon2Iterations, Parallelism: cfg.Argon2Lanes,
		SaltLength: 16, KeyLength: 32,
	})
}
