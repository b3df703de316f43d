//go:build !race

package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"patrol/internal/testenv"
	"patrol/server"
)

// cheap is traffic over one connection that costs its sender little: send sends it until an
// error, or for as long as it likes.
type cheap struct {
	name  string
	http2 bool
	send  func(ctx context.Context, conn net.Conn) error
	// want is a part of the answer; "": it may be anything, or missing.
	want string
	// goesOn says that the server may go on reading: what comes is answered, and held
	// back by the speed at which answers are read.
	goesOn bool
}

// once sends text.
func once(text string) func(context.Context, net.Conn) error {
	return func(_ context.Context, conn net.Conn) error {
		_, err := io.WriteString(conn, text)
		return err
	}
}

// over sends head, and then part over and over, a pause apart.
func over(head, part string, pause time.Duration) func(context.Context, net.Conn) error {
	return func(ctx context.Context, conn net.Conn) error {
		_, err := io.WriteString(conn, head)
		for err == nil && ctx.Err() == nil {
			if pause > 0 {
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
			_, err = io.WriteString(conn, part)
		}
		return err
	}
}

// posted is a call with a body, after which the connection ends.
func posted(path, kind, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", path, kind, len(body), body)
}

// sentFrames sends HTTP/2 frames over and over.
func sentFrames(write func(f *http2.Framer, n uint32) error) func(context.Context, net.Conn) error {
	return func(ctx context.Context, conn net.Conn) error {
		if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
			return err
		}
		framer := http2.NewFramer(conn, conn)
		err := framer.WriteSettings()
		for n := uint32(0); err == nil && ctx.Err() == nil; n++ {
			err = write(framer, n)
		}
		return err
	}
}

// headBlock is the header of a request, in HTTP/2.
func headBlock(more ...string) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":path", "/healthz"}, {":authority", "x"}} {
		_ = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // a buffer takes it
	}
	for _, name := range more {
		_ = encoder.WriteField(hpack.HeaderField{Name: name, Value: strings.Repeat("v", 1000), Sensitive: true})
	}
	return block.Bytes()
}

func cheapRequests() []cheap {
	const authorize = "POST /authorize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	part := "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n"
	all := []cheap{
		{name: "a header that comes slowly", send: over("GET /healthz HTTP/1.1\r\nHost: x\r\nX: ", "y", 20*time.Millisecond)},
		{name: "a body that comes slowly", send: over(authorize+"Content-Length: 60000\r\n\r\n{", " ", 20*time.Millisecond), want: "400"},
		{name: "chunks that come slowly", send: over(authorize+"Transfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n", 20*time.Millisecond), want: "400"},
		{name: "a header without end", send: over("GET /healthz HTTP/1.1\r\nHost: x\r\nX: ", strings.Repeat("y", 4096), 0)},
		{name: "headers without end", send: over("GET /healthz HTTP/1.1\r\nHost: x\r\n", strings.Repeat("a: b\r\n", 500), 0)},
		{name: "a target without end", send: over("GET /", strings.Repeat("y", 4096), 0)},
		{name: "a body without end", send: over(authorize+"Transfer-Encoding: chunked\r\n\r\n", "1000\r\n"+strings.Repeat(" ", 4096)+"\r\n", 0)},
		{name: "an extension of a chunk without end", send: over(authorize+"Transfer-Encoding: chunked\r\n\r\n1;", strings.Repeat("y", 4096), 0)},
		{name: "a trailer without end", send: over(authorize+"Trailer: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", strings.Repeat("x: y\r\n", 500), 0)},
		{name: "requests without end whose answers nobody reads", send: over("", strings.Repeat("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 100), 0)},
		{name: "HTTP/2 without TLS", send: sentFrames(func(f *http2.Framer, _ uint32) error { return f.WritePing(false, [8]byte{}) }), want: ""},
		{name: "many parameters", send: once("GET /api/v1/pats?" + strings.Repeat("a&", 14_000) + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), want: " 4"},
		{name: "deep JSON", send: once(posted("/authorize", "application/json", strings.Repeat("[", 60_000))), want: " 4"},
		{name: "deep JSON in a field", send: once(posted("/authorize", "application/json", `{"domain":`+strings.Repeat(`{"a":`, 10_000))), want: " 4"},
		{name: "a long number", send: once(posted("/authorize", "application/json", `{"domain":`+strings.Repeat("9", 60_000)+`}`)), want: " 4"},
		{name: "a large number", send: once(posted("/authorize", "application/json", `{"domain":1e999999999}`)), want: " 4"},
		{name: "a field many times", send: once(posted("/authorize", "application/json", `{`+strings.Repeat(`"a":1,`, 10_000)+`"a":1}`)), want: " 4"},
		{name: "many parts", send: once(posted("/login", "multipart/form-data; boundary=b", strings.Repeat(part, 1200)+"--b--\r\n")), want: " 4"},
		{name: "a part with many headers", send: once(posted("/login", "multipart/form-data; boundary=b", "--b\r\n"+strings.Repeat("a: b\r\n", 10_000)+"\r\n\r\n--b--\r\n")), want: " 4"},
		{name: "many fields of a form", send: once(posted("/login", "application/x-www-form-urlencoded", strings.Repeat("a&", 30_000))), want: " 4"},
		{name: "a compressed body", send: once(strings.Replace(posted("/authorize", "application/json", "\x1f\x8b\x08\x00"+strings.Repeat("\x00", 1000)), "\r\n", "\r\nContent-Encoding: gzip\r\n", 1)), want: " 4"},
	}
	request := headBlock()
	return append(all,
		cheap{name: "HTTP/2: requests that are taken back", http2: true, goesOn: true, send: sentFrames(func(f *http2.Framer, n uint32) error {
			return errors.Join(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: request, EndHeaders: true, EndStream: true}), f.WriteRSTStream(2*n+1, http2.ErrCodeCancel))
		})},
		cheap{name: "HTTP/2: requests whose answers nobody reads", http2: true, goesOn: true, send: sentFrames(func(f *http2.Framer, n uint32) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: request, EndHeaders: true, EndStream: true})
		})},
		cheap{name: "HTTP/2: pings", http2: true, goesOn: true, send: sentFrames(func(f *http2.Framer, _ uint32) error { return f.WritePing(false, [8]byte{}) })},
		cheap{name: "HTTP/2: settings", http2: true, goesOn: true, send: sentFrames(func(f *http2.Framer, n uint32) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: n % 65535})
		})},
		cheap{name: "HTTP/2: a header that goes on", http2: true, send: sentFrames(func(f *http2.Framer, n uint32) error {
			if n == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: request})
			}
			return f.WriteContinuation(1, false, headBlock("a", "b", "c"))
		})},
		cheap{name: "HTTP/2: a header that goes on with nothing", http2: true, goesOn: true, send: sentFrames(func(f *http2.Framer, n uint32) error {
			if n == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: request})
			}
			return f.WriteContinuation(1, false, nil)
		})},
	)
}

