package server

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/alexedwards/argon2id"

	"patrol/models"
)

// Passwords hashes and checks passwords with argon2id (RFC 9106), in PHC form.
// One hash takes megabytes and milliseconds on purpose, so only a few are
// computed at a time, and only so many callers may wait for their turn.
type Passwords struct {
	cfg    LoginConfig
	params *argon2id.Params
	slots  chan struct{}
	queued atomic.Int64
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
		slots: make(chan struct{}, cfg.Concurrency),
	}
	var err error
	p.decoy, err = argon2id.CreateHash(models.NewID()+models.NewID(), p.params)
	if err != nil {
		return nil, fmt.Errorf("hash a password: %w", err)
	}
	return p, nil
}

// Hash returns the hash to store for a password. It fails with CodeUnavailable
// if too many are being hashed.
func (p *Passwords) Hash(ctx context.Context, password string) (string, error) {
	leave, err := p.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
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
func (p *Passwords) Verify(ctx context.Context, password, hash string) (match, outdated bool, err error) {
	leave, err := p.enter(ctx)
	if err != nil {
		return false, false, err
	}
	defer leave()
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

// enter waits for a turn at hashing. leave must be called after it.
func (p *Passwords) enter(ctx context.Context) (leave func(), err error) {
	leave = func() { <-p.slots }
	select {
	case p.slots <- struct{}{}:
		return leave, nil
	default:
	}
	if p.queued.Add(1) > int64(p.cfg.Queue) {
		p.queued.Add(-1)
		return nil, errBusyHashing
	}
	defer p.queued.Add(-1)
	ctx, cancel := context.WithTimeoutCause(ctx, p.cfg.QueueTimeout, errBusyHashing)
	defer cancel()
	select {
	case p.slots <- struct{}{}:
		return leave, nil
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), errBusyHashing) {
			return nil, errBusyHashing
		}
		return nil, ctx.Err()
	}
}

var errBusyHashing = models.NewError(models.CodeUnavailable, "too many sign-ins at a time")

// HashPassword returns the hash to store for a password, with the default
// parameters and outside of any queue: for commands at the shell.
func HashPassword(password string) (string, error) {
	cfg := DefaultConfig().Login
	return argon2id.CreateHash(password, &argon2id.Params{
		Memory: cfg.Argon2Memory, Iterations: cfg.Argon2Iterations, Parallelism: cfg.Argon2Lanes,
		SaltLength: 16, KeyLength: 32,
	})
}
