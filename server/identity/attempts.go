package identity

import (
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"patrol/server/request"
	"patrol/server/window"
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
	pairs    [2]*window.Limit[pairKey]    // by whether the account exists
	accounts [2]*window.Limit[accountKey] // likewise
	networks [2]*window.Limit[netip.Prefix]
	wide     *window.Limit[netip.Prefix] // IPv6 networks of networks
	hashing  map[netip.Prefix]int        // attempts under way, of those that are not known
	familiar *window.Recent[pairKey]     // sign-ins to an account from an address
}

const (
	addressWindow = time.Minute
	accountWindow = time.Hour
	familiarFor   = 30 * 24 * time.Hour

	// wideNetworks multiplies the failures of a network to the bound of its /48: a
	// provider hands out that much to one customer.
	wideNetworks = 4
	// atOnce bounds the attempts of strangers that one network may have under way. More are
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

// place is the origin of an attempt: the hash of a network's text, or of what
// makes a browser or session known.
type place [sha256.Size]byte

type pairKey struct {
	account accountKey
	place   place
}

func newAttempts(cfg LoginConfig, now func() time.Time) *attempts {
	a := &attempts{
		now: now, wide: window.NewLimit[netip.Prefix](wideNetworks*cfg.PerNetwork, addressWindow, cfg.TrackedEntries),
		hashing: map[netip.Prefix]int{}, familiar: window.NewRecent[pairKey](cfg.TrackedEntries),
	}
	for i := range 2 {
		a.pairs[i] = window.NewLimit[pairKey](cfg.PerAddress, addressWindow, cfg.TrackedEntries)
		a.accounts[i] = window.NewLimit[accountKey](cfg.PerAccount, accountWindow, cfg.TrackedEntries)
		a.networks[i] = window.NewLimit[netip.Prefix](cfg.PerNetwork, addressWindow, cfg.TrackedEntries)
	}
	return a
}

// guess is an attempt that somebody wants to make.
type guess struct {
	account string // a name as it was normalized
	exists  bool   // there is such an account
	from    netip.Addr
	// known identifies the sender to the account, beside the address: a browser or a
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
	// masked is the time that a wrong password is told to wait, for a network over its
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
	if w := a.familiar.Peek(t.network); w != nil && w.Wait(t.at, familiarFor, 1) > 0 {
		t.known = true
	}
	// Whoever shows nothing but where they come from is told the same for every account
	// there, also for those that know the network.
	if g.known == "" {
		t.masked = max(a.networks[anybody].Wait(t.at, t.prefix), a.wide.Wait(t.at, t.wide))
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
	if wait := a.pairs[kind].Wait(t.at, t.pair); wait > 0 {
		return refuse(wait)
	}
	if !t.known {
		if wait := a.accounts[kind].Wait(t.at, account); wait > 0 {
			return refuse(wait)
		}
		if t.masked > 0 && (!g.exists || a.networks[existing].Wait(t.at, t.prefix) > 0) {
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
	return a.accounts[kind].Wait(now, t.network.account) > 0 || a.networks[anybody].Wait(now, t.prefix) > 0 ||
		a.wide.Wait(now, t.wide) > 0 || a.hashing[t.prefix] >= atOnce
}

// reserve counts an attempt that is under way, or with -1 ends that.
func (a *attempts) reserve(t *attempt, n int) {
	kind := kindOf(t.guess.exists)
	a.pairs[kind].Hold(t.pair, n)
	if t.known {
		return
	}
	a.accounts[kind].Hold(t.pair.account, n)
	a.networks[anybody].Hold(t.prefix, n)
	a.wide.Hold(t.wide, n)
	if t.guess.exists {
		a.networks[existing].Hold(t.prefix, n)
	}
	if a.hashing[t.prefix] += n; a.hashing[t.prefix] == 0 {
		delete(a.hashing, t.prefix)
	}
}

// outcome is the result of an attempt.
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
		a.familiar.Get(t.network).Add(t.at, 1)
	case wrong:
		a.pairs[kind].Count(t.at, t.pair)
		if t.pair != t.network { // who is known fills the window of strangers there, not the other way round
			a.pairs[kind].Count(t.at, t.network)
		}
		if t.known {
			return
		}
		a.accounts[kind].Count(t.at, t.pair.account)
		a.networks[anybody].Count(t.at, t.prefix)
		a.wide.Count(t.at, t.wide)
		if t.guess.exists {
			a.networks[existing].Count(t.at, t.prefix)
		}
	}
}

// lane returns the lane in which the attempt waits for its turn to be hashed.
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

// wideNetwork returns the network of one customer of a provider: an IPv6 /48. All IPv4
// addresses stand alone, and have none.
func wideNetwork(addr netip.Addr) netip.Prefix {
	if !addr.Is6() {
		return netip.Prefix{}
	}
	return request.NetworkOf(addr, 48)
}

func tooMany(wait time.Duration) error {
	return window.TooSoon(wait, "too many failed attempts; wait before the next")
}
