package request_test

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/server/request"
)

func TestClientAddress(t *testing.T) {
	trusted, err := request.ParseProxies([]string{"10.0.0.0/8", "192.0.2.1", "2001:db8::/32"})
	require.NoError(t, err)
	for _, tc := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"nobody in between", "203.0.113.9:4711", nil, "203.0.113.9"},
		{"a stranger's header", "203.0.113.9:4711", []string{"198.51.100.7"}, "203.0.113.9"},
		{"one proxy", "10.1.2.3:80", []string{"198.51.100.7"}, "198.51.100.7"},
		{"two proxies", "10.1.2.3:80", []string{"198.51.100.7, 192.0.2.1"}, "198.51.100.7"},
		{"two lines", "10.1.2.3:80", []string{"198.51.100.7", "10.9.9.9"}, "198.51.100.7"},
		{"forged further left", "10.1.2.3:80", []string{"1.1.1.1, 198.51.100.7, 10.2.2.2"}, "198.51.100.7"},
		{"with a port", "10.1.2.3:80", []string{"198.51.100.7:5000"}, "198.51.100.7"},
		{"IPv6 with a port", "[2001:db8::1]:80", []string{"[2a00::1]:5000"}, "2a00::1"},
		{"IPv4 in IPv6", "[::ffff:10.1.2.3]:80", []string{"::ffff:198.51.100.7"}, "198.51.100.7"},
		{"nothing but proxies", "10.1.2.3:80", []string{"10.2.2.2"}, "10.2.2.2"},
		{"no header", "10.1.2.3:80", nil, "10.1.2.3"},
		{"garbage", "10.1.2.3:80", []string{"198.51.100.7, unknown"}, "10.1.2.3"},
		{"a zone", "[fe80::1%eth0]:80", nil, "fe80::1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: tc.peer, Header: http.Header{"X-Forwarded-For": tc.forwarded}}
			assert.Equal(t, netip.MustParseAddr(tc.want), trusted.Client(request.PeerOf(r), r.Header))
		})
	}
	assert.False(t, trusted.Client(request.PeerOf(&http.Request{RemoteAddr: "@"}), nil).IsValid(), "a Unix socket has no address")
}
