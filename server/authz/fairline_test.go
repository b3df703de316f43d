package authz

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func address(text string) netip.Prefix { return AddressGroup(netip.MustParseAddr(text)) }

// One address has a hundred in line before others come; they are served in turns all
// the same, and within an address in the order in which they came.
func TestFairLineTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFairLine(1)
		leave, err := line.enter(t.Context(), address("192.0.2.1"))
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var served []string
		wait := func(from string) {
			go func() {
				leave, err := line.enter(t.Context(), address(from))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				served = append(served, from)
				mu.Unlock()
				leave()
			}()
			synctest.Wait()
		}
		for range 100 {
			wait("192.0.2.1")
		}
		wait("192.0.2.2")
		wait("192.0.2.3")
		wait("192.0.2.2")
		leave()
		synctest.Wait()
		if len(served) != 103 {
			t.Fatalf("%d were served", len(served))
		}
		want := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.1", "192.0.2.2", "192.0.2.1"}
		if !slices.Equal(served[:6], want) {
			t.Errorf("served %v, want %v", served[:6], want)
		}
		if line.free != 1 || line.waiting != 0 || line.turns.Len() != 0 || len(line.parties) != 0 {
			t.Errorf("the line is not empty: %+v", line)
		}
	})
}

func TestFairLineEndsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := newFairLine(1)
		leave, err := line.enter(t.Context(), address("192.0.2.1"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if _, err := line.enter(ctx, address("192.0.2.2")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error is %v", err)
		}
		if waited := time.Since(begin); waited != time.Second {
			t.Errorf("waited %s", waited)
		}
		leave()
		if line.free != 1 || line.waiting != 0 || len(line.parties) != 0 {
			t.Errorf("the line is not empty: %+v", line)
		}
	})
}

// A line that is full refuses at once, an address' share of it before the whole.
func TestFairLineIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		line := newFairLine(1)
		leave, err := line.enter(ctx, address("192.0.2.1"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range maxWaiting {
			from := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i / maxWaitingAlike)}), 32)
			go func() { _, _ = line.enter(ctx, from) }()
			synctest.Wait()
			if i == maxWaitingAlike-1 {
				if _, err := line.enter(ctx, from); !errors.Is(err, errLineFull) {
					t.Errorf("more than an address' share: %v", err)
				}
			}
		}
		if _, err := line.enter(ctx, address("192.0.2.9")); !errors.Is(err, errLineFull) {
			t.Errorf("more than the whole: %v", err)
		}
		cancel()
		synctest.Wait()
		leave()
		if line.free != 1 || line.waiting != 0 || len(line.parties) != 0 {
			t.Errorf("the line is not empty: %+v", line)
		}
	})
}
