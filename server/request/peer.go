package request

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// PeerOf returns the address in the request's RemoteAddr: of the other end of the
// connection, unless it was replaced by the client's. It is invalid for a Unix socket.
func PeerOf(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return Plain(peer.Addr())
}

// Plain returns an address in the form in which addresses are compared: IPv4 in IPv6 as
// IPv4, and without a zone.
func Plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// Proxies are the peers whose X-Forwarded-For names the client.
type Proxies []netip.Prefix

// ParseProxies reads addresses and ranges.
func ParseProxies(texts []string) (Proxies, error) {
	var out Proxies
	for _, text := range texts {
		prefix, err := ParseNetwork(text)
		if err != nil {
			return nil, fmt.Errorf("trusted proxy %q is neither an address nor a range such as 10.0.0.0/8", text)
		}
		out = append(out, prefix)
	}
	return out, nil
}

// ParseNetwork reads an address or a range.
func ParseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	return prefix.Masked(), err
}

// Trust reports whether a peer is one of the proxies.
func (p Proxies) Trust(addr netip.Addr) bool {
	return slices.ContainsFunc(p, func(prefix netip.Prefix) bool { return prefix.Contains(addr) })
}

// Client returns the address that a request comes from: the peer's, or if that is a
// trusted proxy, the last address in h's X-Forwarded-For that is not one.
func (p Proxies) Client(peer netip.Addr, h http.Header) netip.Addr {
	if !p.Trust(peer) {
		return peer
	}
	lines := h["X-Forwarded-For"]
	for _, rest := range slices.Backward(lines) {
		for rest != "" {
			var hop string
			if at := strings.LastIndexByte(rest, ','); at >= 0 {
				rest, hop = rest[:at], rest[at+1:]
			} else {
				rest, hop = "", rest
			}
			next, ok := ParseHop(hop)
			if !ok {
				return peer // the chain cannot be believed any further
			}
			if peer = next; !p.Trust(peer) {
				return peer
			}
		}
	}
	return peer
}

// Forwarded reports whether a request has a header that proxies add on the way.
func Forwarded(h http.Header) bool {
	for name := range h {
		switch name = folded(name); {
		case name == "forwarded", name == "via", strings.HasPrefix(name, "x-forwarded-"), strings.HasSuffix(name, "-ip"), strings.HasPrefix(name, "x-envoy-"):
			return true
		}
	}
	return false
}

// LastHop returns the last address in h's X-Forwarded-For, the only one that the proxy at
// the other end of the connection wrote itself.
func LastHop(h http.Header) (netip.Addr, bool) {
	lines := h["X-Forwarded-For"]
	if len(lines) == 0 {
		return netip.Addr{}, false
	}
	line := lines[len(lines)-1]
	return ParseHop(line[strings.LastIndexByte(line, ',')+1:])
}

// ParseHop reads one entry of X-Forwarded-For; some proxies add a port.
func ParseHop(text string) (netip.Addr, bool) {
	text = strings.TrimSpace(text)
	if addr, err := netip.ParseAddr(text); err == nil {
		return Plain(addr), true
	}
	if hostPort, err := netip.ParseAddrPort(text); err == nil {
		return Plain(hostPort.Addr()), true
	}
	return netip.Addr{}, false
}

// Network is the addresses that count as one client in limits: an IPv6 client has a /64 to
// itself. It is invalid for an invalid address.
func Network(addr netip.Addr) netip.Prefix { return NetworkOf(addr, 64) }

// NetworkOf is [Network] with another size for IPv6.
func NetworkOf(addr netip.Addr, six int) netip.Prefix {
	addr = Plain(addr)
	bits := addr.BitLen()
	if addr.Is6() {
		bits = six
	}
	network, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return network
}
