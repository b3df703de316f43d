// Package linger is how a server leaves without anybody noticing: it says that it
// is going, where health checks look, and serves on until those who ask have had
// the time to look.
//
// Without that time, whoever asks learns of the end by a connection that is refused
// or cut, and a request is lost. But nobody should have to wait for it where there
// is nobody to tell: the time ends soon after the last connection.
package linger

import (
	"errors"
	"net"
	"sync"
	"time"
)

// quiet is how long nobody must have been connected before nobody is there. Those
// who connect anew for every request are connected most of the time at most.
const quiet = time.Second

// Listener counts the connections that it has accepted and that are still open.
type Listener struct {
	net.Listener
	mu     sync.Mutex
	open   int
	change chan struct{} // closed at every change of open, and replaced
}

// Count returns l as a listener that counts.
func Count(l net.Listener) *Listener { return &Listener{Listener: l, change: make(chan struct{})} }

// Accept waits for the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.add(1)
	return &counted{Conn: conn, close: sync.OnceFunc(func() { l.add(-1) })}, nil
}

func (l *Listener) add(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
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

// state returns how many connections are open, and what is closed when that
// changes.
func (l *Listener) state() (open int, change <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open, l.change
}

type counted struct {
	net.Conn
	close func()
}

// Close closes the connection.
func (c *counted) Close() error {
	c.close()
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
