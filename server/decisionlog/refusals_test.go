package decisionlog

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"patrol/models"
)

func TestRefusalsOfAnyNumberOfAddressesTakeBoundedRoom(t *testing.T) {
	at := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	for name, address := range map[string]func(i int) netip.Addr{
		"IPv4":             func(i int) netip.Addr { return netip.AddrFrom4([4]byte{byte(i >> 16), byte(i >> 8), byte(i), 1}) },
		"one IPv6 network": func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8:%x:%x::1", i>>16, i&0xffff)) },
		"IPv6 networks":    func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2%03x:%x::1", i>>16, i&0xffff)) },
		"unknown peers":    func(int) netip.Addr { return netip.Addr{} },
	} {
		r := newRefusals(RefusedConfig{Addresses: 10, Samples: 2, SamplesInAll: 15})
		kept := 0
		for i := range 100_000 {
			if r.count(address(i), at, models.TokenUnknown, false) {
				kept++
			}
		}
		assert.LessOrEqual(t, len(r.groups), 2*10+1, name)
		assert.LessOrEqual(t, kept, 15, name)
		var total sums
		for _, sum := range r.take() {
			assert.Equal(t, models.TokenUnknown, sum.reason)
			total.calls, total.decisions, total.kept = total.calls+sum.calls, total.decisions+sum.decisions, total.kept+sum.kept
		}
		assert.Equal(t, sums{100_000, 100_000, int64(kept)}, total, "%s: each is counted once", name)
		assert.Empty(t, r.take())
	}
}

func TestRefusalsAreCountedByAddressAndMinute(t *testing.T) {
	at := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	r := newRefusals(RefusedConfig{Addresses: 10, Samples: 2, SamplesInAll: 100})
	keeps := 0
	call := func(ip string, at time.Time, code models.ReasonCode, answers int) {
		for i := range answers {
			if r.count(netip.MustParseAddr(ip), at, code, i > 0) {
				keeps++
			}
		}
	}
	call("192.0.2.1", at, models.TokenMissing, 100)
	call("::ffff:192.0.2.1", at, models.TokenMissing, 1)
	call("192.0.2.1", at, models.TokenUnknown, 1)
	call("2001:db8::1", at, models.TokenMalformed, 1)
	call("2001:db8::2", at.Add(55*time.Second), models.TokenMalformed, 1)
	r.lost(netip.MustParseAddr("2001:db8::2"), at.Add(55*time.Second), models.TokenMalformed)
	call("192.0.2.1", at.Add(time.Minute), "of a policy to come", 1)
	assert.Equal(t, 2+2+1, keeps, "two of an address and minute, a batch is one")
	got := map[string]sums{}
	for _, sum := range r.take() {
		got[fmt.Sprint(sum.minute-at.Unix()/60, " ", address(sum.from), " ", sum.reason)] = sum.sums
	}
	assert.Equal(t, map[string]sums{
		"0 192.0.2.1 token_missing":       {2, 101, 2},
		"0 192.0.2.1 token_unknown":       {1, 1, 0},
		"0 2001:db8::/64 token_malformed": {1, 1, 1},
		"1 2001:db8::/64 token_malformed": {1, 1, 0},
		"1 192.0.2.1 unavailable":         {1, 1, 1},
	}, got)
}
