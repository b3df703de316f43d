package extauthz_test

import (
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// What costs a peer little ends in a closed connection, or goes on at the speed at
// which it is answered; memory stays within bounds, and others are answered.
func TestCheapFrames(t *testing.T) {
	const connections, growth = 8, 64 << 20
	b := start(t, nil)
	call := callHeader(t)
	for name, c := range map[string]struct {
		write  func(f *http2.Framer, n uint32) error
		goesOn bool
	}{
		"calls that are taken back": {func(f *http2.Framer, n uint32) error {
			return errors.Join(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: call, EndHeaders: true}), f.WriteRSTStream(2*n+1, http2.ErrCodeCancel))
		}, true},
		"calls without a message": {func(f *http2.Framer, n uint32) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: call, EndHeaders: true, EndStream: true})
		}, true},
		"pings": {func(f *http2.Framer, _ uint32) error { return f.WritePing(false, [8]byte{}) }, false},
		"settings": {func(f *http2.Framer, n uint32) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: n % 65535})
		}, true},
		"a header that goes on": {func(f *http2.Framer, n uint32) error {
			if n == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: call})
			}
			return f.WriteContinuation(1, false, call)
		}, false},
		"a header that goes on with nothing": {func(f *http2.Framer, n uint32) error {
			if n == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: call})
			}
			return f.WriteContinuation(1, false, nil)
		}, true},
		"frames that nobody knows": {func(f *http2.Framer, _ uint32) error { return f.WriteRawFrame(0x77, 0, 0, make([]byte, 1000)) }, true},
	} {
		for _, reads := range []bool{true, false} {
			how := "/read"
			if !reads {
				how = "/not read"
			}
			t.Run(name+how, func(t *testing.T) {
				before, limit := memoryInUse(), uint64(0)
				goesOn := c.goesOn || !reads
				patience := 10 * time.Second
				if goesOn {
					patience = 300 * time.Millisecond
				}
				var flood sync.WaitGroup
				for range connections {
					flood.Go(func() {
						conn, err := net.Dial("tcp", b.server.Addr())
						if !assert.NoError(t, err) {
							return
						}
						defer func() { _ = conn.Close() }()
						end := time.Now().Add(patience)
						_ = conn.SetDeadline(end)
						if reads {
							go func() { _, _ = io.Copy(io.Discard, conn) }()
						}
						framer := http2.NewFramer(conn, nil)
						_, err = io.WriteString(conn, http2.ClientPreface)
						if err == nil {
							err = framer.WriteSettings()
						}
						for n := uint32(0); err == nil && time.Now().Before(end); n++ {
							err = c.write(framer, n)
						}
						if !goesOn {
							assert.True(t, time.Now().Before(end), "the server ended it")
						}
					})
				}
				ended := make(chan struct{})
				go func() { flood.Wait(); close(ended) }()
				for going := true; going; {
					require.NotNil(t, b.ask(t, &authv3.CheckRequest{}).GetDeniedResponse())
					limit = max(limit, memoryInUse())
					select {
					case <-ended:
						going = false
					case <-time.After(10 * time.Millisecond):
					}
				}
				if limit > before {
					assert.Less(t, limit-before, uint64(growth), "bytes of memory")
				}
			})
		}
	}
}

// memoryInUse returns the memory in use.
func memoryInUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
