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
	"patrol/internal/secret"
	"patrol/models/store"
	"patrol/server/authz"
	"patrol/server/decisionlog"
	"patrol/server/manage"
	"patrol/server/shadow"
)

const (
	// followEvery is the interval at which a server looks for the policy in force.
	followEvery = 500 * time.Millisecond
	// policyStart is the time that the policy's source may take at the start.
	policyStart = 20 * time.Second
)

// deliverPolicy finds the policy to start with. The delivery goes on once its Run
// is called. decisions may be nil.
func deliverPolicy(ctx context.Context, cfg config.Config, s *store.Store, decisions *store.Decisions, log *slog.Logger, registerer prometheus.Registerer) (*bundles.Delivery, error) {
	verifier, err := policyVerifier(cfg.Bundle)
	if err != nil {
		return nil, fmt.Errorf("bundle.keys: %w", err)
	}
	source, err := policySource(cfg.Bundle, cfg.Policy, cfg.Bundle.Credential, verifier)
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	gate, err := policyGate(cfg, latestDecisions(cfg.Gate, decisions))
	if err != nil {
		return nil, err
	}
	return bundles.Begin(ctx, bundles.Config{
		Source: source, Gate: gate, Ledger: manage.PolicyLedger(s), Verifier: verifier, Sync: followEvery, StartTimeout: policyStart, PlanTrials: cfg.Bundle.PlanTrials,
		Logger: log, Registerer: registerer,
	})
}

// latestDecisions hands out the decisions that a candidate must make again; nil: none.
func latestDecisions(gate config.Gate, decisions *store.Decisions) bundles.Events {
	if gate.ReplaySince <= 0 || decisions == nil {
		return nil
	}
	return manage.RecordedEvents(decisions, gate.ReplaySince, gate.ReplayLimit)
}

// policySource returns the source that name names.
func policySource(b config.Bundle, name string, credential secret.Text, verifier *bundles.Verifier) (bundles.Source, error) {
	interval := b.Interval
	if strings.Contains(name, "://") {
		interval = b.PollInterval
	}
	return bundles.NewSource(bundles.Options{
		Source: name, Verifier: verifier, Interval: interval,
		URL: bundles.URLOptions{Credential: credential.Reveal(), CAFile: b.CAFile, Wait: b.LongPoll, Timeout: b.Timeout},
	})
}

// gateConfig translates the settings for the gate, but for recorded decisions.
func gateConfig(cfg config.Config) bundles.GateConfig {
	g := cfg.Gate
	c := bundles.GateConfig{
		MinCoverage: float64(g.MinCoverage), Waive: g.Waive, TestTimeout: g.TestTimeout, Kinds: cfg.DomainKinds().Kinds(),
		Limits: sandbox.Limits{Memory: int64(g.Memory), CPU: g.CPUTime, Wall: g.Timeout},
	}
	if c.MinCoverage == 0 {
		c.MinCoverage = -1 // 0 is the default to the engine
	}
	return c
}

// policyGate returns the gate. recorded are the decisions that a candidate must make
// again; nil: none.
func policyGate(cfg config.Config, recorded bundles.Events) (*bundles.Gate, error) {
	demands := gateConfig(cfg)
	demands.Recorded, demands.MaxChanges = recorded, int64(cfg.Gate.MaxChanges)
	gate, err := bundles.NewGate(demands)
	if err != nil {
		return nil, fmt.Errorf("set the gate up: %w", err)
	}
	return gate, nil
}

// shadowDeps are the parts of a server that a shadow needs.
type shadowDeps struct {
	store      *store.Store
	decisions  *store.Decisions // nil: they are in no database
	policy     *bundles.Delivery
	next       authz.Recorder
	log        *slog.Logger
	registerer prometheus.Registerer
}

// openShadow sets up what judges decisions beside the policy in force; nil if nothing
// is to.
func openShadow(ctx context.Context, cfg config.Config, d shadowDeps) (*shadow.Shadow, error) {
	if cfg.Shadow.Policy == "" {
		return nil, nil //nolint:nilnil // none is one of the answers
	}
	verifier, err := policyVerifier(cfg.Bundle)
	if err != nil {
		return nil, fmt.Errorf("bundle.keys: %w", err)
	}
	source, err := policySource(cfg.Bundle, cfg.Shadow.Policy, cfg.Shadow.Credential, verifier)
	if err != nil {
		return nil, fmt.Errorf("read the shadow policy: %w", err)
	}
	gate, err := policyGate(cfg, nil) // what it would change is what a shadow shows
	if err != nil {
		return nil, err
	}
	candidates, err := bundles.NewShadow(bundles.ShadowConfig{
		Source: source, Gate: gate, Ledger: manage.ShadowLedger(d.store), Logger: d.log, Registerer: d.registerer,
	})
	if err != nil {
		return nil, fmt.Errorf("set the shadow policy up: %w", err)
	}
	var keys decisionlog.Database
	if d.decisions != nil {
		keys = d.decisions
	}
	masker, err := decisionlog.NewMasker(ctx, d.policy.Engine(), keys, []byte(`{"app":"patrol"}`))
	if err != nil {
		return nil, fmt.Errorf("set the shadow policy up: %w", err)
	}
	return shadow.New(cfg.ShadowConfig(), shadow.Deps{
		Candidates: candidates, Active: func() bundles.State { return d.policy.Status().Active }, Store: d.store, Masker: masker, Next: d.next,
		Registerer: d.registerer, Logger: d.log,
	})
}

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
