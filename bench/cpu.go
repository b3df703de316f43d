package bench

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Sample is what one call of an operation costs in this process.
type Sample struct {
	CPU    time.Duration // user and system, garbage collection included
	Allocs int64
}

// Measure calls operations for about d, one in each of as many goroutines as
// there are processors; newOp makes one. CPU time, unlike time on the wall, says
// about the same on a busy machine, and is what servers are measured by. That all
// processors work is part of it: those that share a core, as two of a virtual
// machine usually do, get less done in the same CPU time when both are busy, as
// they are in a server under load.
func Measure(newOp func() Op, d time.Duration) (Sample, error) {
	workers := runtime.GOMAXPROCS(0)
	ops := make([]Op, workers)
	for i := range ops {
		ops[i] = newOp()
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, err := ownCPU()
	if err != nil {
		return Sample{}, err
	}
	var calls atomic.Int64
	errs := make([]error, workers)
	var wg sync.WaitGroup
	begin := time.Now()
	for i, op := range ops {
		wg.Go(func() {
			for errs[i] == nil && time.Since(begin) < d {
				for range 32 {
					errs[i] = errors.Join(errs[i], op())
				}
				calls.Add(32)
			}
		})
	}
	wg.Wait()
	end, err := ownCPU()
	runtime.ReadMemStats(&after)
	if err := errors.Join(errors.Join(errs...), err); err != nil {
		return Sample{}, err
	}
	return Sample{
		CPU:    (end - cpu) / time.Duration(calls.Load()),
		Allocs: int64(after.Mallocs-before.Mallocs) / calls.Load(),
	}, nil
}

// ownCPU returns the CPU time that this process has used so far.
func ownCPU() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("read this process's CPU time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
