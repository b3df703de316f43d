package bench

import (
	"fmt"
	"runtime"
	"syscall"
	"time"
)

// Sample is the cost of one call of an operation in this process.
type Sample struct {
	CPU    time.Duration // user and system, garbage collection included
	Allocs int64
}

// Measure calls op for about d. CPU time, unlike time on the wall, says about the
// same on a busy machine, and is what servers are measured by.
func Measure(op Op, d time.Duration) (Sample, error) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, err := ownCPU()
	if err != nil {
		return Sample{}, err
	}
	calls := 0
	for begin := time.Now(); time.Since(begin) < d; {
		for range atOnce(d, calls, begin) {
			if err := op(); err != nil {
				return Sample{}, err
			}
			calls++
		}
	}
	end, err := ownCPU()
	runtime.ReadMemStats(&after)
	return Sample{
		CPU:    (end - cpu) / time.Duration(calls),
		Allocs: int64(after.Mallocs-before.Mallocs) / int64(calls),
	}, err
}

// ownCPU returns the CPU time that this process has used so far.
func ownCPU() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("read this process's CPU time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// atOnce counts the calls between two readings of the clock: many of a quick
// operation, one of a slow one.
func atOnce(d time.Duration, calls int, begin time.Time) int {
	if calls == 0 || time.Since(begin)/time.Duration(calls) > d/100 {
		return 1
	}
	return 32
}
