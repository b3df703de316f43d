package drain_test

import (
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/server/drain"
)

// long is longer than anything here lasts.
const long = time.Hour

// callers is a listener at which those call who are sent into it.
type callers chan net.Conn

func (c callers) Accept() (net.Conn, error) { return <-c, nil }
func (callers) Close() error                { return nil }
func (callers) Addr() net.Addr              { return &net.TCPAddr{} }

// call returns the server's end of a new connection.
func call(t *testing.T, at callers, l *drain.Listener) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	t.Cleanup(func() { _ = client.Close() })
	at <- server
	conn, err := l.Accept()
	require.NoError(t, err)
	return conn
}

func TestLinger(t *testing.T) {
	for name, c := range map[string]struct {
		// do runs before and while a server drains.
		do   func(t *testing.T, call func() net.Conn, leave func())
		want time.Duration // how long they do
	}{
		"nobody has called": {func(_ *testing.T, _ func() net.Conn, leave func()) { leave() }, 0},
		"all have left": {func(t *testing.T, call func() net.Conn, leave func()) {
			conn := call()
			require.NoError(t, conn.Close())
			_ = conn.Close() // twice, as net/http does
			leave()
		}, 0},
		"somebody stays": {func(_ *testing.T, call func() net.Conn, leave func()) { call(); leave() }, 5 * time.Second},
		"the last one leaves": {func(t *testing.T, call func() net.Conn, leave func()) {
			first, second := call(), call()
			leave()
			<-time.After(time.Second)
			require.NoError(t, first.Close())
			<-time.After(time.Second)
			require.NoError(t, second.Close())
		}, 3 * time.Second},
		"somebody calls anew for every request": {func(t *testing.T, call func() net.Conn, leave func()) {
			conn := call()
			leave()
			for range 20 {
				require.NoError(t, conn.Close())
				<-time.After(500 * time.Millisecond)
				conn = call()
			}
		}, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				at := make(callers, 1)
				l := drain.Count(at, 100)
				lasted := make(chan time.Duration, 1)
				c.do(t, func() net.Conn { return call(t, at, l) }, func() {
					begin := time.Now()
					go func() {
						l.Linger(5 * time.Second)
						lasted <- time.Since(begin)
					}()
					synctest.Wait()
				})
				assert.Equal(t, c.want, <-lasted)
			})
		})
	}
}

// A server on the listener is as good as one on that below.
func TestServing(t *testing.T) {
	below, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := drain.Count(below, 100)
	s := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: long}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String(), nil)
		require.NoError(t, err)
		res, err := client.Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
	}
	l.Linger(long)
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-served, http.ErrServerClosed)
}
