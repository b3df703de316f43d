package extauthz_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"patrol/server/extauthz"
)

// One address opens more connections than there are places. An Envoy at another is
// answered.
func TestConnectionsOfEnvoyAreBounded(t *testing.T) {
	const places, more = 16, 50
	for name, says := range map[string]string{"says nothing": "", "speaks HTTP/2": http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"} {
		t.Run(name, func(t *testing.T) {
			b := start(t, func(c *extauthz.Config) { c.MaxConnections = places })
			for range places + more {
				conn, err := net.Dial("tcp", b.server.Addr())
				require.NoError(t, err)
				t.Cleanup(func() { _ = conn.Close() })
				_, _ = io.WriteString(conn, says) // it may be closed
			}
			conn, err := grpc.NewClient(b.server.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
				return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext(ctx, "tcp", addr)
			}))
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.Close() })
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			res, err := authv3.NewAuthorizationClient(conn).Check(ctx, &authv3.CheckRequest{})
			require.NoError(t, err)
			assert.NotNil(t, res.GetDeniedResponse(), "it was judged")
		})
	}
}
