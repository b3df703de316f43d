package main

import (
	"log/slog"

	"patrol/cmd/patrol/config"
	"patrol/internal/heap"
)

// useMemory has the process keep to what its control group lets it have, unless the
// environment says how the Go runtime is to do it. stop undoes it.
func (p *process) useMemory(cfg config.Config, log *slog.Logger) (stop func()) {
	var stops []func()
	children := uint64(cfg.Gate.Memory) //nolint:gosec // settings are not negative; one candidate is checked at a time
	if cfg.Shadow.Policy != "" {
		children += uint64(cfg.Shadow.Memory) //nolint:gosec // likewise
	}
	limit, headroom := heap.Plan(heap.Allowed(), uint64(cfg.Memory.Headroom), children) //nolint:gosec // likewise
	if limit > 0 && p.getenv("GOMEMLIMIT") == "" {
		stops = append(stops, heap.Limit(limit))
		log.Debug("the server keeps to the memory of its control group", "heap", config.Size(limit), "headroom", config.Size(headroom)) //nolint:gosec // less than the machine has
	}
	if headroom > 0 && p.getenv("GOGC") == "" {
		stops = append(stops, heap.Headroom(headroom))
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}
