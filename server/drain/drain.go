// Package drain delays the shutdown of a server until health checks have seen that it
// is not ready, and bounds its connections.
//
// A server that closes its listener at once refuses or cuts connections, and requests
// are lost. [Listener] counts open connections, so that the delay ends early if nobody
// is connected.
package drain

import (
	"container/list"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// quiet is the time without connections after which nobody counts as connected. Those
// who connect anew for every request are connected most of the time at most.
const quiet = time.Second

// Listener counts the connections that it has accepted and that are still open, and
// has so many places for them.
type Listener struct {
	net.Listener
	limit     int
	mu        sync.Mutex
	open      int
	change    chan struct{} // closed at every change of open, and replaced
	byNetwork map[netip.Prefix]*group
	groups    groups
	clock     uint64 // counts up
}

// Count returns l as a listener that counts, with so many places.
func Count(l net.Listener, limit int) *Listener {
	return &Listener{Listener: l, limit: limit, change: make(chan struct{}), byNetwork: map[netip.Prefix]*group{}}
}

// Accept waits for the next connection for which there is a place.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &counted{Conn: conn, from: l}
		c.exit = sync.OnceFunc(func() { l.exit(c) })
		out := l.enter(c)
		if out != nil {
			_ = out.Close() // nobody is told anything over it
		}
		if out != c {
			return c, nil
		}
	}
}

// moved notes that n connections more are open.
func (l *Listener) moved(n int) {
	l.open += n
	close(l.change)
	l.change = make(chan struct{})
}

// Linger returns when nobody is there: at once if no connection is open, otherwise
// when none has been for a second; and after d at the latest.
func (l *Listener) Linger(d time.Duration) {
	end := time.NewTimer(d)
	defer end.Stop()
	open, change := l.state()
	if open == 0 {
		return
	}
	for {
		var nobody <-chan time.Time // comes if open is 0 and stays so
		if open == 0 {
			nobody = time.After(quiet)
		}
		select {
		case <-change:
		case <-nobody:
			return
		case <-end.C:
			return
		}
		open, change = l.state()
	}
}

// Open returns how many connections are open.
func (l *Listener) Open() int {
	open, _ := l.state()
	return open
}

// state returns how many connections are open, and what is closed when that
// changes.
func (l *Listener) state() (open int, change <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open, l.change
}

// counted is a connection that has a place. The listener's lock is for what is not
// set from the beginning.
type counted struct {
	net.Conn
	from  *Listener
	exit  func()
	told  atomic.Bool // whether it is idle was told
	group *group
	gone  bool
	idle  *list.Element // in the group's; nil: it is not idle
	since uint64        // when it became so
}

// Close closes the connection.
func (c *counted) Close() error {
	c.exit()
	return c.Conn.Close()
}

// CloseWrite ends what is sent and goes on receiving, as [net.TCPConn.CloseWrite]
// does. A server that has answered before it has read everything closes so.
func (c *counted) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}