// memoryInUse returns the memory in use.
func memoryInUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// What costs a sender little ends in an error or a closed connection, or at the speed
// at which it is answered; memory stays within bounds, and others are served.
func TestCheapRequests(t *testing.T) {
	const connections, growth = 8, 64 << 20
	dir := t.TempDir()
	writeCertificate(t, dir, 1)
	listen := func(tls bool) *world {
		w := newWorld(t, testenv.SQLite(t), func(c *server.Config, d *server.Deps) {
			d.Logger = slog.New(slog.DiscardHandler) // the log of a test is in memory
			c.Listen, c.MetricsListen = "127.0.0.1:0", "127.0.0.1:0"
			c.HTTP.ReadHeaderTimeout, c.HTTP.ReadTimeout, c.HTTP.WriteTimeout = 300*time.Millisecond, 500*time.Millisecond, time.Second
			if tls {
				c.TLS.CertFile, c.TLS.KeyFile = dir+"/cert.pem", dir+"/key.pem"
			}
		})
		w.run()
		return w
	}
	plain, secure := listen(false), listen(true)
	insecure := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	client := &http.Client{Timeout: soon, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	for _, c := range cheapRequests() {
		at, served := plain.server.Addr(), plain.server.BaseURL()
		if c.http2 {
			at, served = secure.server.Addr(), secure.server.BaseURL()
		}
		ats := map[string]string{c.name: at}
		if !c.http2 && c.want == "" { // what has to do with routes is not for the metrics
			ats[c.name+", to the metrics"] = plain.server.MetricsAddr()
		}
		for name, at := range ats {
			t.Run(name, func(t *testing.T) {
				before, limit := memoryInUse(), uint64(0)
				patience := soon
				if c.goesOn {
					patience = 500 * time.Millisecond
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				var flood sync.WaitGroup
				for range connections {
					flood.Go(func() {
						conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", at)
						if !assert.NoError(t, err) {
							return
						}
						if c.http2 {
							conn = tls.Client(conn, insecure)
						}
						defer func() { _ = conn.Close() }()
						_ = conn.SetDeadline(time.Now().Add(patience))
						answered := make(chan []byte, 1)
						reads := !strings.Contains(c.name, "nobody reads")
						if reads {
							go func() {
								answer, _ := io.ReadAll(io.LimitReader(conn, 1<<20)) // what there is of it
								answered <- answer
							}()
						}
						err = c.send(ctx, conn)
						switch {
						case c.goesOn:
						case reads:
							answer := <-answered
							assert.NoError(t, ctx.Err(), "the server ended it")
							line, _, _ := strings.Cut(string(answer), "\r\n")
							assert.Contains(t, line, c.want)
						default:
							assert.Error(t, err)
							assert.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the server ended it")
						}
					})
				}
				ended := make(chan struct{})
				go func() { flood.Wait(); close(ended) }()
				for going := true; going; {
					res, err := client.Get(served + "/healthz")
					require.NoError(t, err)
					require.NoError(t, res.Body.Close())
					assert.Equal(t, http.StatusOK, res.StatusCode)
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
