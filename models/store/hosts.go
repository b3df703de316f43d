package store

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// connectOfMany bounds the time that a server may take to answer a new connection if there are
// others to ask.
const connectOfMany = time.Second

// hosts remembers which servers of several answered: one that is cut off or frozen
// must not cost each new connection the time that it is given to answer. The zero
// value is ready to use.
type hosts struct {
	mu sync.Mutex
	of map[string]*host // by address
}

// host holds the state of one database server.
type host struct {
	usable bool      // when it was last heard of
	begun  time.Time // when a connection was begun of which nothing was heard yet; zero: there is none
	tried  time.Time // when the last one was begun
}

const (
	// passOver is the time during which a server that did not answer is not asked again while another
	// one does.
	passOver = 2 * time.Second
	// promptly bounds the time in which a healthy server answers.
	promptly = 250 * time.Millisecond
)

var errPassedOver = errors.New("it did not answer a moment ago")

// dial returns how to connect. Of several servers, those are passed over that failed
// a moment ago while another one did not.
func (h *hosts) dial(dial pgconn.DialFunc, several bool) pgconn.DialFunc {
	if !several {
		return dial
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !h.begin(addr, time.Now()) {
			return nil, errPassedOver
		}
		conn, err := dial(ctx, network, addr)
		if err != nil && ctx.Err() == nil {
			h.found(addr, false)
		}
		return conn, err
	}
}

// begin reports whether a server is to be tried now.
func (h *hosts) begin(addr string, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil {
		h.of = map[string]*host{}
	}
	this := h.of[addr]
	if this == nil {
		this = &host{usable: true}
		h.of[addr] = this
	}
	if this.suspect(now) && now.Sub(this.tried) < passOver {
		for other, o := range h.of {
			if other != addr && o.usable && !o.suspect(now) {
				return false
			}
		}
	}
	this.tried = now
	if this.begun.IsZero() {
		this.begun = now
	}
	return true
}

func (h *host) suspect(now time.Time) bool {
	return !h.usable || !h.begun.IsZero() && now.Sub(h.begun) > promptly
}

// found notes that a server is usable, or that it is not.
func (h *hosts) found(addr string, usable bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if this := h.of[addr]; this != nil {
		this.usable, this.begun = usable, time.Time{}
	}
}
