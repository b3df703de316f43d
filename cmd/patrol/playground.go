package main

import (
	"fmt"
	"time"

	"patrol/bundles"
	"patrol/bundles/sandbox"
	"patrol/cmd/patrol/config"
	"patrol/server/manage"
)

// trialPatience is the time that a trial waits for its turn.
const trialPatience = 5 * time.Second

// openPlayground returns nil if there is to be none.
func openPlayground(cfg config.Config) (manage.Playground, error) {
	if !cfg.Playground.Enabled {
		return nil, nil //nolint:nilnil // none is one of the answers
	}
	p, err := bundles.NewPlayground(bundles.PlaygroundConfig{
		Limits:  sandbox.Limits{Memory: int64(cfg.Playground.Memory), CPU: cfg.Playground.CPUTime, Wall: cfg.Playground.Timeout},
		Running: cfg.Playground.Running, Patience: trialPatience, Gate: gateConfig(cfg),
	})
	if err != nil {
		return nil, fmt.Errorf("set the playground up: %w", err)
	}
	return p, nil
}
