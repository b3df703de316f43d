package testenv

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy stands between PostgreSQL's clients and a server. It counts round trips, makes
// them slow, leads to another server as a moved address does, and can stand still like
// a client that is frozen. It understands connections without TLS.
type Proxy struct {
	listener net.Listener
	trips    atomic.Int64
	delay    atomic.Int64

	mu     sync.Mutex
	target string
	conns  map[net.Conn]struct{}
	after  []byte // stand still once a client sent this and was answered
	frozen chan struct{}
	thaw   chan struct{}
}

// NewProxy returns a proxy before the server at target.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: listener, target: target, conns: map[net.Conn]struct{}{}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.Thaw()
		p.Cut()
		running.Wait()
	})
	return p
}

// Addr is the address for clients.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Lead has new connections lead to another server. Those that there are stay.
func (p *Proxy) Lead(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Cut breaks all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// Delay has every answer come that much later.
func (p *Proxy) Delay(d time.Duration) { p.delay.Store(int64(d)) }

// Trips counts how often clients waited for the server.
func (p *Proxy) Trips() int64 { return p.trips.Load() }

// FreezeAfter has all connections stand still once a client sent a statement with the
// text and the server answered it; then the returned channel is closed.
func (p *Proxy) FreezeAfter(text string) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after, p.frozen, p.thaw = []byte(text), make(chan struct{}), make(chan struct{})
	return p.frozen
}

// Freeze has all connections stand still at once.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after, p.frozen, p.thaw = nil, make(chan struct{}), make(chan struct{})
	close(p.frozen)
}

// Thaw has connections go on.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after = nil
	if p.thaw != nil {
		close(p.thaw)
		p.thaw = nil
	}
}

func (p *Proxy) serve(client net.Conn) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.Dial("tcp", target)
	if err != nil {
		_ = client.Close()
		return
	}
	p.mu.Lock()
	p.conns[client], p.conns[server] = struct{}{}, struct{}{}
	p.mu.Unlock()
	var sent atomic.Bool // the statement to stand still after
	var both sync.WaitGroup
	both.Go(func() { p.forward(server, client, &sent); _ = server.Close() })
	both.Go(func() { p.answer(client, server, &sent); _ = client.Close() })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

// forward copies what the client says.
func (p *Proxy) forward(server io.Writer, client io.Reader, sent *atomic.Bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		p.mu.Lock()
		after := p.after
		p.mu.Unlock()
		if after != nil && bytes.Contains(buf[:n], after) {
			sent.Store(true)
		}
		p.standStill()
		if n > 0 {
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// standStill returns when nothing is frozen.
func (p *Proxy) standStill() {
	p.mu.Lock()
	frozen, thaw := p.frozen, p.thaw
	p.mu.Unlock()
	if frozen == nil || thaw == nil {
		return
	}
	select {
	case <-frozen:
		<-thaw
	default:
	}
}

// readyForQuery is the message that ends a round trip.
const readyForQuery = 'Z'

// answer copies the server's messages, whole ones.
func (p *Proxy) answer(client io.Writer, server io.Reader, sent *atomic.Bool) {
	header := make([]byte, 5)
	var pending []byte
	for {
		if _, err := io.ReadFull(server, header); err != nil {
			return
		}
		body := make([]byte, int(binary.BigEndian.Uint32(header[1:]))-4)
		if _, err := io.ReadFull(server, body); err != nil {
			return
		}
		pending = append(append(pending, header...), body...)
		ready := header[0] == readyForQuery
		if !ready && header[0] != 'R' && header[0] != 'A' && header[0] != 'G' && header[0] != 'E' {
			continue // more is to come at once
		}
		if ready {
			p.trips.Add(1)
			if sent.Load() {
				p.freeze()
			}
		}
		if d := time.Duration(p.delay.Load()); d > 0 {
			timer := time.NewTimer(d)
			<-timer.C
		}
		p.standStill()
		if _, err := client.Write(pending); err != nil {
			return
		}
		pending = pending[:0]
	}
}

func (p *Proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.after == nil {
		return
	}
	p.after = nil
	close(p.frozen)
}
