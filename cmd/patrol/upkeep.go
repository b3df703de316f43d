package main

import (
	"context"
	"time"

	"patrol/models"
	"patrol/models/store"
)

// prune keeps the change feed short until ctx ends.
func (n *node) prune(ctx context.Context) {
	ticker := time.NewTicker(pruneEvery)
	defer ticker.Stop()
	for {
		if err := n.store.PruneChanges(ctx, keepChanges); err != nil && ctx.Err() == nil {
			n.log.WarnContext(ctx, "old changes could not be removed", "error", err)
		}
		n.purge(ctx)
		n.forget(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// purge removes the records of tokens that are dead for as long as the settings
// say.
func (n *node) purge(ctx context.Context) {
	if n.purgeAfter == 0 {
		return
	}
	by := models.Actor{Kind: models.ActorSystem, UserAgent: "tokens.purge_after"}
	purged, _, err := n.store.PurgePATs(ctx, by, store.Purge{Age: n.purgeAfter})
	if err != nil && ctx.Err() == nil {
		n.log.WarnContext(ctx, "the records of dead tokens could not be removed", "error", err)
	}
	if purged > 0 {
		n.log.InfoContext(ctx, "the records of dead tokens were removed", "count", purged, "dead_for", n.purgeAfter)
	}
}

// forget removes what is about people and older than the settings say.
func (n *node) forget(ctx context.Context) {
	if n.keepAudit > 0 {
		pruned, err := n.store.PruneAudit(ctx, models.Actor{Kind: models.ActorSystem, UserAgent: "audit.retention"}, n.keepAudit)
		if err != nil && ctx.Err() == nil {
			n.log.WarnContext(ctx, "old events of the audit log could not be removed", "error", err)
		}
		if pruned > 0 {
			n.log.InfoContext(ctx, "old events of the audit log were removed", "count", pruned, "older_than", n.keepAudit)
		}
	}
	if n.keepUses > 0 {
		if _, err := n.store.ForgetUses(ctx, n.keepUses); err != nil && ctx.Err() == nil {
			n.log.WarnContext(ctx, "the last use of tokens could not be forgotten", "error", err)
		}
	}
}
