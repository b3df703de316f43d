package drain

import (
	"container/heap"
	"container/list"
	"net"
	"net/http"
	"net/netip"
)

// share returns the number of n places that one network may have, so that nobody takes all.
func share(n int) int { return max(1, n-n/4) }

// group is the open connections of one network.
type group struct {
	network netip.Prefix
	open    int
	idle    list.List // of *counted, in the order in which they became so
	index   int       // in groups
}

// groups is a heap: on top is the network that has the most connections of those that
// have an idle one; of several, that whose idle one is so for longest.
type groups []*group

func (g groups) Len() int { return len(g) }

func (g groups) Less(i, j int) bool {
	a, b := g[i], g[j]
	switch aIdle, bIdle := a.idle.Len() > 0, b.idle.Len() > 0; {
	case aIdle != bIdle:
		return aIdle
	case a.open != b.open || !aIdle:
		return a.open > b.open
	}
	return a.idle.Front().Value.(*counted).since < b.idle.Front().Value.(*counted).since
}

func (g groups) Swap(i, j int) {
	g[i], g[j] = g[j], g[i]
	g[i].index, g[j].index = i, j
}

// Push is for package heap.
func (g *groups) Push(x any) {
	added := x.(*group)
	added.index = len(*g)
	*g = append(*g, added)
}

// Pop is for package heap.
func (g *groups) Pop() any {
	last := (*g)[len(*g)-1]
	(*g)[len(*g)-1] = nil
	*g = (*g)[:len(*g)-1]
	return last
}

// networkOf returns the network that counts as one address: an IPv6 client has a /64 to itself.
func networkOf(addr net.Addr) netip.Prefix {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{} // all of those count as one
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	network, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return network
}

// enter gives c a place. It returns the connection that has to give way, which may be
// c; nil: none.
func (l *Listener) enter(c *counted) (out *counted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moved(1)
	network := networkOf(c.RemoteAddr())
	c.group = l.byNetwork[network]
	if c.group == nil {
		c.group = &group{network: network}
		l.byNetwork[network] = c.group
		heap.Push(&l.groups, c.group)
	}
	c.group.open++
	l.rest(c)
	switch {
	case c.group.open > share(l.limit):
		out = c.group.idle.Front().Value.(*counted) // c is idle
	case l.open > l.limit:
		out = l.groups[0].idle.Front().Value.(*counted)
	}
	return out
}

// exit takes the place back.
func (l *Listener) exit(c *counted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moved(-1)
	c.gone = true
	l.wake(c)
	if c.group.open--; c.group.open > 0 {
		heap.Fix(&l.groups, c.group.index)
		return
	}
	heap.Remove(&l.groups, c.group.index)
	delete(l.byNetwork, c.group.network)
}

// rest notes that nothing goes on over c, from now on.
func (l *Listener) rest(c *counted) {
	if c.idle != nil || c.gone {
		return
	}
	l.clock++
	c.since = l.clock
	c.idle = c.group.idle.PushBack(c)
	heap.Fix(&l.groups, c.group.index)
}

// wake notes that something does.
func (l *Listener) wake(c *counted) {
	if c.idle == nil {
		return
	}
	c.group.idle.Remove(c.idle)
	c.idle = nil
	heap.Fix(&l.groups, c.group.index)
}

// State is for [http.Server.ConnState]: it tells which connections are idle. Without
// it, those are that have not sent anything yet.
func (l *Listener) State(conn net.Conn, state http.ConnState) {
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = over.NetConn()
	}
	c, ok := conn.(*counted)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.told.Store(true)
	switch state {
	case http.StateNew, http.StateIdle:
		l.rest(c)
	case http.StateActive, http.StateHijacked, http.StateClosed:
		l.wake(c)
	}
}

// Read notes that a connection of which no states are told has sent something.
func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.told.Load() && !c.told.Swap(true) {
		c.from.mu.Lock()
		c.from.wake(c)
		c.from.mu.Unlock()
	}
	return n, err
}
