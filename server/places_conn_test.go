package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/server"
)

// One address opens more connections than there are places, and says nothing, or only
// begins a request. Others are served.
func TestConnectionsAreBounded(t *testing.T) {
	const places, more = 64, 200
	for name, c := range map[string]struct {
		says string
		tls  bool
	}{
		"says nothing":          {},
		"begins a request":      {says: "GET /healthz HTTP/1.1\r\nHost:"},
		"over TLS":              {tls: true},
		"ends a request":        {says: "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"},
		"sends no TLS over TLS": {says: "\x16\x03\x01\x7f", tls: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testenv.SQLite(t), func(cfg *server.Config, _ *server.Deps) {
				cfg.Listen, cfg.MetricsListen, cfg.HTTP.MaxConnections = "127.0.0.1:0", "127.0.0.1:0", places
				if c.tls {
					dir := t.TempDir()
					writeCertificate(t, dir, 1)
					cfg.TLS.CertFile, cfg.TLS.KeyFile = dir+"/cert.pem", dir+"/key.pem"
				}
			})
			w.run()
			for _, at := range []string{w.server.Addr(), w.server.MetricsAddr()} {
				var flood []net.Conn
				for range places + more {
					conn, err := net.Dial("tcp", at)
					require.NoError(t, err)
					t.Cleanup(func() { _ = conn.Close() })
					_, _ = io.WriteString(conn, c.says) // it may be closed
					flood = append(flood, conn)
				}
				// The others come from another address.
				from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
				transport := &http.Transport{DialContext: from.DialContext, DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
				scheme, path := "http", "/healthz"
				if c.tls && at == w.server.Addr() {
					scheme = "https"
				}
				if at == w.server.MetricsAddr() {
					path = "/metrics"
				}
				for range 5 {
					ctx, cancel := context.WithTimeout(t.Context(), soon)
					req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+at+path, nil)
					require.NoError(t, err)
					res, err := (&http.Client{Transport: transport}).Do(req)
					require.NoError(t, err)
					_, _ = io.Copy(io.Discard, res.Body)
					require.NoError(t, res.Body.Close())
					cancel()
					assert.Equal(t, http.StatusOK, res.StatusCode)
				}
				// All but the flood's share of its connections were closed.
				open := len(flood)
				require.Eventually(t, func() bool {
					open = 0
					for _, conn := range flood {
						if stillOpen(conn) {
							open++
						}
					}
					return open <= places*3/4
				}, soon, 10*time.Millisecond, "%d are open", open)
			}
		})
	}
}

// stillOpen reads what there is, and reports whether more may come.
func stillOpen(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := io.Copy(io.Discard, bufio.NewReader(conn))
	return errors.Is(err, os.ErrDeadlineExceeded)
}
