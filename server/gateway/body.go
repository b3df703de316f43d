package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// inMemory is how much of a body is kept in memory; a larger one goes to disk.
const inMemory = 1 << 20

var (
	errTooLarge = errors.New("the body is too large")
	errKeep     = errors.New("keep the body")
)

// kept is a body that was read and can be read again, any number of times and
// concurrently.
type kept struct {
	size   int64
	memory []byte   // if file is nil
	file   *os.File // of a large body
	path   string   // of the file if it still has a name
}

// keepBody reads the request's body, at most limit bytes. Errors of reading it
// are returned as they are; those of keeping it wrap errKeep.
func (x *exchange) keepBody(limit int64) (k *kept, err error) {
	if x.r.ContentLength > limit {
		return nil, errTooLarge
	}
	control := http.NewResponseController(x.w)
	_ = control.SetReadDeadline(time.Now().Add(x.g.cfg.BodyTimeout)) // as in open
	defer func() { _ = control.SetReadDeadline(time.Time{}) }()

	var memory bytes.Buffer
	if n := x.r.ContentLength; n > 0 && n <= inMemory {
		memory.Grow(int(n) + bytes.MinRead)
	}
	body := io.LimitReader(x.body, limit+1)
	n, err := memory.ReadFrom(io.LimitReader(body, inMemory+1))
	switch {
	case err != nil:
		return nil, err
	case n > limit:
		return nil, errTooLarge
	case n <= inMemory:
		return &kept{size: n, memory: memory.Bytes()}, nil
	}
	k, err = newFile(x.g.cfg.TempDir)
	if err != nil {
		return nil, err
	}
	if err = k.fill(io.MultiReader(&memory, body), limit); err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

// newFile makes a file that only this process can reach: mode 0600, and its name
// removed where the system lets an open file go without one.
func newFile(dir string) (*kept, error) {
	file, err := os.CreateTemp(dir, "patrol-body-*")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKeep, err)
	}
	k := &kept{file: file}
	if err := os.Remove(file.Name()); err != nil {
		k.path = file.Name()
	}
	return k, nil
}

func (k *kept) fill(body io.Reader, limit int64) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		if k.size += int64(n); k.size > limit {
			return errTooLarge
		}
		if _, err := k.file.Write(buf[:n]); err != nil {
			return fmt.Errorf("%w: %w", errKeep, err)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// reader returns a reader of the whole body.
func (k *kept) reader() io.Reader {
	if k.file != nil {
		return io.NewSectionReader(k.file, 0, k.size)
	}
	return bytes.NewBuffer(k.memory)
}

// close frees the body. Readers of a file fail from then on.
func (k *kept) close() {
	if k.file == nil {
		return
	}
	_ = k.file.Close() // nothing that was written matters any more
	if k.path != "" {
		_ = os.Remove(k.path) // the system sweeps what is left
	}
}
