package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"patrol/bench"
)

// results are what the rounds came to.
type results struct {
	servers   []*served
	cases     []*judged
	authorize []bench.Sample
}

// served is one server's results, one entry per round.
type served struct {
	name      string
	perSecond []float64
	p50, p99  []time.Duration
	cpu       []time.Duration // per request
}

// judged is one kind of evaluation's results.
type judged struct {
	bench.Case
	samples []bench.Sample
}

func (r *results) add(name string, got round, cpu time.Duration) {
	i := slices.IndexFunc(r.servers, func(s *served) bool { return s.name == name })
	if i < 0 {
		r.servers, i = append(r.servers, &served{name: name}), len(r.servers)
	}
	s := r.servers[i]
	s.perSecond = append(s.perSecond, got.perSecond)
	s.p50, s.p99 = append(s.p50, got.p50), append(s.p99, got.p99)
	s.cpu = append(s.cpu, cpu)
}

func (r *results) addCase(c bench.Case, got bench.Sample) {
	i := slices.IndexFunc(r.cases, func(j *judged) bool { return j.Name == c.Name })
	if i < 0 {
		r.cases, i = append(r.cases, &judged{Case: c}), len(r.cases)
	}
	r.cases[i].samples = append(r.cases[i].samples, got)
}

// middle returns the medians of samples.
func middle(samples []bench.Sample) bench.Sample {
	var cpu []time.Duration
	var allocs []int64
	for _, s := range samples {
		cpu, allocs = append(cpu, s.CPU), append(allocs, s.Allocs)
	}
	return bench.Sample{CPU: median(cpu), Allocs: median(allocs)}
}

// median returns the middle value, the lower one of two.
func median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

// cpuOf returns the median CPU time per request of a server.
func (r *results) cpuOf(name string) time.Duration {
	for _, s := range r.servers {
		if s.name == name {
			return median(s.cpu)
		}
	}
	return 0
}

// report prints the medians, the ratios, and the bars. It reports whether a bar
// was missed.
func (r *results) report(out io.Writer) (failed bool) {
	patrol := r.cpuOf("patrol")
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\nserver\trequests/s\tp50\tp99\tCPU/request\tCPU of patrol is\t")
	for _, s := range r.servers {
		fmt.Fprintf(t, "%s\t%.0f\t%s\t%s\t%s\t%.2f ×\t\n", s.name, median(s.perSecond),
			micros(median(s.p50)), micros(median(s.p99)), micros(median(s.cpu)), ratio(patrol, median(s.cpu)))
	}
	fmt.Fprintln(t, "\nwithout HTTP\tCPU/call\tallocations\tin bare evaluations\t")
	bare := middle(r.cases[0].samples).CPU
	line := func(name string, s bench.Sample) {
		fmt.Fprintf(t, "%s\t%s\t%d\t%.2f ×\t\n", name, micros(s.CPU), s.Allocs, ratio(s.CPU, bare))
	}
	for _, j := range r.cases {
		line("evaluation, "+j.Name, middle(j.samples))
	}
	line("cached Authorize", middle(r.authorize))
	_ = t.Flush()

	fmt.Fprintln(out)
	for _, b := range r.bars() {
		verdict := "PASS"
		if !b.met {
			verdict, failed = "FAIL", true
		}
		fmt.Fprintf(out, "%s  %s\n", verdict, b.text)
	}
	return failed
}

// bar is one promise and whether it was kept.
type bar struct {
	met  bool
	text string
}

// slack is how far a sum of a bare evaluation and an allowance may go.
const slack = 1.3

func (r *results) bars() []bar {
	var bars []bar
	for _, j := range r.cases {
		allocs := middle(j.samples).Allocs
		bars = append(bars, bar{
			allocs <= int64(j.MaxAllocs()),
			fmt.Sprintf("evaluation, %s: %d allocations, at most %d", j.Name, allocs, j.MaxAllocs()),
		})
	}
	timed := func(got, most time.Duration, format string) {
		bars = append(bars, bar{got <= most, fmt.Sprintf(format, micros(got), micros(most))})
	}
	bare := time.Duration(slack * float64(middle(r.cases[0].samples).CPU))
	timed(middle(r.authorize).CPU, bare+3*time.Microsecond,
		"cached Authorize: %s CPU, at most %s (1.3 × a bare evaluation + 3 µs)")
	timed(r.cpuOf("patrol"), r.cpuOf("constant")+bare+15*time.Microsecond,
		"POST /authorize: %s CPU, at most %s (the constant handler's + 1.3 × a bare evaluation + 15 µs)")
	timed(r.cpuOf("patrol"), r.cpuOf("opa")*6/10,
		"POST /authorize: %s CPU, at most %s (0.6 × OPA's REST server)")
	return bars
}

func micros(d time.Duration) string {
	return fmt.Sprintf("%.1f µs", float64(d)/float64(time.Microsecond))
}

func ratio(a, b time.Duration) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
