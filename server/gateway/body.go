package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"patrol/server/deadline"
	"patrol/server/route"
)

const (
	// inMemory is the size up to which a body is kept in memory; a larger one goes to disk.
	inMemory = 1 << 20
	// firstBuffer is the size of the buffer before anything has arrived. Buffers double
	// as they fill, whatever length the client declares.
	firstBuffer = 4 << 10
	// diskBuffer is the size of the buffer for a body on its way to disk.
	diskBuffer = 32 << 10
	// receiving is the cost of waiting for a body, beside its bytes: the
	// connection's buffers and a goroutine.
	receiving = 16 << 10
	// diskStep is the part of the disk's budget that is taken at a time.
	diskStep = 1 << 20
	// minBodyMemory has room for a few bodies on their way to disk.
	minBodyMemory = 1 << 20
)

var (
	errTooLarge = errors.New("the body is too large")
	errKeep     = errors.New("keep the body")
)

// bodies is the room for all kept bodies together. Callers are token ids.
type bodies struct {
	memory, disk *deadline.Budget
	dir          string
}

// newBodies has room on disk for one body of the largest size at least.
func newBodies(c Config) *bodies {
	largest := max(c.MaxJSONBody, c.MaxMultipartBody) + diskStep
	share := func(total, least int64) *deadline.Budget {
		return deadline.NewBudget(max(total, least), max(total*int64(c.TokenShare)/100, least))
	}
	return &bodies{memory: share(c.BodyMemory, 0), disk: share(c.BodyDisk, largest), dir: c.TempDir}
}

// kept is a body that was read and can be read again, any number of times and
// concurrently, until it is released and all its readers are closed.
type kept struct {
	from   *bodies
	caller string
	size   int64
	memory []byte       // if file is nil
	file   *os.File     // of a large body
	path   string       // of the file if it still has a name
	edits  []route.Edit // of what is read from it

	mu       sync.Mutex
	released bool
	readers  int // that are open
	freed    bool
	taken    struct{ memory, disk int64 } // of the budgets
}

// keepBody reads the request's body, at most limit bytes. Errors of reading it
// are returned as they are; those of keeping it wrap errKeep, and those of the
// budgets are [deadline.ErrShare] and [deadline.ErrSpent].
func (x *exchange) keepBody(limit int64) (*kept, error) {
	if x.r.ContentLength > limit {
		return nil, errTooLarge
	}
	k := &kept{from: x.g.bodies, caller: x.p.TokenID()}
	if err := k.takeMemory(receiving + firstBuffer); err != nil {
		return nil, err
	}
	control := http.NewResponseController(x.w)
	defer func() { _ = control.SetReadDeadline(time.Time{}) }() // as in open
	body := &patient{r: x.body, control: control, pause: x.g.cfg.BodyPause, end: time.Now().Add(x.g.cfg.BodyTimeout)}
	if err := k.fill(body, limit); err != nil {
		k.close()
		return nil, err
	}
	k.giveMemory(receiving)
	return k, nil
}

// patient reads from a client that must send something every so often, and all of
// it in time.
type patient struct {
	r       io.Reader
	control *http.ResponseController
	pause   time.Duration
	end     time.Time
}

func (p *patient) Read(b []byte) (int, error) {
	until := time.Now().Add(p.pause)
	if p.end.Before(until) {
		until = p.end
	}
	_ = p.control.SetReadDeadline(until) // as in open
	return p.r.Read(b)
}

// fill reads body to its end. It goes to disk when it is large, or when there is no
// more memory for it.
func (k *kept) fill(body io.Reader, limit int64) error {
	buf := make([]byte, 0, firstBuffer)
	for {
		if len(buf) == cap(buf) {
			last, next := cap(buf), min(2*cap(buf), inMemory+1)
			if next == last || k.takeMemory(int64(next)) != nil {
				return k.spill(buf, body, limit)
			}
			buf = append(make([]byte, 0, next), buf...)
			k.giveMemory(int64(last))
		}
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			return errTooLarge
		case errors.Is(err, io.EOF):
			k.memory, k.size = buf, int64(len(buf))
			return nil
		case err != nil:
			return err
		}
	}
}

