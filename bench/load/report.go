package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"patrol/bench"
)

// results are the results of all rounds.
type results struct {
	servers   []*served
	cases     []*judged
	authorize []bench.Sample
	models    []bench.Sample // a hundred for one token
	users     []bench.Sample // ten thousand for one model
	resident  int64          // bytes of the server that keeps a decision log

	activation time.Duration // CPU to load a policy and hold its plan against OPA's evaluator
	memory     int64         // bytes for each further policy
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
	before  []bench.Sample
}

// ratio is CPU as a part of what it was before.
func (j *judged) ratio() float64 { return ratio(middle(j.samples).CPU, middle(j.before).CPU) }

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

func (r *results) addCase(c bench.Case, got, before bench.Sample) {
	i := slices.IndexFunc(r.cases, func(j *judged) bool { return j.Name == c.Name })
	if i < 0 {
		r.cases, i = append(r.cases, &judged{Case: c}), len(r.cases)
	}
	r.cases[i].samples = append(r.cases[i].samples, got)
	r.cases[i].before = append(r.cases[i].before, before)
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
	if s := r.server(name); s != nil {
		return median(s.cpu)
	}
	return 0
}

func (r *results) server(name string) *served {
	for _, s := range r.servers {
		if s.name == name {
			return s
		}
	}
	return nil
}

// report prints the bars, and then the medians. It reports whether a bar was missed.
func (r *results) report(out io.Writer) (failed bool) {
	fmt.Fprintln(out)
	for _, b := range r.bars() {
		verdict := "PASS"
		if !b.met() {
			verdict, failed = "FAIL", true
		}
		fmt.Fprintf(out, "%s  %s\n", verdict, b)
	}
	r.table(out)
	return failed
}

// table prints the medians.
func (r *results) table(out io.Writer) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\nserver\trequests/s\tp50\tp99\tCPU/request\t")
	for _, s := range r.servers {
		fmt.Fprintf(t, "%s\t%.0f\t%s\t%s\t%s\t\n", s.name, median(s.perSecond), micros(median(s.p50)), micros(median(s.p99)), micros(median(s.cpu)))
	}
	fmt.Fprintln(t, "\nwithout HTTP\tCPU/call\tallocations\tbefore\t")
	for _, j := range r.cases {
		got := middle(j.samples)
		fmt.Fprintf(t, "evaluation, %s\t%s\t%d\t%s\t\n", j.Name, micros(got.CPU), got.Allocs, micros(middle(j.before).CPU))
	}
	if r.resident > 0 {
		fmt.Fprintf(t, "memory (RSS) of patrol\t%.1f MB\t\t\t\n", float64(r.resident)/1e6)
	}
	if len(r.authorize) > 0 {
		got := middle(r.authorize)
		fmt.Fprintf(t, "cached Authorize\t%s\t%d\t\t\n", micros(got.CPU), got.Allocs)
	}
	_ = t.Flush()
}

// bar is one promise: a figure, and what it may be at most.
type bar struct {
	text      string
	unit      string
	got, most float64
}

func (b bar) met() bool { return b.got <= b.most }

func (b bar) String() string {
	return fmt.Sprintf("%s: %s%s, at most %s%s", b.text, figure(b.got), b.unit, figure(b.most), b.unit)
}

func figure(f float64) string { return strconv.FormatFloat(math.Round(f*1000)/1000, 'f', -1, 64) }

// The units of bars.
const (
	unitTimes  = " ×"
	unitAllocs = " allocations"
	unitMillis = " ms"
	unitMB     = " MB"
	unitMiB    = " MiB"
)

func (r *results) bars() []bar {
	var bars []bar
	for _, j := range r.cases {
		bars = append(bars,
			bar{"evaluation, " + j.Name + ", CPU against the evaluation of before", unitTimes, j.ratio(), j.MaxRatio},
			bar{"evaluation, " + j.Name, unitAllocs, float64(middle(j.samples).Allocs), float64(j.MaxAllocs)})
	}
	millis := func(s []bench.Sample) float64 { return float64(middle(s).CPU) / float64(time.Millisecond) }
	bars = append(bars,
		bar{"100 models for one token, CPU", unitMillis, millis(r.models), 0.5},
		bar{"10,000 users for one model, CPU", unitMillis, millis(r.users), 60})
	bars = append(bars,
		bar{"the default policy comes into force, trials of its plan included, CPU", unitMillis, float64(r.activation) / float64(time.Millisecond), 1500},
		bar{"memory for each policy that is loaded", unitMiB, float64(r.memory) / (1 << 20), 8})
	against := func(text, name, base string, most float64) {
		bars = append(bars, bar{text, unitTimes, ratio(r.cpuOf(name), r.cpuOf(base)), most})
	}
	against("POST /authorize with the decision log in SQLite, CPU against a constant handler", patrolLogging, constantName, 3)
	against("POST /authorize with the decision log in SQLite, CPU against OPA's REST server with a minimal policy", patrolLogging, opaMinimal, 0.75)
	against("POST /authorize with the decision log in SQLite, CPU against OPA's REST server with the same policy", patrolLogging, opaSame, 0.25)
	against("gateway, GET, CPU against httputil.ReverseProxy", gatewayGet, reverseGet, 2)
	against("gateway, POST of 2 KiB, CPU against httputil.ReverseProxy", gatewayPost, reversePost, 2.2)
	if with, without := r.server(patrolLogging), r.server(patrolSilent); with != nil && without != nil {
		bars = append(bars, bar{"POST /authorize, p99 with the decision log against without", unitTimes, ratio(median(with.p99), median(without.p99)), 1.5})
	}
	return append(bars, bar{"memory (RSS) of the server under this load", unitMB, float64(r.resident) / 1e6, 160})
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
