package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// Limits bound one run of a job. Zero fields have the values of [DefaultLimits].
type Limits struct {
	Memory int64         // bytes
	CPU    time.Duration // rounded up to whole seconds
	Wall   time.Duration
	Output int64 // bytes of the answer
}

// DefaultLimits are ample for the check of any policy that people write.
func DefaultLimits() Limits {
	return Limits{Memory: 1 << 30, CPU: 60 * time.Second, Wall: 3 * time.Minute, Output: 16 << 20}
}

func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	if l.Memory <= 0 {
		l.Memory = d.Memory
	}
	if l.CPU <= 0 {
		l.CPU = d.CPU
	}
	if l.Wall <= 0 {
		l.Wall = d.Wall
	}
	if l.Output <= 0 {
		l.Output = d.Output
	}
	return l
}

// seconds is the CPU limit as the kernel takes it.
func (l Limits) seconds() int64 { return int64((l.CPU + time.Second - 1) / time.Second) }

// LimitError says which limit a job exceeded.
type LimitError struct {
	Resource Resource
	Limits   Limits
}

// Resource is a resource with a limit.
type Resource string

// The resources.
const (
	CPU    Resource = "cpu"
	Memory Resource = "memory"
	Wall   Resource = "wall"
	Output Resource = "output"
)

// Error says what was exceeded, in words for the author of a policy.
func (e *LimitError) Error() string {
	switch e.Resource {
	case CPU:
		return fmt.Sprintf("it takes more than %s of CPU time", time.Duration(e.Limits.seconds())*time.Second)
	case Memory:
		return fmt.Sprintf("it needs more than %d MiB of memory", e.Limits.Memory>>20)
	case Output:
		return fmt.Sprintf("its result is larger than %d KiB", e.Limits.Output>>10)
	default:
		return fmt.Sprintf("it takes longer than %s", e.Limits.Wall)
	}
}

// command is the first argument of a child. The rest are its job and its limits.
const command = "policy-sandbox"

// IsChild reports whether the arguments of a program are those of a child, for
// which [Main] is.
func IsChild(args []string) bool { return len(args) == 5 && args[0] == command }

// Runner starts children.
type Runner struct {
	program string
	limits  Limits
}

// New returns a runner of children of this program.
func New(limits Limits) (*Runner, error) {
	program := replaced
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find this program, to run a part of it by itself: %w", err)
		}
	}
	return &Runner{program: program, limits: limits.orDefault()}, nil
}

// replaced is the program of [Replace].
var replaced string

// Replace makes children run program instead of this one. It is for tests: a child
// built without the race detector is ten times as fast. Call it before [New].
func Replace(program string) { replaced = program }

// Run has a child do a job: in is what the job is given and out what receives its
// answer, both as JSON. The error is a *LimitError if the job took too much, a
// *[JobError] if the job says that it failed, a *[CrashError] if it ended otherwise, and ctx's if that ended.
func (r *Runner) Run(ctx context.Context, job string, in, out any) error {
	return r.Feed(ctx, job, in, nil, out)
}

