package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"patrol/cmd/patrol/config"
	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine"
	"patrol/server"
	"patrol/server/decisionlog"
)

// openDecisions opens the database that decisions are kept in, with its schema up
// to date; nil if they are kept in none. base holds what does not come from the
// settings.
func openDecisions(ctx context.Context, cfg config.Config, base store.Config) (*store.Decisions, error) {
	if !cfg.DecisionLog.Database {
		return nil, nil //nolint:nilnil // none is one of the answers
	}
	url := cfg.DecisionsDatabase()
	base.URL, base.MaxConns = url.Reveal(), cfg.Database.MaxConns
	d, err := store.OpenDecisions(ctx, base, cfg.Decisions.Required)
	if err != nil {
		return nil, fmt.Errorf("open the decision log's database %s: %w", url, err)
	}
	if !cfg.Database.Migrate {
		err = d.CheckSchema(ctx)
	} else {
		var from, to int64
		from, to, err = d.Migrate(ctx)
		if err == nil && from != to && base.Logger != nil {
			base.Logger.InfoContext(ctx, "schema of the decision log migrated", "from", from, "to", to)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the decision log's database: %w", err), d.Close())
	}
	return d, nil
}

// openDecisionLog sets up what takes decisions down; nil if nothing is to. The
// caller closes the database.
func openDecisionLog(ctx context.Context, cfg config.Config, db *store.Decisions, policy *engine.Engine, metrics *server.Metrics, log *slog.Logger) (*decisionlog.Log, error) {
	if !cfg.DecisionLog.On() {
		return nil, nil //nolint:nilnil // none is one of the answers
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	labels, err := json.Marshal(map[string]string{"app": "patrol", "id": models.NewID(), "host": host, "version": currentVersion()})
	if err != nil {
		return nil, fmt.Errorf("label the decision log: %w", err)
	}
	deps := decisionlog.Deps{Policy: policy, Labels: labels, Registerer: metrics.Registry(), Logger: log}
	if db != nil {
		deps.Database = db
	}
	l, err := decisionlog.New(ctx, cfg.DecisionLogConfig(), deps)
	if err != nil {
		return nil, fmt.Errorf("set the decision log up: %w", err)
	}
	return l, nil
}
