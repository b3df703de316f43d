package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

// A server may close a connection that is not in use at the very moment at which
// the next request is written into it. Nobody can tell then whether the request was
// seen, so what has an effect must not be sent again, and the client gets a 502 for
// nothing. Hence such requests use no connection that has been idle for nearly as long as
// its upstream was ever seen to keep one; they go over a new one instead. How long
// that is, is learned: from connections that lived, from those that the upstream
// closed, and, where every connection is in use again soon, from one that is set
// aside to see.

// idleMargin is the time by which an upstream must have kept an idle connection longer than
// the one has been idle that is to be used: more than what passes on a busy machine
// between the look at the connection and the write.
const idleMargin = 500 * time.Millisecond

// errStale says that nothing was written: the transport takes another connection.
var errStale = errors.New("the connection has been idle for too long")

// keeping records how long an upstream keeps idle connections.
type keeping struct {
	limit time.Duration // after which nobody keeps them here

	mu    sync.Mutex
	kept  time.Duration // for this long they were seen to live
	aside *idleConn     // the one that is kept to see how long it lives; nil: none
	since time.Time     // when that was used last
}

// safe reports whether the upstream keeps connections that have been idle for d.
func (k *keeping) safe(d time.Duration) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.aside != nil { // it is there still
		k.kept = max(k.kept, min(time.Since(k.since), k.limit))
	}
	return d+idleMargin <= k.kept
}

// lived notes that a connection was there after d, or that it was not.
func (k *keeping) lived(d time.Duration, there bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if there {
		k.kept = max(k.kept, min(d, k.limit))
	} else {
		k.kept = min(k.kept, d)
	}
}

// setAside keeps c open, unused, to see how long it lives. It reports whether it
// does; one connection at a time is enough.
func (k *keeping) setAside(c *idleConn, since time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.aside != nil || k.kept >= k.limit {
		return false
	}
	k.aside, k.since = c, since
	// The transport reads no more of it, or not for certain.
	go func() {
		_ = c.Conn.SetReadDeadline(since.Add(k.limit))
		_, err := c.Conn.Read(make([]byte, 1))
		netErr, isNet := errors.AsType[net.Error](err)
		there := isNet && netErr.Timeout()
		if k.drop(c) {
			k.lived(time.Since(since), there)
		}
	}()
	return true
}

// drop closes c if it is the one that is set aside, and reports whether it is.
func (k *keeping) drop(c *idleConn) bool {
	k.mu.Lock()
	found := k.aside == c && c != nil
	if found {
		k.aside = nil
	}
	k.mu.Unlock()
	if found {
		_ = c.Conn.Close() // nobody uses it
	}
	return found
}

// close closes what is set aside.
func (k *keeping) close() {
	k.mu.Lock()
	c := k.aside
	k.mu.Unlock()
	k.drop(c)
}

// idleConn is a connection to an upstream that knows how long it has been idle.
type idleConn struct {
	net.Conn
	k *keeping

	mu      sync.Mutex
	use     *use      // the latest
	before  *use      // the one before
	inUse   bool      // by a request
	last    time.Time // when something was read or written
	guarded bool      // what is written next must not be sent twice
	refused bool      // nothing is written any more
	wrote   bool      // something, in this use
	// carried says that a request went over it. Servers wait for the first one by
	// another clock.
	carried bool
	ended   bool // the upstream has closed it
	closed  bool // we have
}

// use is one request's use of a connection.
type use struct {
	conn *idleConn
	// settled is closed when the request has its answer, or none. The transport has a
	// connection wait for others a little before that, and were it closed then, the
	// answer would be lost.
	settled chan struct{}
}

// take notes that a request uses the connection. guard says that it must not be
// sent twice.
func (c *idleConn) take(reused, guard bool) *use {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before, c.use = c.use, &use{conn: c, settled: make(chan struct{})}
	c.inUse, c.guarded, c.wrote = true, reused && guard, false
	return c.use
}

// release notes that nothing more belongs to the use.
func (u *use) release() {
	u.conn.mu.Lock()
	defer u.conn.mu.Unlock()
	if u.conn.use == u { // else the next one was quicker
		u.conn.inUse = false
	}
}

