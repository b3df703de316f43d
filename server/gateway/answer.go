package gateway

import (
	"bufio"
	"maps"
	"net"
	"net/http"
)

// answer takes an upstream's answer for the client. It has a header of its own
// until that is written, because the one underneath already holds what the server
// around says in every answer, and the reverse proxy clears the header it is given
// with each informational answer of the upstream.
type answer struct {
	http.ResponseWriter
	header   http.Header // what is to be written; once it is, the trailer
	wrote    bool
	hijacked bool
	unread   func() bool // whether a part of the client's body is
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Header returns the upstream's header, or its trailer once the header is
// written.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader writes the header. Informational answers are passed over: they
// come before anything could be said about them, and 103 makes browsers fetch.
// The server itself sends the 100 that a client waits for.
func (a *answer) WriteHeader(status int) {
	if status < http.StatusOK || a.wrote {
		return
	}
	a.wrote = true
	h := a.ResponseWriter.Header()
	for name, values := range a.header {
		if name == "Vary" { // both are right
			h[name] = append(h[name], values...)
		} else if _, ours := h[name]; !ours {
			h[name] = values
		}
	}
	protect(h)
	if a.unread() {
		h.Set("Connection", "close") // see leave.go
	}
	a.header = http.Header{}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.ResponseWriter.Write(p)
}

// Hijack hands the connection over, for WebSockets.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	a.hijacked = err == nil
	return conn, rw, err
}

// sendTrailer passes on the trailer that came with the body.
func (a *answer) sendTrailer() {
	if !a.wrote || a.hijacked {
		return
	}
	cleanTrailer(a.header)
	maps.Copy(a.ResponseWriter.Header(), a.header)
}
