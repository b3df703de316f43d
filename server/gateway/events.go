package gateway

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"sync"
	"time"
)

// minKeepAlive is the shortest silence that a comment can be configured for.
const minKeepAlive = time.Second

// keepAliveComment is an event stream's comment, which readers pass over, with the blank line
// after it that some of them wait for (HTML standard §9.2.6).
const keepAliveComment = ": keep-alive\n\n"

// keepEventsAlive has comments sent in the pauses of an answer that is an event stream. It
// changes no other answer, and none that is encoded.
func keepEventsAlive(res *http.Response, pause time.Duration) {
	media, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if pause <= 0 || err != nil || len(res.Trailer) > 0 || // which may have a digest of the body
		media != "text/event-stream" || res.StatusCode != http.StatusOK ||
		res.Header.Get("Content-Encoding") != "" || res.Request != nil && res.Request.Method == http.MethodHead {
		return
	}
	res.Body = newEvents(res.Body, pause)
	res.ContentLength = -1
	for _, name := range append([]string{"Content-Length", "Etag", "Accept-Ranges"}, digests...) {
		res.Header.Del(name)
	}
}

// events reads an event stream and puts a comment between two events where the stream is silent
// for long. It belongs to one reader.
type events struct {
	source io.ReadCloser
	pause  time.Duration
	parts  chan part
	free   chan []byte   // the one buffer, while nobody uses it
	done   chan struct{} // closed when nobody reads any more
	finish func()        // closes done, once
	rest   part
	begun  bool // something came from the source
	spoke  bool // a comment came before that
	end    eventEnd
}

// part is the result of one read.
type part struct {
	data   []byte
	buffer []byte
	err    error
}

func newEvents(source io.ReadCloser, pause time.Duration) *events {
	e := &events{source: source, pause: pause, parts: make(chan part), free: make(chan []byte, 1), done: make(chan struct{}), end: eventEnd{blank: true, start: true, fed: true}}
	e.finish = sync.OnceFunc(func() { close(e.done) })
	e.free <- make([]byte, 4<<10)
	go e.receive()
	return e
}

// receive reads the source until it ends.
func (e *events) receive() {
	for {
		var buffer []byte
		select {
		case buffer = <-e.free:
		case <-e.done:
			return
		}
		n, err := e.source.Read(buffer)
		select {
		case e.parts <- part{buffer[:n], buffer, err}:
		case <-e.done:
			return
		}
		if err != nil {
			return
		}
	}
}

// Read returns what came from the source, or a comment.
func (e *events) Read(p []byte) (int, error) {
	if len(e.rest.data) == 0 && e.rest.err == nil {
		timer := time.NewTimer(e.pause)
		defer timer.Stop()
		quiet := timer.C
		if !e.end.between() || len(p) < len(keepAliveComment) {
			quiet = nil
		}
		select {
		case e.rest = <-e.parts:
		case <-quiet:
			e.spoke = e.spoke || !e.begun
			return copy(p, keepAliveComment), nil
		case <-e.done:
			return 0, http.ErrBodyReadAfterClose
		}
	}
	if !e.begun && len(e.rest.data) > 0 {
		if e.begun = true; e.spoke { // a byte order mark counts at the beginning alone
			e.rest.data = bytes.TrimPrefix(e.rest.data, []byte("\ufeff"))
		}
	}
	n := copy(p, e.rest.data)
	e.end.read(p[:n])
	if e.rest.data = e.rest.data[n:]; len(e.rest.data) > 0 {
		return n, nil
	}
	err := e.rest.err
	if err == nil && e.rest.buffer != nil {
		e.free <- e.rest.buffer
		e.rest.buffer = nil
	}
	return n, err
}

// Close ends the source.
func (e *events) Close() error {
	e.finish()
	return e.source.Close() //nolint:wrapcheck // it stands in the place of the source
}

// eventEnd follows a stream to know where an event ends: after a blank line. Lines end in CR, LF
// or both.
type eventEnd struct {
	blank bool // the last line that ended was blank
	start bool // a line begins here
	fed   bool // and no LF can follow that still belongs to the line before
}

func (s *eventEnd) read(data []byte) {
	for _, c := range data {
		switch {
		case c == '\n' && !s.fed: // the second half of CR LF
			s.fed = true
		case c == '\n' || c == '\r':
			s.blank, s.start, s.fed = s.start, true, c == '\n'
		default:
			s.blank, s.start, s.fed = false, false, true
		}
	}
}

// between reports whether something may be put in here.
func (s *eventEnd) between() bool { return s.blank && s.start && s.fed }