// Feed is [Runner.Run] of a job that is given more than fits in memory: more writes
// it to w, as fast as the child reads it. It must return when its ctx ends, or when w
// fails, since the child may be killed, or have seen enough. Any other error of more is
// the error of Feed, and the child's answer is not waited for. If out is an io.Writer, it
// is given what the child writes as it comes, however much it is.
func (r *Runner) Feed(ctx context.Context, job string, in any, more func(ctx context.Context, w io.Writer) error, out any) error {
	input, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("write the input of %s: %w", job, err)
	}
	dir, err := os.MkdirTemp("", "patrol-sandbox-")
	if err != nil {
		return fmt.Errorf("make an empty folder for %s: %w", job, err)
	}
	defer os.Remove(dir) //nolint:errcheck // an empty folder of the system's temporary ones

	limited, cancel := context.WithTimeoutCause(ctx, r.limits.Wall, &LimitError{Resource: Wall, Limits: r.limits})
	defer cancel()
	limited, kill := context.WithCancelCause(limited)
	defer kill(nil)
	cmd := exec.CommandContext(limited, r.program, command, job, //nolint:gosec // G204: this program and numbers
		strconv.FormatInt(r.limits.Memory, 10), strconv.FormatInt(r.limits.seconds(), 10))
	cmd.Args = append(cmd.Args, "-") // what makes it a child's command line and nobody's typing error
	cmd.Dir = dir
	cmd.Env = []string{
		"GOMEMLIMIT=" + strconv.FormatInt(r.limits.Memory/10*8, 10),
		"GOMAXPROCS=1", "GOTRACEBACK=none", "TMPDIR=" + dir,
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start %s by itself: %w", job, err)
	}
	stdout := &bounded{left: r.limits.Output, exceeded: func() { kill(&LimitError{Resource: Output, Limits: r.limits}) }}
	stderr := &bounded{left: 4 << 10}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if stream, ok := out.(io.Writer); ok {
		cmd.Stdout, out = stream, nil
	}
	cmd.WaitDelay = 2 * time.Second
	confine(cmd)
	cmd.Cancel = func() error { return killGroup(cmd) }
	// The child is to end with this process, and Linux counts by threads.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s by itself: %w", job, err)
	}
	watched := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(watched)
		watchMemory(cmd.Process.Pid, r.limits.Memory, stop, func() { kill(&LimitError{Resource: Memory, Limits: r.limits}) })
	}()
	fed := make(chan struct{})
	feeding, enough := context.WithCancel(limited)
	defer enough()
	go func() {
		defer close(fed)
		if err := feed(feeding, stdin, input, more); err != nil {
			kill(&feedError{err})
		}
	}()
	err = cmd.Wait()
	close(stop)
	<-watched
	enough()
	<-fed
	if _, failed := errors.AsType[*feedError](context.Cause(limited)); err == nil && stdout.left >= 0 && !failed {
		if out == nil {
			return nil
		}
		if err := json.Unmarshal(stdout.kept.Bytes(), out); err != nil {
			return fmt.Errorf("read the answer of %s: %w", job, err)
		}
		return nil
	}
	return r.failure(ctx, limited, job, cmd, stderr.kept.String(), err)
}

// feed writes a child's input, and ends it if all of it was written. The error is
// more's own.
func feed(ctx context.Context, stdin io.WriteCloser, input []byte, more func(context.Context, io.Writer) error) error {
	w := &pipe{to: stdin}
	buffered := bufio.NewWriterSize(w, 64<<10)
	_, err := buffered.Write(input)
	if err == nil {
		err = buffered.WriteByte('\n') // JSON that was marshaled has none of its own
	}
	if err == nil && more != nil {
		err = more(ctx, buffered)
	}
	if err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		err = stdin.Close()
	}
	if err != nil && w.err == nil && ctx.Err() == nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil // or the child reads no more, which its end explains
}

// pipe remembers that it could not be written to.
type pipe struct {
	to  io.Writer
	err error
}

func (p *pipe) Write(b []byte) (int, error) {
	n, err := p.to.Write(b)
	if err != nil {
		p.err = err
	}
	return n, err
}

// feedError says why the input of a child could not be completed, so that it was killed.
type feedError struct{ err error }

func (e *feedError) Error() string { return e.err.Error() }

