package bench

import (
	"context"

	"patrol/models"
	"patrol/models/store"
)

// ledger is a store in the words of package authz.
type ledger struct{ *store.Store }

// Changes is part of authz.Feed.
func (l ledger) Changes(ctx context.Context, after int64, limit int) ([]models.Change, bool, error) {
	rows, complete, err := l.Store.Changes(ctx, after, limit)
	changes := make([]models.Change, len(rows))
	for i, c := range rows {
		changes[i] = models.Change{Seq: c.Seq, Kind: models.ChangeKind(c.Kind), Key: c.Key, Key2: c.Key2, At: c.At}
	}
	return changes, complete, err
}

// RecordUses is part of authz.Journal.
func (l ledger) RecordUses(ctx context.Context, uses []models.Use) error {
	rows := make([]store.Use, len(uses))
	for i, u := range uses {
		rows[i] = store.Use(u)
	}
	return l.Store.RecordUses(ctx, rows)
}
