package gateway

import (
	"io"
	"net"
	"net/http"
	"time"
)

// Most refusals are found before the body of a request is read, and clients that
// have the connection kept open are still sending it then. A server must read it
// to its end before the next request, or close the connection: bytes of a body that
// are taken for a request were judged by nobody, and a proxy that shares the
// connection would give their answer to somebody else.
//
// net/http does that before it answers, which nobody should have to wait for, and
// with full duplex, which forgoes that, it does it after the handler, where it
// takes a deadline for the end of the body. So it is done here.

const (
	// maxDrain bounds the bytes of a body that are read so that its connection can be used
	// again. Connections on which more is left are closed.
	maxDrain = 256 << 10
	// lingerTime is the minimum time for which data over a connection that is
	// closed is thrown away. If it were not, the system would reset the connection,
	// and the client lose the answer that is on its way.
	lingerTime = 500 * time.Millisecond
)

// unread reports whether there is a body that was not read to its end and that the
// next request on the connection comes after.
func (x *exchange) unread() bool {
	return x.r.ProtoMajor == 1 && x.r.ContentLength != 0 && !x.body.ended()
}

// tell answers in the place of an upstream, and sends the answer before the rest of
// the body is read.
func (x *exchange) tell(header http.Header, write func()) {
	unread := x.unread()
	if unread && (x.r.ContentLength > maxDrain || x.body.failed() || len(x.r.Header["Expect"]) > 0) {
		x.closing = true
		header.Set("Connection", "close")
	}
	write()
	if unread {
		_ = x.body.control.Flush() // the client may be gone
	}
	x.told = true
}

// leave reads the rest of a refused request's body, or closes the connection.
func (x *exchange) leave() {
	if !x.unread() {
		return
	}
	end := time.Now().Add(cutTime)
	if !x.told { // the answer said that the server closes the connection
		// A transport that still reads would have the server wait without a deadline.
		_ = x.body.control.SetReadDeadline(time.Now())
		_, _ = x.body.Read(make([]byte, 1)) // comes after its turn
		_ = x.body.control.SetReadDeadline(end)
		return
	}
	if !x.closing {
		_ = x.body.control.SetReadDeadline(end)
		_, _ = io.CopyN(io.Discard, x.body, maxDrain)
		if x.body.ended() {
			return
		}
	}
	conn, _, err := x.body.control.Hijack()
	if err != nil {
		return // it is no connection
	}
	linger(conn, end)
}

// linger closes a connection on which the client may be sending.
func linger(conn net.Conn, end time.Time) {
	defer func() { _ = conn.Close() }() // the answer was sent
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if earliest := time.Now().Add(lingerTime); end.Before(earliest) {
		end = earliest
	}
	_ = conn.SetReadDeadline(end)
	_, _ = io.Copy(io.Discard, conn) // until the client closes it, too
}