// seal reports whether nothing was written in a use that failed, and keeps it so.
func (u *use) seal() bool {
	u.conn.mu.Lock()
	defer u.conn.mu.Unlock()
	if u.conn.use != u || u.conn.wrote {
		return false
	}
	u.conn.refused = true
	return true
}

func (c *idleConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	idle, notice := time.Since(c.last), false
	if err != nil {
		notice = !c.ended && !c.closed && !c.refused
		c.ended = true
	} else {
		c.last = time.Now()
	}
	c.mu.Unlock()
	if notice {
		c.k.lived(idle, false)
	}
	return n, err
}

func (c *idleConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	idle, guarded := time.Since(c.last), c.guarded
	c.guarded = false
	there, carried := !c.ended, c.carried
	c.mu.Unlock()
	if guarded {
		if there && carried {
			c.k.lived(idle, true)
		}
		if !there || !carried || !c.k.safe(idle) {
			c.mu.Lock()
			c.refused = true
			before := c.before
			c.mu.Unlock()
			if before != nil {
				<-before.settled
			}
		}
	}
	c.mu.Lock()
	refused := c.refused // the end of TLS is not written either
	if !refused {
		c.last, c.wrote, c.carried = time.Now(), true, true
	}
	c.mu.Unlock()
	if refused {
		return 0, errStale
	}
	return c.Conn.Write(p)
}

// Close closes the connection, unless it is good to be set aside.
func (c *idleConn) Close() error {
	c.mu.Lock()
	idle, last := time.Since(c.last), c.last
	aside := c.refused && c.carried && !c.ended && !c.closed
	lived := !c.inUse && c.carried && !c.ended && !c.closed
	if !aside {
		c.closed = true
	}
	c.mu.Unlock()
	switch {
	case aside && c.k.setAside(c, last):
		return nil
	case lived:
		c.k.lived(idle, true)
	}
	return c.Conn.Close()
}

// idleConnOf returns the connection below what the transport uses, nil if it is
// one of HTTP/2, which tells by itself what an upstream has not seen.
func idleConnOf(conn net.Conn) *idleConn {
	if secure, ok := conn.(*tls.Conn); ok {
		if secure.ConnectionState().NegotiatedProtocol == "h2" {
			return nil
		}
		conn = secure.NetConn()
	}
	c, _ := conn.(*idleConn)
	return c
}

// dial connects to an upstream.
func (g *Gateway) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := g.dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	k := g.keeping[addr]
	if k == nil {
		k = &keeping{limit: g.cfg.IdleTimeout}
		g.keeping[addr] = k
	}
	return &idleConn{Conn: conn, k: k, last: time.Now()}, nil
}

// sending follows one request through the transport, which tells it what happens.
type sending struct {
	x     *exchange
	guard bool // it must not be sent twice

	mu   sync.Mutex
	last *use // of a connection
}

func (s *sending) gotConn(info httptrace.GotConnInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil {
		close(s.last.settled) // it came to nothing
	}
	s.last = nil
	if conn := idleConnOf(info.Conn); conn != nil {
		s.last = conn.take(info.Reused, s.guard)
	}
}

func (s *sending) putIdleConn(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil && err == nil {
		s.last.release()
	}
}

func (s *sending) wrote(httptrace.WroteRequestInfo) {
	if s.x.kept != nil {
		s.x.kept.written()
	}
}

// RoundTrip sends the request upstream. One that must not be sent twice goes over a
// connection that is sure to be there, and if it met one that was gone before a byte
// was written, over a new one.
func (x *exchange) RoundTrip(r *http.Request) (*http.Response, error) {
	again := repeatable(r.Method)
	if !again && r.Body != nil && r.GetBody == nil {
		return x.g.fresh.RoundTrip(r) // what is streamed cannot be begun again
	}
	s := &sending{x: x, guard: !again}
	res, err := x.g.transport.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: s.gotConn, PutIdleConn: s.putIdleConn, WroteRequest: s.wrote,
	})))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		return res, err
	}
	close(s.last.settled)
	if err == nil || again || r.Context().Err() != nil || !s.last.seal() {
		return res, err
	}
	r = r.Clone(r.Context())
	if r.GetBody != nil {
		if r.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
	}
	return x.g.fresh.RoundTrip(r)
}

// repeatable reports whether the transport may send a request again that an
// upstream may have seen.
func repeatable(method string) bool { return method == http.MethodGet || method == http.MethodHead }
