package authz

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
)

// lookups bounds what callers who hold no valid token can make the store do.
// Whoever is over a bound waits in line, and until the look-up's own deadline: an
// answer changes only for those who wait in vain. Addresses take turns in the line,
// so one that makes many requests waits for itself.
type lookups struct {
	clock func() time.Time
	wide  *fairLine // for ids that never verified
	slow  *fairLine // for addresses that fail too often
	// proven remembers what ids verified against here; they pass without waiting. It
	// outlives the cached facts, which every change of a token drops.
	proven *otter.Cache[string, proof]

	perMinute int
	failures  *otter.Cache[netip.Prefix, *rate.Limiter]
}

func newLookups(cfg Config) *lookups {
	return &lookups{
		clock:     cfg.Clock,
		wide:      newFairLine(cfg.MaxLookups),
		slow:      newFairLine(cfg.SlowLookups),
		proven:    otter.Must(&otter.Options[string, proof]{MaximumSize: cfg.CacheSize}),
		perMinute: cfg.FailuresPerMin,
		failures: otter.Must(&otter.Options[netip.Prefix, *rate.Limiter]{
			MaximumSize:      10_000,
			ExpiryCalculator: otter.ExpiryAccessing[netip.Prefix, *rate.Limiter](2 * time.Minute),
		}),
	}
}

// enter waits for a place to look up id on behalf of ip, until ctx ends. The
// caller calls release when the look-up is over.
func (l *lookups) enter(ctx context.Context, id string, ip netip.Addr) (release func(), err error) {
	if _, ok := l.proven.GetIfPresent(id); ok {
		return func() {}, nil
	}
	lane := l.wide
	if l.slowed(ip) {
		lane = l.slow
	}
	release, err = lane.enter(ctx, AddressGroup(ip))
	if err != nil {
		return nil, fmt.Errorf("waited in vain for a place to look up a token: %w", err)
	}
	return release, nil
}

// failed notes that a token from ip did not verify.
func (l *lookups) failed(ip netip.Addr) {
	l.limiter(ip).AllowN(l.clock(), 1)
}

// slowed reports whether ip has used up its failures.
func (l *lookups) slowed(ip netip.Addr) bool {
	limiter, ok := l.failures.GetIfPresent(AddressGroup(ip))
	return ok && limiter.TokensAt(l.clock()) < 1
}

func (l *lookups) limiter(ip netip.Addr) *rate.Limiter {
	key := AddressGroup(ip)
	limiter, _ := l.failures.ComputeIfAbsent(key, func() (*rate.Limiter, bool) {
		return rate.NewLimiter(rate.Every(time.Minute/time.Duration(l.perMinute)), l.perMinute), false
	})
	return limiter
}

// proof is the MAC that a token's secret verified against, and the key it was made with.
type proof struct {
	keyID string
	mac   []byte
}

// proved notes that the token with this id verified.
func (l *lookups) proved(id string, by proof) {
	if last, ok := l.proven.GetIfPresent(id); !ok || last.keyID != by.keyID {
		l.proven.Set(id, by)
	}
}

// AddressGroup groups addresses that one party is likely to hold: an IPv4 address
// alone, an IPv6 /64.
func AddressGroup(ip netip.Addr) netip.Prefix {
	ip = ip.Unmap()
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	prefix, err := ip.Prefix(bits)
	if err != nil { // the zero address: an unknown peer
		return netip.Prefix{}
	}
	return prefix
}
