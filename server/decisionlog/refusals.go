package decisionlog

import (
	"net/netip"
	"sync"
	"time"

	"patrol/models"
	"patrol/server/authz"
)

// refusals counts the refusals of those who showed no token that verifies, by
// address, minute and reason, and says which of them are kept. Anybody can make as
// many of them as they like, from as many addresses: what is counted apart in a
// minute is bounded, and addresses beyond that are counted by the network that they
// are in, then together.
type refusals struct {
	addresses int // counted by themselves in a minute; and networks
	perMinute int // kept of each
	inAll     int // kept of all

	mu     sync.Mutex
	minute int64 // Unix minutes
	groups map[netip.Prefix]*refusedGroup
	single int // of the groups, addresses
	wide   int // networks
	kept   int
	done   []refusedSum // of minutes that are over
}

// refusedGroup counts refusals of one address or network in a minute.
type refusedGroup struct {
	kept int
	sums [len(refusalReasons)]sums // since they were last taken
}

type sums struct{ calls, decisions, kept int64 }

// refusedSum counts one group's refusals for one reason.
type refusedSum struct {
	minute int64
	from   netip.Prefix // zero: any address
	reason models.ReasonCode
	sums
}

// refusalReasons are the reasons of refusals without a token that verifies. What
// is none of them counts as the last.
var refusalReasons = [...]models.ReasonCode{models.TokenMissing, models.TokenMalformed, models.TokenUnknown, models.Unavailable}

func reasonIndex(code models.ReasonCode) int {
	for i, known := range refusalReasons {
		if code == known {
			return i
		}
	}
	return len(refusalReasons) - 1
}

func newRefusals(c RefusedConfig) *refusals {
	return &refusals{addresses: c.Addresses, perMinute: c.Samples, inAll: c.SamplesInAll, groups: map[netip.Prefix]*refusedGroup{}}
}

// count counts a refusal. keep says that it should be kept; whoever cannot says so
// to lost.
func (r *refusals) count(ip netip.Addr, at time.Time, code models.ReasonCode, further bool) (keep bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if minute := at.Unix() / 60; minute != r.minute {
		r.finish()
		r.minute = minute
	}
	g := r.group(ip)
	sum := &g.sums[reasonIndex(code)]
	sum.decisions++
	if further {
		return false
	}
	sum.calls++
	if g.kept >= r.perMinute || r.kept >= r.inAll {
		return false
	}
	g.kept++
	r.kept++
	sum.kept++
	return true
}

// lost takes back that a refusal is kept.
func (r *refusals) lost(ip netip.Addr, at time.Time, code models.ReasonCode) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.Unix()/60 == r.minute {
		r.group(ip).sums[reasonIndex(code)].kept--
	}
}

// group returns what counts what comes from an address.
func (r *refusals) group(ip netip.Addr) *refusedGroup {
	key := authz.AddressGroup(ip)
	if g := r.groups[key]; g != nil {
		return g
	}
	counted := &r.single
	if r.single >= r.addresses {
		key, counted = network(key), &r.wide
		if g := r.groups[key]; g != nil {
			return g
		}
		if r.wide >= r.addresses {
			if key = (netip.Prefix{}); r.groups[key] != nil {
				return r.groups[key]
			}
		}
	}
	*counted++
	g := &refusedGroup{}
	r.groups[key] = g
	return g
}

// network returns the network by which addresses are counted when there are too many: as much of
// one as a large provider may hand out.
func network(key netip.Prefix) netip.Prefix {
	bits := 32
	if key.Addr().Is4() {
		bits = 16
	}
	if !key.IsValid() {
		return key
	}
	return netip.PrefixFrom(key.Addr(), bits).Masked()
}

// finish ends a minute. The caller holds mu.
func (r *refusals) finish() {
	r.collect()
	clear(r.groups)
	r.single, r.wide, r.kept = 0, 0, 0
}

// collect moves what was counted to done. The caller holds mu.
func (r *refusals) collect() {
	for key, g := range r.groups {
		for i, sum := range g.sums {
			if sum != (sums{}) {
				r.done = append(r.done, refusedSum{minute: r.minute, from: key, reason: refusalReasons[i], sums: sum})
			}
		}
		g.sums = [len(refusalReasons)]sums{}
	}
}

// take returns what was counted since it was last asked.
func (r *refusals) take() []refusedSum {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.collect()
	out := r.done
	r.done = nil
	return out
}

// address is an address or network as text.
func address(from netip.Prefix) string {
	switch {
	case !from.IsValid():
		return ""
	case from.IsSingleIP():
		return from.Addr().String()
	default:
		return from.String()
	}
}
