package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := runner{getenv: os.Getenv, environ: os.Environ(), out: os.Stdout, errors: os.Stderr}
	os.Exit(r.run(ctx, os.Args[1:]))
}

// runner runs Go tools and reports. Its fields are what a test replaces.
type runner struct {
	getenv  func(string) string
	environ []string // of the tools
	out     io.Writer
	errors  io.Writer
}

// run carries out one subcommand and returns the exit status: 0 passed, 1
// failed, 2 not understood.
func (r runner) run(ctx context.Context, args []string) int {
	var err error
	switch {
	case len(args) > 0 && args[0] == "test":
		err = r.test(ctx, args[1:])
	case len(args) > 0 && args[0] == "fuzz":
		err = r.fuzz(ctx, args[1:])
	case len(args) > 0 && args[0] == "check":
		err = r.check(ctx, args[1:])
	default:
		fmt.Fprintln(r.errors, "usage: testrun test [go test arguments] | testrun fuzz [-time 60s] | testrun check [-base commit]")
		return 2
	}
	if err != nil {
		fmt.Fprintf(r.out, "\nFAILED: %v\n", err)
		return 1
	}
	return 0
}

// required reports whether PATROL_REQUIRE names the component.
func (r runner) required(name string) bool {
	return slices.ContainsFunc(strings.Split(r.getenv("PATROL_REQUIRE"), ","), func(s string) bool {
		return strings.TrimSpace(s) == name
	})
}

func (r runner) long() bool { return r.getenv("PATROL_LONG") == "1" }

// command prepares a Go tool that is interrupted, and only then killed, when
// ctx ends. Later entries of env win over the inherited environment.
func (r runner) command(ctx context.Context, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // a developer's own arguments to go test
	cmd.Env = append(slices.Clip(r.environ), env...)
	cmd.Stdout, cmd.Stderr = r.out, r.errors
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

// output runs a Go tool and returns what it printed.
func (r runner) output(ctx context.Context, args ...string) (string, error) {
	cmd := r.command(ctx, nil, args...)
	cmd.Stdout = nil
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}
