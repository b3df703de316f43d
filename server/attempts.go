package server

import (
	"container/list"
	"crypto/sha256"
	"net/netip"
	"slices"
	"sync"
	"time"

	"patrol/models"
	"patrol/server/request"
)

// attempts bounds guessing at passwords. It counts failures in sliding windows: per
// account and place, a minute long; per account over all places, an hour long; and
// per network over all accounts, a minute long. A place is a network, or a browser or
// session that the account knows.
//
// A limit that strangers can use up must not keep an account's owner out. So the last
// two do not bind who is known to the account: a browser that somebody signed in with,
// a session of theirs, an address from which they signed in within the last 30 days.
// They have a window of their own, which others cannot fill. Nor does the limit of a
// network bind a right password for an account that exists, until that network has
// failed at as many accounts that exist: invented addresses are cheap, and crowd out
// nobody. What the limit does to wrong passwords must look the same for both, so they
// are all answered alike, after the same time; see [attempts.begin].
//
// Nothing is remembered but failures, each of which took a password hash. While an
// attempt is under way it counts as one, so that many at a time are not more than the
// limit. Accounts are kept as hashes of what was typed. Those that exist are
// remembered apart from those that do not, so that invented names never make the
// limiter forget an account; of each kind at most a configured number is kept, and the
// one unused for longest is forgotten first.
type attempts struct {
	now func() time.Time

	mu       sync.Mutex
	pairs    [2]*limit[pairKey]    // by whether the account exists
	accounts [2]*limit[accountKey] // likewise
	networks [2]*limit[netip.Prefix]
	wide     *limit[netip.Prefix] // IPv6 networks of networks
	hashing  map[netip.Prefix]int // attempts under way, of those that are not known
	familiar *recent[pairKey]     // sign-ins to an account from an address
}

const (
	addressWindow = time.Minute
	accountWindow = time.Hour
	familiarFor   = 30 * 24 * time.Hour

	// wideNetworks is how many times the failures of a network its /48 may have: a
	// provider hands out that much to one customer.
	wideNetworks = 4
	// atOnce is how many attempts of strangers one network may have under way. More are
	// treated as if they were over its limit.
	atOnce = 8
)

// The indices of what is counted apart.
const (
	invented = iota // no account has this name
	existing
	// anybody are the failures of a network at all accounts, which decides what it is
	// told; existing are those at accounts that exist.
	anybody = invented
)

type accountKey [sha256.Size]byte

// place is where an attempt comes from: the hash of a network's text, or of what
// makes a browser or session known.
type place [sha256.Size]byte

type pairKey struct {
	account accountKey
	place   place
}

func newAttempts(cfg LoginConfig, now func() time.Time) *attempts {
	a := &attempts{
		now: now, wide: newLimit[netip.Prefix](wideNetworks*cfg.PerNetwork, addressWindow, cfg.TrackedEntries),
		hashing: map[netip.Prefix]int{}, familiar: newRecent[pairKey](cfg.TrackedEntries),
	}
	for i := range 2 {
		a.pairs[i] = newLimit[pairKey](cfg.PerAddress, addressWindow, cfg.TrackedEntries)
		a.accounts[i] = newLimit[accountKey](cfg.PerAccount, accountWindow, cfg.TrackedEntries)
		a.networks[i] = newLimit[netip.Prefix](cfg.PerNetwork, addressWindow, cfg.TrackedEntries)
	}
	return a
}

// guess is an attempt that somebody wants to make.
type guess struct {
	account string // a name as it was normalized
	exists  bool   // there is such an account
	from    netip.Addr
	// known is what the account knows the sender by beside the address: a browser or a
	// session; "": nothing.
	known string
	// session reports whether the account has a session from this address. It is asked
	// only where a limit would bind.
	session func() bool
}

// attempt is a guess that was let through.
type attempt struct {
	of      *attempts
	guess   guess
	at      time.Time
	pair    pairKey // whose window it is held to
	network pairKey // the window of its network
	prefix  netip.Prefix
	wide    netip.Prefix
	known   bool
	// masked is how long a wrong password is told to wait, for a network over its
	// limit; 0: it is told that it is wrong.
	masked time.Duration
}

