package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// Stream is the answer of a job that goes on: it writes line after line, as it
// reads what it is asked, until there is nothing more to read.
type Stream func(w io.Writer) error

// Session is a child that is asked again and again. It has no limit on CPU time or on
// its life: whoever asks it sees to both. It belongs to one goroutine, but for
// Write and Flush, which may be another's.
type Session struct {
	in     flusher
	out    *bufio.Reader
	kill   context.CancelCauseFunc
	enough chan struct{} // closed when nothing more is asked
	ended  chan struct{}
	err    error // how it ended; once ended is closed
	limits Limits
}

type flusher interface {
	io.Writer
	Flush() error
}

// longestLine is the size of an answer, in bytes, that is too large.
const longestLine = 1 << 20

// forever is longer than any program runs.
const forever = math.MaxInt32 * time.Second

// Open starts a child whose job returns a [Stream]. in is what the job is given. The
// child ends when ctx does; the session must be closed all the same.
func (r *Runner) Open(ctx context.Context, job string, in any) (*Session, error) {
	limits := r.limits
	limits.CPU, limits.Wall = forever, forever
	ctx, kill := context.WithCancelCause(ctx)
	out, to := io.Pipe()
	s := &Session{
		out: bufio.NewReaderSize(out, longestLine), kill: kill, limits: limits,
		enough: make(chan struct{}), ended: make(chan struct{}),
	}
	started := make(chan flusher, 1)
	go func() {
		defer close(s.ended)
		s.err = (&Runner{program: r.program, limits: limits}).Feed(ctx, job, in, func(ctx context.Context, w io.Writer) error {
			in, ok := w.(flusher)
			if !ok {
				return fmt.Errorf("a %T cannot be flushed", w)
			}
			started <- in
			select {
			case <-s.enough:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}, to)
		if s.err == nil {
			s.err = io.EOF
		}
		to.CloseWithError(s.err)
	}()
	// A child that is killed may leave somebody behind who writes to nobody.
	context.AfterFunc(ctx, func() { _ = out.CloseWithError(context.Cause(ctx)) })
	select {
	case s.in = <-started:
		if s.in.Flush() == nil {
			return s, nil
		}
		<-s.ended // it reads no more, and this says why
	case <-s.ended:
	}
	kill(nil)
	return nil, s.err
}

// Write hands the child a part of a question. It may be held back until Flush.
func (s *Session) Write(p []byte) (int, error) { return s.in.Write(p) }

// Flush hands the child what was held back.
func (s *Session) Flush() error { return s.in.Flush() }

// ReadLine returns the child's next line, which is good until the next call. If the child
// has ended, the error is as that of [Runner.Run], io.EOF if it ended well.
func (s *Session) ReadLine() ([]byte, error) {
	line, err := s.out.ReadSlice('\n')
	switch {
	case err == nil:
		return line, nil
	case errors.Is(err, bufio.ErrBufferFull):
		s.kill(&LimitError{Resource: Output, Limits: Limits{Output: longestLine}})
	}
	<-s.ended
	return nil, s.err
}

// Late kills a child that took longer than patience for an answer.
func (s *Session) Late(patience time.Duration) {
	limits := s.limits
	limits.Wall = patience
	s.kill(&LimitError{Resource: Wall, Limits: limits})
}

// Close has the child end, and waits until it has.
func (s *Session) Close() {
	close(s.enough)
	s.kill(nil)
	<-s.ended
}
