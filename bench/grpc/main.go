// Command grpc measures what Envoy's question costs: server CPU per gRPC Check,
// with several in flight on a few connections, next to a server whose Check
// answers a constant, in turns in the same run, and next to a bare evaluation of
// the policy in this process.
//
// The bar: at most 1.8 times the constant handler's CPU. A missed bar is a failure (exit
// status 1). Needs Linux for the CPU time of other processes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"patrol/bench"
)

type options struct {
	rounds, requests, inFlight, connections, tokens int
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "rounds, each of which measures everything once")
	flag.IntVar(&o.requests, "requests", 20_000, "requests per server and round")
	flag.IntVar(&o.inFlight, "in-flight", 16, "requests in flight")
	flag.IntVar(&o.connections, "connections", 4, "connections")
	flag.IntVar(&o.tokens, "tokens", 1000, "tokens, of ten scopes each")
	serve := flag.String("serve", "", "be one of the servers: constant, or patrol on the database that this names")
	keys := flag.String("keys", "", "token keys of that database")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	var err error
	var failed bool
	switch *serve {
	case "":
		failed, err = compare(ctx, o, os.Stdout)
	case "constant":
		err = serveConstant(ctx)
	default:
		err = servePatrol(ctx, *serve, *keys)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench/grpc:", err)
		stop()
		os.Exit(2)
	case failed:
		stop()
		os.Exit(1)
	}
}

// maxRatio is the bar: CPU of a Check against the constant handler's.
const maxRatio = 1.8

// perSample is the time for which the bare evaluation is measured in a round.
const perSample = 300 * time.Millisecond

// compare sets up, measures in rounds and reports whether the bar was missed.
func compare(ctx context.Context, o options, out io.Writer) (failed bool, err error) {
	dir, err := os.MkdirTemp("", "patrol-bench-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	w, url, store, err := bench.OpenWorld(ctx, dir, o.tokens)
	if err != nil {
		return false, err
	}
	if err := store.Close(); err != nil {
		return false, err
	}
	policy, err := bench.LoadPolicy(ctx)
	if err != nil {
		return false, err
	}

	var servers []*process
	defer func() {
		for _, s := range servers {
			err = errors.Join(err, s.stop())
		}
	}()
	for _, args := range [][]string{{"constant", "-serve", "constant"}, {"patrol", "-serve", url, "-keys", w.KeysText}} {
		s, err := startSelf(ctx, args[0], o.connections, args[1:]...)
		if err != nil {
			return false, err
		}
		servers = append(servers, s)
	}
	requests := questions(w)
	for _, s := range servers { // caches and the runtime warm up
		if _, err := fire(ctx, s.conns, requests, max(2*o.tokens, o.requests/4), o.inFlight); err != nil {
			return false, fmt.Errorf("%s: %w", s.name, err)
		}
	}

	cpu := map[string][]time.Duration{}
	p50, p99 := map[string][]time.Duration{}, map[string][]time.Duration{}
	for range o.rounds {
		bare, err := bench.Measure(bench.Evaluate(ctx, policy, w.Cases()[0]), perSample)
		if err != nil {
			return false, err
		}
		cpu["evaluation"] = append(cpu["evaluation"], bare.CPU)
		for _, s := range servers {
			before, err := s.cpu()
			if err != nil {
				return false, err
			}
			latencies, err := fire(ctx, s.conns, requests, o.requests, o.inFlight)
			if err != nil {
				return false, fmt.Errorf("%s: %w", s.name, err)
			}
			after, err := s.cpu()
			if err != nil {
				return false, err
			}
			cpu[s.name] = append(cpu[s.name], (after-before)/time.Duration(o.requests))
			p50[s.name] = append(p50[s.name], latencies[len(latencies)/2])
			p99[s.name] = append(p99[s.name], latencies[len(latencies)*99/100])
		}
	}

	fmt.Fprintf(out, "gRPC Check: %d tokens of 10 scopes, %d in flight on %d connections, %d rounds of %d requests\n",
		o.tokens, o.inFlight, o.connections, o.rounds, o.requests)
	for _, s := range servers {
		fmt.Fprintf(out, "  %-10s %8s CPU per call   p50 %8s   p99 %8s\n", s.name, short(median(cpu[s.name])), short(median(p50[s.name])), short(median(p99[s.name])))
	}
	bare := median(cpu["evaluation"])
	fmt.Fprintf(out, "  %-10s %8s\n", "evaluation", short(bare))
	got, base := median(cpu["patrol"]), median(cpu["constant"])
	ratio := float64(got) / float64(base)
	verdict := "kept"
	if failed = ratio > maxRatio; failed {
		verdict = "MISSED"
	}
	fmt.Fprintf(out, "  CPU against the constant handler: %.2f ×, at most %.1f ×: %s\n", ratio, maxRatio, verdict)
	return failed, nil
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

func short(d time.Duration) string { return d.Round(100 * time.Nanosecond).String() }
