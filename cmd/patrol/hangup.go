package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// untilHangup returns a context for a server. SIGHUP says that a terminal was closed: a
// server that was started at one ends as it does with SIGTERM. To a server without one it
// says to read its files again, which it does without being told; the log says so.
// Where SIGHUP is ignored, as under nohup, it stays ignored.
func (p *process) untilHangup(ctx context.Context, log *slog.Logger) (context.Context, context.CancelFunc) {
	if signal.Ignored(syscall.SIGHUP) {
		return context.WithCancel(ctx)
	}
	atTerminal := terminal(p.stdin) != nil || terminal(p.stderr) != nil
	inner, cancel := context.WithCancel(ctx)
	hangups, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for {
			select {
			case <-done:
				return
			case <-hangups: // while the server ends, too: it finishes what is in flight
			}
			if atTerminal {
				log.InfoContext(ctx, "the terminal was closed")
				cancel()
				continue
			}
			log.InfoContext(ctx, "a hangup changes nothing: certificates, token keys and policies are read again when they change, other settings at a restart")
		}
	}()
	return inner, func() {
		signal.Stop(hangups)
		close(done)
		cancel()
	}
}
