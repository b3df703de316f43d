package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// options say how much is done.
type options struct {
	patrol, opa, policies string // two programs and a folder
	tokens                int
	rounds                int
	requests              int // per round and server
	connections           int
	write                 string // the report, as a page of the documents
	only                  string // of the servers those whose names match are measured, and nothing else
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed, err := run(ctx, os.Args[1:])
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(2)
	case failed:
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (failed bool, err error) {
	var o options
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.StringVar(&o.patrol, "patrol", "bin/patrol", "the program")
	flags.StringVar(&o.opa, "opa", "bin/opa", "the program of the same version as the library")
	flags.StringVar(&o.policies, "policies", "policies", "folder of the default policy")
	flags.IntVar(&o.tokens, "tokens", 1000, "tokens in the database, each with 10 scopes")
	flags.IntVar(&o.rounds, "rounds", 5, "rounds, in each of which every server has its turn")
	flags.IntVar(&o.requests, "requests", 8_000, "requests per server and round")
	flags.IntVar(&o.connections, "connections", 16, "connections at the same time")
	flags.StringVar(&o.write, "write", "", "write the results as a page to this file, with a picture beside it")
	flags.StringVar(&o.only, "only", "", "measure only the servers whose names this regular expression matches, and hold nothing against a bar")
	upstream := flags.Bool("upstream", false, "be the service behind the proxies")
	reverse := flags.String("reverse", "", "be Go's proxy for this URL")
	constant := flags.Int("constant", 0, "be the constant handler, with an answer of this many bytes")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	switch {
	case *constant > 0:
		return false, serveConstant(ctx, *constant)
	case *upstream:
		return false, serveUpstream(ctx)
	case *reverse != "":
		return false, serveReverse(ctx, *reverse)
	}
	if min(o.tokens, o.rounds, o.requests, o.connections) < 1 {
		return false, errors.New("every number must be at least 1")
	}

	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Minute, errors.New("it took longer than 20 minutes"))
	defer cancel()
	return compare(ctx, o, os.Stdout)
}
