package main

import (
	"context"
	"log/slog"
	"time"

	"patrol/internal/systemd"
)

const (
	// readyEvery is the pause between two looks at a server that starts.
	readyEvery = 100 * time.Millisecond
	// aliveIn is the number of looks at the server within the watchdog's time.
	aliveIn = 3
)

// tellManager tells systemd when the server can be asked, that it still answers, and that
// it ends, until stop is called. It answers if a request that comes in at its own address is
// answered: what the database does is no reason to start the server anew.
func (p *process) tellManager(ctx context.Context, base string, log *slog.Logger) (stop func(), err error) {
	manager, err := systemd.Find(p.environ)
	if err != nil || manager == nil {
		return func() {}, err
	}
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		w := watched{manager: manager, base: base, log: log, ending: ctx.Done()}
		w.run(inner)
	}()
	return func() {
		cancel()
		<-done
	}, nil
}

// watched is a server of which systemd is told.
type watched struct {
	manager *systemd.Manager
	base    string
	log     *slog.Logger
	ending  <-chan struct{} // closed when the server begins to end
	failed  bool            // the last look
}

func (w *watched) run(ctx context.Context) {
	if !w.untilReady(ctx) {
		w.tell(ctx, systemd.Stopping)
		return
	}
	var ticks <-chan time.Time
	if w.manager.Watchdog > 0 {
		ticker := time.NewTicker(w.manager.Watchdog / aliveIn)
		defer ticker.Stop()
		ticks = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.ending:
			w.tell(ctx, systemd.Stopping, "STATUS=Finishing what is in flight")
			return // systemd minds only the time that it gives the end
		case <-ticks:
			if w.answers(ctx) {
				w.tell(ctx, systemd.Alive)
			}
		}
	}
}

// untilReady waits until the server answers, and says so. It reports false if the server
// ends before.
func (w *watched) untilReady(ctx context.Context) bool {
	for !w.answers(ctx) {
		pause := time.NewTimer(readyEvery)
		select {
		case <-ctx.Done():
		case <-w.ending:
		case <-pause.C:
			continue
		}
		pause.Stop()
		return false
	}
	w.tell(ctx, systemd.Ready, "STATUS=Answering at "+w.base)
	return true
}

// answers looks at the server, within a part of the watchdog's time. It logs the first
// failure of several.
func (w *watched) answers(ctx context.Context) bool {
	limit := doctorTime
	if w.manager.Watchdog > 0 {
		limit = min(limit, w.manager.Watchdog/aliveIn)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := askHealth(ctx, w.base, true, true)
	if err != nil && !w.failed && ctx.Err() == nil {
		w.log.WarnContext(ctx, "the server does not answer itself; systemd is told nothing", "url", w.base, "error", err)
	}
	w.failed = err != nil
	return err == nil
}

func (w *watched) tell(ctx context.Context, what ...string) {
	if err := w.manager.Tell(what...); err != nil {
		w.log.WarnContext(ctx, "systemd could not be told how the server is", "error", err)
	}
}
