package server

import (
	"container/list"
	"crypto/sha256"
	"net/netip"
	"slices"
	"sync"
	"time"

	"patrol/models"
)

// attempts bounds guessing at secrets that people choose or type. It counts
// failures in two sliding windows: per account and client address, a minute
// long, and per account over all addresses, an hour long.
//
// The second one stops a guesser with many addresses, and would by itself let
// anybody lock an account's owner out for as long as they care to send garbage.
// So it does not bind addresses from which somebody signed in to the account
// within the last 30 days: those keep only their own limit. An account whose
// owner moves to a new address during an attack waits at most an hour.
//
// An attempt is counted before the secret is checked and taken back on success,
// so that many at a time are not more than the limit. Accounts are kept as
// hashes of what was typed, whether they exist or not, and at most a configured
// number of each kind; the one unused for longest is forgotten first. Making the
// limiter forget costs one password hash for each entry, more than the limit
// would have.
type attempts struct {
	perAddress, perAccount int
	now                    func() time.Time

	mu       sync.Mutex
	pairs    *recent[pairKey]    // failures of an account from an address
	accounts *recent[accountKey] // failures of an account
	familiar *recent[pairKey]    // sign-ins to an account from an address
}

const (
	addressWindow = time.Minute
	accountWindow = time.Hour
	familiarFor   = 30 * 24 * time.Hour
)

type accountKey [sha256.Size]byte

type pairKey struct {
	account accountKey
	network netip.Prefix
}

func newAttempts(cfg LoginConfig, now func() time.Time) *attempts {
	return &attempts{
		perAddress: cfg.PerAddress, perAccount: cfg.PerAccount, now: now,
		pairs:    newRecent[pairKey](cfg.TrackedEntries),
		accounts: newRecent[accountKey](cfg.TrackedEntries),
		familiar: newRecent[pairKey](cfg.TrackedEntries),
	}
}

// attempt is one guess that was let through.
type attempt struct {
	of   *attempts
	pair pairKey
	at   time.Time
}

// begin counts an attempt at account, a name as it was normalized, from addr. It
// fails with CodeRateLimited if there were too many.
func (a *attempts) begin(account string, addr netip.Addr) (*attempt, error) {
	now := a.now()
	key := pairKey{account: sha256.Sum256([]byte(account)), network: network(addr)}
	a.mu.Lock()
	defer a.mu.Unlock()

	pair := a.pairs.get(key)
	if wait := pair.wait(now, addressWindow, a.perAddress); wait > 0 {
		return nil, tooMany(wait)
	}
	all := a.accounts.get(key.account)
	known := a.familiar.peek(key)
	if known == nil || known.wait(now, familiarFor, 1) == 0 {
		if wait := all.wait(now, accountWindow, a.perAccount); wait > 0 {
			return nil, tooMany(wait)
		}
	}
	pair.add(now, a.perAddress)
	all.add(now, a.perAccount)
	return &attempt{of: a, pair: key, at: now}, nil
}

// takeBack uncounts an attempt that was not a wrong guess: it could not be
// checked.
func (t *attempt) takeBack() {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	t.uncount()
}

// succeeded uncounts an attempt that was right and remembers the address.
func (t *attempt) succeeded() {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	t.uncount()
	t.of.familiar.get(t.pair).add(t.at, 1)
}

func (t *attempt) uncount() {
	t.of.pairs.get(t.pair).remove(t.at)
	t.of.accounts.get(t.pair.account).remove(t.at)
}

// network is what counts as one address: an IPv6 client has a /64 to itself.
func network(addr netip.Addr) netip.Prefix {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	prefix, err := addr.Prefix(bits)
	if err != nil { // no address: all of those count as one
		return netip.Prefix{}
	}
	return prefix
}

func tooMany(wait time.Duration) error {
	return waitFor(wait, "too many failed attempts; wait before the next")
}

// waitFor tells a client when to come again.
func waitFor(wait time.Duration, message string) error {
	err := models.NewError(models.CodeRateLimited, message)
	err.RetryAfter = int((wait + time.Second - 1) / time.Second)
	return err
}

// window holds the times of the newest events, oldest first.
type window struct{ times []time.Time }

// wait returns how long it is until fewer than limit events lie within length
// before now; 0 if that is so already.
func (w *window) wait(now time.Time, length time.Duration, limit int) time.Duration {
	if len(w.times) < limit {
		return 0
	}
	return max(0, w.times[len(w.times)-limit].Add(length).Sub(now))
}

// add notes an event and forgets all but the newest keep.
func (w *window) add(now time.Time, keep int) {
	if len(w.times) >= keep {
		w.times = append(w.times[:0], w.times[len(w.times)-keep+1:]...)
	}
	w.times = append(w.times, now)
}

// remove forgets one event of the time at.
func (w *window) remove(at time.Time) {
	for i, t := range slices.Backward(w.times) {
		if t.Equal(at) {
			w.times = append(w.times[:i], w.times[i+1:]...)
			return
		}
	}
}

// recent is a map of windows that forgets the one unused for longest when it is
// full.
type recent[K comparable] struct {
	size  int
	byKey map[K]*list.Element
	order *list.List // of *entry[K], most recently used first
}

type entry[K comparable] struct {
	key K
	window
}

func newRecent[K comparable](size int) *recent[K] {
	return &recent[K]{size: size, byKey: map[K]*list.Element{}, order: list.New()}
}

// get returns the window of key, a new one if there is none.
func (r *recent[K]) get(key K) *window {
	if w := r.peek(key); w != nil {
		return w
	}
	if r.order.Len() >= r.size {
		oldest := r.order.Back()
		delete(r.byKey, r.order.Remove(oldest).(*entry[K]).key)
	}
	e := &entry[K]{key: key}
	r.byKey[key] = r.order.PushFront(e)
	return &e.window
}

// peek returns the window of key, or nil.
func (r *recent[K]) peek(key K) *window {
	element, ok := r.byKey[key]
	if !ok {
		return nil
	}
	r.order.MoveToFront(element)
	return &element.Value.(*entry[K]).window
}
