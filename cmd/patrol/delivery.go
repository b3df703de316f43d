package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"patrol/bundles"
	"patrol/bundles/sandbox"
	"patrol/cmd/patrol/config"
	"patrol/models"
	"patrol/models/store"
	"patrol/server"
)

const (
	// followEvery is how often a server looks for which policy is in force.
	followEvery = 500 * time.Millisecond
	// policyStart is how long the policy's source may take at the start.
	policyStart = 20 * time.Second
)

// deliverPolicy finds the policy to start with. The delivery goes on once its Run
// is called. decisions may be nil.
func deliverPolicy(ctx context.Context, cfg config.Config, s *store.Store, decisions *store.Decisions, log *slog.Logger, registerer prometheus.Registerer) (*bundles.Delivery, error) {
	verifier, err := policyVerifier(cfg.Bundle)
	if err != nil {
		return nil, fmt.Errorf("bundle.keys: %w", err)
	}
	interval := cfg.Bundle.Interval
	if strings.Contains(cfg.Policy, "://") {
		interval = cfg.Bundle.PollInterval
	}
	source, err := bundles.NewSource(bundles.Options{
		Source: cfg.Policy, Verifier: verifier, Interval: interval,
		URL: bundles.URLOptions{
			Credential: cfg.Bundle.Credential.Reveal(), CAFile: cfg.Bundle.CAFile, Wait: cfg.Bundle.LongPoll, Timeout: cfg.Bundle.Timeout,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	minCoverage := float64(cfg.Gate.MinCoverage)
	if minCoverage == 0 {
		minCoverage = -1 // 0 is the default to the engine
	}
	gate, err := bundles.NewGate(bundles.GateConfig{
		MinCoverage: minCoverage, Waive: cfg.Gate.Waive, TestTimeout: cfg.Gate.TestTimeout,
		Limits:   sandbox.Limits{Memory: int64(cfg.Gate.Memory), CPU: cfg.Gate.CPUTime, Wall: cfg.Gate.Timeout},
		Recorded: latestDecisions(cfg.Gate, decisions), MaxChanges: int64(cfg.Gate.MaxChanges),
	})
	if err != nil {
		return nil, fmt.Errorf("set the gate up: %w", err)
	}
	return bundles.Begin(ctx, bundles.Config{
		Source: source, Gate: gate, Ledger: server.PolicyLedger(s), Verifier: verifier, Sync: followEvery, StartTimeout: policyStart,
		Logger: log, Registerer: registerer,
	})
}

// latestDecisions hands out the decisions that a candidate must make again; nil: none.
func latestDecisions(gate config.Gate, decisions *store.Decisions) bundles.Events {
	if gate.ReplaySince <= 0 || decisions == nil {
		return nil
	}
	return func(ctx context.Context, yield func([]byte) error) error {
		var room []byte
		since := time.Now().Add(-gate.ReplaySince)
		return decisions.Latest(ctx, store.DecisionFilter{Since: since}, gate.ReplayLimit, func(l models.LoggedDecision) error {
			room = l.AppendEvent(room[:0], noLabels)
			return yield(room)
		})
	}
}

var noLabels = []byte(`{}`)

// policyVerifier returns nil if no key is configured.
func policyVerifier(b config.Bundle) (*bundles.Verifier, error) {
	if len(b.Keys) == 0 {
		return nil, nil
	}
	keys := make([]bundles.Key, len(b.Keys))
	for i, text := range b.Keys {
		var err error
		if keys[i], err = bundles.ReadKey(text); err != nil {
			return nil, err
		}
	}
	return bundles.NewVerifier(keys, b.Scope)
}