// failure finds out why a child did not end well.
func (r *Runner) failure(ctx, limited context.Context, job string, cmd *exec.Cmd, stderr string, err error) error {
	if limit, ok := errors.AsType[*LimitError](context.Cause(limited)); ok {
		return limit
	}
	if fed, ok := errors.AsType[*feedError](context.Cause(limited)); ok {
		return fmt.Errorf("%s: %w", job, fed.err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", job, context.Cause(ctx))
	}
	state := cmd.ProcessState
	used := state.UserTime() + state.SystemTime()
	switch {
	case state.ExitCode() == exitJob:
		return &JobError{Message: strings.TrimSpace(stderr)}
	case isOutOfMemory(stderr), strings.HasPrefix(stderr, "SIGSEGV") && peak(state) >= r.limits.Memory/2:
		// Go's collector does not look whether the kernel gave it memory for itself.
		return &LimitError{Resource: Memory, Limits: r.limits}
	case wasKilled(state) && used >= time.Duration(r.limits.seconds())*time.Second/2: // the kernel counts in ticks
		return &LimitError{Resource: CPU, Limits: r.limits}
	case wasKilled(state): // by the kernel, for want of memory, or by somebody
		return &LimitError{Resource: Memory, Limits: r.limits}
	}
	return &CrashError{Message: fmt.Sprintf("%s: %s", err, firstLine(stderr))}
}

// isOutOfMemory recognizes how Go ends when the kernel gives no memory.
func isOutOfMemory(stderr string) bool {
	for _, sign := range [...]string{"out of memory", "cannot allocate memory", "cannot map pages in arena"} {
		if strings.Contains(stderr, sign) {
			return true
		}
	}
	return false
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// JobError is the error that a job reports.
type JobError struct{ Message string }

// Error is the job's own message.
func (e *JobError) Error() string { return e.Message }

// CrashError says that a child ended without an answer and without having exceeded
// a limit, as it does where Go's stack overflows.
type CrashError struct{ Message string }

// Error says how it ended.
func (e *CrashError) Error() string { return "it ended badly: " + e.Message }

// bounded keeps what is written to it until there is no more room, and passes over
// the rest.
type bounded struct {
	kept     bytes.Buffer
	left     int64 // less than 0: something was passed over
	exceeded func()
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left < 0 {
		return len(p), nil
	}
	fits := min(int64(len(p)), b.left)
	b.kept.Write(p[:fits])
	if b.left -= int64(len(p)); b.left < 0 && b.exceeded != nil {
		b.exceeded()
	}
	return len(p), nil
}

// Job does one kind of work in a child. It is given its input, and what [Runner.Feed]
// writes besides, and returns what is to be its answer.
type Job func(ctx context.Context, input json.RawMessage, more io.Reader) (any, error)

const (
	exitUsage = 2
	exitJob   = 3 // the job says that it failed
)

// Main is a child's whole life. args are the program's, without its name; see
// [IsChild]. It returns the exit status.
func Main(args []string, jobs map[string]Job, stdin io.Reader, stdout, stderr io.Writer) int {
	fail := func(status int, err error) int {
		fmt.Fprintln(stderr, err)
		return status
	}
	memory, err1 := strconv.ParseInt(args[2], 10, 64)
	seconds, err2 := strconv.ParseInt(args[3], 10, 64)
	job, ok := jobs[args[1]]
	if err := errors.Join(err1, err2); err != nil || !ok {
		return fail(exitUsage, fmt.Errorf("this command is for Patrol itself: job %q, %w", args[1], err))
	}
	if err := limit(memory, seconds); err != nil {
		return fail(exitUsage, fmt.Errorf("limit this process: %w", err))
	}
	debug.SetMemoryLimit(memory / 10 * 8)
	more := bufio.NewReaderSize(stdin, 64<<10)
	input, err := more.ReadBytes('\n')
	if err != nil {
		return fail(exitUsage, err)
	}
	answer, err := job(context.Background(), input, more)
	if stream, ok := answer.(Stream); ok && err == nil {
		if err := stream(stdout); err != nil {
			return fail(exitJob, err)
		}
		return 0
	}
	if err != nil {
		return fail(exitJob, err)
	}
	if err := json.NewEncoder(stdout).Encode(answer); err != nil {
		return fail(exitUsage, err)
	}
	return 0
}
