package sandbox

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// confine gives the child a process group of its own, and its parent's end.
func confine(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func killGroup(cmd *exec.Cmd) error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

func wasKilled(state *os.ProcessState) bool {
	status, ok := state.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// peak is the most memory that a process used, in bytes; 0 if that is not known.
func peak(state *os.ProcessState) int64 {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	return usage.Maxrss << 10 // from KiB
}

// niceness puts a child behind the server's requests.
const niceness = 10

// limit bounds this process, for good. The limit of CPU time is the hard one at once,
// at which the kernel kills: Go passes over the signal of the soft one.
func limit(memory, seconds int64) error {
	limits := map[int]uint64{unix.RLIMIT_CPU: uint64(seconds), unix.RLIMIT_CORE: 0, unix.RLIMIT_FSIZE: 0} //nolint:gosec // G115: positive
	if !shadowMemory {
		limits[unix.RLIMIT_DATA] = uint64(memory) //nolint:gosec // G115: positive
	}
	for resource, bound := range limits {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: bound, Max: bound}); err != nil {
			return err
		}
	}
	return unix.Setpriority(unix.PRIO_PROCESS, 0, niceness)
}

// watchEvery is the interval at which the memory of a child is looked at.
const watchEvery = 20 * time.Millisecond

// watchMemory calls exceeded once if a process uses more memory than bound, until
// stop is closed.
func watchMemory(pid int, bound int64, stop <-chan struct{}, exceeded func()) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		if resident(pid) > bound {
			exceeded()
			return
		}
	}
}

// resident is the memory that a process uses, 0 if it has ended.
func resident(pid int) int64 {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	fields := bytes.Fields(content)
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// Enforced reports whether the operating system enforces limits here.
const Enforced = true