// begin lets a guess through, or fails with CodeRateLimited. later says that the
// refusal must look like that of a wrong password, which takes its time: the network
// is over its limit, the account does not exist, and nothing was hashed. finish must be
// called on an attempt.
func (a *attempts) begin(g guess) (t *attempt, later bool, err error) {
	t = &attempt{of: a, guess: g, prefix: request.Network(g.from), wide: wideNetwork(g.from)}
	account := sha256.Sum256([]byte(g.account))
	t.network = pairKey{account, sha256.Sum256([]byte("network " + t.prefix.String()))}
	t.pair, t.known = t.network, g.known != ""
	if t.known {
		t.pair.place = sha256.Sum256([]byte("known " + g.known))
	}
	kind := kindOf(g.exists)
	if !t.known && a.bound(t, kind) && g.session != nil {
		t.known = g.session() // outside of the lock: it asks the database
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	t.at = a.now()
	if w := a.familiar.peek(t.network); w != nil && w.wait(t.at, familiarFor, 1) > 0 {
		t.known = true
	}
	// Whoever shows nothing but where they come from is told the same for every account
	// there, also for those that know the network.
	if g.known == "" {
		t.masked = max(a.networks[anybody].wait(t.at, t.prefix), a.wide.wait(t.at, t.wide))
		if t.masked == 0 && a.hashing[t.prefix] >= atOnce {
			t.masked = time.Second
		}
	}
	refuse := func(wait time.Duration) (*attempt, bool, error) {
		if t.masked > 0 {
			return nil, true, tooMany(t.masked)
		}
		return nil, false, tooMany(wait)
	}
	if wait := a.pairs[kind].wait(t.at, t.pair); wait > 0 {
		return refuse(wait)
	}
	if !t.known {
		if wait := a.accounts[kind].wait(t.at, account); wait > 0 {
			return refuse(wait)
		}
		if t.masked > 0 && (!g.exists || a.networks[existing].wait(t.at, t.prefix) > 0) {
			return refuse(0)
		}
	}
	a.reserve(t, 1)
	return t, false, nil
}

// bound reports whether a limit that does not bind who is known would bind t.
func (a *attempts) bound(t *attempt, kind int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	return a.accounts[kind].wait(now, t.network.account) > 0 || a.networks[anybody].wait(now, t.prefix) > 0 ||
		a.wide.wait(now, t.wide) > 0 || a.hashing[t.prefix] >= atOnce
}

// reserve counts an attempt that is under way, or with -1 ends that.
func (a *attempts) reserve(t *attempt, n int) {
	kind := kindOf(t.guess.exists)
	a.pairs[kind].hold(t.pair, n)
	if t.known {
		return
	}
	a.accounts[kind].hold(t.pair.account, n)
	a.networks[anybody].hold(t.prefix, n)
	a.wide.hold(t.wide, n)
	if t.guess.exists {
		a.networks[existing].hold(t.prefix, n)
	}
	if a.hashing[t.prefix] += n; a.hashing[t.prefix] == 0 {
		delete(a.hashing, t.prefix)
	}
}

// outcome is what became of an attempt.
type outcome int

const (
	untried outcome = iota // the password could not be checked
	wrong
	right
)

// finish counts an attempt if it was wrong, and remembers the address if it was right.
func (t *attempt) finish(o outcome) {
	a := t.of
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reserve(t, -1)
	kind := kindOf(t.guess.exists)
	switch o {
	case untried:
	case right:
		a.familiar.get(t.network).add(t.at, 1)
	case wrong:
		a.pairs[kind].count(t.at, t.pair)
		if t.pair != t.network { // who is known fills the window of strangers there, not the other way round
			a.pairs[kind].count(t.at, t.network)
		}
		if t.known {
			return
		}
		a.accounts[kind].count(t.at, t.pair.account)
		a.networks[anybody].count(t.at, t.prefix)
		a.wide.count(t.at, t.wide)
		if t.guess.exists {
			a.networks[existing].count(t.at, t.prefix)
		}
	}
}

// lane is where the attempt waits for its turn to be hashed.
func (t *attempt) lane() lane {
	switch {
	case t.known:
		return laneKnown
	case t.masked > 0:
		return laneExisting
	default:
		return laneNew
	}
}

func kindOf(exists bool) int {
	if exists {
		return existing
	}
	return invented
}

// wideNetwork is what one customer of a provider may have: an IPv6 /48. All IPv4
// addresses stand alone, and have none.
func wideNetwork(addr netip.Addr) netip.Prefix {
	if !addr.Is6() {
		return netip.Prefix{}
	}
	return request.NetworkOf(addr, 48)
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

// limit permits so many failures of each key within a length of time.
type limit[K comparable] struct {
	most    int
	length  time.Duration
	failed  *recent[K]
	pending map[K]int // attempts under way, as many as there are at most
}

func newLimit[K comparable](most int, length time.Duration, size int) *limit[K] {
	return &limit[K]{most: most, length: length, failed: newRecent[K](size), pending: map[K]int{}}
}

// wait returns how long it is until another attempt is permitted, 0 if it is now.
// Looking makes no entry. The zero prefix stands for no network, and has no limit.
func (l *limit[K]) wait(now time.Time, key K) time.Duration {
	var failures window
	if w := l.failed.peek(key); w != nil {
		failures = *w
	}
	most := l.most - l.pending[key]
	if any(key) == any(netip.Prefix{}) {
		return 0
	}
	if most <= 0 { // those under way may be right
		return max(time.Second, failures.wait(now, l.length, l.most))
	}
	return failures.wait(now, l.length, most)
}

// hold counts n attempts more as under way.
func (l *limit[K]) hold(key K, n int) {
	if l.pending[key] += n; l.pending[key] == 0 {
		delete(l.pending, key)
	}
}

// count notes a failure.
func (l *limit[K]) count(now time.Time, key K) {
	if any(key) == any(netip.Prefix{}) {
		return
	}
	l.failed.get(key).add(now, l.most)
}

// window holds the times of the newest events, oldest first, in Unix nanoseconds.
type window struct{ times []int64 }

// wait returns how long it is until fewer than limit events lie within length
// before now; 0 if that is so already.
func (w *window) wait(now time.Time, length time.Duration, limit int) time.Duration {
	if len(w.times) < limit {
		return 0
	}
	return max(0, time.Unix(0, w.times[len(w.times)-limit]).Add(length).Sub(now))
}

// add notes an event and forgets all but the newest keep.
func (w *window) add(now time.Time, keep int) {
	if len(w.times) >= keep {
		w.times = append(w.times[:0], w.times[len(w.times)-keep+1:]...)
	}
	w.times = append(w.times, now.UnixNano())
	slices.Sort(w.times) // attempts end in another order than they began
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
