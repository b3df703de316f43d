package forwardauth

import (
	"errors"
	"io"
	"sync"

	"patrol/server/check"
)

// firstBuffer is the size of the buffer before anything of a body has arrived. Buffers
// double as they fill.
const firstBuffer = 4 << 10

var errAnswered = errors.New("the question was answered before its body had come")

// arriving is a body that may still be waited for when its question is answered. A
// read must not go on then: net/http would end it by lifting the deadline, and wait
// for the rest without one.
type arriving struct {
	io.ReadCloser
	mu       sync.Mutex // held by reads
	answered bool
}

// Read reads until the question is answered.
func (a *arriving) Read(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.answered {
		return 0, errAnswered
	}
	return a.ReadCloser.Read(b)
}

// stop ends reading. If somebody waits for more, cut has to end that.
func (a *arriving) stop(cut func()) {
	if !a.mu.TryLock() {
		cut()
		a.mu.Lock()
	}
	a.answered = true
	a.mu.Unlock()
}

// receive reads a body as it arrives, one byte more than may be looked at at most,
// and accounts for it in q.
func (h *Handler) receive(q *check.Request, body io.Reader) ([]byte, error) {
	take := func(n int64) error {
		err := h.room.Take("", n)
		if err == nil {
			q.Taken += n
		}
		return err
	}
	limit := h.cfg.MaxBodyBytes + 1
	first := min(firstBuffer, limit)
	if err := take(first); err != nil {
		return nil, err
	}
	buf := make([]byte, 0, first)
	for {
		if int64(len(buf)) == limit {
			return buf, nil
		}
		if len(buf) == cap(buf) {
			next := min(2*int64(cap(buf)), limit)
			if err := take(next); err != nil { // beside the buffer that it is copied from
				return nil, err
			}
			last := int64(cap(buf))
			buf = append(make([]byte, 0, next), buf...)
			h.room.Give("", last)
			q.Taken -= last
		}
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case errors.Is(err, io.EOF):
			return buf, nil
		case err != nil:
			return nil, err
		}
	}
}
