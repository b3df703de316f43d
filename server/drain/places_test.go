package drain_test

import (
	"errors"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/server/drain"
)

// caller is the server's end of a connection from an address.
type caller struct {
	net.Conn
	from   string
	closed bool
}

func (c *caller) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(c.from), Port: 4711} }

func (c *caller) Close() error {
	c.closed = true
	return c.Conn.Close()
}

// queue is a listener at which one calls at a time.
type queue struct {
	callers
	next net.Conn
}

var errNobody = errors.New("nobody calls")

func (q *queue) Accept() (net.Conn, error) {
	next := q.next
	if q.next = nil; next == nil {
		return nil, errNobody
	}
	return next, nil
}

// step is a new connection, or what becomes of one.
type step struct {
	from  string // of a new one
	conn  int    // else: which
	state http.ConnState
}

func calls(from string) step               { return step{from: from} }
func becomes(n int, s http.ConnState) step { return step{conn: n, state: s} }

func TestPlaces(t *testing.T) {
	const active, idle = http.StateActive, http.StateIdle
	a, b, c := calls("192.0.2.1"), calls("192.0.2.2"), calls("192.0.2.3")
	for name, s := range map[string]struct {
		steps  []step
		closed []int // which connections, at 8 places
	}{
		"places for all":                 {[]step{a, a, a, a, a, a, b, c}, nil},
		"one address has three quarters": {[]step{a, a, a, a, a, a, a, a}, []int{0, 1}},
		"which are all busy": {
			[]step{a, a, a, a, a, a, becomes(0, active), becomes(1, active), becomes(2, active), becomes(3, active), becomes(4, active), becomes(5, active), a, a, b, c}, []int{6, 7},
		},
		"who has most loses the oldest":             {[]step{b, a, a, a, a, a, a, b, c}, []int{1}},
		"which is the one that is idle for longest": {[]step{b, a, a, a, a, a, a, b, becomes(1, active), becomes(1, idle), c}, []int{2}},
		"busy ones do not":                          {[]step{b, a, a, a, a, a, a, b, becomes(1, active), becomes(2, active), c}, []int{3}},
		"nor are busy ones of others closed for one who has more": {
			[]step{b, b, b, b, a, a, a, a, becomes(0, active), becomes(1, active), becomes(2, active), becomes(3, active), a, a}, []int{4, 5},
		},
		"if all of who has most are busy, the next": {
			[]step{a, a, a, a, a, b, b, c, becomes(0, active), becomes(1, active), becomes(2, active), becomes(3, active), becomes(4, active), calls("192.0.2.4")}, []int{5},
		},
		"if all are busy, the new one": {
			[]step{a, a, b, b, c, c, calls("192.0.2.4"), calls("192.0.2.5"), becomes(0, active), becomes(1, active), becomes(2, active), becomes(3, active), becomes(4, active), becomes(5, active), becomes(6, active), becomes(7, http.StateHijacked), calls("192.0.2.6")}, []int{8},
		},
		"a /64 is one address": {
			[]step{calls("2001:db8::1"), calls("2001:db8::2"), calls("2001:db8::3"), calls("2001:db8::4"), calls("2001:db8::5"), calls("2001:db8::6"), calls("2001:db8::7"), calls("2001:db8:0:1::7")}, []int{0},
		},
		"and one written as IPv6 is that of IPv4": {[]step{a, a, a, calls("::ffff:192.0.2.1"), a, a, a}, []int{0}},
	} {
		t.Run(name, func(t *testing.T) {
			var at queue
			l := drain.Count(&at, 8)
			var below []*caller
			accepted := map[int]net.Conn{}
			for _, s := range s.steps {
				if s.from == "" {
					l.State(accepted[s.conn], s.state)
					continue
				}
				_, server := net.Pipe()
				next := &caller{Conn: server, from: s.from}
				at.next, below = next, append(below, next)
				conn, err := l.Accept()
				if err != nil {
					require.ErrorIs(t, err, errNobody)
					require.True(t, next.closed, "one that is not accepted is closed")
					continue
				}
				accepted[len(below)-1] = conn
			}
			var closed []int
			for i, c := range below {
				if c.closed {
					closed = append(closed, i)
				}
			}
			assert.Equal(t, s.closed, closed)
		})
	}
}

// Where no states are told, those who have sent something keep their places.
func TestPlacesOfThoseWhoHaveSentSomething(t *testing.T) {
	var at queue
	l := drain.Count(&at, 4)
	var below []*caller
	for n := range 4 {
		client, server := net.Pipe()
		t.Cleanup(func() { _ = client.Close() })
		next := &caller{Conn: server, from: "192.0.2.1"}
		at.next, below = next, append(below, next)
		conn, err := l.Accept()
		require.NoError(t, err)
		if n < 2 {
			go func() { _, _ = client.Write([]byte("P")) }()
			_, err = conn.Read(make([]byte, 1))
			require.NoError(t, err)
		}
	}
	assert.Equal(t, []bool{false, false, true, false}, []bool{below[0].closed, below[1].closed, below[2].closed, below[3].closed})
}

// Places are given back however a connection ends.
func TestPlacesAreGivenBack(t *testing.T) {
	var at queue
	l := drain.Count(&at, 4)
	for range 100 {
		_, server := net.Pipe()
		next := &caller{Conn: server, from: "192.0.2.1"}
		at.next = next
		conn, err := l.Accept()
		require.NoError(t, err)
		l.State(conn, http.StateNew)
		l.State(conn, http.StateActive)
		require.NoError(t, conn.Close())
		l.State(conn, http.StateIdle) // late
		l.State(conn, http.StateClosed)
		_ = conn.Close()
	}
	for range 3 {
		_, server := net.Pipe()
		at.next = &caller{Conn: server, from: "192.0.2.1"}
		conn, err := l.Accept()
		require.NoError(t, err)
		l.State(conn, http.StateActive)
	}
}