// spill writes what was read, and the rest of body, to a file.
func (k *kept) spill(start []byte, body io.Reader, limit int64) error {
	if err := k.open(); err != nil {
		return err
	}
	buf := start
	for {
		if k.size += int64(len(buf)); k.size > limit {
			return errTooLarge
		}
		if err := k.takeDisk(); err != nil {
			return err
		}
		if _, err := k.file.Write(buf); err != nil {
			return fmt.Errorf("%w: %w", errKeep, err)
		}
		if cap(buf) > diskBuffer {
			k.giveMemory(k.buffered() - diskBuffer)
			buf = make([]byte, diskBuffer)
		}
		n, err := body.Read(buf[:cap(buf)])
		buf = buf[:n]
		switch {
		case n > 0: // an error comes again
		case errors.Is(err, io.EOF):
			k.giveMemory(k.buffered())
			return nil
		case err != nil:
			return err
		}
	}
}

// open makes a file that only this process can reach: mode 0600, and its name
// removed where the system lets an open file go without one.
func (k *kept) open() error {
	file, err := os.CreateTemp(k.from.dir, "patrol-body-*")
	if err != nil {
		return fmt.Errorf("%w: %w", errKeep, err)
	}
	k.file = file
	if err := os.Remove(file.Name()); err != nil {
		k.path = file.Name()
	}
	return nil
}

func (k *kept) takeMemory(n int64) error {
	err := k.from.memory.Take(k.caller, n)
	if err == nil {
		k.taken.memory += n
	}
	return err
}

func (k *kept) giveMemory(n int64) {
	k.from.memory.Give(k.caller, n)
	k.taken.memory -= n
}

// buffered is the memory for the bytes of the body.
func (k *kept) buffered() int64 { return k.taken.memory - receiving }

// takeDisk takes what is to be written next.
func (k *kept) takeDisk() error {
	for k.taken.disk < k.size {
		if err := k.from.disk.Take(k.caller, diskStep); err != nil {
			return err
		}
		k.taken.disk += diskStep
	}
	return nil
}

// edit has readers see the body with the edits.
func (k *kept) edit(edits []route.Edit) { k.edits = edits }

// length is the number of bytes that readers see.
func (k *kept) length() int64 {
	_, n := route.EditedReader(nil, k.size, k.edits)
	return n
}

// reader returns a reader of the whole body. The caller closes it.
func (k *kept) reader() io.ReadCloser {
	k.mu.Lock()
	k.readers++
	k.mu.Unlock()
	r := &keptReader{close: sync.OnceFunc(k.closed)}
	switch {
	case len(k.edits) > 0 && k.file != nil:
		r.Reader, _ = route.EditedReader(k.file, k.size, k.edits)
	case len(k.edits) > 0:
		r.Reader, _ = route.EditedReader(bytes.NewReader(k.memory), k.size, k.edits)
	case k.file != nil:
		r.Reader = io.NewSectionReader(k.file, 0, k.size)
	default:
		r.Reader = bytes.NewReader(k.memory)
	}
	return r
}

// body is reader for a request that is sent. When that was written, the caller says so to
// written.
func (k *kept) body() io.ReadCloser {
	switch {
	case k.size == 0:
		return http.NoBody
	case k.plain():
		k.mu.Lock()
		k.readers++
		k.mu.Unlock()
		// The transport knows what this is, and writes it together with the header.
		return io.NopCloser(bytes.NewReader(k.memory))
	}
	return k.reader()
}

// plain reports whether readers see the bytes in memory as they are.
func (k *kept) plain() bool { return k.file == nil && len(k.edits) == 0 }

// written says that a request with a body was written, or failed to be.
func (k *kept) written() {
	if k.size > 0 && k.plain() {
		k.closed()
	}
}

type keptReader struct {
	io.Reader
	close func()
}

// Close says that the reader is not used any more.
func (r *keptReader) Close() error {
	r.close()
	return nil
}

// release says that no more readers are asked for.
func (k *kept) release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.released = true
	k.free()
}

func (k *kept) closed() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.readers--
	k.free()
}

// close frees the body. Readers of a file fail from then on.
func (k *kept) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.released, k.readers = true, 0
	k.free()
}

// free gives everything back once nobody needs it.
func (k *kept) free() {
	if !k.released || k.readers > 0 || k.freed {
		return
	}
	k.freed = true
	k.from.memory.Give(k.caller, k.taken.memory)
	k.from.disk.Give(k.caller, k.taken.disk)
	k.memory = nil
	if k.file == nil {
		return
	}
	_ = k.file.Close() // nothing that was written matters any more
	if k.path != "" {
		_ = os.Remove(k.path) // the system sweeps what is left
	}
}
