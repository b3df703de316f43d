package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// process is a server under load. It is this program's own child, and the only
// thing that is ever sent a signal.
type process struct {
	name string
	addr string // host:port
	cmd  *exec.Cmd
}

// start runs a server. If the address is not known beforehand, find is given
// each line of its standard error and returns the address that it names, or "".
func start(ctx context.Context, name string, cmd *exec.Cmd, addr string, find func(line string) string) (*process, error) {
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, addr: addr, cmd: cmd}
	found := make(chan string, 1)
	go func() {
		defer close(found)
		lines, last, told := bufio.NewScanner(log), "", find == nil
		for lines.Scan() {
			if last = lines.Text(); told {
				continue
			}
			if a := find(last); a != "" {
				found <- a
				told = true
			}
		}
		if !told {
			fmt.Fprintf(os.Stderr, "%s said last: %s\n", name, last)
		}
		_, _ = io.Copy(io.Discard, log) // lines too long to scan
	}()
	if find != nil {
		select {
		case a, ok := <-found:
			if !ok {
				return nil, errors.Join(fmt.Errorf("%s ended before it listened", name), p.stop())
			}
			p.addr = a
		case <-time.After(30 * time.Second):
			return nil, errors.Join(fmt.Errorf("%s does not say where it listens", name), p.stop())
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), p.stop())
		}
	}
	return p, p.await(ctx)
}

// await returns when the server takes connections.
func (p *process) await(ctx context.Context) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.addr)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return errors.Join(fmt.Errorf("%s does not answer: %w", p.name, err), p.stop())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// stop ends the server and waits for it.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(os.Interrupt)
	kill := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("end %s: %w", p.name, err)
	}
	return nil
}

// tick is the unit of /proc/<pid>/stat, USER_HZ, which Linux fixes at 100 for
// programs on every architecture that Go supports.
const tick = 10 * time.Millisecond

// cpu returns the CPU time, user and system, that the server has used so far.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the CPU time of %s: %w", p.name, err)
	}
	return parseStat(string(text))
}

// resident returns the memory, in bytes, that the server has now.
func (p *process) resident() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the memory of %s: %w", p.name, err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("/proc says no memory of %s", p.name)
}

// parseStat adds up utime and stime, the 14th and 15th field (proc(5)). The
// second field, the name, may contain anything and ends with the last ")".
func parseStat(text string) (time.Duration, error) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc stat has %d fields after the name", len(fields))
	}
	var total time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc stat: %w", err)
		}
		total += time.Duration(n) * tick
	}
	return total, nil
}

// freeAddr returns an address that nothing listens on, for a server that cannot
// tell which one it was given.
func freeAddr(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
