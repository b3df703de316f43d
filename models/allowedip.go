package models

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// ParseAllowedIP reads an address, or a range in CIDR notation, from which a token may be
// used. IPv4 in IPv6 is IPv4. text is its one spelling: an address stays an address.
func ParseAllowedIP(given string) (text string, prefix netip.Prefix, err error) {
	if addr, err := netip.ParseAddr(given); err == nil {
		if addr.Zone() != "" {
			return "", prefix, errors.New("has a zone, which means nothing to anybody else: leave out what follows the %")
		}
		addr = addr.Unmap()
		return addr.String(), netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err = netip.ParsePrefix(given)
	if err != nil {
		return "", prefix, errors.New("is neither an IPv4 or IPv6 address nor a range such as 203.0.113.0/24 or 2001:db8::/32")
	}
	if addr := prefix.Addr(); addr.Is4In6() && prefix.Bits() >= 96 {
		prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
	}
	if whole := prefix.Masked(); whole != prefix {
		return "", prefix, fmt.Errorf("%s is an address within a range: write %s for the range, or %s for the address alone", prefix, whole, prefix.Addr())
	}
	return prefix.String(), prefix, nil
}

// ValidateAllowedIPs checks the addresses and ranges from which a token may be used, and
// returns them as they are stored. What is wrong is added to v under field, with its index.
func ValidateAllowedIPs(field string, given []string, most int, v *Invalid) []string {
	if len(given) > most {
		v.Add(field, "%d addresses and ranges are more than the maximum of %d", len(given), most)
		return nil
	}
	var texts []string
	prefixes := make([]netip.Prefix, len(given))
	for i, one := range given {
		at := fmt.Sprintf("%s[%d]", field, i)
		text, prefix, err := ParseAllowedIP(one)
		if err != nil {
			v.Add(at, "%s", err.Error())
			continue
		}
		if same := slices.Index(prefixes[:i], prefix); same >= 0 {
			v.Add(at, "is the same as %s[%d]", field, same)
			continue
		}
		prefixes[i] = prefix
		texts = append(texts, text)
	}
	return texts
}

// AllowedPrefix is an entry of [PAT.AllowedIPs] as a range.
func AllowedPrefix(entry string) (netip.Prefix, bool) {
	_, prefix, err := ParseAllowedIP(entry)
	return prefix, err == nil
}

// AllowsFrom reports whether a token may be used from an address, which is invalid if
// nobody knows it.
func (p PAT) AllowsFrom(addr netip.Addr) bool {
	if len(p.AllowedIPs) == 0 {
		return true
	}
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(p.AllowedIPs, func(entry string) bool {
		prefix, ok := AllowedPrefix(entry)
		return ok && prefix.Contains(addr)
	})
}

// within reports whether a range of the list contains an entry of another.
func within(list []string, entry string) bool {
	to, ok := AllowedPrefix(entry)
	return ok && slices.ContainsFunc(list, func(entry string) bool {
		from, ok := AllowedPrefix(entry)
		return ok && from.Bits() <= to.Bits() && from.Contains(to.Addr())
	})
}

// WidensAllowedIPs reports whether a token could be used from more addresses with after
// than with before; empty is from everywhere. A range counts as more unless one that was
// there contains it.
func WidensAllowedIPs(before, after []string) bool {
	switch {
	case len(before) == 0:
		return false
	case len(after) == 0:
		return true
	}
	return slices.ContainsFunc(after, func(entry string) bool { return !within(before, entry) })
}

// CommonAllowedIPs are the addresses and ranges that are in both lists, of which an empty one
// has them all.
func CommonAllowedIPs(a, b []string) []string {
	switch {
	case len(a) == 0:
		return slices.Clone(b)
	case len(b) == 0:
		return slices.Clone(a)
	}
	var both []string
	for _, entry := range a {
		if within(b, entry) {
			both = append(both, entry)
		}
	}
	for _, entry := range b {
		if within(a, entry) && !slices.Contains(both, entry) {
			both = append(both, entry)
		}
	}
	return both
}
