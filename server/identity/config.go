package identity

import (
	"errors"
	"runtime"
	"time"
)

// SessionConfig says how long a sign-in counts.
type SessionConfig struct {
	IdleTimeout time.Duration // since the last call
	Lifetime    time.Duration // since the sign-in
	// FreshFor is the age up to which a sign-in permits creating, rotating and
	// widening PATs.
	FreshFor time.Duration
	// FreshAdminFor is the age up to which a sign-in permits what widens anybody's power
	// or removes a protection.
	FreshAdminFor time.Duration
}

// LoginConfig bounds guessing at passwords and what one guess costs.
type LoginConfig struct {
	PerAddress     int // failures a minute, per account and client address (IPv6: per /64)
	PerNetwork     int // failures a minute, per client address over all accounts that do not know it
	PerAccount     int // failures an hour, per account, over all addresses
	TrackedEntries int // accounts and addresses remembered at a time; the oldest are forgotten

	// ResetValidFor is the lifetime of a code with which a password is reset.
	ResetValidFor time.Duration

	Argon2Memory     uint32        // KiB per hash
	Argon2Iterations uint32        // passes over it
	Argon2Lanes      uint8         // threads per hash
	Concurrency      int           // hashes computed at a time
	Queue            int           // hashes that may wait for a turn; more are refused
	QueueTimeout     time.Duration // how long one may wait
}

// DefaultSessions returns how long a sign-in counts where nothing else is said.
func DefaultSessions() SessionConfig {
	return SessionConfig{
		IdleTimeout: 12 * time.Hour,
		Lifetime:    7 * 24 * time.Hour,
		FreshFor:    10 * time.Minute,

		FreshAdminFor: time.Hour,
	}
}

// DefaultLogin returns the bounds of guessing where nothing else is said.
func DefaultLogin() LoginConfig {
	return LoginConfig{
		PerAddress:       5,
		PerAccount:       100,
		PerNetwork:       50,
		TrackedEntries:   16384,
		ResetValidFor:    24 * time.Hour,
		Argon2Memory:     19 << 10,
		Argon2Iterations: 2,
		Argon2Lanes:      1,
		Concurrency:      max(1, runtime.GOMAXPROCS(0)/2),
		Queue:            64,
		QueueTimeout:     5 * time.Second,
	}
}

// Validate returns what is wrong with the section.
func (c SessionConfig) Validate() error {
	switch {
	case c.IdleTimeout <= 0 || c.Lifetime <= 0 || c.FreshFor <= 0 || c.FreshAdminFor <= 0:
		return errors.New("session times must be longer than zero")
	case c.IdleTimeout > c.Lifetime:
		return errors.New("a session's idle timeout is longer than its lifetime")
	}
	return nil
}

// Validate returns what is wrong with the section. It refuses argon2id
// parameters below OWASP's least (19 MiB, two passes, or 7 MiB and five).
func (c LoginConfig) Validate() error {
	var errs []error
	if c.PerAddress < 1 || c.PerAccount < 1 || c.PerNetwork < 1 || c.TrackedEntries < 1 {
		errs = append(errs, errors.New("login limits must be at least 1"))
	}
	if c.ResetValidFor <= 0 {
		errs = append(errs, errors.New("the reset code's validity must be longer than zero"))
	}
	if c.Argon2Lanes < 1 || c.Argon2Iterations < 2 || uint64(c.Argon2Memory)*uint64(c.Argon2Iterations) < 5*(7<<10) {
		errs = append(errs, errors.New("the argon2id parameters are too cheap: use at least 19456 KiB with 2 iterations"))
	}
	if c.Argon2Memory > 4<<20 || c.Argon2Iterations > 100 {
		errs = append(errs, errors.New("the argon2id parameters are too expensive: at most 4 GiB and 100 iterations"))
	}
	if c.Concurrency < 1 || c.Queue < 0 || c.QueueTimeout <= 0 {
		errs = append(errs, errors.New("password hashing needs a concurrency of at least 1 and a queue timeout longer than zero"))
	}
	return errors.Join(errs...)
}
